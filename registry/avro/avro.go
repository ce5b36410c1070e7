// Package avro has serdes that write Avro in the Confluent wire format: a zero byte, the id of the schema in four bytes,
// and the data. Programs in other languages read it with their own Avro deserializers.
//
// [Of] is for Go structs. Its schema is given, or derived from the struct; data that was written with another version of
// it is resolved as Avro prescribes: fields that are new take their defaults, fields that are gone are skipped, and
// numbers widen. [Generic] is for data whose schema is known at run time only.
//
//	var (
//		reg    registry.Client
//		Orders = streams.Topic[string, Order]{Name: "orders", Key: serde.String, Value: avro.Of[Order](&reg)}
//	)
//
// The first record written to a topic registers the schema under the subject `<topic>-value`, or `<topic>-key` for keys.
// Mind keys: the bytes of a key decide its partition, and a key under another schema id is another key. Plain serdes are
// the better keys.
//
// Errors say topic, schema and reason. Those that wrap [registry.ErrRegistryUnavailable] may pass; all others are about
// the record or the schema, [registry.ErrSchemaNotFound] among them.
package avro

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/avsc"
	"github.com/leatstream/leat/registry/internal/wire"
	"github.com/leatstream/leat/serde"
)

var (
	// ErrWireFormat is wrapped by the error for bytes that do not begin as the Confluent wire format does.
	ErrWireFormat = wire.ErrFormat
	// ErrSchema is wrapped by errors about a serde's own schema: it is no schema, or does not fit the Go type.
	ErrSchema = wire.ErrSchema
	// ErrData is wrapped by errors about data that does not fit the schema it names, and values that do not fit theirs.
	ErrData = wire.ErrData
	// ErrUnreadable is wrapped by the error for data whose schema the serde's own cannot read: the schemas are
	// incompatible.
	ErrUnreadable = wire.ErrUnreadable
)

// Options configure a serde. The zero value suits most: schema derived from the type, subject from the topic, schemas
// registered as they are first written.
type Options struct {
	// Schema is the Avro schema, as text. Empty: [Of] derives one from the type; [Generic] reads every record with the
	// schema that it was written with.
	Schema string
	// Namespace is the namespace of a derived schema's record. Empty: none.
	Namespace string
	// Subject names the subject that the schema is registered under. Nil means [TopicName].
	Subject SubjectStrategy
	// NoRegister makes writing fail for schemas that are not registered, instead of registering them.
	NoRegister bool
	// UseLatest writes with the latest schema of the subject, as it is when the first record is written, instead of
	// registering the serde's own. Fields that only the latest has take their defaults.
	UseLatest bool
	// SchemaID writes with the schema that has this id. 0 means none.
	SchemaID int
	// Lenient lets UseLatest and SchemaID write with a schema that cannot read what the serde's own writes. A value that
	// does not fit it is then an error of its own.
	Lenient bool
	// Normalize registers the schema with what has no order put into one, so that schemas which differ in nothing else are
	// one.
	Normalize bool
	// Header names the schema in a record header, by its GUID, and leaves the value bare: other consumers then read it
	// without knowing of the registry. Where there are no headers, in stores and their changelogs, it goes in front of the
	// value all the same. Both forms are always read.
	Header bool
	// Timeout bounds how long one record waits for the registry, before the error says that it is not reachable. 0 means
	// 10 seconds.
	Timeout time.Duration
}

// SubjectStrategy names the subject of a schema. record is the full name of the schema's record, and empty for schemas
// that are no records.
type SubjectStrategy = wire.SubjectStrategy

// TopicName is the strategy of one schema for each topic: `<topic>-value`, or `<topic>-key`.
func TopicName(at serde.Place, record string) (string, error) { return wire.TopicName(at, record) }

// RecordName is the strategy of one schema for each record type, whatever the topic.
func RecordName(at serde.Place, record string) (string, error) { return wire.RecordName(at, record) }

// TopicRecordName is the strategy of one schema for each topic and record type: `<topic>-<record>`.
func TopicRecordName(at serde.Place, record string) (string, error) {
	return wire.TopicRecordName(at, record)
}

// base is what the serdes of this package share: the schema, and the wire format. R is a plan to read a writer's schema, W
// one to write a schema of the registry's.
type base[R, W any] struct {
	wire.Codec[R, W]
	schema *avsc.Schema // nil if the serde has none of its own
	text   string       // its canonical text
}

// engine is what a serde does with schemas.
type engine[R, W any] struct {
	// read compiles what data was written with, write what it is to be written with.
	read  func(writer *avsc.Schema) (R, error)
	write func(s *avsc.Schema) (W, error)
}

// init parses the serde's own schema. err is what is known to be wrong with it.
func (b *base[R, W]) init(client *registry.Client, o Options, e engine[R, W], err error) {
	l := wire.Language[R, W]{Err: err}
	if err == nil && o.Schema != "" {
		b.schema, err = avsc.Parse(o.Schema, avsc.Options{Strict: true})
		if err == nil {
			if b.text = b.schema.Text(); o.Normalize {
				b.text = b.schema.Normal()
			}
			l.Own = &registry.Definition{Text: b.text}
			if b.schema.Kind == avsc.Record {
				l.Record = b.schema.Name.Full()
			}
			l.Write, err = e.write(b.schema)
		}
		if err != nil && !errors.Is(err, ErrSchema) {
			err = fmt.Errorf("%w: %w", ErrSchema, err)
		}
		l.Err = err
	}
	l.Reader = func(ctx context.Context, d registry.Definition) (R, error) {
		var none R
		writer, err := b.parse(ctx, d)
		if err != nil {
			return none, err
		}
		return e.read(writer)
	}
	l.Adopt = func(ctx context.Context, d registry.Definition, strict bool) (W, error) {
		var none W
		s, err := b.parse(ctx, d)
		if err != nil {
			return none, err
		}
		if strict {
			if err := readable(s, b.schema); err != nil {
				return none, err
			}
		}
		return e.write(s)
	}
	b.Init(client, wire.Options{Subject: o.Subject, NoRegister: o.NoRegister, UseLatest: o.UseLatest, Lenient: o.Lenient,
		SchemaID: o.SchemaID, Header: o.Header, Timeout: o.Timeout}, l)
}

// parse reads a schema of the registry's, with the schemas that it refers to.
func (b *base[R, W]) parse(ctx context.Context, d registry.Definition) (*avsc.Schema, error) {
	if d.Type != "" && d.Type != registry.TypeAvro {
		return nil, fmt.Errorf("%w: it is a schema of type %s", ErrData, d.Type)
	}
	deps, err := b.Resolve(ctx, d.References)
	if err != nil {
		return nil, err
	}
	var known []*avsc.Schema
	for _, dep := range deps {
		s, err := avsc.Parse(dep.Text, avsc.Options{Known: known})
		if err != nil {
			return nil, fmt.Errorf("%w: version %d of subject %q: %w", ErrData, dep.Version, dep.Subject, err)
		}
		known = append(known, s)
	}
	s, err := avsc.Parse(d.Text, avsc.Options{Known: known})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return s, nil
}

// readable checks with our own rules, which are Java's, that reader can read writer: the engines' own differ.
func readable(reader, writer *avsc.Schema) error {
	found, err := avsc.Reads(reader, writer)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if len(found) == 0 {
		return nil
	}
	var why strings.Builder
	for i, f := range found[:min(3, len(found))] {
		if i > 0 {
			why.WriteString("; ")
		}
		fmt.Fprintf(&why, "%s at %s (%s)", f.Type, f.Location, f.Message)
	}
	if n := len(found) - 3; n > 0 {
		fmt.Fprintf(&why, "; and %d more", n)
	}
	return fmt.Errorf("%w: %s; to read it, %s", ErrUnreadable, &why, found[0].Fix(true))
}
