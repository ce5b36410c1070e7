package streams

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/graph"
	"github.com/twmb/franz-go/pkg/kgo"
)

// suppressing is a suppression in one task. What it holds is in the store; in memory is only when each key is due.
type suppressing[K, V any] struct {
	Suppression
	node     *graph.Node
	wait     int64                 // after the buffer time, in milliseconds
	closes   func(K) int64         // the buffer time of a key; nil: its update's own time
	closed   func(k K, at int64) K // a key that was decoded, with its buffer time
	st       *state.KeyValueStore[K, *held[V]]
	key      serde.Serde[K]
	val      serde.Serde[*held[V]]
	next     fn[K, change[V]]
	observed *int64 // stream time of this node; -1 at first
	due      dueKeys
	bytes    int64 // of what is held, encoded; kept only if it is bounded
	buf      []byte
}

// load finds out what is held after a restart.
func (n *suppressing[K, V]) load() error {
	for r := range n.st.Rows() {
		n.due.add(dueKey{r.Value.at, string(r.KeyBytes)})
		if n.MaxBytes > 0 {
			n.bytes += int64(len(r.KeyBytes)) + r.Value.size
		}
	}
	return n.st.Err()
}

func (n *suppressing[K, V]) process(c *cursor, k K, ch change[V]) error {
	if ch.stale {
		return nil // the latest version is what is held, or has gone out
	}
	*n.observed = max(*n.observed, c.Time)
	if err := n.hold(c, k, ch); err != nil {
		return unlessSkipped(err)
	}
	if err := n.ripe(c); err != nil {
		return err
	}
	for n.full() {
		if n.FailWhenFull {
			return final(c, n.node, fmt.Errorf("%w: it holds %d updates and %d bytes, of at most %d and %d (0: any): "+
				"raise MaxRecords or MaxBytes, or let it send early (without FailWhenFull)", ErrSuppressFull, len(n.due), n.bytes, n.MaxRecords, n.MaxBytes))
		}
		if err := n.release(c); err != nil {
			return err
		}
	}
	return nil
}

// ripe sends what is due.
func (n *suppressing[K, V]) ripe(c *cursor) error {
	for len(n.due) > 0 && n.due[0].at <= *n.observed-n.wait {
		if err := n.release(c); err != nil {
			return err
		}
	}
	return nil
}

// advance follows the observed time, which has gone on without an update.
func (n *suppressing[K, V]) advance(c *cursor) (any bool, err error) {
	held := len(n.due)
	err = n.ripe(c)
	return len(n.due) < held, err
}

func (n *suppressing[K, V]) full() bool {
	return n.MaxRecords > 0 && len(n.due) > n.MaxRecords || n.MaxBytes > 0 && n.bytes > n.MaxBytes
}

// hold puts an update into the buffer, or in the place of the one that is there. An error is errSkipped or final.
func (n *suppressing[K, V]) hold(c *cursor, k K, ch change[V]) error {
	enc, err := n.encode(k)
	if err != nil {
		encode := func(_ []byte, k K) ([]byte, error) { return n.encode(k) }
		if enc, err = noEntry(c, n.node, n.key, nil, k, err, encode); err != nil {
			return err
		}
	}
	e, err := n.st.Entry(enc, k)
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	h := &held[V]{time: c.Time, new: ch.new, hasNew: ch.hasNew, headers: c.Headers}
	if e.Exists {
		h.at, h.prior, h.hasPrior = e.Value.at, e.Value.prior, e.Value.hasPrior
		n.bytes -= e.Value.size
	} else {
		h.at, h.prior, h.hasPrior = c.Time, ch.old, ch.hasOld
		if n.closes != nil {
			h.at = n.closes(k)
		}
		n.due.add(dueKey{h.at, string(enc)})
		if n.MaxBytes > 0 {
			n.bytes += int64(len(enc))
		}
	}
	if n.MaxBytes > 0 {
		if n.buf, err = n.val.Append(append(n.buf[:0], enc...), serde.Place{Topic: n.store()}, h); err != nil {
			return storeFailed(c, n.node, err)
		}
		h.size = int64(len(n.buf) - len(enc))
		n.bytes += h.size
	}
	if err := n.st.Set(e, h, c.Time); err != nil {
		return storeFailed(c, n.node, err)
	}
	return nil
}

// encode encodes a key into a buffer that is overwritten by what is held next.
func (n *suppressing[K, V]) encode(k K) ([]byte, error) {
	if n.buf == nil {
		n.buf = make([]byte, 0, 128)
	}
	b, err := n.key.Append(n.buf[:0], serde.Place{Topic: n.store(), Key: true}, k)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, errNullHeld
	}
	n.buf = b
	return b, nil
}

// release sends the update that is due first.
func (n *suppressing[K, V]) release(c *cursor) error {
	d := n.due.take()
	enc := []byte(d.key)
	k, err := n.key.Decode(serde.Place{Topic: n.store(), Key: true}, enc)
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	if n.closed != nil {
		k = n.closed(k, d.at)
	}
	e, err := n.st.Entry(enc, k)
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	h := e.Value
	if n.MaxBytes > 0 {
		n.bytes -= int64(len(enc)) + h.size
	}
	if err := n.st.Remove(e, c.Time); err != nil {
		return storeFailed(c, n.node, err)
	}
	if !h.hasNew && n.closes != nil {
		return nil // what a window has become a delete of has not gone out
	}
	at, headers := c.Time, c.Headers
	rest, links := c.Trace.Apart(h.headers)
	c.Time, c.Headers = h.time, rest
	err = n.next(c, k, change[V]{new: h.new, hasNew: h.hasNew, old: h.prior, hasOld: h.hasPrior})
	c.Time, c.Headers = at, headers
	c.Trace.Again(links)
	return err
}

// dueKey is a key that is held, by its buffer time.
type dueKey struct {
	at  int64
	key string // encoded
}

func (d dueKey) before(o dueKey) bool {
	return d.at < o.at || d.at == o.at && strings.Compare(d.key, o.key) < 0
}

// dueKeys is a heap: the first is due first, of one time in the order of the keys' bytes.
type dueKeys []dueKey

func (q *dueKeys) add(d dueKey) {
	s := append(*q, d)
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !d.before(s[up]) {
			break
		}
		s[i], i = s[up], up
	}
	s[i] = d
	*q = s
}

// take takes the first off.
func (q *dueKeys) take() dueKey {
	s := *q
	first, d := s[0], s[len(s)-1]
	s[len(s)-1] = dueKey{}
	s = s[:len(s)-1]
	*q = s
	if len(s) == 0 {
		return first
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= len(s) {
			break
		}
		if child+1 < len(s) && s[child+1].before(s[child]) {
			child++
		}
		if !s[child].before(d) {
			break
		}
		s[i], i = s[child], child
	}
	s[i] = d
	return first
}

// held is an update that is held back. The store keeps pointers to it: for the compiler all pointers have one shape, so that
// a store of them is made once, and not once more for every table that could be suppressed.
type held[V any] struct {
	at               int64 // the buffer time
	time             int64 // of the update
	prior, new       V     // prior is what had gone out before
	hasPrior, hasNew bool
	headers          []kgo.RecordHeader
	size             int64 // encoded, if somebody asks
}

// heldSerde writes what is held as Kafka Streams does, version 3: the update's time, offset, topic, partition and headers;
// three values, each after its length of 4 bytes, -1 for null: what had gone out before, the value before this update (-2:
// the same), and the value; then the buffer time. Where the record came from is not known here, and left empty.
type heldSerde[V any] struct{ val serde.Serde[V] }

const (
	heldVersion = 3
	heldNull    = -1
	heldSame    = -2
)

var (
	errBadHeld  = errors.New("not an update of a suppression's buffer (Kafka Streams' format, version 3)")
	errNullHeld = errors.New("null is no key")
)

func (s heldSerde[V]) Append(dst []byte, at serde.Place, h *held[V]) (_ []byte, err error) {
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.time))
	dst = binary.BigEndian.AppendUint64(dst, ^uint64(0)) // offset
	dst = binary.BigEndian.AppendUint32(dst, 0)          // topic
	dst = binary.BigEndian.AppendUint32(dst, ^uint32(0)) // partition
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(h.headers)))
	for _, hd := range h.headers {
		dst = appendSized(dst, []byte(hd.Key))
		dst = appendSized(dst, hd.Value)
	}
	if dst, err = s.value(dst, at, h.prior, h.hasPrior); err != nil {
		return nil, err
	}
	same := int32(heldSame)
	if !h.hasPrior {
		same = heldNull
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(same))
	if dst, err = s.value(dst, at, h.new, h.hasNew); err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(dst, uint64(h.at)), nil
}

func (s heldSerde[V]) value(dst []byte, at serde.Place, v V, has bool) ([]byte, error) {
	begin := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, ^uint32(0))
	if !has {
		return dst, nil
	}
	out, err := s.val.Append(dst, at, v)
	if err != nil || out == nil {
		return dst, err
	}
	binary.BigEndian.PutUint32(out[begin:], uint32(len(out)-begin-4))
	return out, nil
}

func appendSized(dst, b []byte) []byte {
	if b == nil {
		return binary.BigEndian.AppendUint32(dst, ^uint32(0))
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}

func (s heldSerde[V]) Decode(at serde.Place, data []byte) (h *held[V], err error) {
	r := sizedReader{data: data}
	h = new(held[V])
	h.size = int64(len(data))
	h.time = int64(r.number(8))
	r.number(8)
	r.sized()
	r.number(4)
	n := r.number(4)
	if n > uint64(len(data)) {
		return h, errBadHeld
	}
	for range n {
		key, _ := r.sized()
		value, size := r.sized()
		hd := kgo.RecordHeader{Key: string(key)}
		if size != heldNull {
			hd.Value = bytes.Clone(value)
			if hd.Value == nil {
				hd.Value = []byte{}
			}
		}
		h.headers = append(h.headers, hd)
	}
	prior, priorSize := r.sized()
	r.sized()
	now, nowSize := r.sized()
	h.at = int64(r.number(8))
	if r.bad || len(r.data) > 0 || priorSize == heldSame || nowSize == heldSame {
		return h, errBadHeld
	}
	if h.hasPrior = priorSize != heldNull; h.hasPrior {
		if h.prior, err = s.val.Decode(at, prior); err != nil {
			return h, err
		}
	}
	if h.hasNew = nowSize != heldNull; h.hasNew {
		h.new, err = s.val.Decode(at, now)
	}
	return h, err
}

// sizedReader reads numbers and what appendSized wrote. bad says that there was too little.
type sizedReader struct {
	data []byte
	bad  bool
}

func (r *sizedReader) number(width int) (n uint64) {
	if len(r.data) < width {
		r.bad, r.data = true, nil
		return 0
	}
	for _, b := range r.data[:width] {
		n = n<<8 | uint64(b)
	}
	r.data = r.data[width:]
	return n
}

func (r *sizedReader) sized() (b []byte, size int32) {
	size = int32(uint32(r.number(4)))
	switch {
	case r.bad || size == heldNull || size == heldSame:
		return nil, size
	case size < 0 || int(size) > len(r.data):
		r.bad, r.data = true, nil
		return nil, size
	}
	b, r.data = r.data[:size:size], r.data[size:]
	return b, size
}
