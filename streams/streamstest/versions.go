package streamstest

import (
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
)

// Versions is a store of versions under test: the parts of all tasks together.
type Versions[K, V any] struct {
	d     *Driver
	parts []*state.VersionedStore[K, V]
}

// VersionedStore gives access to a store of the topology whose descriptor says Versioned.
func (d *Driver) VersionedStore[K, V any](s streams.Store[K, V]) *Versions[K, V] {
	d.t.Helper()
	d.start()
	return &Versions[K, V]{d: d, parts: parts[*state.VersionedStore[K, V]](d, s.Name)}
}

// GetAsOf returns the version of a key that held at a time.
func (s *Versions[K, V]) GetAsOf(key K, at time.Time) (state.Version[V], bool) {
	s.d.t.Helper()
	for _, p := range s.parts {
		v, ok, err := p.GetAsOf(key, at)
		if err != nil {
			s.d.t.Fatalf("streamstest: store %q: %v", p.Name(), err)
		}
		if ok {
			return v, true
		}
	}
	return state.Version[V]{}, false
}

// All returns the latest version of every key, in the order of the tasks, then of the keys' bytes.
func (s *Versions[K, V]) All() []Row[K, V] {
	s.d.t.Helper()
	var out []Row[K, V]
	for _, p := range s.parts {
		for r := range p.Latest() {
			out = append(out, Row[K, V]{Key: r.Key, Value: r.Value, Time: time.UnixMilli(r.Time).UTC()})
		}
		if err := p.Err(); err != nil {
			s.d.t.Fatalf("streamstest: store %q: %v", p.Name(), err)
		}
	}
	return out
}
