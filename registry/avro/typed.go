package avro

import (
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/twmb/avro"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/avsc"
	"github.com/leatstream/leat/registry/internal/wire"
	"github.com/leatstream/leat/serde"
)

// Of is the serde of T as Avro. T is a struct, or a type for which Avro has a primitive: string, []byte, bool, the signed
// integers, float32, float64.
//
// The schema of a struct is Options.Schema, or derived: fields are called by their tags (`avro:"total"`, else their
// names), a pointer is a union with null whose default is null, time.Time is timestamp-millis, and a tag may set a default,
// which a field that is added later needs: `avro:"currency,default=EUR"`. See the tags of github.com/twmb/avro.
//
// Null is no value of it: wrap it in [serde.Nullable] for that. What is wrong with the schema is the error of Start and
// of every use.
func Of[T any](reg *registry.Client, o ...Options) serde.Serde[T] {
	s := new(typed[T])
	s.values.New = func() any { return new(T) }
	options := first(o)
	var err error
	if options.Schema == "" {
		if options.Schema, err = derive[T](options.Namespace); err != nil {
			err = fmt.Errorf("%w: derive it from %T: %w", ErrSchema, *new(T), err)
		}
	}
	s.init(reg, options, engine[engineSchema, engineSchema]{s.reader, s.writer}, err)
	if options.Header {
		return &typedHeaders[T]{s}
	}
	return s
}

// holdsBytes says whether a T can be the payload itself, as it is where the schema is "bytes".
func holdsBytes[T any]() bool {
	t := reflect.TypeFor[T]()
	return t.Kind() == reflect.String || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

func first(o []Options) Options {
	if len(o) == 0 {
		return Options{}
	}
	return o[0]
}

// derive is the schema of a Go type.
func derive[T any](namespace string) (string, error) {
	t := reflect.TypeFor[T]()
	switch t.Kind() {
	case reflect.Struct:
		var opts []avro.SchemaOpt
		if namespace != "" {
			opts = append(opts, avro.WithNamespace(namespace))
		}
		s, err := avro.SchemaFor[T](opts...)
		if err != nil {
			return "", err
		}
		return s.String(), nil
	case reflect.String:
		return `"string"`, nil
	case reflect.Bool:
		return `"boolean"`, nil
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return `"int"`, nil
	case reflect.Int, reflect.Int64:
		return `"long"`, nil
	case reflect.Float32:
		return `"float"`, nil
	case reflect.Float64:
		return `"double"`, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return `"bytes"`, nil
		}
	}
	return "", fmt.Errorf("there is no schema for this type by itself: set Options.Schema")
}

// typed is the serde of a Go type, on twmb/avro.
type typed[T any] struct {
	base[engineSchema, engineSchema]
	// values are *T to encode from and decode into: a T on the stack would be moved to the heap for every record.
	values sync.Pool
}

// engineSchema is a schema as the engine has it, to encode with, or, resolved, to decode with.
type engineSchema struct {
	schema *avro.Schema
	raw    bool // it is "bytes", which is written without its length
}

// writer compiles a schema to write values with.
func (s *typed[T]) writer(of *avsc.Schema) (engineSchema, error) {
	w := engineSchema{raw: of.Kind == avsc.Bytes}
	if w.raw && !holdsBytes[T]() {
		return w, fmt.Errorf("%w: a schema \"bytes\" needs a type of bytes or a string, not %T", ErrSchema, *new(T))
	}
	var err error
	if w.schema, err = avro.Parse(of.Full()); err != nil {
		return w, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return w, nil
}

// reader compiles a writer's schema against the serde's own.
func (s *typed[T]) reader(writer *avsc.Schema) (engineSchema, error) {
	r := engineSchema{raw: writer.Kind == avsc.Bytes}
	if writer.Text() == s.text {
		r.schema = s.Write.schema
		return r, nil
	}
	if err := readable(s.schema, writer); err != nil {
		return r, err
	}
	if r.raw && !holdsBytes[T]() {
		return r, fmt.Errorf("%w: the writer's schema is \"bytes\", and %T is neither bytes nor a string", ErrUnreadable, *new(T))
	}
	w, err := avro.Parse(writer.Full())
	if err != nil {
		return r, fmt.Errorf("%w: the writer's schema: %w", ErrUnreadable, err)
	}
	if r.schema, err = avro.Resolve(w, s.Write.schema); err != nil {
		return r, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return r, nil
}

// Append implements [serde.Serde].
func (s *typed[T]) Append(dst []byte, at serde.Place, v T) ([]byte, error) {
	w, err := s.Writer(at)
	if err != nil {
		return nil, err
	}
	return s.encode(w.AppendPrefix(dst), at, w, v)
}

func (s *typed[T]) encode(dst []byte, at serde.Place, w *wire.Written[engineSchema], v T) ([]byte, error) {
	if w.With.raw {
		return append(dst, bytesOf(&v)...), nil
	}
	p := s.values.Get().(*T)
	*p = v
	dst, err := w.With.schema.AppendEncode(dst, p)
	s.free(p)
	if err != nil {
		return nil, fmt.Errorf("%w: encode the %s: %w", ErrData, at, err)
	}
	return dst, nil
}

// typedHeaders names the schemas of what it writes in headers.
type typedHeaders[T any] struct{ *typed[T] }

// AppendWithHeaders implements [serde.HeaderEncoder].
func (s *typedHeaders[T]) AppendWithHeaders(dst []byte, at serde.Place, headers *[]serde.Header, v T) ([]byte, error) {
	w, err := s.Writer(at)
	if err != nil {
		return nil, err
	}
	w.SetHeader(at, headers, nil)
	return s.encode(dst, at, w, v)
}

// free gives a value back, emptied: the pool must not keep what the caller's value points to.
func (s *typed[T]) free(p *T) {
	var zero T
	*p = zero
	s.values.Put(p)
}

// Decode implements [serde.Serde].
func (s *typed[T]) Decode(at serde.Place, data []byte) (T, error) {
	r, err := s.Read(at, data)
	if err != nil {
		var none T
		return none, err
	}
	return s.decode(at, &r)
}

// DecodeWithHeaders implements [serde.HeaderDecoder].
func (s *typed[T]) DecodeWithHeaders(at serde.Place, headers []serde.Header, data []byte) (T, error) {
	r, err := s.ReadHeaders(at, headers, data)
	if err != nil {
		var none T
		return none, err
	}
	return s.decode(at, &r)
}

func (s *typed[T]) decode(at serde.Place, r *wire.Reading[engineSchema]) (T, error) {
	var v T
	if r.With.raw {
		setBytes(&v, r.Payload)
		return v, nil
	}
	p := s.values.Get().(*T)
	rest, err := r.With.schema.Decode(r.Payload, p)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes are left over after the value", len(rest))
	}
	if err == nil {
		v = *p
	}
	s.free(p)
	if err != nil {
		return v, r.Wrap(at, err)
	}
	return v, nil
}

// bytesOf returns the bytes of a value whose schema is "bytes".
func bytesOf[T any](v *T) []byte {
	switch v := any(v).(type) {
	case *[]byte:
		return *v
	case *string:
		return []byte(*v)
	}
	rv := reflect.ValueOf(v).Elem()
	if rv.Kind() == reflect.String {
		return []byte(rv.String())
	}
	return rv.Bytes()
}

// setBytes makes data, which was written as "bytes", the value.
func setBytes[T any](v *T, data []byte) {
	rv := reflect.ValueOf(v).Elem()
	if rv.Kind() == reflect.String {
		rv.SetString(string(data))
		return
	}
	rv.SetBytes(slices.Clone(data))
}
