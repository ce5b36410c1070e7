package streams

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
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
// until ctx ends, which is no error, or the loop does. Of one key what comes is never older than what came before; of changes
// that happen while the rows are read, the latest may come alone. The rows are those of Range, from wherever they are; the
// changes are read from the store's changelog, by a client of the brokers of the subscription's own, so they go on when tasks
// move. A table whose source topic serves as changelog tells of changes when they are written to that topic.
//
// An error comes last, with a zero update: those of Range, those of the brokers, and one for a store without a changelog.
func (v *View[K, V]) Subscribe(ctx context.Context, from, to *K) iter.Seq2[Update[K, V], error] {
	sub := subscribing[K, V, K]{&v.reading, v.codec, v.Reading(ctx, v.how).Range(from, to), func(k K, _ *query.Row) K { return k }}
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
	sub := subscribing[K, V, Windowed[K]]{&v.reading, v.codec, v.Reading(ctx, v.how).Range(from, to), v.windowed}
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
	sub := subscribing[K, V, Windowed[K]]{&v.reading, v.codec, v.Reading(ctx, v.how).Range(from, to), sessionKey[K]}
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
	begin, err := s.r.positions(ctx, st)
	if err != nil {
		return told(err)
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
	c, err := follow(ctx, s.r.at.client(), st.Changelog, begin)
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

// changes reads a changelog.
type changes struct {
	cl *kgo.Client
	// settled are offsets by partition: below them only the latest change of each key goes out, when all are reached, as the
	// rows that went out before may have some of them.
	settled map[int32]int64
	held    map[string]*kgo.Record
	order   []string // of the keys of held
}

// follow begins to read a changelog at offsets that the rows are not behind of.
func follow(ctx context.Context, opts []kgo.Opt, changelog string, begin map[int32]int64) (*changes, error) {
	at := map[int32]kgo.Offset{}
	for p, offset := range begin {
		at[p] = kgo.NewOffset().At(offset)
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{changelog: at}), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(500 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("configure the client: %w", err)
	}
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, changelog)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		cl.Close()
		return nil, fmt.Errorf("where changelog %s ends: %w", changelog, err)
	}
	c := &changes{cl: cl, settled: map[int32]int64{}, held: map[string]*kgo.Record{}}
	for p, offset := range begin {
		if end, ok := ends.Lookup(changelog, p); ok && end.Offset > offset {
			c.settled[p] = end.Offset
		}
	}
	return c, nil
}

// settleTime is how long the last record of a changelog may let wait for itself: it may be one that the cleaner took.
const settleTime = time.Second

// poll waits for records; while some are held back, not for ever.
func (c *changes) poll(ctx context.Context) kgo.Fetches {
	if len(c.settled) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, settleTime)
		defer cancel()
	}
	return c.cl.PollFetches(ctx)
}

// release hands over what was held back.
func (c *changes) release(f func(*kgo.Record) (more bool, err error)) (more bool, err error) {
	for _, k := range c.order {
		if more, err := f(c.held[k]); !more || err != nil {
			return false, err
		}
	}
	c.held, c.order = nil, nil
	return true, nil
}

// each calls f with changes until ctx ends or f says so.
func (c *changes) each(ctx context.Context, f func(*kgo.Record) (more bool, err error)) error {
	for {
		fetches := c.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if len(c.settled) > 0 && fetches.NumRecords() == 0 {
			clear(c.settled)
			if more, err := c.release(f); !more || err != nil {
				return err
			}
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return fmt.Errorf("read changelog %s/%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		for r := range fetches.RecordsAll() {
			if len(c.settled) > 0 {
				if c.hold(r); len(c.settled) > 0 {
					continue
				}
				if more, err := c.release(f); !more || err != nil {
					return err
				}
			} else if !r.Attrs.IsControl() && r.Key != nil {
				if more, err := f(r); !more || err != nil {
					return err
				}
			}
		}
	}
}

// hold keeps a change back until all partitions have settled.
func (c *changes) hold(r *kgo.Record) {
	if !r.Attrs.IsControl() && r.Key != nil {
		k := string(r.Key)
		if c.held[k] == nil {
			c.order = append(c.order, k)
		}
		c.held[k] = r
	}
	if end, ok := c.settled[r.Partition]; ok && r.Offset+1 >= end {
		delete(c.settled, r.Partition)
	}
}

// positions are where the partitions of a store stand in its changelog, at most.
func (r *reading) positions(ctx context.Context, st query.Store) (map[int32]int64, error) {
	router := r.router()
	deadline := time.Now().Add(r.at.within)
	for {
		found := map[int32]int64{}
		stores := []query.Store{}
		if router.Find != nil {
			all, err := router.Instances(ctx, false)
			if err != nil {
				return nil, err
			}
			for _, k := range all {
				stores = append(stores, k.Stores...)
			}
		} else {
			stores = append(stores, st)
		}
		for _, s := range stores {
			for i, p := range s.Here {
				if s.Name == r.name && i < len(s.Positions) {
					found[p] = s.Positions[i]
				}
			}
		}
		switch {
		case router.Find == nil && len(found) == 0:
			return nil, fmt.Errorf("%w: %q: no task of it runs here", ErrNotReady, r.name)
		case router.Find == nil, len(found) == int(st.Partitions):
			return found, nil
		case time.Now().After(deadline):
			return nil, fmt.Errorf("%w: %q: %d of %d partitions are with instances that answer", ErrUnavailable, r.name, len(found), st.Partitions)
		}
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}
