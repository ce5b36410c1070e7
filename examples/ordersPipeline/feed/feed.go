// Package feed reads whole topics, without a group: for those who look at the shop from outside, the dashboard and the
// verifier. It reads committed records only.
package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// Route is a topic and what to do with its records.
type Route struct {
	topic  string
	handle func(*kgo.Record) error
	start  []any // serdes that may want to prepare
}

// To makes the route of a topic. Records with a null value are not given to f. The record is valid during the call.
func To[K, V any](t streams.Topic[K, V], f func(k K, v V, r *kgo.Record)) Route {
	handle := func(r *kgo.Record) error {
		if r.Value == nil {
			return nil
		}
		k, err := t.Key.Decode(serde.Place{Topic: t.Name, Key: true}, r.Key)
		if err != nil {
			return err
		}
		v, err := t.Value.Decode(serde.Place{Topic: t.Name}, r.Value)
		if err != nil {
			return err
		}
		f(k, v, r)
		return nil
	}
	return Route{t.Name, handle, []any{t.Key, t.Value}}
}

// Reader reads topics. It is used by one goroutine.
type Reader struct {
	client *kgo.Client
	admin  *kadm.Client
	routes map[string]func(*kgo.Record) error
	next   map[string]map[int32]int64
	bad    int64
}

// Open makes a reader that begins at from in every partition. opts say how to reach the cluster.
func Open(ctx context.Context, opts []kgo.Opt, from kgo.Offset, routes ...Route) (*Reader, error) {
	r := &Reader{routes: map[string]func(*kgo.Record) error{}, next: map[string]map[int32]int64{}}
	var topics []string
	for _, route := range routes {
		topics = append(topics, route.topic)
		r.routes[route.topic] = route.handle
		r.next[route.topic] = map[int32]int64{}
		for _, s := range route.start {
			if s, ok := s.(serde.Starter); ok {
				if err := s.Start(ctx); err != nil {
					return nil, fmt.Errorf("serde of %s: %w", route.topic, err)
				}
			}
		}
	}
	client, err := kgo.NewClient(append(opts[:len(opts):len(opts)],
		kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(from),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that a position can reach the end behind a marker
	)...)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	r.client, r.admin = client, kadm.NewClient(client)
	return r, nil
}

// Close ends the reader's connections.
func (r *Reader) Close() { r.client.Close() }

// Undecodable counts the records that were passed over because they did not decode.
func (r *Reader) Undecodable() int64 { return r.bad }

// Poll waits for records and hands them out. Its error is ctx's; that of a topic which does not exist yet, or of a
// broker that cannot be reached, is waited for.
func (r *Reader) Poll(ctx context.Context) error {
	fetches := r.client.PollFetches(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if fetches.IsClientClosed() {
		return kgo.ErrClientClosed
	}
	fetches.EachRecord(func(rec *kgo.Record) {
		r.next[rec.Topic][rec.Partition] = rec.Offset + 1
		if rec.Attrs.IsControl() {
			return
		}
		if err := r.routes[rec.Topic](rec); err != nil {
			r.bad++
		}
	})
	return nil
}

// CatchUp hands out everything that is committed at this moment, and returns then. The reader began at the start.
func (r *Reader) CatchUp(ctx context.Context) error {
	topics := make([]string, 0, len(r.routes))
	for t := range r.routes {
		topics = append(topics, t)
	}
	ends, err := r.admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return fmt.Errorf("feed: end of topics: %w", err)
	}
	if err := ends.Error(); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("feed: end of topics: %w", err)
	}
	for !r.reached(ends) {
		if err := r.Poll(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) reached(ends kadm.ListedOffsets) bool {
	reached := true
	ends.Each(func(o kadm.ListedOffset) {
		reached = reached && (o.Err != nil || r.next[o.Topic][o.Partition] >= o.Offset)
	})
	return reached
}
