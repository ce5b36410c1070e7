// Package wire is what the serdes of all schema languages share: Confluent's wire format, the choice of the schema that
// is written, and caches of what the registry said.
//
// A record names its schema in front of its value, by a zero byte and an id of four bytes, or by a one and a GUID of
// sixteen; or in a header, as the same bytes. All of them are read.
package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/frame"
	"github.com/leatstream/leat/serde"
)

var (
	// ErrFormat is wrapped by the error for bytes that do not begin as the wire format does.
	ErrFormat = errors.New("registry: not in the schema registry's wire format")
	// ErrSchema is wrapped by errors about a serde's own schema: it is no schema, or does not fit the Go type.
	ErrSchema = errors.New("registry: the serde's schema cannot be used")
	// ErrData is wrapped by errors about data that does not fit the schema it names, and values that do not fit theirs.
	ErrData = errors.New("registry: the data does not fit the schema")
	// ErrUnreadable is wrapped by the error for data whose schema the serde's own cannot read.
	ErrUnreadable = errors.New("registry: the reader's schema cannot read the writer's")
)

// SubjectStrategy names the subject of a schema; record is the full name of the schema's record, or empty.
type SubjectStrategy func(at serde.Place, record string) (string, error)

// TopicName is `<topic>-value`, or `<topic>-key`.
func TopicName(at serde.Place, _ string) (string, error) {
	if at.Key {
		return at.Topic + "-key", nil
	}
	return at.Topic + "-value", nil
}

// RecordName is the record's full name.
func RecordName(_ serde.Place, record string) (string, error) {
	if record == "" {
		return "", fmt.Errorf("%w: naming the subject by the record needs a schema that is a record", ErrSchema)
	}
	return record, nil
}

// TopicRecordName is `<topic>-<record>`.
func TopicRecordName(at serde.Place, record string) (string, error) {
	name, err := RecordName(at, record)
	return at.Topic + "-" + name, err
}

const (
	// maxPlans bounds the schemas that a serde has read records of; a topic has a handful.
	maxPlans = 1000
	// keyHeader and valueHeader carry the schema's name where the payload does not.
	keyHeader   = "__key_schema_id"
	valueHeader = "__value_schema_id"
)

// Options are the options that the serdes of all languages have; see registry/avro for what they mean.
type Options struct {
	Subject    SubjectStrategy
	NoRegister bool
	UseLatest  bool
	Lenient    bool
	SchemaID   int
	Header     bool
	Timeout    time.Duration
}

// Language is what the serdes of one language have of their own. R is a plan to read what was written with some schema, W
// one to write.
type Language[R, W any] struct {
	// Own is the schema that the serde writes; nil if it only reads. Record is the name of its record, or empty.
	Own    *registry.Definition
	Record string
	// Write is the plan to write Own.
	Write W
	// References says what Own refers to, registering it if it may. Nil means nothing.
	References func(ctx context.Context, register bool) ([]registry.Reference, error)
	// Err is what is wrong with the serde; every use returns it.
	Err error
	// Reader compiles the schema that a record was written with.
	Reader func(ctx context.Context, writer registry.Definition) (R, error)
	// Adopt compiles a schema of the registry's to write the serde's values with. strict asks whether data of it could be
	// read with Own and the other way round, as the language sees it.
	Adopt func(ctx context.Context, latest registry.Definition, strict bool) (W, error)
}

// Codec finds the schemas of records. It is safe for use by several goroutines.
type Codec[R, W any] struct {
	Language[R, W]
	client  *registry.Client
	options Options

	written atomic.Pointer[writtenCache[W]]
	plans   atomic.Pointer[planCache[R]]
	mu      sync.Mutex // held while a cache is replaced
}

// Written is a schema that values are written with.
type Written[W any] struct {
	ID   uint32
	GUID frame.GUID // zero unless headers are written
	With W
}

// writtenCache has what is written at the places that were met. It is replaced, never changed.
type writtenCache[W any] struct {
	epoch uint64
	last  serde.Place
	w     *Written[W]
	all   map[serde.Place]*Written[W]
}

// planCache has the plans for the schemas that were met. It is replaced, never changed.
type planCache[R any] struct {
	epoch uint64
	last  frame.Name
	plan  *plan[R]
	all   map[frame.Name]*plan[R]
}

type plan[R any] struct {
	with R
	err  error // for good: schemas do not change
}

// Init makes the codec ready. client may be nil: every use then says that it is not bound.
func (c *Codec[R, W]) Init(client *registry.Client, o Options, l Language[R, W]) {
	c.client, c.options, c.Language = client, o, l
	if c.options.Subject == nil {
		c.options.Subject = TopicName
	}
	if c.options.Timeout <= 0 {
		c.options.Timeout = 10 * time.Second
	}
	if client == nil {
		c.client = new(registry.Client)
	}
}

// Start implements [serde.Starter]: it fails where the schema is unusable or the client was not bound, before the first
// record.
func (c *Codec[R, W]) Start(context.Context) error {
	if c.Err != nil {
		return c.Err
	}
	return c.client.Bound()
}

// StartAt makes ready to write to a place: the schema is registered, or looked up. An incompatible schema is so refused
// before anything is written.
func (c *Codec[R, W]) StartAt(ctx context.Context, at serde.Place) error {
	if err := c.Start(ctx); err != nil || c.Own == nil {
		return err
	}
	_, err := c.fetchWritten(ctx, at)
	return err
}

// Writer is what values are written with at a place.
func (c *Codec[R, W]) Writer(at serde.Place) (*Written[W], error) {
	k := c.written.Load()
	if k != nil && k.epoch == c.client.Epoch() {
		if k.last == at {
			return k.w, nil
		}
		if w, ok := k.all[at]; ok {
			return w, nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.options.Timeout)
	defer cancel()
	return c.fetchWritten(ctx, at)
}

func (c *Codec[R, W]) fetchWritten(ctx context.Context, at serde.Place) (*Written[W], error) {
	if c.Err != nil {
		return nil, c.Err
	}
	if c.Own == nil {
		return nil, fmt.Errorf("%w: write the %s: a serde without a schema can only read; give it one", ErrSchema, at)
	}
	subject, err := c.options.Subject(at, c.Record)
	if err != nil {
		return nil, fmt.Errorf("name the subject for the %s: %w", at, err)
	}
	epoch := c.client.Epoch()
	w, err := c.choose(ctx, at, subject)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &writtenCache[W]{epoch: epoch, last: at, w: w, all: map[serde.Place]*Written[W]{at: w}}
	if k := c.written.Load(); k != nil && k.epoch == epoch && len(k.all) < maxPlans {
		maps.Copy(next.all, k.all)
		next.all[at] = w
	}
	c.written.Store(next)
	return w, nil
}

// choose finds the schema to write at a place: the given id, the subject's latest, or the serde's own.
func (c *Codec[R, W]) choose(ctx context.Context, at serde.Place, subject string) (*Written[W], error) {
	var what string
	var s registry.Schema
	var err error
	foreign := c.options.SchemaID > 0 || c.options.UseLatest
	own := *c.Own
	if c.References != nil && !foreign {
		if own.References, err = c.References(ctx, !c.options.NoRegister); err != nil {
			return nil, fmt.Errorf("register what the schema for the %s refers to: %w", at, unavailableIfLate(ctx, err))
		}
	}
	switch {
	case c.options.SchemaID > 0:
		what, s.ID = "get", c.options.SchemaID
		s.Definition, err = c.client.SchemaByID(ctx, s.ID)
	case c.options.UseLatest:
		what = "get the latest of"
		s, err = c.client.SchemaByVersion(ctx, subject, registry.Latest)
	case c.options.NoRegister:
		what = "look up"
		s, err = c.client.Lookup(ctx, subject, own)
	default:
		what = "register"
		s, err = c.client.Register(ctx, subject, own)
	}
	if err != nil {
		return nil, fmt.Errorf("%s the schema for the %s under subject %q: %w", what, at, subject, unavailableIfLate(ctx, err))
	}
	w := &Written[W]{ID: uint32(s.ID), With: c.Write}
	if foreign {
		if w.With, err = c.Adopt(ctx, s.Definition, !c.options.Lenient); err != nil {
			return nil, fmt.Errorf("write the %s with schema %d of subject %q: %w", at, s.ID, subject, err)
		}
	}
	if !c.options.Header {
		return w, nil
	}
	if s.GUID == "" {
		if s.GUID, err = c.client.GUID(ctx, s.ID); err != nil {
			return nil, fmt.Errorf("get the GUID of schema %d for the %s: %w", s.ID, at, unavailableIfLate(ctx, err))
		}
	}
	if w.GUID, err = frame.ParseGUID(s.GUID); err != nil {
		return nil, fmt.Errorf("%w: write the %s: %w", ErrFormat, at, err)
	}
	return w, nil
}

// unavailableIfLate says of a call that ran out of time that the registry is to blame.
func unavailableIfLate(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, registry.ErrRegistryUnavailable) {
		return fmt.Errorf("%w: %w", registry.ErrRegistryUnavailable, err)
	}
	return err
}

// AppendPrefix appends the name of a schema as it stands in front of a value.
func (w *Written[W]) AppendPrefix(dst []byte) []byte {
	return frame.AppendID(dst, w.ID)
}

// SetHeader puts the name of the schema into the header of a place, with what extra adds to it, instead of an equal one.
func (w *Written[W]) SetHeader(at serde.Place, headers *[]serde.Header, extra []byte) {
	key := headerName(at)
	value := append(frame.AppendGUID(nil, w.GUID), extra...)
	for _, h := range *headers {
		if h.Key == key && string(h.Value) == string(value) {
			return
		}
	}
	*headers = append(*headers, serde.Header{Key: key, Value: value})
}

func headerName(at serde.Place) string {
	if at.Key {
		return keyHeader
	}
	return valueHeader
}

// Reading is a value that is about to be decoded.
type Reading[R any] struct {
	With    R
	Payload []byte
	// Extra is what follows the schema's name in a header; nil if the name is a prefix, where it is part of the payload.
	Extra  []byte
	Header bool
	schema frame.Name
}

// Wrap says of an error which value and schema it is about.
func (r *Reading[R]) Wrap(at serde.Place, err error) error {
	return fmt.Errorf("%w: decode the %s with %s: %w", ErrData, at, r.schema, err)
}

// Read splits data into the plan that reads it and the payload.
func (c *Codec[R, W]) Read(at serde.Place, data []byte) (Reading[R], error) {
	var r Reading[R]
	if c.Err != nil {
		return r, c.Err
	}
	n, rest, err := frame.Parse(data)
	if err != nil {
		return r, fmt.Errorf("%w: %s %w", ErrFormat, at, err)
	}
	r.schema, r.Payload = n, rest
	r.With, err = c.plan(at, n)
	return r, err
}

// ReadHeaders is Read for a record with headers: the last that names a schema wins over a prefix.
func (c *Codec[R, W]) ReadHeaders(at serde.Place, headers []serde.Header, data []byte) (Reading[R], error) {
	key := headerName(at)
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i].Key != key {
			continue
		}
		if c.Err != nil {
			return Reading[R]{}, c.Err
		}
		n, extra, err := frame.Parse(headers[i].Value)
		if err != nil {
			return Reading[R]{}, fmt.Errorf("%w: the header %s of the %s %w", ErrFormat, key, at, err)
		}
		r := Reading[R]{Payload: data, Extra: extra, Header: true, schema: n}
		r.With, err = c.plan(at, n)
		return r, err
	}
	return c.Read(at, data)
}

func (c *Codec[R, W]) plan(at serde.Place, n frame.Name) (R, error) {
	p := c.cachedPlan(n)
	if p == nil {
		var err error
		if p, err = c.fetchPlan(n); err != nil {
			var none R
			return none, fmt.Errorf("decode the %s: %s: %w", at, n, err)
		}
	}
	if p.err != nil {
		return p.with, fmt.Errorf("decode the %s: %s: %w", at, n, p.err)
	}
	return p.with, nil
}

func (c *Codec[R, W]) cachedPlan(n frame.Name) *plan[R] {
	k := c.plans.Load()
	if k == nil || k.epoch != c.client.Epoch() {
		return nil
	}
	if k.last == n {
		return k.plan
	}
	return k.all[n]
}

// fetchPlan asks for the schema and compiles it. What is wrong with the schema itself is kept with the plan; trouble
// with the registry is not.
func (c *Codec[R, W]) fetchPlan(n frame.Name) (*plan[R], error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.options.Timeout)
	defer cancel()
	epoch := c.client.Epoch()
	var d registry.Definition
	var err error
	if n.GUID == (frame.GUID{}) {
		d, err = c.client.SchemaByID(ctx, int(int32(n.ID)))
	} else {
		d, err = c.client.SchemaByGUID(ctx, n.GUID.String())
	}
	if err != nil {
		return nil, unavailableIfLate(ctx, err)
	}
	p := new(plan[R])
	p.with, p.err = c.Reader(ctx, d)
	if errors.Is(p.err, serde.ErrUnavailable) || errors.Is(p.err, registry.ErrSchemaNotFound) {
		return nil, p.err // a schema that it refers to may come back
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &planCache[R]{epoch: epoch, last: n, plan: p, all: map[frame.Name]*plan[R]{n: p}}
	if k := c.plans.Load(); k != nil && k.epoch == epoch && len(k.all) < maxPlans {
		maps.Copy(next.all, k.all)
		next.all[n] = p
	}
	c.plans.Store(next)
	return p, nil
}

// Client is what the codec asks.
func (c *Codec[R, W]) Client() *registry.Client { return c.client }

// Dependency is a schema that another refers to.
type Dependency struct {
	Name string
	registry.Schema
}

// Resolve lists the schemas that refs name, before each those that it names, each once.
func (c *Codec[R, W]) Resolve(ctx context.Context, refs []registry.Reference) ([]Dependency, error) {
	var list []Dependency
	err := c.resolve(ctx, refs, &list, make(map[registry.Reference]bool))
	return list, err
}

func (c *Codec[R, W]) resolve(ctx context.Context, refs []registry.Reference, list *[]Dependency, seen map[registry.Reference]bool) error {
	for _, r := range refs {
		if seen[r] {
			continue
		}
		if seen[r] = true; len(seen) > maxPlans {
			return fmt.Errorf("%w: it refers to more than %d schemas", ErrData, maxPlans)
		}
		s, err := c.client.SchemaByVersion(ctx, r.Subject, r.Version)
		if err != nil {
			return fmt.Errorf("the schema that it refers to, version %d of subject %q: %w", r.Version, r.Subject, unavailableIfLate(ctx, err))
		}
		if err := c.resolve(ctx, s.References, list, seen); err != nil {
			return err
		}
		*list = append(*list, Dependency{r.Name, s})
	}
	return nil
}
