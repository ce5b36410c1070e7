package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxCached bounds each of a client's caches, in entries. Schemas are few; more is a sign of trouble elsewhere, and
	// then a cache begins anew.
	maxCached = 10_000
	// missTTL is how long a client remembers that an id does not exist: a poison record must not ask the registry every
	// time it is retried, and a schema that was just registered must not stay unknown for long.
	missTTL = 2 * time.Second
)

// Client is what serdes ask for schemas. The zero value is ready to be bound, so that it may stand in a package variable
// beside the topics that use it; [Client.Bind] gives it a backend. It is safe for use by several goroutines and must not
// be copied.
//
// Ids and definitions never change, so a client asks for each once, and keeps the answer. Goroutines that miss the same
// one wait for a single request.
type Client struct {
	epoch atomic.Uint64 // changed under mu, read without it by every record that is encoded

	mu struct {
		sync.Mutex
		backend Backend
		byID    map[int]Definition
		missing map[int]time.Time // id to the time when it may be asked for again
		ids     map[string]Schema // of Register and Lookup, by the request
		flights map[string]*flight
	}
}

// flight is one request that several goroutines wait for.
type flight struct {
	done   chan struct{}
	result any
	err    error
}

var _ Backend = (*Client)(nil)

// Bind gives the client its backend. Binding it again, as tests do, empties its caches.
func (c *Client) Bind(b Backend) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.backend = b
	c.epoch.Add(1)
	c.mu.byID = make(map[int]Definition)
	c.mu.missing = make(map[int]time.Time)
	c.mu.ids = make(map[string]Schema)
	c.mu.flights = make(map[string]*flight)
}

// Epoch counts the calls of Bind. Whoever keeps ids of this client's must forget them when it changes.
func (c *Client) Epoch() uint64 { return c.epoch.Load() }

// Bound returns [ErrNotBound] if Bind was not called yet.
func (c *Client) Bound() error {
	_, err := c.bound()
	return err
}

func (c *Client) bound() (Backend, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.backend == nil {
		return nil, ErrNotBound
	}
	return c.mu.backend, nil
}

// Register implements [Backend]. It asks the registry once for each subject and definition.
func (c *Client) Register(ctx context.Context, subject string, d Definition) (Schema, error) {
	return c.schema(ctx, "r", subject, d, Backend.Register)
}

// Lookup implements [Backend]. It asks the registry once for each subject and definition that it finds.
func (c *Client) Lookup(ctx context.Context, subject string, d Definition) (Schema, error) {
	return c.schema(ctx, "l", subject, d, Backend.Lookup)
}

func (c *Client) schema(ctx context.Context, op, subject string, d Definition,
	ask func(Backend, context.Context, string, Definition) (Schema, error)) (Schema, error) {
	k := op + "\x00" + subject + "\x00" + d.key()
	return share(ctx, c, c.known(k), func(b Backend) (Schema, error) { return ask(b, ctx, subject, d) })
}

// SchemaByID implements [Backend]. An id that does not exist is asked for again after two seconds.
func (c *Client) SchemaByID(ctx context.Context, id int) (Definition, error) {
	return share(ctx, c, cached[Definition]{
		key: "i" + strconv.Itoa(id),
		find: func() (Definition, error, bool) {
			d, ok := c.mu.byID[id]
			if until, miss := c.mu.missing[id]; !ok && miss && time.Now().Before(until) {
				return d, fail(codeSchemaNotFound, "Schema %d not found", id), true
			}
			return d, nil, ok
		},
		keep: func(d Definition, err error) {
			switch {
			case err == nil:
				keep(c.mu.byID, id, d)
			case errors.Is(err, ErrSchemaNotFound):
				keep(c.mu.missing, id, time.Now().Add(missTTL))
			}
		},
	}, func(b Backend) (Definition, error) { return b.SchemaByID(ctx, id) })
}

// SchemaByGUID finds a definition by its content identifier. The backend must be one of this package's, or have the same
// method.
func (c *Client) SchemaByGUID(ctx context.Context, guid string) (Definition, error) {
	return guidCall(ctx, c, "g"+guid, func(b guidBackend) (Schema, error) {
		d, err := b.SchemaByGUID(ctx, guid)
		return Schema{Definition: d, GUID: guid}, err
	}, func(s Schema) Definition { return s.Definition })
}

// GUID finds the content identifier of the schema with an id.
func (c *Client) GUID(ctx context.Context, id int) (string, error) {
	return guidCall(ctx, c, "n"+strconv.Itoa(id), func(b guidBackend) (Schema, error) {
		guid, err := b.GUID(ctx, id)
		return Schema{ID: id, GUID: guid}, err
	}, func(s Schema) string { return s.GUID })
}

// guidBackend is implemented by backends that know content identifiers.
type guidBackend interface {
	SchemaByGUID(ctx context.Context, guid string) (Definition, error)
	GUID(ctx context.Context, id int) (string, error)
}

func guidCall[T any](ctx context.Context, c *Client, key string, ask func(guidBackend) (Schema, error), of func(Schema) T) (T, error) {
	s, err := share(ctx, c, c.known(key), func(b Backend) (Schema, error) {
		g, ok := b.(guidBackend)
		if !ok {
			return Schema{}, fmt.Errorf("registry: %T knows no GUIDs: name schemas by their ids", b)
		}
		return ask(g)
	})
	return of(s), err
}

// known is the answer of the registry to a question by key, which never changes.
func (c *Client) known(key string) cached[Schema] {
	return cached[Schema]{
		key: key,
		find: func() (Schema, error, bool) {
			s, ok := c.mu.ids[key]
			return s, nil, ok
		},
		keep: func(s Schema, err error) {
			if err == nil {
				keep(c.mu.ids, key, s)
			}
		},
	}
}

// keep stores v in a map that holds maxCached answers and is emptied when it is full.
func keep[K comparable, V any](m map[K]V, k K, v V) {
	if len(m) >= maxCached {
		clear(m)
	}
	m[k] = v
}

// SchemaByVersion implements [Backend]. It is not cached: the latest version changes.
func (c *Client) SchemaByVersion(ctx context.Context, subject string, version int) (Schema, error) {
	b, err := c.bound()
	if err != nil {
		return Schema{}, err
	}
	return b.SchemaByVersion(ctx, subject, version)
}

// cached is where the answer to one question is kept. Both functions are called under the client's lock.
type cached[T any] struct {
	key  string                  // of the question
	find func() (T, error, bool) // false if the registry must be asked
	keep func(T, error)
}

// share returns the answer that is kept. If there is none, one of the goroutines that want it asks, and the others wait
// for what it gets. If the one that asked gave up, because its own ctx ended, another asks.
func share[T any](ctx context.Context, c *Client, a cached[T], ask func(Backend) (T, error)) (T, error) {
	var zero T
	for {
		c.mu.Lock()
		if v, err, ok := a.find(); ok {
			c.mu.Unlock()
			return v, err
		}
		b, epoch := c.mu.backend, c.epoch.Load()
		if b == nil {
			c.mu.Unlock()
			return zero, ErrNotBound
		}
		f := c.mu.flights[a.key]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			c.mu.flights[a.key] = f
			c.mu.Unlock()
			v, err := ask(b)
			f.result, f.err = v, err
			c.mu.Lock()
			if c.epoch.Load() == epoch {
				delete(c.mu.flights, a.key)
				a.keep(v, err)
			}
			c.mu.Unlock()
			close(f.done)
			return v, err
		}
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return zero, context.Cause(ctx)
		}
		if errors.Is(f.err, context.Canceled) || errors.Is(f.err, context.DeadlineExceeded) {
			if ctx.Err() == nil {
				continue
			}
		}
		v, _ := f.result.(T)
		return v, f.err
	}
}
