// Package jsons is Leat's reading of JSON schemas: the text in one form, what it refers to, and the rules by which
// Confluent's registry compares two of them. Whether a text is a schema, and whether data fits it, is
// santhosh-tekuri/jsonschema's to say.
package jsons

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// ErrSchema is wrapped by every error of [Parse]: the text is no JSON schema.
var ErrSchema = errors.New("not a valid JSON schema")

const (
	// base is where a schema is thought to be, for references that are relative.
	base = "leat:///"
	main = base + "schema.json"
	// maxDepth bounds how deeply a schema may nest.
	maxDepth = 256
	// maxNodes bounds the objects, and the values true and false, in a schema with all that it refers to: each may be a schema of its own,
	// and the time to compile them grows with their square, to seconds at this bound.
	maxNodes = 30_000
)

// Schema is one document.
type Schema struct {
	doc     any            // with numbers as json.Number
	others  map[string]any // what it refers to, by the names that it uses
	compact string
	// Validator checks data.
	Validator *jsonschema.Schema
}

// Dependency is a document that another refers to by its name.
type Dependency struct{ Name, Text string }

// Parse reads a schema of any draft from 4 to 2020-12; without $schema it is one of draft 7, as to Confluent's registry.
func Parse(text string, deps []Dependency) (*Schema, error) {
	s := &Schema{others: make(map[string]any)}
	var err error
	nodes := 0
	if s.doc, err = decode(text, &nodes); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	s.compact = b.String()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.UseLoader(loader(s.others))
	if err := c.AddResource(main, s.doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	for _, d := range deps {
		if s.others[d.Name], err = decode(d.Text, &nodes); err != nil {
			return nil, fmt.Errorf("%w: reference %q: %w", ErrSchema, d.Name, err)
		}
	}
	if s.Validator, err = c.Compile(main); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return s, nil
}

// loader finds what a schema refers to among the registered references, and nowhere else.
type loader map[string]any

// Load implements [jsonschema.URLLoader].
func (l loader) Load(address string) (any, error) {
	name := strings.TrimPrefix(address, base)
	if doc, ok := l[name]; ok {
		return doc, nil
	}
	if plain, err := url.PathUnescape(name); err == nil {
		if doc, ok := l[plain]; ok {
			return doc, nil
		}
	}
	return nil, fmt.Errorf("no schema reference has the name %q", name)
}

// decode reads one document and adds what it has to nodes.
func decode(text string, nodes *int) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is more after it")
	}
	switch v.(type) {
	case map[string]any, bool:
	default:
		return nil, errors.New("a schema is an object, true or false")
	}
	return v, checkSize(v, 0, nodes)
}

func checkSize(v any, depth int, nodes *int) error {
	if depth > maxDepth {
		return fmt.Errorf("it nests more than %d levels deep", maxDepth)
	}
	switch v.(type) {
	case map[string]any, bool:
		if *nodes++; *nodes > maxNodes {
			return fmt.Errorf("it has, with what it refers to, more than %d schemas", maxNodes)
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			if err := checkSize(x, depth+1, nodes); err != nil {
				return err
			}
		}
	case []any:
		for _, x := range v {
			if err := checkSize(x, depth+1, nodes); err != nil {
				return err
			}
		}
	}
	return nil
}

// Title is the schema's title, which takes the place of a record's name; empty for none.
func (s *Schema) Title() string {
	m, _ := s.doc.(map[string]any)
	title, _ := m["title"].(string)
	return title
}

// HasProperty says whether the schema's object has a property of this name.
func (s *Schema) HasProperty(name string) bool {
	m, _ := s.deref(s.doc).(map[string]any)
	properties, _ := m["properties"].(map[string]any)
	_, ok := properties[name]
	return ok
}

// Text is the schema on one line, with its members in their order.
func (s *Schema) Text() string { return s.compact }

// Normal is the schema with its members sorted.
func (s *Schema) Normal() string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s.doc); err != nil { // it was decoded from JSON
		return s.compact
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// deref follows references to a part of this document or of another. What cannot be followed is the empty schema.
func (s *Schema) deref(v any) any {
	doc := s.doc
	for range maxDepth {
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		ref, ok := m["$ref"].(string)
		if !ok {
			return v
		}
		name, pointer, _ := strings.Cut(ref, "#")
		if name != "" {
			if doc, ok = s.others[name]; !ok {
				return map[string]any{}
			}
		}
		v = find(doc, pointer)
	}
	return map[string]any{}
}

// find follows a JSON pointer.
func find(doc any, pointer string) any {
	if plain, err := url.PathUnescape(pointer); err == nil {
		pointer = plain
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if part == "" {
			continue
		}
		m, ok := doc.(map[string]any)
		if !ok {
			return map[string]any{}
		}
		if doc, ok = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]; !ok {
			return map[string]any{}
		}
	}
	return doc
}

// forgiven says whether a difference does not count where the comparison is lenient.
func forgiven(kind string) bool {
	switch kind {
	case "ADDITIONAL_PROPERTIES_NARROWED", "ADDITIONAL_PROPERTIES_REMOVED", "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL",
		"PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL":
		return true
	}
	return false
}
