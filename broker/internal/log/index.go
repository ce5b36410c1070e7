package log

import (
	"encoding/binary"
	"math"
	"sort"
	"sync/atomic"
)

// sparse is an append-only list with one writer and any number of readers, none of whom locks. The writer fills a slot
// and then publishes the count; growing copies, and readers of the old array lose nothing.
type sparse[T any] struct {
	n   atomic.Int64
	buf atomic.Pointer[[]T]
}

func (s *sparse[T]) add(v T) {
	n := s.n.Load()
	p := s.buf.Load()
	if p == nil || int(n) == len(*p) {
		grown := make([]T, max(16, 2*n))
		if p != nil {
			copy(grown, *p)
		}
		p = &grown
		s.buf.Store(p)
	}
	(*p)[n] = v
	s.n.Store(n + 1)
}

// all returns what is published now. The count is read first: the array read after it holds at least as many.
func (s *sparse[T]) all() []T {
	n := s.n.Load()
	p := s.buf.Load()
	if p == nil {
		return nil
	}
	return (*p)[:n]
}

// reset replaces everything; nobody may be adding.
func (s *sparse[T]) reset(v []T) {
	s.n.Store(0)
	s.buf.Store(&v)
	s.n.Store(int64(len(v)))
}

// unknownBase marks an offset entry that came from a file, which does not tell where its batch begins.
const unknownBase = math.MaxUint32

// offsetEntry says where a batch lies. Offsets are relative to the segment's base. The file keeps last and pos.
type offsetEntry struct {
	last uint32 // last offset of the batch
	pos  uint32 // position of the batch in the .log
	base uint32 // first offset of the batch, or unknownBase
}

// timeEntry says that no record up to offset has a time beyond ts.
type timeEntry struct {
	ts  int64
	rel uint32 // offset of the batch with the time ts (its last), relative to the base
}

const (
	offsetEntryBytes = 8
	timeEntryBytes   = 12
)

func encodeOffsets(es []offsetEntry) []byte {
	out := make([]byte, 0, len(es)*offsetEntryBytes)
	for _, e := range es {
		out = binary.BigEndian.AppendUint32(out, e.last)
		out = binary.BigEndian.AppendUint32(out, e.pos)
	}
	return out
}

func decodeOffsets(b []byte) []offsetEntry {
	es := make([]offsetEntry, len(b)/offsetEntryBytes)
	for i := range es {
		e := b[i*offsetEntryBytes:]
		es[i] = offsetEntry{last: binary.BigEndian.Uint32(e), pos: binary.BigEndian.Uint32(e[4:]), base: unknownBase}
	}
	return es
}

func encodeTimes(es []timeEntry) []byte {
	out := make([]byte, 0, len(es)*timeEntryBytes)
	for _, e := range es {
		out = binary.BigEndian.AppendUint64(out, uint64(e.ts))
		out = binary.BigEndian.AppendUint32(out, e.rel)
	}
	return out
}

func decodeTimes(b []byte) []timeEntry {
	es := make([]timeEntry, len(b)/timeEntryBytes)
	for i := range es {
		e := b[i*timeEntryBytes:]
		es[i] = timeEntry{ts: int64(binary.BigEndian.Uint64(e)), rel: binary.BigEndian.Uint32(e[8:])}
	}
	return es
}

// abortedEntry is one line of the transaction index.
type abortedEntry struct {
	AbortedTxn
	stable int64 // the last stable offset once this transaction was decided
}

// abortedEntryBytes: version int16, producer id, first offset, last offset, last stable offset.
const abortedEntryBytes = 34

func encodeAborted(es []abortedEntry) []byte {
	out := make([]byte, 0, len(es)*abortedEntryBytes)
	for _, e := range es {
		out = append(out, 0, 0)
		for _, v := range [...]int64{e.ProducerID, e.FirstOffset, e.LastOffset, e.stable} {
			out = binary.BigEndian.AppendUint64(out, uint64(v))
		}
	}
	return out
}

func decodeAborted(b []byte) []abortedEntry {
	es := make([]abortedEntry, len(b)/abortedEntryBytes)
	for i := range es {
		e := b[i*abortedEntryBytes+2:]
		v := func(at int) int64 { return int64(binary.BigEndian.Uint64(e[at:])) }
		es[i] = abortedEntry{AbortedTxn{v(0), v(8), v(16)}, v(24)}
	}
	return es
}

// searchOffset returns where to look for the batch that holds rel or is the first after it: exact says that a batch
// with rel inside begins at pos; else such a batch is at pos or behind it.
func searchOffset(es []offsetEntry, rel uint32) (pos uint32, exact bool) {
	i := sort.Search(len(es), func(i int) bool { return es[i].last >= rel })
	if i < len(es) && es[i].base <= rel {
		return es[i].pos, true
	}
	if i == 0 {
		return 0, false
	}
	return es[i-1].pos, false
}

// searchTime returns the offset (relative) of the last entry with a time below ts: the first record at or after ts is
// not before it.
func searchTime(es []timeEntry, ts int64) uint32 {
	i := sort.Search(len(es), func(i int) bool { return es[i].ts >= ts })
	if i == 0 {
		return 0
	}
	return es[i-1].rel
}
