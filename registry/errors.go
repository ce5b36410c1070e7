package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/leatstream/leat/serde"
)

var (
	// ErrSchemaNotFound is wrapped by errors about an id, subject, version or schema that the registry does not have.
	// Asking again does not help.
	ErrSchemaNotFound = errors.New("registry: schema not found")
	// ErrIncompatible is wrapped by errors about a schema that does not fit the versions before it. The error is an
	// [*IncompatibleError].
	ErrIncompatible = errors.New("registry: schema is incompatible")
	// ErrInvalidSchema is wrapped by errors about text that is no schema.
	ErrInvalidSchema = errors.New("registry: schema is invalid")
	// ErrRegistryUnavailable is wrapped by errors that may pass by themselves: the registry, or the log behind it, cannot
	// be reached. It wraps [serde.ErrUnavailable], so a stream waits and retries instead of skipping records.
	ErrRegistryUnavailable = fmt.Errorf("registry: not reachable: %w", serde.ErrUnavailable)
	// ErrNotBound is returned by a [Client] that was not bound to a backend.
	ErrNotBound = errors.New("registry: the client is not bound to a registry: call Bind on it before the app runs, for example reg.Bind(server.Backend())")
	// ErrClosed is wrapped by the errors of a server that was closed.
	ErrClosed = errors.New("registry: closed")
)

// Error is an answer of a registry that is not a success, with Confluent's error code.
type Error struct {
	// Status is the HTTP status, Code the error_code: 40403, for example.
	Status, Code int
	// Message is the registry's own text.
	Message string

	cause error
}

// Error is the message with its code.
func (e *Error) Error() string { return fmt.Sprintf("registry: %s (error code %d)", e.Message, e.Code) }

// Unwrap gives the sentinel of this package that the code stands for, and the cause, if the error came from within.
func (e *Error) Unwrap() []error {
	var list []error
	if kind := e.kind(); kind != nil {
		list = append(list, kind)
	}
	if e.cause != nil {
		list = append(list, e.cause)
	}
	return list
}

func (e *Error) kind() error {
	switch {
	case e.Status == http.StatusNotFound:
		return ErrSchemaNotFound
	case e.Status == http.StatusConflict:
		return ErrIncompatible
	case e.Code == codeInvalidSchema:
		return ErrInvalidSchema
	case transient(e.Status):
		return ErrRegistryUnavailable
	}
	return nil
}

// transient says whether an HTTP status tells of trouble that may pass. Missing or wrong credentials count: they are
// the operator's to mend, and no record is at fault.
func transient(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// IncompatibleError says why a schema was refused. It wraps [ErrIncompatible].
type IncompatibleError struct {
	// Subject is the subject whose history the schema does not fit.
	Subject string
	// Messages are the registry's texts, in Confluent's form; a remote registry may give only one.
	Messages []string
	// Fix is one plain sentence that says what to change; empty where only a remote registry knows.
	Fix string
}

// Error is Confluent's message with the fix at its end.
func (e *IncompatibleError) Error() string {
	s := "registry: " + e.message()
	if e.Fix != "" {
		s += ". Fix: " + e.Fix
	}
	return s
}

// Unwrap gives [ErrIncompatible].
func (e *IncompatibleError) Unwrap() error { return ErrIncompatible }

func (e *IncompatibleError) message() string {
	return fmt.Sprintf("Schema being registered is incompatible with an earlier schema for subject %q, details: [%s]",
		e.Subject, strings.Join(e.Messages, ", "))
}

// Confluent's error codes.
const (
	codeForbidden              = 40301
	codeSubjectNotFound        = 40401
	codeVersionNotFound        = 40402
	codeSchemaNotFound         = 40403
	codeSubjectSoftDeleted     = 40404
	codeSubjectNotSoftDeleted  = 40405
	codeVersionSoftDeleted     = 40406
	codeVersionNotSoftDeleted  = 40407
	codeNoSubjectCompatibility = 40408
	codeNoSubjectMode          = 40409
	codeInvalidSchema          = 42201
	codeInvalidVersion         = 42202
	codeInvalidCompatibility   = 42203
	codeInvalidMode            = 42204
	codeOperationNotPermitted  = 42205
	codeReferenceExists        = 42206
	codeInvalidSubject         = 42208
	codeSchemaTooLarge         = 42209
	codeInvalidRuleSet         = 42210
	codeContextNotEmpty        = 42211
	codeStore                  = 50001
	codeTimeout                = 50002
	codeNoLeader               = 50004
)

func fail(code int, format string, args ...any) *Error {
	status := code
	if code > 999 {
		status = code / 100
	}
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func subjectNotFound(subject string) *Error {
	return fail(codeSubjectNotFound, "Subject '%s' not found.", subject)
}

func versionNotFound(version int) *Error {
	return fail(codeVersionNotFound, "Version %d not found.", version)
}

// storeError is the answer where the log behind the registry fails.
func storeError(err error) *Error {
	e := fail(codeStore, "Error while accessing the _schemas topic: %v", err)
	e.cause = err
	return e
}
