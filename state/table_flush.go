package state

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// change is one update that the listener has yet to see.
type change struct {
	idx, old uint32
	key      []byte
}

// flushAhead is the number of entries that Flush fetches at once: in key order each is a cache miss, and only misses that
// do not wait for each other overlap.
const flushAhead = 16

// Flush implements [Store].
func (s *table[K, V]) Flush(log func(key, value []byte, ts int64) error) error {
	if len(s.touched) > 0 {
		if err := s.writeTouched(log); err != nil {
			return err
		}
	}
	if err := s.expire(); err != nil {
		return err
	}
	return s.sendAll()
}

// writeTouched writes what has changed in the order of the keys. What was written is then one run of unsealed.
func (s *table[K, V]) writeTouched(log func(key, value []byte, ts int64) error) error {
	s.sortTouched()
	s.changes = s.changes[:0]
	items, n := s.touched, 0
	for i := range items {
		if i%flushAhead == 0 {
			s.fetch(items[i:min(len(items), i+flushAhead)])
		}
		e := s.at(items[i].idx)
		if e.flags&flagDirty == 0 {
			s.undo(e)
			continue
		}
		changed, err := s.write(e, log)
		if err != nil {
			return err // touched still has all that Abort must drop
		}
		if changed {
			if s.idx != nil {
				if err := s.reindex(e, items[i].pos); err != nil {
					return err
				}
			}
			items[n] = items[i]
			n++
		}
	}
	for _, x := range s.idx {
		x.clear()
	}
	s.touched, s.sortedTo = nil, 0
	if n == 0 {
		s.touched = items[:0]
	} else {
		s.unsealed = append(s.unsealed, items[:n])
		s.unsealedN += n
		if last := len(s.spareRuns) - 1; last >= 0 {
			s.touched, s.spareRuns = s.spareRuns[last], s.spareRuns[:last]
		}
	}
	s.reportDirty()
	return nil
}

// fetch reads something of each entry.
func (s *table[K, V]) fetch(items []sortItem) {
	sum := uint32(0)
	for i := range items {
		sum += s.at(items[i].idx).self
		if p := items[i].pos; int(p) < len(s.olds) {
			sum += s.olds[p].n
		}
	}
	s.fetched = sum
}

// sortTouched puts touched in the order of the keys.
func (s *table[K, V]) sortTouched() {
	if s.sortedTo == len(s.touched) {
		return
	}
	if cap(s.scratch) < len(s.touched) {
		s.scratch = make([]sortItem, cap(s.touched))
	}
	sorted := sortItems(s.touched, s.scratch[:len(s.touched)])
	if &sorted[0] != &s.touched[0] {
		s.touched, s.scratch = sorted, s.touched[:cap(s.touched)]
	}
	if s.width == 0 {
		s.sortTies(sorted)
	}
	s.sortedTo = len(sorted)
}

// sortTies puts keys that agree in the bytes that were sorted by in order.
func (s *table[K, V]) sortTies(items []sortItem) {
	for i := 0; i < len(items); {
		j := i + 1
		for j < len(items) && items[j].k1 == items[i].k1 && items[j].k2 == items[i].k2 {
			j++
		}
		if j-i > 1 {
			slices.SortFunc(items[i:j], func(a, b sortItem) int {
				return strings.Compare(s.encs[a.idx>>slabBits][a.idx&slabMask], s.encs[b.idx>>slabBits][b.idx&slabMask])
			})
		}
		i = j
	}
}

// firstBytes returns up to 8 bytes of the key, from a place on, as a number in their order.
func (s *table[K, V]) firstBytes(e *Entry[K, V], from int) uint64 {
	if s.width != 0 {
		return e.id << (64 - 8*s.width)
	}
	enc := s.encs[e.self>>slabBits][e.self&slabMask]
	if from >= len(enc) {
		return 0
	}
	var p [8]byte
	copy(p[:], enc[from:])
	return binary.BigEndian.Uint64(p[:])
}

// undo takes back what a function may have changed in place before it failed. Without its old encoding the value stays.
func (s *table[K, V]) undo(e *Entry[K, V]) {
	e.flags &^= flagTouched
	if o := e.old; o != 0 && !s.opt.NoBuffer {
		if was := &s.olds[o-1]; was.kept && was.exists && !s.flat {
			if v, err := s.val.Decode(s.valAt, s.oldBuf[was.off:was.off+was.n]); err == nil {
				e.Value = v
			}
		}
	}
	e.old = 0
}

// write encodes one entry and hands it to the log and to the pending batch. It reports false if nothing has changed.
func (s *table[K, V]) write(e *Entry[K, V], log func(key, value []byte, ts int64) error) (bool, error) {
	old := e.old
	e.flags &^= flagTouched | flagDirty
	e.old = 0
	b := s.bytes.tail(64 + int(e.size)) // changelog key of a window; prefix, local key, timestamp, value
	if s.windowed {
		b = s.appendLogged(b, e)
	}
	keyAt := len(b)
	b = append(b, s.pre...)
	if s.windowed {
		b = binary.BigEndian.AppendUint64(b, uint64(e.Start))
	}
	b = s.enc(b, e)
	valAt := len(b)
	if e.Exists {
		t, ok, err := s.encoded(binary.BigEndian.AppendUint64(b, uint64(e.Time)), e)
		if err != nil || !ok {
			return false, err
		}
		if t == nil {
			e.Exists = false
		} else {
			b = t
		}
	}
	if old != 0 && !s.opt.KeepUnchanged && !s.opt.NoBuffer {
		var enc []byte
		if e.Exists {
			enc = b[valAt+8:]
		}
		o := &s.olds[old-1]
		same, err := s.unchanged(e, o, s.oldBuf, enc)
		if err != nil {
			return false, err
		}
		if same {
			e.Time = o.time
			return false, nil
		}
	}
	return true, s.record(e, old, s.bytes.done(b), keyAt, valAt, log)
}

// appendLogged appends a windowed key as Kafka's changelogs have it: key, start and a sequence number of 4 bytes; of a
// session key, end and start.
func (s *table[K, V]) appendLogged(b []byte, e *Entry[K, V]) []byte {
	b = s.enc(b, e)
	if !s.sh.sessions {
		return append(binary.BigEndian.AppendUint64(b, uint64(e.Start)), 0, 0, 0, 0)
	}
	start := len(b) - 8
	b = append(b, b[start:]...)
	binary.BigEndian.PutUint64(b[start:], uint64(e.Start))
	return b
}

// record enters one encoded change: b is the changelog key of a window, then from keyAt on Pebble's key, from valAt on
// its value.
func (s *table[K, V]) record(e *Entry[K, V], old uint32, b []byte, keyAt, valAt int, log func(key, value []byte, ts int64) error) error {
	key, logKey := b[keyAt+4:valAt:valAt], b[keyAt+4:valAt:valAt]
	if s.windowed {
		key, logKey = key[8:], b[:keyAt:keyAt]
	}
	if s.pending == nil {
		s.pending = s.eng.db.NewBatch(pebble.WithMaxRetainedSizeBytes(8 << 20))
	}
	var value []byte
	var err error
	if e.Exists {
		value = b[valAt+8:]
		err = s.pending.Set(b[keyAt:valAt], b[valAt:], nil)
	} else {
		err = s.pending.Delete(b[keyAt:valAt], nil)
	}
	if err == nil && log != nil {
		err = log(logKey, value, e.Time)
	}
	if err != nil {
		return err
	}
	e.epoch = s.epoch
	if s.listener != nil && !s.opt.NoBuffer {
		s.changes = append(s.changes, change{idx: e.self, old: old, key: key})
	}
	if !s.flat || s.width == 0 {
		s.resize(e, len(key), len(value))
	}
	return nil
}

// resize accounts for what an entry holds beyond its slot.
func (s *table[K, V]) resize(e *Entry[K, V], key, value int) {
	size := 0
	if s.width == 0 {
		size += key
	}
	if !s.flat {
		size += value
	}
	s.typical += (int64(size) - s.typical) / 16
	s.used += int64(size) - int64(e.size)
	s.dirtyExtra += max(0, int64(size)-int64(e.size))
	e.size = uint32(size)
}

// sendAll gives the changes to the listener in the order of their latest write. The old values are moved aside first, so
// that nothing the listener does can overwrite them.
func (s *table[K, V]) sendAll() error {
	olds, buf := s.olds, s.oldBuf
	s.olds, s.oldBuf = s.spareOlds[:0], s.spareBuf[:0]
	s.spareOlds, s.spareBuf = olds, buf
	s.writes = 0
	if len(s.changes) == 0 {
		return nil
	}
	changes := s.changes
	s.changes = nil
	items := make([]sortItem, len(changes), 2*len(changes))
	for i := range changes {
		items[i] = sortItem{k1: uint64(s.at(changes[i].idx).order), idx: uint32(i)}
	}
	var err error
	none := oldValue[V]{}
	for _, it := range sortItems(items, items[len(items):2*len(items)]) {
		c, o := &changes[it.idx], &none
		if c.old != 0 {
			o = &olds[c.old-1]
		}
		if err = s.send(s.at(c.idx), o, buf, c.key); err != nil {
			break
		}
	}
	clear(changes)
	s.changes = changes[:0]
	return err
}
