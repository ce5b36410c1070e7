package registry

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// The modes of a subject, a context, or everything.
const (
	modeReadWrite        = "READWRITE"
	modeReadOnly         = "READONLY"
	modeReadOnlyOverride = "READONLY_OVERRIDE" // wins over the modes of subjects
	modeImport           = "IMPORT"            // ids and versions are given with the schemas, and nothing is checked
	modeForward          = "FORWARD"           // as IMPORT, for what another registry forwards
)

// mode returns the mode in force for a subject.
func (c *core) mode(subject string) string {
	if m, _ := c.state.mode(""); m == modeReadOnlyOverride {
		return m
	}
	for _, scope := range scopes(subject) {
		if m, ok := c.state.mode(scope); ok {
			return m
		}
	}
	return modeReadWrite
}

// checkWritable refuses changes of a subject that is read-only.
func (c *core) checkWritable(subject string) error {
	if m := c.mode(subject); m == modeReadOnly || m == modeReadOnlyOverride {
		return fail(codeOperationNotPermitted, "Subject %s in context %s is in read-only mode", subject, contextOf(subject))
	}
	return nil
}

// checkMode refuses a registration that the mode does not allow: ids may be given while importing only, and must be then.
func (c *core) checkMode(subject string, withID bool) error {
	if err := c.checkWritable(subject); err != nil {
		return err
	}
	m := c.mode(subject)
	importing := m == modeImport || m == modeForward
	switch {
	case withID && !importing:
		return fail(codeOperationNotPermitted, "Subject %s in context %s is not in import mode", subject, contextOf(subject))
	case !withID && m != modeReadWrite:
		return fail(codeOperationNotPermitted, "Subject %s in context %s is not in read-write mode", subject, contextOf(subject))
	}
	return nil
}

// setMode changes the mode of a subject, a context, or, for the empty scope, everything in the default context. Where
// there are schemas, import mode must be forced: their ids may clash with those that are to come.
func (c *core) setMode(ctx context.Context, scope, mode string, force bool) error {
	if err := checkSubject(scope); err != nil {
		return err
	}
	mode = strings.ToUpper(mode)
	if !slices.Contains([]string{modeReadWrite, modeReadOnly, modeReadOnlyOverride, modeImport, modeForward}, mode) {
		return fail(codeInvalidMode, "Invalid mode. Valid values are READWRITE, READONLY, IMPORT and FORWARD.")
	}
	if err := c.log.lock(ctx); err != nil {
		return unavailable(err)
	}
	defer c.log.unlock()
	var records []record
	if mode == modeImport && c.mode(scope) != modeImport && !force {
		for _, e := range c.state.all(everyContext, true) {
			if !inScope(scope, e.Subject) {
				continue
			}
			if !e.Deleted {
				return fail(codeOperationNotPermitted, "Cannot import since found existing subjects")
			}
			if err := c.checkUnreferenced(e, false); err != nil {
				return err
			}
			records = append(records, record{schemaKey(e.Subject, e.Version), nil})
		}
		records = append(records, record{subjectKey(keyClearSubject, scope), clearSubjectValue(scope)})
	}
	value, err := marshal(modeValue{Subject: scope, Mode: mode})
	if err != nil {
		return err
	}
	return c.removeLocked(ctx, append(records, record{subjectKey(keyMode, scope), value}))
}

// deleteMode removes the mode of a scope, and with recursive those of all that is in it, and returns what it was.
func (c *core) deleteMode(ctx context.Context, scope string, recursive bool) (string, error) {
	if err := c.log.lock(ctx); err != nil {
		return "", unavailable(err)
	}
	defer c.log.unlock()
	old, ok := c.state.mode(scope)
	if !ok && scope != "" && !recursive {
		return "", subjectNotFound(scope)
	}
	if !ok {
		old = c.mode(scope)
	}
	gone := []string{scope}
	if recursive {
		gone = c.state.modesWithin(scope)
	}
	var records []record
	for _, of := range gone {
		records = append(records, record{subjectKey(keyMode, of), nil})
	}
	if len(records) == 0 {
		return old, nil
	}
	return old, c.removeLocked(ctx, records)
}

func getMode(c *core, r *http.Request) (any, error) {
	subject := pathSubject(r)
	mode, ok := c.state.mode(subject)
	switch {
	case ok:
	case subject == "" || flag(r.URL.Query(), "defaultToGlobal"):
		mode = c.mode(subject)
	default:
		return nil, fail(codeNoSubjectMode, "Subject '%s' does not have subject-level mode configured", subject)
	}
	return modeValue{Mode: mode}, nil
}

func putMode(c *core, r *http.Request) (any, error) {
	var v modeValue
	if err := body(r, &v); err != nil {
		return nil, err
	}
	if err := c.setMode(r.Context(), pathSubject(r), v.Mode, flag(r.URL.Query(), "force")); err != nil {
		return nil, err
	}
	return modeValue{Mode: strings.ToUpper(v.Mode)}, nil
}

func removeMode(c *core, r *http.Request) (any, error) {
	old, err := c.deleteMode(r.Context(), pathSubject(r), flag(r.URL.Query(), "recursive"))
	return modeValue{Mode: old}, err
}
