package streamstest

import (
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
)

// Row is one row of a store. Time is that of the record that wrote it.
type Row[K, V any] struct {
	Key   K
	Value V
	Time  time.Time
}

// KeyValue is a key-value store under test: the parts of all tasks together.
type KeyValue[K, V any] struct {
	d     *Driver
	parts []*state.KeyValueStore[K, V]
}

// Store gives access to a key-value store of the topology.
func (d *Driver) Store[K, V any](s streams.Store[K, V]) *KeyValue[K, V] {
	d.t.Helper()
	d.start()
	return &KeyValue[K, V]{d: d, parts: parts[*state.KeyValueStore[K, V]](d, s.Name)}
}

func parts[S any](d *Driver, name string) []S {
	d.t.Helper()
	var out []S
	for _, task := range d.tasks {
		st := task.Store(name)
		if st == nil {
			continue
		}
		typed, ok := st.(S)
		if !ok {
			d.t.Fatalf("streamstest: store %q is a %T, want %T", name, st, typed)
		}
		out = append(out, typed)
	}
	if len(out) == 0 {
		d.t.Fatalf("streamstest: the topology has no store %q", name)
	}
	return out
}

// Get returns the value of a key.
func (s *KeyValue[K, V]) Get(key K) (V, bool) {
	s.d.t.Helper()
	for _, p := range s.parts {
		v, ok, err := p.Peek(key)
		if err != nil {
			s.d.t.Fatalf("streamstest: store %q: %v", p.Name(), err)
		}
		if ok {
			return v, true
		}
	}
	var none V
	return none, false
}

// All returns every row, in the order of the tasks, then of the keys' bytes.
func (s *KeyValue[K, V]) All() []Row[K, V] {
	s.d.t.Helper()
	var out []Row[K, V]
	for _, p := range s.parts {
		for r := range p.Rows() {
			out = append(out, Row[K, V]{Key: r.Key, Value: r.Value, Time: time.UnixMilli(r.Time).UTC()})
		}
		if err := p.Err(); err != nil {
			s.d.t.Fatalf("streamstest: store %q: %v", p.Name(), err)
		}
	}
	return out
}

// LookUp returns the rows that an index of a store finds by a value, in the order of the tasks, then of the keys' bytes.
func (d *Driver) LookUp[K, V, I any](s streams.Store[K, V], x streams.Index[K, V, I], by I) []Row[K, V] {
	d.t.Helper()
	var out []Row[K, V]
	for _, part := range d.Store(s).parts {
		val := x.By
		if val == nil {
			var err error
			if val, err = serde.For[I](); err != nil {
				d.t.Fatalf("streamstest: index %q: %v", x.Name, err)
			}
		}
		rows, err := state.LookUp[I](part, x.Name, val)
		if err != nil {
			d.t.Fatalf("streamstest: %v", err)
		}
		for k, v := range rows.Get(by) {
			e, err := part.Entry(nil, k)
			if err != nil {
				d.t.Fatalf("streamstest: store %q: %v", part.Name(), err)
			}
			out = append(out, Row[K, V]{Key: k, Value: v, Time: time.UnixMilli(e.Time).UTC()})
		}
		if err := rows.Err(); err != nil {
			d.t.Fatalf("streamstest: index %q: %v", x.Name, err)
		}
	}
	return out
}

// Window is a window store under test.
type Window[K, V any] struct {
	d     *Driver
	parts []*state.WindowStore[K, V]
	size  time.Duration
}

// WindowStore gives access to a window store of the topology.
func (d *Driver) WindowStore[K, V any](s streams.WindowStore[K, V]) *Window[K, V] {
	d.t.Helper()
	d.start()
	return &Window[K, V]{d: d, parts: parts[*state.WindowStore[K, V]](d, s.Name), size: s.Size}
}

// Get returns the value of a key in the window that begins at start.
func (s *Window[K, V]) Get(key K, start time.Time) (V, bool) {
	s.d.t.Helper()
	for _, p := range s.parts {
		v, ok, err := p.Get(key, start)
		if err != nil {
			s.d.t.Fatalf("streamstest: store %q: %v", p.Name(), err)
		}
		if ok {
			return v, true
		}
	}
	var none V
	return none, false
}

// All returns every row, in the order of the tasks, then of the windows' starts, then of the keys' bytes. A window's End
// is set if the descriptor says the size.
func (s *Window[K, V]) All() []Row[streams.Windowed[K], V] {
	s.d.t.Helper()
	var out []Row[streams.Windowed[K], V]
	for _, p := range s.parts {
		for r := range p.Rows(0, 1<<62) {
			start := time.UnixMilli(r.Start).UTC()
			out = append(out, Row[streams.Windowed[K], V]{Key: streams.Windowed[K]{Key: r.Key, Start: start, End: start.Add(s.size)},
				Value: r.Value, Time: time.UnixMilli(r.Time).UTC()})
		}
		if err := p.Err(); err != nil {
			s.d.t.Fatalf("streamstest: store %q: %v", p.Name(), err)
		}
	}
	return out
}

// Session is a session store under test.
type Session[K, V any] struct {
	d     *Driver
	parts []*state.SessionStore[K, V]
}

// SessionStore gives access to a session store of the topology.
func (d *Driver) SessionStore[K, V any](s streams.SessionStore[K, V]) *Session[K, V] {
	d.t.Helper()
	d.start()
	return &Session[K, V]{d: d, parts: parts[*state.SessionStore[K, V]](d, s.Name)}
}

// All returns every row, in the order of the tasks, then of the sessions' ends, then of the keys' bytes.
func (s *Session[K, V]) All() []Row[streams.Windowed[K], V] {
	s.d.t.Helper()
	var out []Row[streams.Windowed[K], V]
	for _, p := range s.parts {
		for r := range p.Rows(0, 1<<62) {
			key := streams.Windowed[K]{Key: r.Key.Key, Start: time.UnixMilli(r.Key.Start).UTC(), End: time.UnixMilli(r.Start).UTC()}
			out = append(out, Row[streams.Windowed[K], V]{Key: key, Value: r.Value, Time: time.UnixMilli(r.Time).UTC()})
		}
		if err := p.Err(); err != nil {
			s.d.t.Fatalf("streamstest: store %q: %v", p.Name(), err)
		}
	}
	return out
}
