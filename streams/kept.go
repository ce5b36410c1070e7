package streams

import (
	"encoding/binary"
	"errors"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
)

// kept is the store of a table in one task.
type kept[K, V any] struct {
	node *graph.Node
	st   *state.KeyValueStore[K, V]
	trail[K]
}

// set writes one row, or deletes it. enc is the key encoded, or nil.
func (t *kept[K, V]) set(c *cursor, enc []byte, k K, v V, has bool, at int64) error {
	e, err := t.st.Entry(enc, k)
	if err != nil {
		if e, err = noEntry(c, t.node, t.key, enc, k, err, t.st.Entry); err != nil {
			return unlessSkipped(err)
		}
	}
	return t.write(c, e, enc, v, has, at)
}

// noEntry settles an error of a store's Entry: a key that does not encode, and a row that does not decode, is the error of
// the record in hand, anything else ends the task. Its own error is errSkipped or final.
func noEntry[K, E any](c *cursor, n *graph.Node, s serde.Serde[K], enc []byte, k K, cause error, get func([]byte, K) (E, error)) (e E, err error) {
	for attempt := 1; ; attempt++ {
		phase := engine.Encoding
		if errors.Is(cause, state.ErrUndecodable) {
			phase = engine.Decoding
		} else if enc != nil || encodes(s, k) {
			return e, storeFailed(c, n, cause)
		}
		again, err := c.Fail(n.Name, phase, attempt, cause)
		if err != nil {
			return e, err
		}
		if !again {
			return e, errSkipped
		}
		if e, cause = get(enc, k); cause == nil {
			return e, nil
		}
	}
}

func encodes[K any](s serde.Serde[K], k K) (ok bool) {
	defer func() { _ = recover() }()
	_, err := s.Append([]byte{}, serde.Place{Key: true}, k)
	return err == nil
}

// write changes an entry of the store.
func (t *kept[K, V]) write(c *cursor, e *state.Entry[K, V], enc []byte, v V, has bool, at int64) (err error) {
	if len(c.Headers) > 0 || len(t.rows) > 0 {
		t.note(c, enc, e.Key, 0)
	}
	if t.marks != nil {
		t.marks.leave(c, markKey(t.marks, t.key, enc, e.Key, 0), at)
	}
	if has {
		err = t.st.Set(e, v, at)
	} else {
		err = t.st.Remove(e, at)
	}
	if err != nil {
		return storeFailed(c, t.node, err)
	}
	return nil
}

// storeFailed ends the task: what a store says is about its own bytes, or final from further down.
func storeFailed(c *cursor, n *graph.Node, err error) error { return final(c, n, err) }

// trail remembers the headers of the record that last changed a row, until the row's update goes out at the commit: a
// result has the headers of the record that made it, not of the one that happens to be in hand. Without headers it costs
// nothing.
type trail[K any] struct {
	key    serde.Serde[K]
	rows   map[string]trailed
	buf    []byte
	commit uint32
	marks  *marks // nil: the store is not traced
}

// trailed is what is remembered of a row: headers, and the contexts of the changes since the last commit that went into it.
type trailed struct {
	headers []kgo.RecordHeader
	links   []trace.SpanContext
}

// note remembers the cursor's headers for a row. A row that is changed by a record without headers has none.
func (t *trail[K]) note(c *cursor, enc []byte, k K, start int64) {
	if now := c.Task.Commits(); t.commit != now {
		clear(t.rows)
		t.commit = now
	}
	if t.rows == nil {
		t.rows, t.buf = make(map[string]trailed), make([]byte, 0, 64)
	}
	b := append(t.buf[:0], enc...)
	if enc == nil {
		var err error
		if b, err = t.key.Append(t.buf[:0], serde.Place{Key: true}, k); err != nil {
			return // the store will say so
		}
	}
	t.buf = binary.BigEndian.AppendUint64(b, uint64(start))
	row := trailed{headers: c.Headers}
	if c.Trace != nil {
		was := t.rows[string(t.buf)]
		row.links = c.Trace.Replaced(was.links, was.headers)
	}
	if len(row.headers) == 0 && len(row.links) == 0 {
		delete(t.rows, string(t.buf))
		return
	}
	t.rows[string(t.buf)] = row
}

// of returns what is remembered of a row.
func (t *trail[K]) of(key []byte, start int64) trailed {
	if len(t.rows) == 0 {
		return trailed{}
	}
	t.buf = binary.BigEndian.AppendUint64(append(t.buf[:0], key...), uint64(start))
	return t.rows[string(t.buf)]
}
