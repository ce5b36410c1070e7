package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/riferrei/srclient"
)

// Subjects implements [Admin].
func (h *HTTP) Subjects(ctx context.Context, deleted bool) ([]string, error) {
	return ask(ctx, h, "list the subjects", func(c *srclient.SchemaRegistryClient) ([]string, error) {
		if deleted {
			return c.GetSubjectsIncludingDeleted()
		}
		return c.GetSubjects()
	})
}

// Versions implements [Admin].
func (h *HTTP) Versions(ctx context.Context, subject string) ([]int, error) {
	return ask(ctx, h, "list the versions of subject "+subject, func(c *srclient.SchemaRegistryClient) ([]int, error) {
		return c.GetSchemaVersions(subject)
	})
}

// Check implements [Admin]. A registry answers yes or no; the reasons for a no are worked out here.
func (h *HTTP) Check(ctx context.Context, subject string, version int, d Definition) error {
	of := "latest"
	if version != Latest {
		of = strconv.Itoa(version)
	}
	ok, err := ask(ctx, h, "check a schema of subject "+subject, func(c *srclient.SchemaRegistryClient) (bool, error) {
		if d.Metadata != nil || d.RuleSet != nil {
			var answer compatibilityAnswer
			address := c.GetSchemaRegistryURL() + "/compatibility/subjects/" + url.PathEscape(subject) + "/versions/" + of
			err := h.send(ctx, http.MethodPost, address, definitionJSON(d), &answer)
			return answer.Compatible, err
		}
		return c.IsSchemaCompatible(subject, d.Text, of, srclient.SchemaType(d.typeName()), toReferences(d.References)...)
	})
	if ok || err != nil {
		return err
	}
	no := &IncompatibleError{Subject: subject}
	level, err := h.Level(ctx, subject)
	if err != nil {
		return errors.Join(no, err)
	}
	old, err := h.SchemaByVersion(ctx, subject, version)
	if err != nil {
		return errors.Join(no, err)
	}
	var why *IncompatibleError
	if err := Check(level, d.typeName(), d.Text, old.Text); errors.As(err, &why) {
		no.Messages, no.Fix = why.Messages, why.Fix
	}
	return no
}

// Level implements [Admin].
func (h *HTTP) Level(ctx context.Context, subject string) (Level, error) {
	l, err := ask(ctx, h, fmt.Sprintf("get the compatibility level of subject %q", subject), func(c *srclient.SchemaRegistryClient) (*srclient.CompatibilityLevel, error) {
		if subject == "" {
			return c.GetGlobalCompatibilityLevel()
		}
		return c.GetCompatibilityLevel(subject, true)
	})
	if err != nil {
		return "", err
	}
	return Level(l.String()), nil
}

// SetLevel implements [Admin].
func (h *HTTP) SetLevel(ctx context.Context, subject string, level Level) error {
	_, err := ask(ctx, h, fmt.Sprintf("set the compatibility level of subject %q", subject), func(c *srclient.SchemaRegistryClient) (*srclient.CompatibilityLevel, error) {
		return c.ChangeSubjectCompatibilityLevel(subject, srclient.CompatibilityLevel(level))
	})
	return err
}

// DeleteSubject implements [Admin].
func (h *HTTP) DeleteSubject(ctx context.Context, subject string, permanent bool) error {
	_, err := ask(ctx, h, "delete subject "+subject, func(c *srclient.SchemaRegistryClient) (struct{}, error) {
		return struct{}{}, c.DeleteSubject(subject, permanent)
	})
	return err
}

// DeleteVersion implements [Admin].
func (h *HTTP) DeleteVersion(ctx context.Context, subject string, version int, permanent bool) error {
	_, err := ask(ctx, h, fmt.Sprintf("delete version %d of subject %s", version, subject), func(c *srclient.SchemaRegistryClient) (struct{}, error) {
		if permanent {
			return struct{}{}, h.deleteForGood(ctx, c.GetSchemaRegistryURL(), subject, version)
		}
		return struct{}{}, c.DeleteSubjectByVersion(subject, version, false)
	})
	return err
}

// deleteForGood sends what srclient cannot: its permanent delete deletes softly first, and fails where that was done.
func (h *HTTP) deleteForGood(ctx context.Context, address, subject string, version int) error {
	return h.send(ctx, http.MethodDelete, fmt.Sprintf("%s/subjects/%s/versions/%d?permanent=true", address, url.PathEscape(subject), version), nil, nil)
}

// SchemaByGUID finds a definition by its content identifier. Registries before version 8 have none.
func (h *HTTP) SchemaByGUID(ctx context.Context, guid string) (Definition, error) {
	s, err := ask(ctx, h, "get schema "+guid, func(c *srclient.SchemaRegistryClient) (schemaJSON, error) {
		var s schemaJSON
		err := h.send(ctx, http.MethodGet, c.GetSchemaRegistryURL()+"/schemas/guids/"+url.PathEscape(guid), nil, &s)
		return s, err
	})
	d := Definition{Text: s.Schema, References: s.References, Metadata: s.Metadata, RuleSet: s.RuleSet}
	if s.SchemaType != TypeAvro {
		d.Type = s.SchemaType
	}
	return d, err
}

// GUID is the content identifier of the schema with an id.
func (h *HTTP) GUID(ctx context.Context, id int) (string, error) {
	what := fmt.Sprintf("get the GUID of schema %d", id)
	s, err := ask(ctx, h, what, func(c *srclient.SchemaRegistryClient) (schemaJSON, error) {
		var s schemaJSON
		err := h.send(ctx, http.MethodGet, c.GetSchemaRegistryURL()+"/schemas/ids/"+strconv.Itoa(id), nil, &s)
		return s, err
	})
	if err == nil && s.GUID == "" {
		err = fmt.Errorf("registry: %s: the registry knows no GUIDs: name schemas by their ids", what)
	}
	return s.GUID, err
}

// definitionJSON is the body that brings a definition.
func definitionJSON(d Definition) schemaJSON {
	return schemaJSON{Schema: d.Text, SchemaType: d.typeName(), References: d.References, Metadata: d.Metadata, RuleSet: d.RuleSet}
}

// send sends a request that srclient has no method for, with a body where that is not nil, and reads the answer into v where
// that is not nil.
func (h *HTTP) send(ctx context.Context, method, address string, body, v any) error {
	ctx, cancel := context.WithTimeout(ctx, h.config.Timeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		text, err := marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", produced[0].name)
	}
	switch {
	case h.config.Username != "":
		r.SetBasicAuth(h.config.Username, h.config.Password)
	case h.config.BearerToken != "":
		r.Header.Set("Authorization", "Bearer "+h.config.BearerToken)
	}
	resp, err := h.config.Transport.RoundTrip(r)
	if err != nil {
		return errorAsUnavailable(err)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return errorAsUnavailable(err)
	}
	if resp.StatusCode <= 299 {
		if v == nil {
			return nil
		}
		return json.Unmarshal(text, v)
	}
	e := &Error{Status: resp.StatusCode, Code: resp.StatusCode, Message: string(text[:min(len(text), 4096)])}
	var said errorResponse
	if json.Unmarshal(text, &said) == nil && said.Code != 0 {
		e.Code, e.Message = said.Code, said.Message
	}
	return e
}
