package jsonschema

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// property is a schema as it is written: the members in this order.
type property struct {
	Schema     string      `json:"$schema,omitempty"`
	Title      string      `json:"title,omitempty"`
	Type       any         `json:"type,omitempty"`
	Format     string      `json:"format,omitempty"`
	Properties *properties `json:"properties,omitempty"`
	Required   []string    `json:"required,omitempty"`
	More       any         `json:"additionalProperties,omitempty"`
	Items      *property   `json:"items,omitempty"`
	Encoding   string      `json:"contentEncoding,omitempty"`
	Ref        string      `json:"$ref,omitempty"`
	// Definitions are the structs that contain themselves.
	Definitions *properties `json:"definitions,omitempty"`
}

// properties are members in the order of the struct's fields.
type properties struct {
	names []string
	of    map[string]*property
}

func (p *properties) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, name := range p.names {
		if i > 0 {
			b = append(b, ',')
		}
		k, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(p.of[name])
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, k...), ':'), v...)
	}
	return append(b, '}'), nil
}

func (p *properties) add(name string, v *property) {
	if p.of == nil {
		p.of = make(map[string]*property)
	}
	if p.of[name] == nil {
		p.names = append(p.names, name)
	}
	p.of[name] = v
}

// SchemaOf derives a JSON schema, of draft 7, from a type, by the rules of encoding/json. A field is required unless it
// is a pointer or has omitempty or omitzero, and a pointer may be null. Objects allow nothing but their properties: only
// then may properties be added later, in the eyes of a registry.
func SchemaOf(t reflect.Type) (string, error) {
	g := generator{open: make(map[reflect.Type]bool), cyclic: make(map[reflect.Type]bool)}
	p, err := g.of(t)
	if err != nil {
		return "", fmt.Errorf("derive a JSON schema from %v: %w", t, err)
	}
	p.Schema = "http://json-schema.org/draft-07/schema#"
	if g.definitions.of != nil {
		p.Definitions = &g.definitions
	}
	b, err := json.Marshal(p)
	return string(b), err
}

type generator struct {
	open, cyclic map[reflect.Type]bool
	definitions  properties
}

func (g *generator) of(t reflect.Type) (*property, error) {
	switch t {
	case reflect.TypeFor[time.Time]():
		return &property{Type: "string", Format: "date-time"}, nil
	case reflect.TypeFor[json.RawMessage]():
		return &property{}, nil
	}
	if t.Implements(reflect.TypeFor[json.Marshaler]()) {
		return &property{}, nil // it may be anything
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return &property{Type: "string"}, nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return &property{Type: "boolean"}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &property{Type: "integer"}, nil
	case reflect.Float32, reflect.Float64:
		return &property{Type: "number"}, nil
	case reflect.String:
		return &property{Type: "string"}, nil
	case reflect.Interface:
		return &property{}, nil
	case reflect.Pointer:
		return g.nullable(t.Elem())
	case reflect.Slice, reflect.Array:
		return g.list(t)
	case reflect.Map:
		values, err := g.of(t.Elem())
		return &property{Type: []string{"object", "null"}, More: values}, err
	case reflect.Struct:
		return g.object(t)
	}
	return nil, fmt.Errorf("JSON has no form for %v", t)
}

func (g *generator) nullable(t reflect.Type) (*property, error) {
	p, err := g.of(t)
	if err != nil {
		return nil, err
	}
	if name, ok := p.Type.(string); ok {
		p.Type = []string{name, "null"}
	}
	return p, nil
}

func (g *generator) list(t reflect.Type) (*property, error) {
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
		return &property{Type: []string{"string", "null"}, Encoding: "base64"}, nil
	}
	items, err := g.of(t.Elem())
	p := &property{Type: "array", Items: items}
	if t.Kind() == reflect.Slice { // nil is null
		p.Type = []string{"array", "null"}
	}
	return p, err
}

func (g *generator) object(t reflect.Type) (*property, error) {
	ref := &property{Ref: "#/definitions/" + t.Name()}
	if g.open[t] {
		g.cyclic[t] = true
		return ref, nil
	}
	g.open[t] = true
	defer delete(g.open, t)
	p := &property{Title: t.Name(), Type: "object", More: false, Properties: new(properties)}
	if err := g.fields(p, t); err != nil {
		return nil, err
	}
	if g.cyclic[t] {
		// Within itself it may be null, because only a pointer or a list leads there.
		again := *p
		again.Type = []string{"object", "null"}
		g.definitions.add(t.Name(), &again)
	}
	return p, nil
}

func (g *generator) fields(p *property, t reflect.Type) error {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" && options == "" {
			continue
		}
		if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			if err := g.fields(p, f.Type); err != nil {
				return err
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		v, err := g.of(f.Type)
		if err != nil {
			return fmt.Errorf("field %s: %w", f.Name, err)
		}
		p.Properties.add(name, v)
		if f.Type.Kind() != reflect.Pointer && !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			p.Required = append(p.Required, name)
		}
	}
	return nil
}
