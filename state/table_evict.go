package state

const (
	sweepMost  = 64      // slots that the clock hand passes for one new entry
	trimMost   = 4096    // slots that it passes at a seal
	reportStep = 1 << 16 // bytes between two reports to the shared budget
)

// makeRoom evicts before an entry comes in, while the stores together are over their budget and this one is over its
// share.
func (s *table[K, V]) makeRoom() {
	if d := s.used - s.reported; d >= reportStep || d <= -reportStep {
		s.report()
	}
	if s.crowded() {
		s.poll()
		s.sweep(sweepMost, 2)
	}
}

func (s *table[K, V]) report() {
	s.db.budget.used.Add(s.used - s.reported)
	s.reported = s.used
}

func (s *table[K, V]) crowded() bool {
	b := &s.db.budget
	return b.used.Load() > b.limit && s.used > b.limit/max(1, b.stores.Load())
}

// sweep moves the clock hand over up to slots slots, and evicts at most evict entries that were not read since it last
// came by and that Pebble has.
func (s *table[K, V]) sweep(slots, evict int) {
	for ; slots > 0 && evict > 0 && s.high > 0; slots-- {
		if s.hand >= s.high {
			s.hand = 0
		}
		e := s.at(s.hand)
		s.hand++
		switch {
		case !s.evictable(e):
		case e.flags&flagRecent != 0 && !s.hidden(e.Start):
			e.flags &^= flagRecent
		default:
			s.evict(e)
			evict--
		}
	}
}

// trim gives back at a seal what other stores need, and what has expired.
func (s *table[K, V]) trim() {
	s.report()
	if s.crowded() {
		s.sweep(trimMost, trimMost)
	} else if s.windowed && s.opt.Retention > 0 {
		s.sweepExpired(trimMost)
	}
}

// sweepExpired moves the hand only over what is out of reach.
func (s *table[K, V]) sweepExpired(slots int) {
	for slots = min(slots, int(s.high)); slots > 0; slots-- {
		if s.hand >= s.high {
			s.hand = 0
		}
		if e := s.at(s.hand); s.evictable(e) && s.hidden(e.Start) {
			s.evict(e)
		}
		s.hand++
	}
}

func (s *table[K, V]) evictable(e *Entry[K, V]) bool {
	return e.flags&(flagUsed|flagTouched) == flagUsed && e.epoch <= s.applied
}

// evict takes an entry out of a cache that then no longer holds all that exists.
func (s *table[K, V]) evict(e *Entry[K, V]) {
	if e.Exists && !s.hidden(e.Start) {
		s.complete = false
	}
	s.drop(e)
}

// drop takes an entry out of the cache.
func (s *table[K, V]) drop(e *Entry[K, V]) {
	idx := e.self
	h := s.spread(e.id, e.Start)
	s.remove(h, idx)
	s.used -= s.fixedCost + int64(e.size)
	s.live--
	if s.width == 0 {
		s.encs[idx>>slabBits][idx&slabMask] = ""
	}
	s.giveBack(e, idx)
}

// giveBack empties a slot for slot to find. The list of these is in the slots themselves: one beside them would have to grow
// while a window of many rows goes out of reach, and its owner would wait for that.
func (s *table[K, V]) giveBack(e *Entry[K, V], idx uint32) {
	*e = Entry[K, V]{self: s.free}
	s.free = idx + 1
}

// enc returns the encoded key of an entry; dst is used if it must be made.
func (s *table[K, V]) enc(dst []byte, e *Entry[K, V]) []byte {
	if s.width != 0 {
		return appendFixed(dst, e.id, s.width)
	}
	return append(dst, s.encs[e.self>>slabBits][e.self&slabMask]...)
}

// hidden reports whether a window that starts at start is out of reach.
func (s *table[K, V]) hidden(start int64) bool {
	return s.windowed && s.opt.Retention > 0 && start <= s.horizon()
}

// horizon is the latest start that is out of reach.
func (s *table[K, V]) horizon() int64 {
	if s.streamTime == noTime {
		return noTime
	}
	return s.streamTime - s.opt.Retention.Milliseconds()
}

// forget implements owner: a key was written to Pebble behind the cache.
func (s *table[K, V]) forget(local []byte) {
	s.dir = directory{}
	s.closeIter()
	s.complete = false
	var start int64
	if s.windowed {
		if len(local) < 8 {
			return
		}
		start, local = int64(firstEight(local)), local[8:]
	}
	var e *Entry[K, V]
	if s.width == 0 {
		id := s.hashBytes(local)
		e = s.findBytes(s.spread(id, start), id, local, start)
	} else if len(local) == s.width {
		id := fixedBits(local)
		e = s.find(s.spread(id, start), id, start)
	}
	if e != nil && s.evictable(e) {
		s.drop(e)
	}
}

// forgetAll implements owner: the shard was wiped.
func (s *table[K, V]) forgetAll() {
	s.Abort()
	for i := range s.high {
		if e := s.at(i); s.evictable(e) {
			s.drop(e)
		}
	}
	s.complete = false
}

// abandon implements owner: the database closes.
func (s *table[K, V]) abandon() {
	s.closeIter()
	if s.pending != nil {
		s.pending.Close()
		s.pending = nil
	}
	s.closed = true
}
