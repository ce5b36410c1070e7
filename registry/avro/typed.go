package avro

import (
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/twmb/avro"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/avsc"
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
	var deriveErr error
	if options.Schema == "" {
		options.Schema, deriveErr = derive[T](options.Namespace)
	}
	s.base.compile = s.plan
	s.init(reg, options)
	if deriveErr != nil {
		s.err = fmt.Errorf("%w: derive it from %T: %w", ErrSchema, *new(T), deriveErr)
	}
	if s.err != nil {
		return s
	}
	var err error
	if s.own, err = avro.Parse(s.schema.Full()); err != nil {
		s.err = fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if s.raw = s.schema.Kind == avsc.Bytes; s.raw && !holdsBytes[T]() {
		s.err = fmt.Errorf("%w: a schema \"bytes\" needs a type of bytes or a string, not %T", ErrSchema, *new(T))
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
	base[reading]
	own *avro.Schema
	raw bool // the schema is "bytes", which is written without its length
	// values are *T to encode from and decode into: a T on the stack would be moved to the heap for every record.
	values sync.Pool
}

// reading is how data of one writer's schema is decoded.
type reading struct {
	schema *avro.Schema
	raw    bool
}

// plan compiles a writer's schema against the serde's own.
func (s *typed[T]) plan(writer *avsc.Schema) (reading, error) {
	r := reading{raw: writer.Kind == avsc.Bytes}
	if writer.Text() == s.text {
		r.schema = s.own
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
	if r.schema, err = avro.Resolve(w, s.own); err != nil {
		return r, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return r, nil
}

// Append implements [serde.Serde].
func (s *typed[T]) Append(dst []byte, at serde.Place, v T) ([]byte, error) {
	dst, err := s.appendPrefix(dst, at)
	if err != nil {
		return nil, err
	}
	if s.raw {
		return append(dst, bytesOf(&v)...), nil
	}
	p := s.values.Get().(*T)
	*p = v
	dst, err = s.own.AppendEncode(dst, p)
	s.free(p)
	if err != nil {
		return nil, fmt.Errorf("%w: encode the %s: %w", ErrData, at, err)
	}
	return dst, nil
}

// free gives a value back, emptied: the pool must not keep what the caller's value points to.
func (s *typed[T]) free(p *T) {
	var zero T
	*p = zero
	s.values.Put(p)
}

// Decode implements [serde.Serde].
func (s *typed[T]) Decode(at serde.Place, data []byte) (T, error) {
	var v T
	id, r, payload, err := s.reader(at, data)
	if err != nil {
		return v, err
	}
	if r.raw {
		setBytes(&v, payload)
		return v, nil
	}
	p := s.values.Get().(*T)
	rest, err := r.schema.Decode(payload, p)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes are left over after the value", len(rest))
	}
	if err == nil {
		v = *p
	}
	s.free(p)
	if err != nil {
		return v, fmt.Errorf("%w: decode the %s with schema %d: %w", ErrData, at, int32(id), err)
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
