package streams

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/query"
)

// Position is a record on the log, by which a program that has written it can ask for answers that show its effects.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

// PositionOf is where a record lies that was produced, or read.
func PositionOf(r *kgo.Record) Position { return Position{r.Topic, r.Partition, r.Offset} }

// Reading says what the answers of a view have to be. The zero value asks the owners of the partitions, wherever they are,
// for what is committed.
type Reading struct {
	// Local asks this instance only, for the partitions that it has.
	Local bool
	// Staleness lets standbys and warm-ups answer as well, here or elsewhere, from state that has everything which was
	// committed so long ago. 0: only the owners.
	Staleness time.Duration
	// After are records whose effects the answer shows: it waits until they are processed, through repartition topics too,
	// and committed, or its context ends. Their topics are sources of the application. Owners answer then.
	After []Position
}

// reading is where and how a view reads one store.
type reading struct {
	at   *asker
	name string
	ctx  context.Context // nil: none
	how  Reading
	note func(stand *query.Row) // is told where in their changelog the rows of a partition stand; nil: nobody asks
}

func (r reading) with(ctx context.Context, how Reading) reading {
	r.ctx, r.how = ctx, how
	return r
}

// request fills in what all requests of the view have in common.
func (r *reading) request(ctx context.Context, op query.Op, st query.Store) *query.Request {
	req := &query.Request{Store: r.name, Op: op, Staleness: r.how.Staleness, Placed: r.note != nil}
	for _, p := range r.how.After {
		req.After = append(req.After, query.Position(p))
	}
	if router := r.router(); router.Find == nil {
		req.Partitions = router.Local.Partitions(r.name, r.how.Staleness > 0)
	} else {
		for p := range st.Partitions {
			req.Partitions = append(req.Partitions, p)
		}
	}
	return req
}

func (r *reading) router() *query.Router {
	if r.how.Local && r.at.local != nil {
		return r.at.local
	}
	return r.at.router
}

// rows yields what a request asks for of all partitions. fill completes it; key, if not nil, is encoded for fill and picks
// the one partition. An error comes last.
func (r *reading) rows(op query.Op, key func(topic string) ([]byte, error), fill func(req *query.Request, topic string) error) iter.Seq2[query.Row, error] {
	return func(yield func(query.Row, error) bool) {
		ctx := r.ctx
		if ctx == nil {
			ctx = context.Background()
		}
		st, err := r.at.store(ctx, r.name)
		if err != nil {
			yield(query.Row{}, told(err))
			return
		}
		req := r.request(ctx, op, st)
		if key != nil {
			if req.Key, err = key(st.Topic); err != nil {
				yield(query.Row{}, fmt.Errorf("encode the key: %w", err))
				return
			}
			if req.Key == nil {
				req.Key = []byte{}
			}
			none := len(req.Partitions) == 0
			if req.Partitions = []int32{engine.Partition(req.Key, st.Partitions)}; none {
				req.Partitions = nil
			}
		}
		if len(req.Partitions) == 0 {
			yield(query.Row{}, fmt.Errorf("%w: %q: no task of it runs here", ErrNotReady, r.name))
			return
		}
		if fill != nil {
			if err := fill(req, st.Topic); err != nil {
				yield(query.Row{}, err)
				return
			}
		}
		for row, err := range r.router().Rows(ctx, st, req, r.at.within) {
			if row.At != nil && r.note != nil {
				r.note(&row)
				continue
			}
			if !yield(row, told(err)) || err != nil {
				return
			}
		}
	}
}

// count is about how many rows there are.
func (r *reading) count() (int64, error) {
	ctx := r.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	st, err := r.at.store(ctx, r.name)
	if err != nil {
		return 0, told(err)
	}
	req := r.request(ctx, query.Count, st)
	if len(req.Partitions) == 0 {
		return 0, fmt.Errorf("%w: %q: no task of it runs here", ErrNotReady, r.name)
	}
	n, err := r.router().Count(ctx, st, req, r.at.within)
	return n, told(err)
}

// told makes of a failure the error that this package names.
func told(err error) error {
	var f *query.Failure
	if !errors.As(err, &f) {
		return err
	}
	switch f.Code {
	case query.CodeNotHere:
		return fmt.Errorf("%w: %w", ErrNotHere, err)
	case query.CodeNotReady, query.CodeBusy:
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return err
}

// codec decodes the rows of a store.
type codec[K, V any] struct {
	key serde.Serde[K]
	val serde.Serde[V]
}

// encode is the key as fill wants it.
func (c codec[K, V]) encode(k K) func(topic string) ([]byte, error) {
	return func(topic string) ([]byte, error) { return c.key.Append(nil, serde.Place{Topic: topic, Key: true}, k) }
}

// bound encodes an end of a range; nil for none.
func (c codec[K, V]) bound(k *K, topic string) ([]byte, error) {
	if k == nil {
		return nil, nil
	}
	b, err := c.key.Append([]byte{}, serde.Place{Topic: topic, Key: true}, *k)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return b, nil
}

// decode yields rows as typed entries, whose key wrap makes. An error comes last, with a zero entry.
func decode[K, V, W any](c codec[K, V], r *reading, rows iter.Seq2[query.Row, error], wrap func(K, *query.Row) W) iter.Seq2[Entry[W, V], error] {
	return func(yield func(Entry[W, V], error) bool) {
		topic := r.at.topic(r.name)
		for row, err := range rows {
			var e Entry[W, V]
			if err == nil {
				e, err = entryOf(c, topic, &row, wrap)
			}
			if err != nil {
				yield(Entry[W, V]{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func entryOf[K, V, W any](c codec[K, V], topic string, row *query.Row, wrap func(K, *query.Row) W) (e Entry[W, V], err error) {
	k, err := c.key.Decode(serde.Place{Topic: topic, Key: true}, row.Key)
	if err != nil {
		return e, fmt.Errorf("decode the key: %w", err)
	}
	if e.Value, err = c.val.Decode(serde.Place{Topic: topic}, row.Value); err != nil {
		return e, fmt.Errorf("decode the value: %w", err)
	}
	e.Key, e.Time = wrap(k, row), fromMillis(row.Time)
	return e, nil
}
