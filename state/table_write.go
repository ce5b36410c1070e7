package state

import (
	"bytes"
	"hash/maphash"
	"math"
	"unsafe"
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
	if s.idx != nil {
		s.indexTouched(e)
	}
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
	case s.opt.KeepUnchanged && !s.opt.KeepOld && !(s.opt.NoBuffer && s.opt.Refused != nil):
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
	for _, x := range s.idx {
		x.note(e.self)
	}
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
		if enc, err = s.encodeValue(e, e.Value); err != nil {
			var ok bool
			if enc, ok, err = s.again(s.valBuf[:0], e, err); err != nil {
				return err
			}
			if !ok {
				return s.putBack(e, first)
			}
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
func (s *table[K, V]) encodeValue(e *Entry[K, V], v V) ([]byte, error) {
	if s.valBuf == nil {
		s.valBuf = make([]byte, 0, 64)
	}
	b, err := s.append(s.valBuf[:0], e, v)
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

// Seal implements [Store].
func (s *table[K, V]) Seal(b *Batch, pos Position) {
	s.poll()
	for _, x := range s.idx {
		x.forgetSome(s.Dirty())
	}
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
	for _, x := range s.idx {
		x.clear()
		x.fresh = fresh{}
	}
	if s.pending != nil {
		s.pending.Close()
		s.pending = nil
	}
	s.bytes.drop()
	s.streamTime, s.expired = s.sealedTime, s.sealedExpired
	s.dir = directory{}
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
	s.slab, s.encs, s.free, s.high = nil, nil, 0, 0
	s.index.clear()
	return s.sh.setOwner(nil)
}
