package streams

import (
	"bytes"
	"fmt"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
	"github.com/twmb/franz-go/pkg/kgo"
)

// foreignSide is the right side of a foreign-key join in one task: it keeps the subscriptions, and answers them.
type foreignSide[K, V, K2, V2 any] struct {
	*foreignJoin[K, V, K2, V2]
	st     *state.KeyValueStore[[]byte, []byte]
	w      *writer[[]byte, []byte]
	get    lookup[K2, V2]
	fk     decoder[K2]
	fkAt   serde.Place
	rowAt  serde.Place
	to     [1]int // the partition of the answer in hand
	prefix []byte
	row    []byte
	value  []byte
}

// foreignAs is the key in opening.memo of a join's right side.
type foreignAs string

func openForeign[K, V, K2, V2 any](o *opening, j *foreignJoin[K, V, K2, V2]) *foreignSide[K, V, K2, V2] {
	if have, ok := o.memo[foreignAs(j.store)]; ok {
		return have.(*foreignSide[K, V, K2, V2])
	}
	asks, gives := j.asks(o), j.gives(o)
	s := &foreignSide[K, V, K2, V2]{foreignJoin: j, st: typedStore[*state.KeyValueStore[[]byte, []byte]](o, j.store),
		get: openLookup(o, j.right), fk: newDecoder(j.foreign, asks, true),
		fkAt: serde.Place{Topic: asks, Key: true}, rowAt: serde.Place{Topic: gives}}
	s.prefix, s.row, s.value = []byte{}, []byte{}, []byte{}
	s.w = newWriter[[]byte, []byte](o, j.answers.sink, gives, serde.Bytes, serde.Bytes, func(key, _ []byte, n int) []int {
		if s.to[0] < 0 || s.to[0] >= n { // of a subscription without a partition
			s.to[0] = int(engine.Partition(key, int32(n)))
		}
		return s.to[:]
	})
	o.memo[foreignAs(j.store)] = s
	return s
}

// register takes a subscription.
func (s *foreignSide[K, V, K2, V2]) register(c *cursor, r *kgo.Record) error {
	if r.Value == nil {
		c.Task.Counters.NullDropped++
		return nil
	}
	var k K2
	var sub subscription
	ok, err := decoding(c, s.receive, func() (err error) {
		if sub, err = parseSubscription(r.Value); err == nil && r.Key != nil {
			k, err = s.fk.decode(r.Key, nil)
		}
		return err
	})
	if !ok {
		return err
	}
	if r.Key == nil { // a left row without a foreign key
		if sub.what == subscribeAlways {
			return s.answer(c, &sub, nil, c.Time)
		}
		return nil
	}
	if err := s.note(c, &sub, r); err != nil {
		return final(c, s.receive, err)
	}
	if sub.what == unsubscribe {
		return nil
	}
	v, at, found, err := s.get(c, nil, k)
	if err != nil {
		return lookupFailed(c, s.lookup, err)
	}
	if !found {
		if sub.what == subscribeFound {
			return nil
		}
		return s.answer(c, &sub, nil, c.Time)
	}
	at = max(c.Time, at)
	if sub.what == unsubscribeAnswer {
		return s.answer(c, &sub, nil, at)
	}
	row, ok, err := s.encode(c, s.lookup, v)
	if !ok {
		return err
	}
	return s.answer(c, &sub, row, at)
}

// note keeps the subscription, or drops it.
func (s *foreignSide[K, V, K2, V2]) note(c *cursor, sub *subscription, r *kgo.Record) (err error) {
	key := appendForeign(make([]byte, 0, 4+len(r.Key)+len(sub.key)), bare(s.foreign, r.Key))
	key = append(key, sub.key...)
	if sub.what == subscribeAlways || sub.what == subscribeFound {
		return s.st.Put(key, bytes.Clone(r.Value))
	}
	_, _, err = s.st.Delete(key)
	return err
}

// update tells every subscriber of a right row, but not of a version that is not the latest.
func (s *foreignSide[K, V, K2, V2]) update(c *cursor, k K2, ch change[V2]) error {
	if ch.stale {
		return nil
	}
	var key []byte
	ok, err := encoding(c, s.foreignJoin.update, func() (err error) {
		key, err = s.foreign.Append(s.row[:0], s.fkAt, k)
		return err
	})
	if !ok {
		return err
	}
	s.prefix = appendForeign(s.prefix[:0], bare(s.foreign, key))
	var row []byte
	encoded := !ch.hasNew
	for at, value := range s.st.Prefix(s.prefix) {
		if !encoded {
			if row, encoded, err = s.encode(c, s.foreignJoin.update, ch.new); !encoded {
				return err
			}
		}
		sub, err := parseSubscription(value)
		if err != nil || !bytes.HasSuffix(at, sub.key) {
			return final(c, s.foreignJoin.update, fmt.Errorf("store %q, key %x: %w", s.store, at, errorsOr(err, "the subscription is another key's")))
		}
		if err := s.answer(c, &sub, row, c.Time); err != nil {
			return err
		}
	}
	if err := s.st.Err(); err != nil {
		return final(c, s.foreignJoin.update, err)
	}
	return nil
}

// encode gives a right row's bytes, which are valid until the next call.
func (s *foreignSide[K, V, K2, V2]) encode(c *cursor, n *graph.Node, v V2) (row []byte, ok bool, err error) {
	ok, err = encoding(c, n, func() (err error) {
		if row, err = s.foreignJoin.row.Append(s.row[:0], s.rowAt, v); row != nil {
			s.row = row
		}
		return err
	})
	return row, ok, err
}

// answer sends the right row, nil for none, to the left row that asked.
func (s *foreignSide[K, V, K2, V2]) answer(c *cursor, sub *subscription, row []byte, at int64) error {
	s.value = appendAnswer(s.value[:0], sub.hash, row)
	s.to[0] = int(sub.partition)
	was := c.Time
	c.Time = at
	err := s.w.write(c, sub.key, s.value, false)
	c.Time = was
	return err
}

// openResolver opens what makes results of answers, on the left side.
func openResolver[K, V, K2, V2, R any](o *opening, j *foreignJoin[K, V, K2, V2], out *KTable[K, R], row joinRow[K, V, V2, R]) engine.Source {
	asks, gives := j.asks(o), j.gives(o)
	key, val, get := newDecoder(j.key, gives, true), newDecoder(j.row, gives, false), openLookup(o, j.left)
	put, reg := putter(out, o), openRegistrar(o, j)
	buf := []byte{}
	return engine.Source{Process: func(c *cursor, r *kgo.Record) error {
		if r.Key == nil || r.Value == nil {
			c.Task.Counters.NullDropped++
			return nil
		}
		var k K
		var s sides[V, V2]
		var asked, now rowHash
		ok, err := decoding(c, j.resolve, func() (err error) {
			var data []byte
			if asked, data, err = parseAnswer(r.Value); err != nil {
				return err
			}
			if k, err = key.decode(r.Key, nil); err == nil && data != nil {
				s.hasRight = true
				s.right, err = val.decode(data, nil)
			}
			return err
		})
		if !ok {
			return err
		}
		if s.left, _, s.hasLeft, err = get(c, nil, k); err != nil {
			return lookupFailed(c, j.resolve, err)
		}
		if s.hasLeft {
			ok, err := encoding(c, j.resolve, func() (err error) {
				now, buf, err = j.hash(buf, serde.Place{Topic: asks}, s.left)
				return err
			})
			if !ok {
				return err
			}
		}
		if asked != now { // the row has changed since it asked
			if !s.hasRight && s.hasLeft {
				return reg.again(c, k, s.left)
			}
			return nil
		}
		result, has, err := row(c, k, s)
		if err != nil {
			return unlessSkipped(err)
		}
		return put(c, k, result, has)
	}}
}

// putter passes a row on to the table: into its store, if it has one.
func putter[K, V any](t *KTable[K, V], o *opening) func(c *cursor, k K, v V, has bool) error {
	if len(t.node.Stores) > 0 {
		st := t.store(o)
		return func(c *cursor, k K, v V, has bool) error { return st.set(c, nil, k, v, has, c.Time) }
	}
	next := t.out.open(o)
	return func(c *cursor, k K, v V, has bool) error { return next(c, k, change[V]{new: v, hasNew: has}) }
}

// decoding and encoding run f under the error policy. Without ok the record is to be left alone; err, if there is one, is
// final.
func decoding(c *cursor, n *graph.Node, f func() error) (ok bool, err error) {
	return trying(c, n, engine.Decoding, f)
}

func encoding(c *cursor, n *graph.Node, f func() error) (ok bool, err error) {
	return trying(c, n, engine.Encoding, f)
}

func trying(c *cursor, n *graph.Node, phase engine.Phase, f func() error) (ok bool, err error) {
	for attempt := 1; ; attempt++ {
		cause := safely(f)
		if cause == nil {
			return true, nil
		}
		again, err := c.Fail(n.Name, phase, attempt, cause)
		if !again {
			return false, err
		}
	}
}

func safely(f func() error) (err error) {
	defer engine.Recover(&err)
	return f()
}
