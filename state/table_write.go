package state

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
)

// noTime stands for a time that nothing is known of.
const noTime = math.MinInt64

func (s *table[K, V]) hashBytes(b []byte) uint64 { return maphash.Bytes(s.hash, b) }

// Name implements [Store].
func (s *table[K, V]) Name() string { return s.sh.name.store }

// Shard implements [Store].
func (s *table[K, V]) Shard() *Shard { return s.sh }

// Dirty implements [Store].
func (s *table[K, V]) Dirty() int { return len(s.touched) + s.unsealedN }

// Flat reports whether V holds no pointers: a copy of Value is then independent of it.
func (s *table[K, V]) Flat() bool { return s.flat }

// OnUpdate sets the listener. Without NoBuffer it is called by Flush, else by Set and Remove. It must not change this
// store.
func (s *table[K, V]) OnUpdate(f func(Update[K, V]) error) { s.listener = f }

// BeforeChange keeps what the entry was. Call it before e.Value may change in place; without such a change Set does it.
// An error is the serde's.
func (s *table[K, V]) BeforeChange(e *Entry[K, V]) error {
	if e.old != 0 {
		return nil
	}
	return s.touch(e)
}

func (s *table[K, V]) touch(e *Entry[K, V]) error {
	if s.opt.NoBuffer {
		return s.touchNow(e)
	}
	o, err := s.keep(e, &s.oldBuf)
	if err != nil {
		return err
	}
	s.olds = append(s.olds, o)
	s.enlist(e)
	e.old = uint32(len(s.olds))
	return nil
}

// touchNow keeps what a store with NoBuffer needs: the value before this one change.
func (s *table[K, V]) touchNow(e *Entry[K, V]) error {
	s.prevBuf = s.prevBuf[:0]
	o, err := s.keep(e, &s.prevBuf)
	if err != nil {
		return err
	}
	s.prev = o
	if s.prevOf != nil && s.prevOf != e {
		s.prevOf.old = 0
	}
	s.prevOf, e.old = e, 1
	if e.flags&flagTouched == 0 {
		s.enlist(e)
	}
	return nil
}

// enlist enters a touched entry with its sort key, now that it is in the processor's cache.
func (s *table[K, V]) enlist(e *Entry[K, V]) {
	e.flags |= flagTouched
	it := sortItem{idx: e.self, pos: uint32(len(s.touched))}
	switch {
	case s.windowed:
		it.k1, it.k2 = uint64(e.Start), s.firstBytes(e, 0)
	case s.width == 0:
		it.k1, it.k2 = s.firstBytes(e, 0), s.firstBytes(e, 8)
	default:
		it.k1 = s.firstBytes(e, 0)
	}
	s.touched = append(s.touched, it)
	s.dirtyExtra += max(int64(e.size), s.typical)
	if len(s.touched)&255 == 0 {
		s.reportDirty()
	}
}

// keep returns what e is now.
func (s *table[K, V]) keep(e *Entry[K, V], buf *[]byte) (oldValue[V], error) {
	o := oldValue[V]{time: e.Time, exists: e.Exists, kept: true}
	switch {
	case !e.Exists:
	case s.flat:
		o.value = e.Value
	case s.opt.KeepUnchanged && !s.opt.KeepOld:
		o.kept = false
	default:
		if *buf == nil {
			*buf = make([]byte, 0, 512)
		}
		o.off = uint32(len(*buf))
		b, err := s.val.Append(*buf, s.valAt, e.Value)
		if err != nil {
			return o, err
		}
		if b == nil {
			o.exists = false
			return o, nil
		}
		*buf, o.n = b, uint32(len(b))-o.off
	}
	return o, nil
}

// Set writes v with the timestamp ts (milliseconds). A v that the serde writes as null deletes the key. An error is the
// listener's (NoBuffer), or the serde's.
func (s *table[K, V]) Set(e *Entry[K, V], v V, ts int64) error {
	if e.old == 0 {
		if err := s.touch(e); err != nil {
			return err
		}
	}
	first := e.flags&flagDirty == 0
	s.writes++
	e.Value, e.Time, e.Exists, e.order = v, ts, true, s.writes
	e.flags |= flagDirty
	if s.opt.NoBuffer {
		return s.sendNow(e, first)
	}
	return nil
}

// Remove deletes the key with the timestamp ts (milliseconds). Errors are as for Set.
func (s *table[K, V]) Remove(e *Entry[K, V], ts int64) error {
	if e.old == 0 {
		if err := s.touch(e); err != nil {
			return err
		}
	}
	first := e.flags&flagDirty == 0
	s.writes++
	var zero V
	e.Value, e.Time, e.Exists, e.order = zero, ts, false, s.writes
	e.flags |= flagDirty
	if s.opt.NoBuffer {
		return s.sendNow(e, first)
	}
	return nil
}

// sendNow gives a NoBuffer store's update to the listener. first says that the entry was not dirty before.
func (s *table[K, V]) sendNow(e *Entry[K, V], first bool) error {
	e.old, s.prevOf = 0, nil
	if s.listener == nil {
		return nil
	}
	var enc []byte
	if e.Exists {
		var err error
		if enc, err = s.encodeValue(e.Value); err != nil {
			return err
		}
		e.Exists = enc != nil
	}
	same, err := s.unchanged(e, &s.prev, s.prevBuf, enc)
	if err != nil {
		return err
	}
	if same && !s.opt.KeepUnchanged {
		e.Time = s.prev.time
		if first {
			e.flags &^= flagDirty
		}
		return nil
	}
	key := s.bytes.done(s.enc(s.bytes.tail(64), e))
	return s.send(e, &s.prev, s.prevBuf, key)
}

// encodeValue encodes into a buffer that the next call overwrites.
func (s *table[K, V]) encodeValue(v V) ([]byte, error) {
	if s.valBuf == nil {
		s.valBuf = make([]byte, 0, 64)
	}
	b, err := s.val.Append(s.valBuf[:0], s.valAt, v)
	if b != nil {
		s.valBuf = b
	}
	return b, err
}

// unchanged reports whether an entry, encoded as enc, is what o was. A value whose timestamp goes back is a change; one
// that only gets a later timestamp is none, and keeps the old one.
func (s *table[K, V]) unchanged(e *Entry[K, V], o *oldValue[V], buf, enc []byte) (bool, error) {
	if !o.kept || o.exists != e.Exists {
		return false, nil
	}
	if !e.Exists {
		return true, nil
	}
	if e.Time < o.time {
		return false, nil
	}
	if s.plain {
		return bytes.Equal(memory(&o.value), memory(&e.Value)), nil
	}
	if !s.flat {
		return bytes.Equal(buf[o.off:o.off+o.n], enc), nil
	}
	if s.wasBuf == nil {
		s.wasBuf = make([]byte, 0, 64)
	}
	was, err := s.val.Append(s.wasBuf[:0], s.valAt, o.value)
	if err != nil {
		return false, err
	}
	s.wasBuf = was
	return bytes.Equal(was, enc), nil
}

// memory is v as bytes.
func memory[V any](v *V) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

func (s *table[K, V]) send(e *Entry[K, V], o *oldValue[V], buf, key []byte) error {
	u := Update[K, V]{Key: e.Key, KeyBytes: key, Start: e.Start, New: e.Value, HasNew: e.Exists, Time: e.Time}
	if s.opt.KeepOld && o.kept {
		u.HasOld, u.OldTime = o.exists, o.time
		switch {
		case !o.exists:
		case s.flat:
			u.Old = o.value
		default:
			var err error
			if u.Old, err = s.val.Decode(s.valAt, buf[o.off:o.off+o.n]); err != nil {
				return err
			}
		}
	}
	return s.listener(u)
}

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
			items[n] = items[i]
			n++
		}
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
		b = s.enc(b, e)
		b = binary.BigEndian.AppendUint64(b, uint64(e.Start))
		b = append(b, 0, 0, 0, 0)
	}
	keyAt := len(b)
	b = append(b, s.pre...)
	if s.windowed {
		b = binary.BigEndian.AppendUint64(b, uint64(e.Start))
	}
	b = s.enc(b, e)
	valAt := len(b)
	if e.Exists {
		t, err := s.val.Append(binary.BigEndian.AppendUint64(b, uint64(e.Time)), s.valAt, e.Value)
		if err != nil {
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

// Seal implements [Store].
func (s *table[K, V]) Seal(b *Batch, pos Position) {
	s.poll()
	if s.pending == nil {
		s.pending = s.eng.db.NewBatch()
	}
	if err := s.pending.Set(number(s.sh.number), pos.append(nil), nil); err != nil {
		s.db.fail(err)
	}
	b.add(s.eng, s.pending)
	s.pending = nil
	s.sealed = append(s.sealed, sealedEpoch{s.epoch, b, s.unsealed})
	s.unsealed, s.unsealedN = nil, 0
	s.epoch++
	s.bytes.reset()
	s.sealedTime, s.sealedExpired = s.streamTime, s.expired
	s.reportDirty()
	s.trim()
}

// Abort implements [Store].
func (s *table[K, V]) Abort() {
	for i := range s.sealed {
		<-s.sealed[i].batch.done
	}
	s.poll()
	for i := range s.touched {
		s.dropOnce(s.touched[i].idx)
	}
	for _, r := range s.unsealed {
		for i := range r {
			s.dropOnce(r[i].idx)
		}
	}
	s.touched, s.sortedTo, s.unsealed, s.unsealedN = s.touched[:0], 0, nil, 0
	s.olds, s.oldBuf, s.changes, s.prevOf, s.writes = s.olds[:0], s.oldBuf[:0], s.changes[:0], nil, 0
	if s.pending != nil {
		s.pending.Close()
		s.pending = nil
	}
	s.bytes.drop()
	s.streamTime, s.expired = s.sealedTime, s.sealedExpired
	s.closeIter()
	s.reportDirty()
	s.report()
}

// dropOnce drops an entry of an abort, which may be listed twice.
func (s *table[K, V]) dropOnce(idx uint32) {
	if e := s.at(idx); e.flags&flagUsed != 0 {
		s.complete = false
		s.drop(e)
	}
}

// reportDirty tells the budget what waits for a commit.
func (s *table[K, V]) reportDirty() {
	if s.Dirty() == 0 {
		s.dirtyExtra = 0
	}
	now := int64(s.Dirty())*s.fixedCost + s.dirtyExtra
	s.db.budget.dirty.Add(now - s.dirtyReported)
	s.dirtyReported = now
}

// Close implements [Store].
func (s *table[K, V]) Close() error {
	if s.closed {
		return nil
	}
	s.Abort()
	s.closed = true
	s.used, s.live = 0, 0
	s.report()
	s.db.budget.stores.Add(-1)
	s.slab, s.encs, s.free, s.high = nil, nil, nil, 0
	s.index.clear()
	return firstError(s.db.Err(), s.sh.setOwner(nil))
}
