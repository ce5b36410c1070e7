package streams

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
	"github.com/twmb/franz-go/pkg/kgo"
)

// joinSide is one side of a join in one task.
type joinSide[K, V any] struct {
	st       *state.WindowStore[K, []waiting[V]] // the records of each key and time
	node     *graph.Node
	key      serde.Serde[K]
	from, to int64 // a partner is at most that much earlier, or later
	wait     int64 // how long after its time a record's window has passed: window and grace
	alone    bool  // records without a partner go out
	kept     bool  // records are in the store already: it is the other side's
	first    int64 // no record before that waits to go out alone; never if none does
	last     int64 // nor any after that
	nullKey  func(K) bool
	null     func(V) bool

	enc    []byte // scratch
	starts []int64
	near   []partner[V]
}

const never = int64(math.MaxInt64)

func newJoinSide[K, V any](o *opening, s *KStream[K, V], d *storeDef, node *graph.Node, from, to, grace int64, alone bool) joinSide[K, V] {
	side := joinSide[K, V]{st: typedStore[*state.WindowStore[K, []waiting[V]]](o, d.spec.Name), node: node, key: s.key,
		from: from, to: to, wait: to + grace, alone: alone, first: never, nullKey: nullTest[K](), null: nullTest[V]()}
	if alone {
		side.first, side.last = 0, never>>1 // after a restart it is not known
	}
	return side
}

// streamJoin is a join of two streams in one task.
type streamJoin[K, L, R, O any] struct {
	node     *graph.Node
	f        func(K, sides[L, R]) (O, error)
	next     fn[K, O]
	observed *int64 // stream time of both sides; -1 at first
	left     joinSide[K, L]
	right    joinSide[K, R]
	ofLeft   pairing[K, L, R, O]
	ofRight  pairing[K, R, L, O]
}

// pairing makes a result of a record and, if it has one, its partner. It reports false for one that the error policy has
// skipped.
type pairing[K, A, B, O any] func(k K, a A, b B, has bool) (O, bool, error)

func (n *streamJoin[K, L, R, O]) start(c *cursor) {
	row := func(k K, p sides[L, R]) (O, bool, error) {
		r, err := call(n.f, k, p)
		if err != nil {
			return failed(c, n.node, n.f, k, p, err)
		}
		return r, true, nil
	}
	n.ofLeft = func(k K, l L, r R, has bool) (O, bool, error) {
		return row(k, sides[L, R]{left: l, right: r, hasLeft: true, hasRight: has})
	}
	n.ofRight = func(k K, r R, l L, has bool) (O, bool, error) {
		return row(k, sides[L, R]{left: l, right: r, hasLeft: has, hasRight: true})
	}
}

// send makes a result and passes it on.
func send[K, A, B, O any](c *cursor, next fn[K, O], row pairing[K, A, B, O], at int64, k K, a A, b B, has bool) error {
	was := c.Time
	c.Time = at
	r, ok, err := row(k, a, b, has)
	if ok && err == nil {
		err = next(c, k, r)
	}
	c.Time = was
	return err
}

// arrive handles a record of one side: what has waited long enough goes out, then the record meets those of the other
// side, then it is kept for those to come.
func arrive[K, L, R, O, A, B any](c *cursor, n *streamJoin[K, L, R, O], own *joinSide[K, A], other *joinSide[K, B], k K, v A, row pairing[K, A, B, O]) error {
	*n.observed = max(*n.observed, c.Time)
	now := *n.observed
	keyless := own.nullKey != nil && own.nullKey(k)
	if own.null != nil && own.null(v) || keyless && !own.alone {
		c.Task.Counters.NullDropped++
		return nil
	}
	if keyless {
		var none B
		return send(c, n.next, row, c.Time, k, v, none, false)
	}
	if c.Time+own.wait < now {
		c.Task.Counters.Late++
		return nil
	}
	enc, err := own.encode(c, k)
	if err != nil {
		return unlessSkipped(err)
	}
	if c.Time == now {
		if err := n.passed(c); err != nil {
			return err
		}
	}
	found, err := meet(c, n, own, other, k, v, row)
	if err != nil || own.kept {
		return unlessSkipped(err)
	}
	e, err := own.st.Entry(enc, k, c.Time)
	if err != nil {
		return storeFailed(c, own.node, err)
	}
	alone := own.alone && !found
	if alone {
		own.first, own.last = min(own.first, c.Time), max(own.last, c.Time)
	}
	kept := append(e.Value[:len(e.Value):len(e.Value)], waiting[A]{value: v, headers: c.Headers, alone: alone})
	if err := own.st.Set(e, kept, c.Time); err != nil {
		return storeFailed(c, own.node, err)
	}
	own.advance(now)
	other.advance(now)
	return nil
}

// partner is what one side has under a key at one time.
type partner[V any] struct {
	at int64
	vs []waiting[V]
}

// meet joins a record with those of the other side in its window, in the order of their times, then of their arrival. Those
// that may have gone out alone are left aside once their own window has passed: none has two results.
func meet[K, L, R, O, A, B any](c *cursor, n *streamJoin[K, L, R, O], own *joinSide[K, A], other *joinSide[K, B], k K, v A, row pairing[K, A, B, O]) (found bool, err error) {
	at := c.Time
	if at+own.to < 0 {
		return false, nil
	}
	partners, err := other.partners(k, at-own.from, at+own.to, *n.observed)
	for attempt := 1; errors.Is(err, state.ErrUndecodable); attempt++ { // the record's error, as with every row that a record needs
		again, ferr := c.Fail(n.node.Name, engine.Decoding, attempt, err)
		if !again {
			return false, skippedOr(ferr)
		}
		partners, err = other.partners(k, at-own.from, at+own.to, *n.observed)
	}
	if err != nil {
		return false, storeFailed(c, n.node, err)
	}
	defer clear(partners)
	for _, p := range partners {
		if err := other.met(c, k, p); err != nil {
			return true, err
		}
		for _, w := range p.vs {
			c.Trace.LinkTo(c, w.headers)
			if err := send(c, n.next, row, max(at, p.at), k, v, w.value, true); err != nil {
				return true, err
			}
		}
	}
	return len(partners) > 0, nil
}

// encode returns the bytes of a key, valid until the next call. An error is errSkipped or final.
func (s *joinSide[K, V]) encode(c *cursor, k K) ([]byte, error) {
	enc, err := s.st.Encode(k)
	if err != nil {
		enc, err = noEntry(c, s.node, s.key, nil, k, err, func(_ []byte, k K) ([]byte, error) { return s.st.Encode(k) })
	}
	s.enc = append(s.enc[:0], enc...)
	return s.enc, err
}

// partners returns what the side has under a key in [from, to], but for records that may have gone out alone; valid until the
// next call. It asks the store's directory: to look for one key among all the times of a long window would cost a seek for
// each of them.
func (s *joinSide[K, V]) partners(k K, from, to, observed int64) ([]partner[V], error) {
	enc, err := s.st.Encode(k)
	if err != nil {
		return nil, err
	}
	s.enc = append(s.enc[:0], enc...)
	if s.starts, err = s.st.Starts(s.starts[:0], s.enc, max(from, 0), to); err != nil {
		return nil, err
	}
	s.near = s.near[:0]
	for _, start := range s.starts {
		if s.alone && start+s.wait < observed {
			continue
		}
		e, err := s.st.Entry(s.enc, k, start)
		if err != nil {
			return nil, err
		}
		if e.Exists {
			s.near = append(s.near, partner[V]{start, e.Value})
		}
	}
	return s.near, nil
}

// met notes that records have found a partner.
func (s *joinSide[K, V]) met(c *cursor, k K, p partner[V]) error {
	if !slices.ContainsFunc(p.vs, func(w waiting[V]) bool { return w.alone }) {
		return nil
	}
	e, err := s.st.Entry(nil, k, p.at)
	if err != nil {
		return storeFailed(c, s.node, err)
	}
	vs := slices.Clone(p.vs)
	for i := range vs {
		vs[i].alone = false
	}
	if err := s.st.Set(e, vs, e.Time); err != nil {
		return storeFailed(c, s.node, err)
	}
	return nil
}

// advance lets go of what nobody can meet any more, but not of what has still to go out.
func (s *joinSide[K, V]) advance(now int64) {
	if s.first < never-s.wait {
		now = min(now, s.first+s.wait)
	}
	s.st.Advance(now)
}

// advance follows the observed time, which has gone on without a record.
func (n *streamJoin[K, L, R, O]) advance(c *cursor) (any bool, err error) {
	now := *n.observed
	any = n.left.overdue(now) || n.right.overdue(now)
	err = n.passed(c)
	n.left.advance(now)
	n.right.advance(now)
	return any, err
}

// overdue reports whether records may wait whose window has passed.
func (s *joinSide[K, V]) overdue(now int64) bool {
	return s.first < never-s.wait && s.first+s.wait < now
}

// lone is a record whose window has passed without a partner.
type lone struct {
	at    int64
	right bool
	key   []byte
	send  func() error
}

// passed sends what has found no partner until its window has passed, in the order of time; of one time the right side
// first, then in the order of the keys.
func (n *streamJoin[K, L, R, O]) passed(c *cursor) error {
	var out []lone
	var err error
	if out, err = lonely(c, n, &n.right, true, n.ofRight, out); err != nil {
		return err
	}
	if out, err = lonely(c, n, &n.left, false, n.ofLeft, out); err != nil || len(out) == 0 {
		return err
	}
	slices.SortStableFunc(out, func(a, b lone) int {
		switch {
		case a.at != b.at:
			return cmp.Compare(a.at, b.at)
		case a.right != b.right && a.right:
			return -1
		case a.right != b.right:
			return 1
		}
		return bytes.Compare(a.key, b.key)
	})
	headers, links := c.Headers, c.Trace.Behind(nil)
	for _, l := range out {
		if err = l.send(); err != nil {
			break
		}
	}
	c.Headers = headers
	c.Trace.Again(links)
	return err
}

// lonely collects, and takes off, the records of one side whose window has passed without a partner.
func lonely[K, L, R, O, A, B any](c *cursor, n *streamJoin[K, L, R, O], s *joinSide[K, A], right bool, row pairing[K, A, B, O], out []lone) ([]lone, error) {
	now := *n.observed
	if !s.overdue(now) {
		return out, nil
	}
	var rows []state.Row[K, []waiting[A]]
	open := now - s.wait // records from here on have time left
	for r := range s.st.Rows(max(s.first, 0), open-1) {
		if slices.ContainsFunc(r.Value, func(w waiting[A]) bool { return w.alone }) {
			r.KeyBytes = bytes.Clone(r.KeyBytes)
			rows = append(rows, r)
		}
	}
	if err := s.st.Err(); err != nil {
		return out, storeFailed(c, s.node, err)
	}
	if s.first = open; open > s.last {
		s.first, s.last = never, -1
	}
	for _, r := range rows {
		e, err := s.st.Entry(r.KeyBytes, r.Key, r.Start)
		if err == nil {
			err = s.st.Remove(e, r.Start)
		}
		if err != nil {
			return out, storeFailed(c, s.node, err)
		}
		for _, w := range r.Value {
			if !w.alone {
				continue
			}
			out = append(out, lone{r.Start, right, r.KeyBytes, func() error {
				var none B
				c.Headers = w.headers
				return send(c, n.next, row, r.Start, r.Key, w.value, none, false)
			}})
		}
	}
	return out, nil
}

// waiting is a record in the store of a join.
type waiting[V any] struct {
	value   V
	headers []kgo.RecordHeader
	alone   bool // it has found no partner yet, and goes out without one when its window has passed
}

// waitingSerde writes the records of one key and time, each as a flag for alone, its headers, their number first, and its
// value; lengths are varints, one more for what may be null.
type waitingSerde[V any] struct{ val serde.Serde[V] }

// Format is "waiting(…)" of the format of V.
func (s waitingSerde[V]) Format() string { return formatAround("waiting", s.val) }

var errBadWaiting = errors.New("not the records of a join")

func (s waitingSerde[V]) Append(dst []byte, at serde.Place, vs []waiting[V]) ([]byte, error) {
	scratch := make([]byte, 0, 64)
	for _, v := range vs {
		flag := byte(0)
		if v.alone {
			flag = 1
		}
		dst = binary.AppendUvarint(append(dst, flag), uint64(len(v.headers)))
		for _, h := range v.headers {
			dst = appendBytes(appendBytes(dst, []byte(h.Key)), h.Value)
		}
		b, err := appendValue(s.val, scratch[:0], at, v.value)
		if err != nil {
			return nil, err
		}
		dst, scratch = appendBytes(dst, b), b
	}
	return dst, nil
}

func (s waitingSerde[V]) Decode(at serde.Place, data []byte) (out []waiting[V], err error) {
	for len(data) > 0 {
		w := waiting[V]{alone: data[0] == 1}
		n, used := binary.Uvarint(data[1:])
		if data = data[1+max(used, 0):]; used <= 0 || n > uint64(len(data)) {
			return nil, errBadWaiting
		}
		for range n {
			var k, v []byte
			var ok, ok2 bool
			k, data, ok = cutBytes(data)
			v, data, ok2 = cutBytes(data)
			if !ok || !ok2 {
				return nil, errBadWaiting
			}
			w.headers = append(w.headers, kgo.RecordHeader{Key: string(k), Value: bytes.Clone(v)})
		}
		b, rest, ok := cutBytes(data)
		if !ok || b == nil {
			return nil, errBadWaiting
		}
		if w.value, err = s.val.Decode(at, b); err != nil {
			return nil, err
		}
		out, data = append(out, w), rest
	}
	return out, nil
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendUvarint(dst, 0)
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))+1), b...)
}

// cutBytes takes off what appendBytes wrote.
func cutBytes(data []byte) (b, rest []byte, ok bool) {
	n, used := binary.Uvarint(data)
	if used <= 0 || n > uint64(len(data)-used)+1 {
		return nil, nil, false
	}
	if data = data[used:]; n == 0 {
		return nil, data, true
	}
	return data[: n-1 : n-1], data[n-1:], true
}
