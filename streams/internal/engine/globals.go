package engine

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Globals tells the tasks of an instance when rows of its global tables change. Tasks keep decoded copies of rows, each
// with the number that its slot had before the row was read: as long as the slot has it still, the copy is the row. Its
// methods may be called from any goroutine.
type Globals struct {
	mu     sync.Mutex
	stores map[string]*Slots
}

// Slots are the change numbers of one global table's rows, several rows to a slot.
type Slots struct {
	seed  maphash.Seed
	slots [1 << 12]atomic.Uint32
	marks globalMarks
}

// Of returns the slots of a store.
func (g *Globals) Of(store string) *Slots {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stores == nil {
		g.stores = make(map[string]*Slots)
	}
	s := g.stores[store]
	if s == nil {
		s = &Slots{seed: maphash.MakeSeed()}
		g.stores[store] = s
	}
	return s
}

// Slot is where the number of an encoded key stands.
func (s *Slots) Slot(key []byte) int {
	return int(maphash.Bytes(s.seed, key) % uint64(len(s.slots)))
}

// Number is what the slot stands at.
func (s *Slots) Number(slot int) uint32 { return s.slots[slot].Load() }

// Changed says that a row of the slot is another one now, for whoever reads the store from here on.
func (s *Slots) Changed(slot int) { s.slots[slot].Add(1) }

// AllChanged is Changed for every slot.
func (s *Slots) AllChanged() {
	for i := range s.slots {
		s.slots[i].Add(1)
	}
}

// globalMarks are the contexts of a traced global table's rows, of this instance alone and in memory: what is lost is a link.
type globalMarks struct {
	mu         sync.Mutex
	young, old map[string]Mark // old are those that were left before young was begun
}

// globalMarksMost bounds the contexts that an instance keeps of one global table: half as many of the latest are always there.
const globalMarksMost = 10_000

// Mark keeps the context of the record that writes the row of that key.
func (s *Slots) Mark(key []byte, m Mark) {
	g := &s.marks
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.young) >= globalMarksMost/2 {
		g.old, g.young = g.young, nil
	}
	if g.young == nil {
		g.young = make(map[string]Mark)
	}
	g.young[string(key)] = m
}

// Marked is what Mark kept of a row, if it is still there.
func (s *Slots) Marked(key []byte) (m Mark, ok bool) {
	g := &s.marks
	g.mu.Lock()
	defer g.mu.Unlock()
	if m, ok = g.young[string(key)]; !ok {
		m, ok = g.old[string(key)]
	}
	return m, ok
}
