package registry

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// schemaJSON is a schema in answers, as registries since version 8 write it.
type schemaJSON struct {
	Subject    string       `json:"subject,omitempty"`
	Version    int          `json:"version,omitempty"`
	ID         int          `json:"id,omitempty"`
	MaxID      int          `json:"maxId,omitempty"`
	GUID       string       `json:"guid,omitempty"`
	SchemaType string       `json:"schemaType,omitempty"`
	References []Reference  `json:"references,omitempty"`
	Metadata   *Metadata    `json:"metadata,omitempty"`
	RuleSet    *RuleSet     `json:"ruleSet,omitempty"`
	Schema     string       `json:"schema,omitempty"`
	SchemaTags []schemaTags `json:"schemaTags,omitempty"`
	Timestamp  int64        `json:"ts,omitempty"`
	Deleted    *bool        `json:"deleted,omitempty"`
}

// formatted is a definition's text in the format that a query asks for: "serialized" is, for Protobuf, the base64 of the
// descriptor, which clients in Python read, and "resolved", for Avro, the schema with its references written out. Other
// formats are the text as it is.
func (c *core) formatted(d Definition, context string, q url.Values) string {
	format := q.Get("format")
	if format != "serialized" && format != "resolved" {
		return d.Text
	}
	p, err := c.parse(d, context, false)
	if err != nil {
		return d.Text
	}
	switch m := p.model.(type) {
	case protobufModel:
		if format == "serialized" {
			return m.serialized()
		}
	case *avroModel:
		if format == "resolved" {
			return m.full()
		}
	}
	return d.Text
}

// present gives an answer what its query asks for: the text in a format, the subjects of references with their context,
// and the tags of the schema's parts.
func (c *core) present(answer *schemaJSON, d Definition, context string, q url.Values) {
	answer.Schema = c.formatted(d, context, q)
	if strings.EqualFold(q.Get("referenceFormat"), "qualified") {
		answer.References = slices.Clone(d.References)
		for i, r := range d.References {
			answer.References[i].Subject = within(r.Subject, context)
		}
	}
	if wanted := q["findTags"]; len(wanted) > 0 {
		answer.SchemaTags = c.tagsOf(d, context, wanted)
	}
}

func toJSON(e *entry) schemaJSON {
	return schemaJSON{Subject: e.Subject, Version: e.Version, ID: e.ID, GUID: e.GUID, SchemaType: e.typeName(),
		References: e.References, Metadata: e.Metadata, RuleSet: e.RuleSet, Schema: e.Text, Timestamp: e.at.UnixMilli(), Deleted: &e.Deleted}
}

func root(*core, *http.Request) (any, error) { return struct{}{}, nil }

func listTypes(*core, *http.Request) (any, error) {
	names := make([]string, len(languages))
	for i, l := range languages {
		names[i] = l.name
	}
	return names, nil
}

func listSchemas(c *core, r *http.Request) (any, error) {
	q := r.URL.Query()
	list := c.state.all(q.Get("subjectPrefix"), flag(q, "deleted"))
	if flag(q, "latestOnly") {
		var last []*entry
		for i, e := range list {
			if i+1 == len(list) || list[i+1].Subject != e.Subject {
				last = append(last, e)
			}
		}
		list = last
	}
	if types := q["ruleType"]; len(types) > 0 {
		list = slices.DeleteFunc(slices.Clone(list), func(e *entry) bool { return !e.RuleSet.hasType(types) })
	}
	for _, about := range []string{"resourceType", "associationType", "lifecycle"} {
		if q.Has(about) {
			list = nil // nothing is associated with resources here
		}
	}
	answer := []schemaJSON{}
	for _, e := range page(q, list) {
		answer = append(answer, toJSON(e))
	}
	return answer, nil
}

// pathID reads an id of the path. One that is no number is a path that does not exist, as with JAX-RS.
func pathID(r *http.Request) (int, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 32)
	if err != nil {
		return 0, fail(http.StatusNotFound, "HTTP 404 Not Found")
	}
	return int(id), nil
}

// located is a definition that was found by its id: where, and at which version if the request named a subject.
type located struct {
	Definition
	id      int
	context string
	entry   *entry // nil if the subject that was asked for does not have it
}

// byID finds a definition by the path's id, in the context of ?subject=, or, if that names none, in the default one and
// then in all others; with ?subject= also the version that has it there.
func byID(c *core, r *http.Request) (located, error) {
	id, err := pathID(r)
	if err != nil {
		return located{}, err
	}
	subject := canonicalSubject(r.URL.Query().Get("subject"))
	contexts := c.state.contexts()
	if of := contextOf(subject); of != defaultContext {
		contexts = []string{of}
	}
	for _, context := range contexts {
		d, ok := c.state.byID(context, id)
		if !ok {
			continue
		}
		l := located{Definition: d, id: id, context: context}
		_, name := splitSubject(subject)
		for _, e := range c.state.withID(context, id, true) {
			if name != "" && e.Subject == qualify(context, name) {
				l.entry = e
				break
			}
		}
		return l, nil
	}
	return located{}, fail(codeSchemaNotFound, "Schema %d not found", id)
}

func getByID(c *core, r *http.Request) (any, error) {
	l, err := byID(c, r)
	if err != nil {
		return nil, err
	}
	d := l.Definition
	answer := schemaJSON{GUID: d.guid(), SchemaType: d.typeName(), References: d.References, Metadata: d.Metadata, RuleSet: d.RuleSet}
	c.present(&answer, d, l.context, r.URL.Query())
	if e := l.entry; e != nil {
		answer.Subject, answer.Version, answer.Timestamp = e.Subject, e.Version, e.at.UnixMilli()
	}
	if flag(r.URL.Query(), "fetchMaxId") {
		answer.MaxID = c.state.nextID(l.context) - 1
	}
	return answer, nil
}

func getTextByID(c *core, r *http.Request) (any, error) {
	l, err := byID(c, r)
	return rawText(c.formatted(l.Definition, l.context, r.URL.Query())), err
}

func getSubjectsByID(c *core, r *http.Request) (any, error) {
	list, err := versionsByID(c, r)
	if err != nil {
		return nil, err
	}
	subjects := []string{}
	for _, e := range list {
		if !slices.Contains(subjects, e.Subject) {
			subjects = append(subjects, e.Subject)
		}
	}
	return page(r.URL.Query(), subjects), nil
}

// subjectVersion is where a schema is registered.
type subjectVersion struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

func getVersionsByID(c *core, r *http.Request) (any, error) {
	list, err := versionsByID(c, r)
	if err != nil {
		return nil, err
	}
	versions := []subjectVersion{}
	for _, e := range list {
		versions = append(versions, subjectVersion{e.Subject, e.Version})
	}
	return page(r.URL.Query(), versions), nil
}

func versionsByID(c *core, r *http.Request) ([]*entry, error) {
	l, err := byID(c, r)
	if e, ok := errors.AsType[*Error](err); ok && e.Code == codeSchemaNotFound {
		return nil, fail(codeSchemaNotFound, "Schema not found")
	}
	if err != nil {
		return nil, err
	}
	return c.state.withID(l.context, l.id, flag(r.URL.Query(), "deleted")), nil
}

// contextID is an id and the context that it counts in.
type contextID struct {
	Context string `json:"context"`
	ID      int    `json:"id"`
}

// byGUID finds the ids of a content, in the order of the contexts.
func byGUID(c *core, r *http.Request) ([]contextID, error) {
	var list []contextID
	for _, context := range c.state.contexts() {
		if id, ok := c.state.idOfGUID(context, strings.ToLower(r.PathValue("guid"))); ok {
			list = append(list, contextID{context, id})
		}
	}
	if len(list) == 0 {
		return nil, fail(codeSchemaNotFound, "Schema %s not found", r.PathValue("guid"))
	}
	return list, nil
}

func getByGUID(c *core, r *http.Request) (any, error) {
	at, err := byGUID(c, r)
	if err != nil {
		return nil, err
	}
	d, _ := c.state.byID(at[0].Context, at[0].ID)
	return schemaJSON{GUID: d.guid(), SchemaType: d.typeName(), References: d.References, Metadata: d.Metadata, RuleSet: d.RuleSet,
		Schema: c.formatted(d, at[0].Context, r.URL.Query())}, nil
}

func getIDsByGUID(c *core, r *http.Request) (any, error) { return byGUID(c, r) }
