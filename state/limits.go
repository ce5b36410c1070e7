package state

import (
	"cmp"
	"slices"
)

// limits are what keeps a key-value store small: a number of entries, and a time to live. They know keys by their bytes, and
// nothing of the store's types. What they know is made of the store's rows when it is first needed, and again after an
// Abort.
type limits struct {
	used *recency // nil: any number of entries
	ttl  *timeToLive
	// busy is set while a row is deleted that nobody asked to delete.
	busy bool
}

// newLimits returns nil if the options set none.
func newLimits(o StoreOptions) *limits {
	if o.MaxEntries <= 0 && o.TTL <= 0 {
		return nil
	}
	l := &limits{}
	if o.MaxEntries > 0 {
		l.used = &recency{max: o.MaxEntries}
	}
	if o.TTL > 0 {
		l.ttl = &timeToLive{ttl: max(1, o.TTL.Milliseconds())}
		l.ttl.reset()
	}
	return l
}

func (l *limits) reset() {
	if l.used != nil {
		l.used.keys = nil
	}
	if l.ttl != nil {
		l.ttl.reset()
	}
}

// timedKey is a row: its time and its key's bytes.
type timedKey struct {
	time int64
	key  string
}

func (a timedKey) compare(b timedKey) int {
	return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.key, b.key))
}

// recency is the order in which keys were last used: a ring, from the latest (next) to the earliest (prev).
type recency struct {
	max  int
	keys map[string]*usedKey // nil: not loaded
	ring usedKey
}

type usedKey struct {
	key        string
	prev, next *usedKey
}

// load takes the rows of the store. What was written last was used last; rows of one time go by their keys.
func (r *recency) load(rows []timedKey) {
	r.keys = make(map[string]*usedKey, min(r.max+1, 1<<16))
	r.ring.next, r.ring.prev = &r.ring, &r.ring
	slices.SortFunc(rows, timedKey.compare)
	for _, row := range rows {
		r.touch([]byte(row.key))
	}
}

// touch makes a key the latest used one.
func (r *recency) touch(key []byte) {
	u := r.keys[string(key)]
	if u == nil {
		u = &usedKey{key: string(key)}
		r.keys[u.key] = u
	} else {
		u.prev.next, u.next.prev = u.next, u.prev
	}
	u.prev, u.next = &r.ring, r.ring.next
	u.prev.next, u.next.prev = u, u
}

func (r *recency) remove(key []byte) {
	if u := r.keys[string(key)]; u != nil {
		u.prev.next, u.next.prev = u.next, u.prev
		delete(r.keys, u.key)
	}
}

// surplus takes out the key that was used the longest ago, if there are too many.
func (r *recency) surplus() (key []byte, ok bool) {
	if len(r.keys) <= r.max {
		return nil, false
	}
	key = []byte(r.ring.prev.key)
	r.remove(key)
	return key, true
}

// ttlParts is the number of parts of a time to live that are looked at one after the other.
const ttlParts = 16

// timeToLive finds rows as their time is over, without an index on disk: every sixteenth of the time to live it reads the
// store and notes the rows that will be due before the next time, so that the memory it takes is that of a sixteenth of the
// keys, and each row is read sixteen times in its life. What is written later is due later, but for late records, which are
// noted as they come. A row that has been written again since it was noted is not due.
type timeToLive struct {
	ttl     int64
	horizon int64 // rows of earlier times are noted
	edge    int64 // rows of that time and before are over
	due     []timedKey
}

func (t *timeToLive) reset() { t.horizon, t.edge, t.due = noTime, noTime, nil }

// wrote notes a row, if it is due before the next reading.
func (t *timeToLive) wrote(key []byte, at int64) {
	if at < t.horizon {
		t.push(timedKey{at, string(key)})
	}
}

// push and pop keep due a heap.
func (t *timeToLive) push(k timedKey) {
	q := append(t.due, k)
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if q[up].compare(q[i]) <= 0 {
			break
		}
		q[up], q[i] = q[i], q[up]
		i = up
	}
	t.due = q
}

func (t *timeToLive) pop() timedKey {
	q := t.due
	first, last := q[0], len(q)-1
	q[0], q[last] = q[last], timedKey{}
	q = q[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if q[c].compare(q[least]) < 0 {
				least = c
			}
		}
		if least == i {
			break
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
	t.due = q
	return first
}

// Set writes v with the timestamp ts (milliseconds). A v that the serde writes as null deletes the key. A new key may be one
// too many: then the one that was used the longest ago is deleted, with the same timestamp. An error is the listener's
// (NoBuffer), or the serde's.
func (s *KeyValueStore[K, V]) Set(e *Entry[K, V], v V, ts int64) error {
	if s.lim == nil {
		return s.table.Set(e, v, ts)
	}
	if err := s.recall(); err != nil {
		return err
	}
	if err := s.table.Set(e, v, ts); err != nil {
		return err
	}
	key := s.enc(make([]byte, 0, 32), e)
	if s.lim.ttl != nil {
		s.lim.ttl.wrote(key, ts)
	}
	if s.lim.used == nil {
		return nil
	}
	if !e.Exists { // the serde wrote null
		s.lim.used.remove(key)
		return nil
	}
	s.lim.used.touch(key)
	for {
		key, ok := s.lim.used.surplus()
		if !ok {
			return nil
		}
		if err := s.expel(key, noTime, ts); err != nil {
			return err
		}
	}
}

// Remove deletes the key with the timestamp ts (milliseconds). Errors are as for Set.
func (s *KeyValueStore[K, V]) Remove(e *Entry[K, V], ts int64) error {
	if s.lim != nil && s.lim.used != nil {
		if err := s.recall(); err != nil {
			return err
		}
		s.lim.used.remove(s.enc(make([]byte, 0, 32), e))
	}
	return s.table.Remove(e, ts)
}

// Abort implements [Store].
func (s *KeyValueStore[K, V]) Abort() {
	if s.lim != nil {
		s.lim.reset()
	}
	s.table.Abort()
}

// Dropping reports, to the listener of OnUpdate, that the store itself deletes the row, for one of its limits.
func (s *KeyValueStore[K, V]) Dropping() bool { return s.lim != nil && s.lim.busy }

// Expire deletes the rows of a store with a time to live for which it is over at now (milliseconds): those written at
// now - TTL or before, in the order of their times, then of their keys' bytes. Each delete has the time at which the row's
// life ended. A now before the latest one changes nothing. Without StoreOptions.TTL it does nothing. It reports whether it
// has deleted any row.
func (s *KeyValueStore[K, V]) Expire(now int64) (did bool, err error) {
	if s.lim == nil || s.lim.ttl == nil {
		return false, nil
	}
	t := s.lim.ttl
	if t.edge = max(t.edge, now-t.ttl); t.edge >= t.horizon {
		t.horizon = t.edge + t.ttl/ttlParts + 1
		if t.due, err = s.timedKeys(t.horizon); err != nil {
			t.reset()
			return false, err
		}
		slices.SortFunc(t.due, timedKey.compare) // which is a heap
	}
	for len(t.due) > 0 && t.due[0].time <= t.edge {
		row := t.pop()
		if err := s.expel([]byte(row.key), t.edge, row.time+t.ttl); err != nil {
			return did, err
		}
		did = true
	}
	return did, nil
}

// expel deletes a row that was written at edge or before (noTime: whenever) with the timestamp ts.
func (s *KeyValueStore[K, V]) expel(key []byte, edge, ts int64) error {
	k, err := s.key.Decode(s.keyAt, key)
	if err != nil {
		return err
	}
	e, err := s.get(key, k, 0)
	if err != nil || !e.Exists || edge != noTime && e.Time > edge {
		return err
	}
	s.lim.busy = true
	defer func() { s.lim.busy = false }()
	return s.Remove(e, ts)
}

// Peek is Get, but does not count as a use of the key.
func (s *KeyValueStore[K, V]) Peek(k K) (v V, ok bool, err error) {
	e, err := s.get(nil, k, 0)
	if err != nil {
		return v, false, err
	}
	return e.Value, e.Exists, nil
}

// recall makes sure that the order of use is known.
func (s *KeyValueStore[K, V]) recall() error {
	if s.lim.used == nil || s.lim.used.keys != nil {
		return nil
	}
	rows, err := s.timedKeys(1<<63 - 1)
	if err == nil {
		s.lim.used.load(rows)
	}
	return err
}

// entry is Entry of a store with limits: it notes that a row was read.
func (s *KeyValueStore[K, V]) entry(enc []byte, k K) (*Entry[K, V], error) {
	if err := s.recall(); err != nil {
		return nil, err
	}
	e, err := s.get(enc, k, 0)
	if err == nil && e.Exists && s.lim.used != nil {
		s.lim.used.touch(s.enc(make([]byte, 0, 32), e))
	}
	return e, err
}

// timedKeys are the rows of times before that.
func (s *KeyValueStore[K, V]) timedKeys(before int64) (rows []timedKey, err error) {
	err = s.scanTo(span{}, false, func(r Row[K, V]) bool {
		if r.Time < before {
			rows = append(rows, timedKey{r.Time, string(r.KeyBytes)})
		}
		return true
	})
	return rows, err
}
