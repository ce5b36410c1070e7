// Package jsonschema has the serde that writes JSON in the Confluent wire format: the schema's id, and the value as
// encoding/json writes it. Programs in other languages read it with their own JSON Schema deserializers.
//
//	Orders = streams.Topic[string, Order]{Name: "orders", Key: serde.String, Value: jsonschema.Of[Order](&reg)}
package jsonschema

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/jsons"
	"github.com/leatstream/leat/registry/internal/wire"
	"github.com/leatstream/leat/serde"
)

// Options configure a serde. The zero value suits most: schema derived from the type, every value checked.
type Options struct {
	// Schema is the JSON schema, as text. Empty means that it is derived from the type, see [SchemaOf].
	Schema string
	// NoValidate leaves out the check that what is written and read fits the serde's schema, which takes longer than
	// encoding it.
	NoValidate bool
	// Subject names the subject that the schema is registered under. Nil means `<topic>-value`, or `<topic>-key`.
	Subject SubjectStrategy
	// NoRegister makes writing fail for schemas that are not registered, instead of registering them.
	NoRegister bool
	// UseLatest writes under the latest schema of the subject, as it is when the first record is written, instead of
	// registering the serde's own.
	UseLatest bool
	// SchemaID writes under the schema that has this id. 0 means none.
	SchemaID int
	// Lenient lets UseLatest and SchemaID write under a schema that cannot read what the serde's own writes.
	Lenient bool
	// Normalize registers the schema with what has no order put into one.
	Normalize bool
	// Header names the schema in a record header, by its GUID, and leaves the value bare. Where there are no headers, in
	// stores and their changelogs, it goes in front of the value all the same. Both forms are always read.
	Header bool
	// Timeout bounds how long one record waits for the registry. 0 means 10 seconds.
	Timeout time.Duration
}

// SubjectStrategy names the subject of a schema; record is the schema's title, or empty.
type SubjectStrategy = wire.SubjectStrategy

var (
	// ErrWireFormat is wrapped by the error for bytes that do not begin as the Confluent wire format does.
	ErrWireFormat = wire.ErrFormat
	// ErrSchema is wrapped by errors about a serde's own schema.
	ErrSchema = wire.ErrSchema
	// ErrData is wrapped by errors about data that does not fit the schema it names, and values that do not fit theirs.
	ErrData = wire.ErrData
	// ErrUnreadable is wrapped by the error for data of a schema that the serde cannot read.
	ErrUnreadable = wire.ErrUnreadable
)

// Of is the serde of T as JSON. Null is no value of it: wrap it in [serde.Nullable] for that. What is wrong with the schema
// is the error of Start and of every use.
func Of[T any](reg *registry.Client, o ...Options) serde.Serde[T] {
	options := Options{}
	if len(o) > 0 {
		options = o[0]
	}
	s := &values[T]{validate: !options.NoValidate}
	l := wire.Language[*struct{}, *validator.Schema]{Reader: s.reader, Adopt: s.adopt}
	if options.Schema == "" {
		options.Schema, l.Err = SchemaOf(reflect.TypeFor[T]())
	}
	if l.Err == nil {
		s.own, l.Err = jsons.Parse(options.Schema, nil)
	}
	if l.Err != nil {
		l.Err = fmt.Errorf("%w: %w", ErrSchema, l.Err)
	} else {
		l.Own = &registry.Definition{Type: registry.TypeJSON, Text: s.own.Text()}
		if options.Normalize {
			l.Own.Text = s.own.Normal()
		}
		l.Record, l.Write = s.own.Title(), s.own.Validator
	}
	s.Init(reg, wire.Options{Subject: options.Subject, NoRegister: options.NoRegister, UseLatest: options.UseLatest,
		Lenient: options.Lenient, SchemaID: options.SchemaID, Header: options.Header, Timeout: options.Timeout}, l)
	if options.Header {
		return &valuesHeaders[T]{s}
	}
	return s
}

// values is the serde of a type. The plan to read a schema is that it can be read; to write, what values must fit.
type values[T any] struct {
	wire.Codec[*struct{}, *validator.Schema]
	own      *jsons.Schema
	validate bool
}

func (s *values[T]) parse(ctx context.Context, d registry.Definition) (*jsons.Schema, error) {
	if d.Type != registry.TypeJSON {
		return nil, fmt.Errorf("%w: it is a schema of type %s", ErrUnreadable, d.Type)
	}
	deps, err := s.Resolve(ctx, d.References)
	if err != nil {
		return nil, err
	}
	list := make([]jsons.Dependency, len(deps))
	for i, dep := range deps {
		list[i] = jsons.Dependency{Name: dep.Name, Text: dep.Text}
	}
	schema, err := jsons.Parse(d.Text, list)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return schema, nil
}

// reader takes any JSON schema: whether a value fits the serde's own is checked value by value.
func (s *values[T]) reader(_ context.Context, d registry.Definition) (*struct{}, error) {
	if d.Type != registry.TypeJSON {
		return nil, fmt.Errorf("%w: it is a schema of type %s", ErrUnreadable, d.Type)
	}
	return &struct{}{}, nil
}

func (s *values[T]) adopt(ctx context.Context, latest registry.Definition, strict bool) (*validator.Schema, error) {
	l, err := s.parse(ctx, latest)
	if err != nil {
		return nil, err
	}
	if strict {
		if found := jsons.Reads(l, s.own, false); len(found) > 0 {
			return nil, fmt.Errorf("%w: %s at %s; %s", ErrUnreadable, found[0].Type, found[0].Path, found[0].Fix())
		}
	}
	return l.Validator, nil
}

// Append implements [serde.Serde].
func (s *values[T]) Append(dst []byte, at serde.Place, v T) ([]byte, error) {
	w, err := s.Writer(at)
	if err != nil {
		return nil, err
	}
	return s.encode(w.AppendPrefix(dst), at, w, v)
}

func (s *values[T]) encode(dst []byte, at serde.Place, w *wire.Written[*validator.Schema], v T) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil && s.validate {
		err = check(w.With, b)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: encode the %s: %w", ErrData, at, err)
	}
	return append(dst, b...), nil
}

// check says whether JSON fits a schema.
func check(schema *validator.Schema, data []byte) error {
	v, err := validator.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

// Decode implements [serde.Serde].
func (s *values[T]) Decode(at serde.Place, data []byte) (T, error) {
	r, err := s.Read(at, data)
	return s.decode(at, &r, err)
}

// DecodeWithHeaders implements [serde.HeaderDecoder].
func (s *values[T]) DecodeWithHeaders(at serde.Place, headers []serde.Header, data []byte) (T, error) {
	r, err := s.ReadHeaders(at, headers, data)
	return s.decode(at, &r, err)
}

func (s *values[T]) decode(at serde.Place, r *wire.Reading[*struct{}], err error) (T, error) {
	var v T
	if err != nil {
		return v, err
	}
	if s.validate {
		if err := check(s.own.Validator, r.Payload); err != nil {
			return v, r.Wrap(at, err)
		}
	}
	if err := json.Unmarshal(r.Payload, &v); err != nil {
		return v, r.Wrap(at, err)
	}
	return v, nil
}

// valuesHeaders names the schemas of what it writes in headers.
type valuesHeaders[T any] struct{ *values[T] }

// AppendWithHeaders implements [serde.HeaderEncoder].
func (s *valuesHeaders[T]) AppendWithHeaders(dst []byte, at serde.Place, headers *[]serde.Header, v T) ([]byte, error) {
	w, err := s.Writer(at)
	if err != nil {
		return nil, err
	}
	w.SetHeader(at, headers, nil)
	return s.encode(dst, at, w, v)
}
