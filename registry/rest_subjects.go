package registry

import (
	"net/http"
	"slices"
)

// pathSubject is the subject of the path, or the scope: empty where there is none.
func pathSubject(r *http.Request) string { return canonicalSubject(r.PathValue("subject")) }

// subject is the subject of the path, or the one that it is an alias of.
func (c *core) subject(r *http.Request) string {
	subject := pathSubject(r)
	if conf, _ := c.state.config(subject); conf.Alias != "" {
		return within(conf.Alias, contextOf(subject))
	}
	return subject
}

// schemaRequest is the body of requests that bring a schema.
type schemaRequest struct {
	Schema     string      `json:"schema"`
	SchemaType string      `json:"schemaType"`
	References []Reference `json:"references"`
	Metadata   *Metadata   `json:"metadata"`
	RuleSet    *RuleSet    `json:"ruleSet"`
	ID         int         `json:"id"`
	Version    int         `json:"version"`

	TagsToAdd     []schemaTags `json:"schemaTagsToAdd"`
	TagsToRemove  []schemaTags `json:"schemaTagsToRemove"`
	PropagateTags bool         `json:"propagateSchemaTags"`
}

func readSchema(r *http.Request) (schemaRequest, Definition, error) {
	var req schemaRequest
	if err := body(r, &req); err != nil {
		return req, Definition{}, err
	}
	return req, Definition{Type: req.SchemaType, Text: req.Schema, References: req.References, Metadata: req.Metadata, RuleSet: req.RuleSet}, nil
}

func listSubjects(c *core, r *http.Request) (any, error) {
	q := r.URL.Query()
	prefix := everyContext
	if q.Has("subjectPrefix") {
		prefix = q.Get("subjectPrefix")
	}
	return page(q, c.subjects(prefix, flag(q, "deleted"), flag(q, "deletedOnly"))), nil
}

func lookupSchema(c *core, r *http.Request) (any, error) {
	_, d, err := readSchema(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	e, err := c.lookup(c.subject(r), d, flag(q, "normalize"), flag(q, "deleted"))
	if err != nil {
		return nil, err
	}
	return toJSON(e), nil
}

func registerSchema(c *core, r *http.Request) (any, error) {
	req, d, err := readSchema(r)
	if err != nil {
		return nil, err
	}
	subject, q := c.subject(r), r.URL.Query()
	if d, err = c.retagged(subject, d, tagChange{add: req.TagsToAdd, remove: req.TagsToRemove, propagate: req.PropagateTags}); err != nil {
		return nil, err
	}
	if req.Version == 0 && len(req.TagsToAdd)+len(req.TagsToRemove) > 0 {
		req.Version = Latest
	}
	s, err := c.register(r.Context(), subject, d, registration{normalize: flag(q, "normalize"), force: flag(q, "force"),
		id: max(0, req.ID), version: max(Latest, req.Version)})
	if err != nil {
		return nil, err
	}
	return c.registeredJSON(s), nil
}

// registeredJSON is the answer to a registration.
func (c *core) registeredJSON(s Schema) schemaJSON {
	if s.Type == TypeProtobuf {
		s.Text = "" // clients keep what they are answered in place of what they sent, and Python's sends descriptors
	}
	answer := schemaJSON{ID: s.ID, Version: s.Version, GUID: s.GUID, SchemaType: s.typeName(), References: s.References,
		Metadata: s.Metadata, RuleSet: s.RuleSet, Schema: s.Text}
	if e := c.version(s.Subject, s.Version, true); e != nil {
		answer.Timestamp = e.at.UnixMilli()
	}
	return answer
}

// getByMetadata finds the newest version whose metadata has all the properties that the query asks for.
func getByMetadata(c *core, r *http.Request) (any, error) {
	q, subject := r.URL.Query(), c.subject(r)
	keys, values := q["key"], q["value"]
	list := c.state.versions(subject, flag(q, "deleted"))
	if len(list) == 0 {
		return nil, subjectNotFound(subject)
	}
	for _, e := range slices.Backward(list) {
		match := e.Metadata != nil && len(keys) == len(values)
		for i := 0; match && i < len(keys); i++ {
			v, ok := e.Metadata.Properties[keys[i]]
			match = ok && v == values[i]
		}
		if match {
			return toJSON(e), nil
		}
	}
	return nil, fail(codeSchemaNotFound, "Schema not found")
}

func deleteSubject(c *core, r *http.Request) (any, error) {
	return c.deleteSubject(r.Context(), c.subject(r), flag(r.URL.Query(), "permanent"))
}

func deleteVersion(c *core, r *http.Request) (any, error) {
	v, err := version(r)
	if err != nil {
		return nil, err
	}
	return c.deleteVersion(r.Context(), c.subject(r), v, flag(r.URL.Query(), "permanent"))
}

func listVersions(c *core, r *http.Request) (any, error) {
	q := r.URL.Query()
	deletedOnly, negative := flag(q, "deletedOnly"), flag(q, "deletedAsNegative")
	versions := []int{}
	for _, e := range c.state.versions(c.subject(r), flag(q, "deleted") || deletedOnly || negative) {
		switch {
		case deletedOnly && !e.Deleted:
		case negative && e.Deleted:
			versions = append(versions, -e.Version)
		default:
			versions = append(versions, e.Version)
		}
	}
	if len(versions) == 0 {
		return nil, subjectNotFound(c.subject(r))
	}
	return page(q, versions), nil
}

func pathVersion(c *core, r *http.Request) (*entry, error) {
	v, err := version(r)
	if err != nil {
		return nil, err
	}
	return c.get(c.subject(r), v, flag(r.URL.Query(), "deleted"))
}

func getVersion(c *core, r *http.Request) (any, error) {
	e, err := pathVersion(c, r)
	if err != nil {
		return nil, err
	}
	answer := toJSON(e)
	c.present(&answer, e.Definition, contextOf(e.Subject), r.URL.Query())
	return answer, nil
}

func getVersionText(c *core, r *http.Request) (any, error) {
	e, err := pathVersion(c, r)
	if err != nil {
		return nil, err
	}
	return rawText(c.formatted(e.Definition, contextOf(e.Subject), r.URL.Query())), nil
}

func getReferrers(c *core, r *http.Request) (any, error) {
	e, err := pathVersion(c, r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	ids := []int{}
	for _, by := range c.state.referrers(e.Subject, e.Version, flag(q, "deleted")) {
		ids = append(ids, by.ID)
	}
	return page(q, ids), nil
}

// compatibilityAnswer is the answer of a compatibility check; messages only if asked for.
type compatibilityAnswer struct {
	Compatible bool      `json:"is_compatible"`
	Messages   *[]string `json:"messages,omitempty"`
}

func checkAll(c *core, r *http.Request) (any, error) {
	_, d, err := readSchema(r)
	if err != nil {
		return nil, err
	}
	subject := c.subject(r)
	p, err := c.parseNew(subject, d, flag(r.URL.Query(), "normalize"))
	if err != nil {
		return checked(r, verdict{}, err)
	}
	v, err := c.judgeIn(subject, p, c.state.versions(subject, false))
	return checked(r, v, err)
}

func checkOne(c *core, r *http.Request) (any, error) {
	of, err := version(r)
	if err != nil {
		return nil, err
	}
	_, d, err := readSchema(r)
	if err != nil {
		return nil, err
	}
	v, err := c.checkVersion(c.subject(r), of, d, flag(r.URL.Query(), "normalize"))
	return checked(r, v, err)
}

// checked is the answer of a check. A schema that does not parse is, if messages were asked for, one more message.
func checked(r *http.Request, v verdict, err error) (any, error) {
	verbose := flag(r.URL.Query(), "verbose")
	if e, ok := err.(*Error); ok && verbose && e.Code == codeInvalidSchema {
		v.messages, err = []string{e.Message}, nil
	}
	if err != nil {
		return nil, err
	}
	answer := compatibilityAnswer{Compatible: len(v.messages) == 0}
	if verbose {
		messages := append([]string{}, v.messages...)
		answer.Messages = &messages
	}
	return answer, nil
}
