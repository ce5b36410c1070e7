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
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/avsc"
	"github.com/leatstream/leat/serde"
)

var (
	// ErrWireFormat is wrapped by the error for bytes that do not begin as the Confluent wire format does.
	ErrWireFormat = errors.New("avro: not in the schema registry's wire format")
	// ErrSchema is wrapped by errors about a serde's own schema: it is no schema, or does not fit the Go type.
	ErrSchema = errors.New("avro: the serde's schema cannot be used")
	// ErrData is wrapped by errors about data that does not fit the schema it names, and values that do not fit theirs.
	ErrData = errors.New("avro: the data does not fit the schema")
	// ErrUnreadable is wrapped by the error for data whose schema the serde's own cannot read: the schemas are
	// incompatible.
	ErrUnreadable = errors.New("avro: the reader's schema cannot read the writer's")
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
	// Timeout bounds how long one record waits for the registry, before the error says that it is not reachable. 0 means
	// 10 seconds.
	Timeout time.Duration
}

// SubjectStrategy names the subject of a schema. record is the full name of the schema's record, and empty for schemas
// that are no records.
type SubjectStrategy func(at serde.Place, record string) (string, error)

// TopicName is the strategy of one schema for each topic: `<topic>-value`, or `<topic>-key`.
func TopicName(at serde.Place, _ string) (string, error) {
	if at.Key {
		return at.Topic + "-key", nil
	}
	return at.Topic + "-value", nil
}

// RecordName is the strategy of one schema for each record type, whatever the topic.
func RecordName(_ serde.Place, record string) (string, error) {
	if record == "" {
		return "", fmt.Errorf("%w: naming the subject by the record needs a schema that is a record", ErrSchema)
	}
	return record, nil
}

// TopicRecordName is the strategy of one schema for each topic and record type: `<topic>-<record>`.
func TopicRecordName(at serde.Place, record string) (string, error) {
	name, err := RecordName(at, record)
	return at.Topic + "-" + name, err
}

const (
	// prefixLen is the length of the wire format's prefix.
	prefixLen = 5
	// maxPlans bounds the schemas that a serde has read records of; a topic has a handful.
	maxPlans = 1000
)

// base is what the serdes of this package share: the schema, and what the registry said about it.
type base[P any] struct {
	client  *registry.Client
	options Options
	schema  *avsc.Schema // nil if the serde has none of its own
	text    string       // its canonical text
	err     error        // what is wrong with the schema

	// compile makes a plan to read what was written with a schema.
	compile func(writer *avsc.Schema) (P, error)

	ids   atomic.Pointer[idCache]
	plans atomic.Pointer[planCache[P]]
	mu    sync.Mutex // held while a cache is replaced
}

// idCache has the ids under which the schema is registered. It is replaced, never changed.
type idCache struct {
	epoch uint64
	last  serde.Place
	id    uint32
	all   map[serde.Place]uint32
}

// planCache has the plans for the schema ids that were met. It is replaced, never changed.
type planCache[P any] struct {
	epoch uint64
	last  uint32
	plan  *plan[P]
	all   map[uint32]*plan[P]
}

type plan[P any] struct {
	with P
	err  error // for good: schemas do not change
}

// init parses the serde's own schema.
func (b *base[P]) init(client *registry.Client, o Options) {
	b.client, b.options = client, o
	if b.options.Subject == nil {
		b.options.Subject = TopicName
	}
	if b.options.Timeout <= 0 {
		b.options.Timeout = 10 * time.Second
	}
	if client == nil {
		b.client = new(registry.Client) // so that every use says that it is not bound
	}
	if o.Schema == "" {
		return
	}
	s, err := avsc.Parse(o.Schema, avsc.Options{Strict: true})
	if err != nil {
		b.err = fmt.Errorf("%w: %w", ErrSchema, err)
		return
	}
	b.schema, b.text = s, s.Text()
}

// Start implements [serde.Starter]: it fails where the schema is unusable or the client was not bound, before the first
// record.
func (b *base[P]) Start(context.Context) error {
	if b.err != nil {
		return b.err
	}
	return b.client.Bound()
}

// StartAt makes ready to write to a place: the schema is registered, or looked up. An incompatible schema is so refused
// before anything is written.
func (b *base[P]) StartAt(ctx context.Context, at serde.Place) error {
	if err := b.Start(ctx); err != nil || b.schema == nil {
		return err
	}
	_, err := b.fetchID(ctx, at)
	return err
}

// id returns the id of the serde's schema at a place.
func (b *base[P]) id(at serde.Place) (uint32, error) {
	c := b.ids.Load()
	if c != nil && c.epoch == b.client.Epoch() {
		if c.last == at {
			return c.id, nil
		}
		if id, ok := c.all[at]; ok {
			return id, nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), b.options.Timeout)
	defer cancel()
	return b.fetchID(ctx, at)
}

func (b *base[P]) fetchID(ctx context.Context, at serde.Place) (uint32, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.schema == nil {
		return 0, fmt.Errorf("%w: write the %s: a serde without a schema can only read; give it one", ErrSchema, at)
	}
	record := ""
	if b.schema.Kind == avsc.Record {
		record = b.schema.Name.Full()
	}
	subject, err := b.options.Subject(at, record)
	if err != nil {
		return 0, fmt.Errorf("name the subject for the %s: %w", at, err)
	}
	epoch := b.client.Epoch()
	ask, what := b.client.Register, "register"
	if b.options.NoRegister {
		ask, what = b.client.Lookup, "look up"
	}
	s, err := ask(ctx, subject, registry.Definition{Text: b.text})
	if err != nil {
		return 0, fmt.Errorf("%s the schema for the %s under subject %q: %w", what, at, subject, unavailableIfLate(ctx, err))
	}
	id := uint32(s.ID)
	b.mu.Lock()
	defer b.mu.Unlock()
	next := &idCache{epoch: epoch, last: at, id: id, all: map[serde.Place]uint32{at: id}}
	if c := b.ids.Load(); c != nil && c.epoch == epoch && len(c.all) < maxPlans {
		maps.Copy(next.all, c.all)
	}
	b.ids.Store(next)
	return id, nil
}

// unavailableIfLate says of a call that ran out of time that the registry is to blame.
func unavailableIfLate(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, registry.ErrRegistryUnavailable) {
		return fmt.Errorf("%w: %w", registry.ErrRegistryUnavailable, err)
	}
	return err
}

// appendPrefix appends the wire format's prefix.
func (b *base[P]) appendPrefix(dst []byte, at serde.Place) ([]byte, error) {
	id, err := b.id(at)
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint32(append(dst, 0), id), nil
}

// reader splits data into the plan that reads it and the payload.
func (b *base[P]) reader(at serde.Place, data []byte) (uint32, P, []byte, error) {
	var none P
	if b.err != nil {
		return 0, none, nil, b.err
	}
	if len(data) < prefixLen || data[0] != 0 {
		return 0, none, nil, notPrefixed(at, data)
	}
	id := binary.BigEndian.Uint32(data[1:])
	p, err := b.plan(at, id)
	return id, p, data[prefixLen:], err
}

func notPrefixed(at serde.Place, data []byte) error {
	switch {
	case len(data) < prefixLen:
		return fmt.Errorf("%w: %s has %d bytes, and a schema id alone takes %d", ErrWireFormat, at, len(data), prefixLen)
	case data[0] == 1:
		return fmt.Errorf("%w: %s names its schema by GUID, which is not supported yet", ErrWireFormat, at)
	}
	return fmt.Errorf("%w: %s begins with byte 0x%02x instead of 0x00: it was written by another serializer", ErrWireFormat, at, data[0])
}

func (b *base[P]) plan(at serde.Place, id uint32) (P, error) {
	p := b.cachedPlan(id)
	if p == nil {
		var err error
		if p, err = b.fetchPlan(id); err != nil {
			var none P
			return none, fmt.Errorf("decode the %s: schema %d: %w", at, int32(id), err)
		}
	}
	if p.err != nil {
		return p.with, fmt.Errorf("decode the %s: schema %d: %w", at, int32(id), p.err)
	}
	return p.with, nil
}

func (b *base[P]) cachedPlan(id uint32) *plan[P] {
	c := b.plans.Load()
	if c == nil || c.epoch != b.client.Epoch() {
		return nil
	}
	if c.last == id {
		return c.plan
	}
	return c.all[id]
}

// fetchPlan asks for the schema and compiles it. What is wrong with the schema itself is kept with the plan; trouble
// with the registry is not.
func (b *base[P]) fetchPlan(id uint32) (*plan[P], error) {
	ctx, cancel := context.WithTimeout(context.Background(), b.options.Timeout)
	defer cancel()
	epoch := b.client.Epoch()
	d, err := b.client.SchemaByID(ctx, int(int32(id)))
	if err != nil {
		return nil, unavailableIfLate(ctx, err)
	}
	p := new(plan[P])
	writer, err := b.parseWriter(ctx, d)
	switch {
	case errors.Is(err, serde.ErrUnavailable), errors.Is(err, registry.ErrSchemaNotFound):
		return nil, err // a schema that it refers to may come back
	case err != nil:
		p.err = err
	default:
		p.with, p.err = b.compile(writer)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	next := &planCache[P]{epoch: epoch, last: id, plan: p, all: map[uint32]*plan[P]{id: p}}
	if c := b.plans.Load(); c != nil && c.epoch == epoch && len(c.all) < maxPlans {
		maps.Copy(next.all, c.all)
		next.all[id] = p
	}
	b.plans.Store(next)
	return p, nil
}

// parseWriter reads a writer's schema, with the schemas that it refers to.
func (b *base[P]) parseWriter(ctx context.Context, d registry.Definition) (*avsc.Schema, error) {
	if d.Type != "" && d.Type != registry.TypeAvro {
		return nil, fmt.Errorf("%w: it is a schema of type %s", ErrData, d.Type)
	}
	var known []*avsc.Schema
	if err := b.resolve(ctx, d.References, &known, make(map[registry.Reference]bool)); err != nil {
		return nil, err
	}
	s, err := avsc.Parse(d.Text, avsc.Options{Known: known})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return s, nil
}

func (b *base[P]) resolve(ctx context.Context, refs []registry.Reference, known *[]*avsc.Schema, seen map[registry.Reference]bool) error {
	for _, r := range refs {
		if seen[r] {
			continue
		}
		if seen[r] = true; len(seen) > maxPlans {
			return fmt.Errorf("%w: it refers to more than %d schemas", ErrData, maxPlans)
		}
		s, err := b.client.SchemaByVersion(ctx, r.Subject, r.Version)
		if err != nil {
			return fmt.Errorf("the schema that it refers to, version %d of subject %q: %w", r.Version, r.Subject, unavailableIfLate(ctx, err))
		}
		if err := b.resolve(ctx, s.References, known, seen); err != nil {
			return err
		}
		parsed, err := avsc.Parse(s.Text, avsc.Options{Known: *known})
		if err != nil {
			return fmt.Errorf("%w: version %d of subject %q: %w", ErrData, r.Version, r.Subject, err)
		}
		*known = append(*known, parsed)
	}
	return nil
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
