package engine

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// slabChunk is the size of a slab's chunks: large enough that few encodings cross a border, small enough to keep.
const slabChunk = 256 << 10

// slabKeep limits the chunks that a slab keeps for reuse, so that one large commit does not hold its memory for ever.
const slabKeep = 64

// Slab holds the encoded keys and values of records on their way to the log. Encodings are appended one after another
// in chunks that are reused after Reset, so that a record costs no allocation. It belongs to one goroutine. The zero
// value is ready.
type Slab struct {
	cur  []byte // length: used; capacity: slabChunk
	full [][]byte
	free [][]byte
}

// Tail returns the empty slice at the end of the slab, to append to; Keep says what became of it.
func (s *Slab) Tail() []byte {
	if cap(s.cur)-len(s.cur) < 512 {
		s.grow()
	}
	return s.cur[len(s.cur):len(s.cur):cap(s.cur)]
}

// Keep takes what was appended to Tail's result into the slab and returns it. An encoding that outgrew the chunk lies on
// the heap already and stays there.
func (s *Slab) Keep(b []byte) []byte {
	n := len(s.cur)
	if len(b) == 0 {
		return b
	}
	if n+len(b) <= cap(s.cur) && &b[0] == &s.cur[:n+1][n] {
		s.cur = s.cur[:n+len(b)]
	}
	return b[:len(b):len(b)]
}

// Copy copies b into the slab; nil stays nil.
func (s *Slab) Copy(b []byte) []byte {
	if b == nil {
		return nil
	}
	return s.Keep(append(s.Tail(), b...))
}

func (s *Slab) grow() {
	if s.cur != nil {
		s.full = append(s.full, s.cur)
	}
	if n := len(s.free); n > 0 {
		s.cur = s.free[n-1][:0]
		s.free = s.free[:n-1]
		return
	}
	s.cur = make([]byte, 0, slabChunk)
}

// Reset makes everything that the slab gave out invalid and its chunks free: to be called when the commit is done and
// the log has acknowledged, or dropped, every record that lies in it.
func (s *Slab) Reset() {
	for _, c := range s.full {
		if len(s.free) < slabKeep {
			s.free = append(s.free, c)
		}
	}
	clear(s.full)
	s.full = s.full[:0]
	s.cur = s.cur[:0]
}

// RecordPool recycles the records that are given to the producer. Get is called by the task, Put by the producer's
// promise when the record is done with. It is safe for several goroutines. The zero value is ready.
type RecordPool struct{ pool sync.Pool }

// Get returns an empty record.
func (p *RecordPool) Get() *kgo.Record {
	if r, ok := p.pool.Get().(*kgo.Record); ok {
		return r
	}
	return new(kgo.Record)
}

// Put takes a record back. Its bytes and its headers are let go: they may belong to others.
func (p *RecordPool) Put(r *kgo.Record) {
	*r = kgo.Record{}
	p.pool.Put(r)
}
