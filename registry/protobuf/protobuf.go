// Package protobuf has the serde that writes Protobuf messages in the Confluent wire format: the schema's id, the place of
// the message within its file, and the message. Programs in other languages read it with their own Protobuf deserializers.
//
//	Orders = streams.Topic[string, *shoppb.Order]{Name: "orders", Key: serde.String, Value: protobuf.Of[*shoppb.Order](&reg)}
//
// [Of] is for generated messages: the schema is the file that the message's type was generated from. [Generic] is for messages
// whose schema is known at run time only. Files that it imports are registered before it, each
// under its own path as the subject; the well-known types are not.
package protobuf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/protos"
	"github.com/leatstream/leat/registry/internal/wire"
	"github.com/leatstream/leat/serde"
)

// Options configure a serde. The zero value suits most.
type Options struct {
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

	// Message is, for [Generic], the full name of the message within the schema. Empty means the file's first.
	Message string
	// Imports are, for [Generic], the sources of the files that the schema imports, by the paths by which it does, and of
	// those that they import. The well-known types need none.
	Imports map[string]string
}

// SubjectStrategy names the subject of a schema; record is the message's full name.
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

// maxIndexes bounds how deeply the messages of a file nest.
const maxIndexes = 64

// Of is the serde of a generated message type: T is the pointer, *shoppb.Order. Null is no value of it: wrap it in
// [serde.Nullable] for that.
func Of[T proto.Message](reg *registry.Client, o ...Options) serde.Serde[T] {
	s := new(messages[T])
	var zero T
	var err error
	if t := reflect.TypeFor[T](); t.Kind() != reflect.Pointer {
		err = fmt.Errorf("%w: %v is no generated message type", ErrSchema, t)
	} else {
		s.message = zero.ProtoReflect().Descriptor()
		s.fresh = func(protoreflect.MessageDescriptor) proto.Message { return zero.ProtoReflect().New().Interface() }
	}
	return s.init(reg, o, err)
}

// messages is the serde of a message type. The plan to read a schema is its file; to write, the indexes.
type messages[T proto.Message] struct {
	wire.Codec[protoreflect.FileDescriptor, []byte]
	// message is what is written and read; nil if every record is read as the message that it was written as.
	message protoreflect.MessageDescriptor
	// fresh makes an empty T of a type.
	fresh func(protoreflect.MessageDescriptor) proto.Message
	// check says whether a value is of the message; nil where the compiler sees to it.
	check  func(T) error
	own    *protos.Schema
	normal bool
}

// init makes the serde ready. err is what is known to be wrong with it.
func (s *messages[T]) init(reg *registry.Client, o []Options, err error) serde.Serde[T] {
	options := first(o)
	l := wire.Language[protoreflect.FileDescriptor, []byte]{Reader: s.reader, Adopt: s.adopt, Err: err}
	if err == nil && s.message != nil {
		l.References = s.references
		s.own = &protos.Schema{File: s.message.ParentFile()}
		s.normal = options.Normalize
		l.Own = &registry.Definition{Type: registry.TypeProtobuf, Text: s.text(s.own)}
		l.Record = string(s.message.FullName())
		l.Write = indexes(s.message)
	}
	s.Init(reg, wire.Options{Subject: options.Subject, NoRegister: options.NoRegister, UseLatest: options.UseLatest,
		Lenient: options.Lenient, SchemaID: options.SchemaID, Header: options.Header, Timeout: options.Timeout}, l)
	if options.Header {
		return &messagesHeaders[T]{s}
	}
	return s
}

func first(o []Options) Options {
	if len(o) == 0 {
		return Options{}
	}
	return o[0]
}

func (s *messages[T]) text(of *protos.Schema) string {
	if s.normal {
		return of.Normal()
	}
	return of.Text()
}

// indexes is the place of a message within its file, as it stands after the schema's name: how many numbers, then the
// number of each message within its parent, as zigzag varints. The file's first message is a zero alone.
func indexes(m protoreflect.MessageDescriptor) []byte {
	var path []int
	for d := protoreflect.Descriptor(m); ; d = d.Parent() {
		if _, ok := d.(protoreflect.MessageDescriptor); !ok {
			break
		}
		path = append([]int{d.Index()}, path...)
	}
	if len(path) == 1 && path[0] == 0 {
		return []byte{0}
	}
	b := binary.AppendVarint(nil, int64(len(path)))
	for _, i := range path {
		b = binary.AppendVarint(b, int64(i))
	}
	return b
}

var errIndexes = errors.New("the indexes of its message are broken")

// skipIndexes returns what follows the indexes.
func skipIndexes(b []byte) ([]byte, error) {
	count, b, err := index(b, maxIndexes)
	for i := 0; i < count && err == nil; i++ {
		_, b, err = index(b, math.MaxInt32)
	}
	return b, err
}

// index reads one number of the indexes.
func index(b []byte, most int64) (int, []byte, error) {
	i, n := binary.Varint(b)
	if n <= 0 || i < 0 || i > most {
		return 0, nil, errIndexes
	}
	return int(i), b[n:], nil
}

// messageAt finds the message that indexes name within a file.
func messageAt(file protoreflect.FileDescriptor, b []byte) (protoreflect.MessageDescriptor, error) {
	count, b, err := index(b, maxIndexes)
	if err != nil {
		return nil, err
	}
	if count == 0 { // the file's first
		count, b = 1, []byte{0}
	}
	in := file.Messages()
	var m protoreflect.MessageDescriptor
	for range count {
		var i int
		if i, b, err = index(b, math.MaxInt32); err != nil {
			return nil, err
		}
		if i >= in.Len() {
			return nil, fmt.Errorf("its schema has %d messages where it names message %d", in.Len(), i)
		}
		m = in.Get(i)
		in = m.Messages()
	}
	return m, nil
}

// references registers, or looks up, the files that the message's file imports.
func (s *messages[T]) references(ctx context.Context, register bool) ([]registry.Reference, error) {
	return s.imports(ctx, s.message.ParentFile(), register)
}

func (s *messages[T]) imports(ctx context.Context, file protoreflect.FileDescriptor, register bool) ([]registry.Reference, error) {
	var refs []registry.Reference
	for i := range file.Imports().Len() {
		f := file.Imports().Get(i)
		if strings.HasPrefix(f.Path(), "google/protobuf/") {
			continue
		}
		d := registry.Definition{Type: registry.TypeProtobuf, Text: s.text(&protos.Schema{File: f})}
		var err error
		if d.References, err = s.imports(ctx, f, register); err != nil {
			return nil, err
		}
		if register {
			if _, err = s.Client().Register(ctx, f.Path(), d); err != nil {
				return nil, err
			}
		}
		// Registering tells no version where the registry is asked over HTTP.
		found, err := s.Client().Lookup(ctx, f.Path(), d)
		if err != nil {
			return nil, err
		}
		refs = append(refs, registry.Reference{Name: f.Path(), Subject: f.Path(), Version: found.Version})
	}
	return refs, nil
}

func (s *messages[T]) parse(ctx context.Context, d registry.Definition) (*protos.Schema, error) {
	if d.Type != registry.TypeProtobuf {
		return nil, fmt.Errorf("%w: it is a schema of type %s", ErrUnreadable, d.Type)
	}
	deps, err := s.Resolve(ctx, d.References)
	if err != nil {
		return nil, err
	}
	list := make([]protos.Dependency, len(deps))
	for i, dep := range deps {
		list[i] = protos.Dependency{Name: dep.Name, Text: dep.Text}
	}
	schema, err := protos.Parse(d.Text, list)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return schema, nil
}

// reader checks that what was written with a schema can be read as the serde's message. What cannot is the same as what a
// registry refuses.
func (s *messages[T]) reader(ctx context.Context, writer registry.Definition) (protoreflect.FileDescriptor, error) {
	w, err := s.parse(ctx, writer)
	if err != nil {
		return nil, err
	}
	if s.message == nil {
		return w.File, nil
	}
	return w.File, readable(s.own, w)
}

func readable(reader, writer *protos.Schema) error {
	if found := protos.Reads(reader, writer); len(found) > 0 {
		return fmt.Errorf("%w: %s at %s; %s", ErrUnreadable, found[0].Type, found[0].Path, found[0].Fix)
	}
	return nil
}

func (s *messages[T]) adopt(ctx context.Context, latest registry.Definition, strict bool) ([]byte, error) {
	l, err := s.parse(ctx, latest)
	if err != nil {
		return nil, err
	}
	if strict {
		if err := readable(l, s.own); err != nil {
			return nil, err
		}
	}
	local := strings.TrimPrefix(string(s.message.FullName()), string(s.message.ParentFile().Package())+".")
	var m protoreflect.MessageDescriptor
	for in := l.File.Messages(); in != nil; {
		name, rest, nested := strings.Cut(local, ".")
		if m = in.ByName(protoreflect.Name(name)); m == nil {
			return nil, fmt.Errorf("%w: it has no message %s", ErrSchema, s.message.FullName())
		}
		if in, local = nil, rest; nested {
			in = m.Messages()
		}
	}
	return indexes(m), nil
}

// Append implements [serde.Serde].
func (s *messages[T]) Append(dst []byte, at serde.Place, v T) ([]byte, error) {
	w, err := s.Writer(at)
	if err != nil {
		return nil, err
	}
	return s.encode(append(w.AppendPrefix(dst), w.With...), at, v)
}

func (s *messages[T]) encode(dst []byte, at serde.Place, v T) ([]byte, error) {
	if s.check != nil {
		if err := s.check(v); err != nil {
			return nil, fmt.Errorf("%w: encode the %s: %w", ErrData, at, err)
		}
	}
	dst, err := proto.MarshalOptions{}.MarshalAppend(dst, v)
	if err != nil {
		return nil, fmt.Errorf("%w: encode the %s: %w", ErrData, at, err)
	}
	return dst, nil
}

// Decode implements [serde.Serde].
func (s *messages[T]) Decode(at serde.Place, data []byte) (T, error) {
	r, err := s.Read(at, data)
	return s.decode(at, &r, err)
}

// DecodeWithHeaders implements [serde.HeaderDecoder].
func (s *messages[T]) DecodeWithHeaders(at serde.Place, headers []serde.Header, data []byte) (T, error) {
	r, err := s.ReadHeaders(at, headers, data)
	return s.decode(at, &r, err)
}

func (s *messages[T]) decode(at serde.Place, r *wire.Reading[protoreflect.FileDescriptor], err error) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	payload, place := r.Payload, r.Extra
	if !r.Header { // in a header the indexes follow the name there
		place = payload
		if payload, err = skipIndexes(payload); err != nil {
			return none, r.Wrap(at, err)
		}
	}
	of := s.message
	if of == nil {
		if of, err = messageAt(r.With, place); err != nil {
			return none, r.Wrap(at, err)
		}
	}
	v, ok := s.fresh(of).(T)
	if !ok {
		return none, fmt.Errorf("%w: a message of another type than %T", ErrSchema, none)
	}
	if err := proto.Unmarshal(payload, v); err != nil {
		return none, r.Wrap(at, err)
	}
	return v, nil
}

// messagesHeaders names the schemas of what it writes in headers.
type messagesHeaders[T proto.Message] struct{ *messages[T] }

// AppendWithHeaders implements [serde.HeaderEncoder].
func (s *messagesHeaders[T]) AppendWithHeaders(dst []byte, at serde.Place, headers *[]serde.Header, v T) ([]byte, error) {
	w, err := s.Writer(at)
	if err != nil {
		return nil, err
	}
	w.SetHeader(at, headers, w.With)
	return s.encode(dst, at, v)
}
