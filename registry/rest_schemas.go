package registry

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// schemaJSON is a schema in answers, as registries since version 8 write it.
type schemaJSON struct {
	Subject    string      `json:"subject,omitempty"`
	Version    int         `json:"version,omitempty"`
	ID         int         `json:"id,omitempty"`
	MaxID      int         `json:"maxId,omitempty"`
	GUID       string      `json:"guid,omitempty"`
	SchemaType string      `json:"schemaType,omitempty"`
	References []Reference `json:"references,omitempty"`
	Metadata   *Metadata   `json:"metadata,omitempty"`
	Schema     string      `json:"schema,omitempty"`
	Timestamp  int64       `json:"ts,omitempty"`
	Deleted    *bool       `json:"deleted,omitempty"`
}

func toJSON(e *entry) schemaJSON {
	return schemaJSON{Subject: e.Subject, Version: e.Version, ID: e.ID, GUID: e.GUID, SchemaType: e.typeName(),
		References: e.References, Metadata: e.Metadata, Schema: e.Text, Timestamp: e.at.UnixMilli(), Deleted: &e.Deleted}
}

func root(*core, *http.Request) (any, error) { return struct{}{}, nil }

func listTypes(*core, *http.Request) (any, error) { return []string{TypeAvro}, nil }

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

// byID finds a definition by the path's id; with ?subject= also the version that has it there.
func byID(c *core, r *http.Request) (int, Definition, *entry, error) {
	id, err := pathID(r)
	if err != nil {
		return 0, Definition{}, nil, err
	}
	d, ok := c.state.byID(id)
	if !ok {
		return id, d, nil, fail(codeSchemaNotFound, "Schema %d not found", id)
	}
	list := c.state.withID(id, true)
	if subject := r.URL.Query().Get("subject"); subject != "" {
		if i := slices.IndexFunc(list, func(e *entry) bool { return e.Subject == subject }); i >= 0 {
			return id, d, list[i], nil
		}
	}
	return id, d, nil, nil
}

func getByID(c *core, r *http.Request) (any, error) {
	_, d, e, err := byID(c, r)
	if err != nil {
		return nil, err
	}
	answer := schemaJSON{GUID: d.guid(), SchemaType: d.typeName(), References: d.References, Metadata: d.Metadata, Schema: d.Text}
	if e != nil {
		answer.Subject, answer.Version, answer.Timestamp = e.Subject, e.Version, e.at.UnixMilli()
	}
	if flag(r.URL.Query(), "fetchMaxId") {
		answer.MaxID = c.state.nextID() - 1
	}
	return answer, nil
}

func getTextByID(c *core, r *http.Request) (any, error) {
	_, d, _, err := byID(c, r)
	return rawText(d.Text), err
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
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	if _, ok := c.state.byID(id); !ok {
		return nil, fail(codeSchemaNotFound, "Schema not found")
	}
	return c.state.withID(id, flag(r.URL.Query(), "deleted")), nil
}

func getByGUID(c *core, r *http.Request) (any, error) {
	id, ok := c.state.idOfGUID(strings.ToLower(r.PathValue("guid")))
	if !ok {
		return nil, fail(codeSchemaNotFound, "Schema %s not found", r.PathValue("guid"))
	}
	d, _ := c.state.byID(id)
	return schemaJSON{GUID: d.guid(), SchemaType: d.typeName(), References: d.References, Metadata: d.Metadata, Schema: d.Text}, nil
}

// contextID is an id and the context that it counts in.
type contextID struct {
	Context string `json:"context"`
	ID      int    `json:"id"`
}

func getIDsByGUID(c *core, r *http.Request) (any, error) {
	id, ok := c.state.idOfGUID(strings.ToLower(r.PathValue("guid")))
	if !ok {
		return nil, fail(codeSchemaNotFound, "Schema %s not found", r.PathValue("guid"))
	}
	return []contextID{{".", id}}, nil
}
