package streams

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/query"
)

// Update is a row of a view as it was when the subscription began, or as it is after a change.
type Update[K, V any] struct {
	Entry[K, V]
	// Deleted says that the row is gone; Value is zero then.
	Deleted bool
	// Snapshot says that this is how the row was at the beginning.
	Snapshot bool
}

// Subscribe yields the rows between two keys, both included, nil for no bound, and then their changes as they are committed,
// until ctx ends, which is no error, or the loop does. Each change comes once, and those of one key in their order. The rows are
// those of Range, from wherever they are, of each partition as of one commit; the changes after that commit are read from the
// store's changelog, by a client of the brokers of the subscription's own, so they go on when tasks move. Where the loop is so
// slow that the changelog is compacted meanwhile, the latest change of a key may come alone. A table whose source topic serves as
// changelog tells of changes when they are written to that topic.
//
// An error comes last, with a zero update: those of Range, those of the brokers, one for a store without a changelog, and
// ErrCutOff when changes that have not come are gone.
func (v *View[K, V]) Subscribe(ctx context.Context, from, to *K) iter.Seq2[Update[K, V], error] {
	at, stand := v.Reading(ctx, v.how), newStands()
	at.note = stand.note
	sub := subscribing[K, V, K]{&v.reading, v.codec, at.Range(from, to), stand, func(k K, _ *query.Row) K { return k }}
	return sub.updates(ctx, func(topic string) (func([]byte) (query.Row, bool), error) {
		lo, err := v.bound(from, topic)
		if err != nil {
			return nil, err
		}
		hi, err := v.bound(to, topic)
		return func(key []byte) (query.Row, bool) {
			return query.Row{Key: key}, bytes.Compare(key, lo) >= 0 && (hi == nil || bytes.Compare(key, hi) <= 0)
		}, err
	})
}

// Subscribe yields the windows that start in [from, to], and then their changes; see View.Subscribe. That windows expire is no
// change, and not told.
func (v *WindowView[K, V]) Subscribe(ctx context.Context, from, to time.Time) iter.Seq2[Update[Windowed[K], V], error] {
	at, stand := v.Reading(ctx, v.how), newStands()
	at.note = stand.note
	sub := subscribing[K, V, Windowed[K]]{&v.reading, v.codec, at.Range(from, to), stand, v.windowed}
	return sub.updates(ctx, func(string) (func([]byte) (query.Row, bool), error) {
		return func(key []byte) (row query.Row, ok bool) { // the key within, its window's start and a sequence number
			n := len(key) - 12
			if n < 0 {
				return row, false
			}
			row.Key, row.Start = key[:n], int64(binary.BigEndian.Uint64(key[n:]))
			return row, row.Start >= from.UnixMilli() && row.Start <= to.UnixMilli()
		}, nil
	})
}

// Subscribe yields the sessions that end in [from, to], and then their changes; see View.Subscribe. A session that grows is
// deleted, and comes again with its new ends. That sessions expire is not told.
func (v *SessionView[K, V]) Subscribe(ctx context.Context, from, to time.Time) iter.Seq2[Update[Windowed[K], V], error] {
	at, stand := v.Reading(ctx, v.how), newStands()
	at.note = stand.note
	sub := subscribing[K, V, Windowed[K]]{&v.reading, v.codec, at.Range(from, to), stand, sessionKey[K]}
	return sub.updates(ctx, func(string) (func([]byte) (query.Row, bool), error) {
		return func(key []byte) (row query.Row, ok bool) { // the key within, the session's end and its start
			n := len(key) - 16
			if n < 0 {
				return row, false
			}
			row.Key, row.End, row.Start = key[:n], int64(binary.BigEndian.Uint64(key[n:])), int64(binary.BigEndian.Uint64(key[n+8:]))
			return row, row.End >= from.UnixMilli() && row.End <= to.UnixMilli()
		}, nil
	})
}

// subscribing is a subscription to rows with keys W, made of keys K.
type subscribing[K, V, W any] struct {
	r     *reading
	codec codec[K, V]
	rows  iter.Seq2[Entry[W, V], error] // as they are
	stand stands                        // where they are, once they have come
	wrap  func(K, *query.Row) W
}

// updates are the rows and then the changes. split opens what tells of a changelog's key the row's, without value, and whether
// it is among the rows.
func (s subscribing[K, V, W]) updates(ctx context.Context, split func(topic string) (func(key []byte) (query.Row, bool), error)) iter.Seq2[Update[W, V], error] {
	return func(yield func(Update[W, V], error) bool) {
		stopped := false
		err := s.each(ctx, split, func(u Update[W, V]) bool {
			stopped = !yield(u, nil)
			return !stopped
		})
		if err != nil && !stopped && ctx.Err() == nil {
			yield(Update[W, V]{}, err)
		}
	}
}

func (s subscribing[K, V, W]) each(ctx context.Context, open func(topic string) (func(key []byte) (query.Row, bool), error), yield func(Update[W, V]) bool) error {
	st, err := s.r.at.store(ctx, s.r.name)
	if err != nil {
		return told(err)
	}
	if st.Changelog == "" || st.Global {
		return fmt.Errorf("subscribe to store %q: it has no changelog of its tasks', from which changes could be read", s.r.name)
	}
	begins, err := s.r.begins(ctx, st.Changelog)
	if err != nil {
		return err
	}
	split, err := open(st.Topic)
	if err != nil {
		return err
	}
	for e, err := range s.rows {
		if err != nil {
			return err
		}
		if !yield(Update[W, V]{Entry: e, Snapshot: true}) {
			return nil
		}
	}
	c, err := follow(ctx, s.r.at.client(), st.Changelog, s.stand, begins)
	if err != nil {
		return err
	}
	defer c.cl.Close()
	return c.each(ctx, func(r *kgo.Record) (bool, error) {
		row, ok := split(r.Key)
		if !ok {
			return true, nil
		}
		u, err := s.update(st.Topic, &row, r)
		return err == nil && yield(u), err
	})
}

// update is a change as the subscriber gets it.
func (s subscribing[K, V, W]) update(topic string, row *query.Row, r *kgo.Record) (u Update[W, V], err error) {
	row.Value, row.Time = r.Value, r.Timestamp.UnixMilli()
	if u.Deleted = r.Value == nil; !u.Deleted {
		u.Entry, err = entryOf(s.codec, topic, row, s.wrap)
		return u, err
	}
	k, err := s.codec.key.Decode(serde.Place{Topic: topic, Key: true}, row.Key)
	if err != nil {
		return u, fmt.Errorf("decode the key: %w", err)
	}
	u.Key, u.Time = s.wrap(k, row), fromMillis(row.Time)
	return u, nil
}
