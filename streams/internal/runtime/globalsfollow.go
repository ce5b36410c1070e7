package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams/internal/session"
)

// errCut says that a topic lost records which a global table has not read.
var errCut = errors.New("the log was cut")

// follow keeps the tables up to date until ctx ends.
func (g *globals) follow(ctx context.Context) error {
	for {
		err := g.tail(ctx)
		switch {
		case ctx.Err() == nil && session.Recoverable(err):
			g.rt.cfg.Logger.Warn("following the global tables again from where they stand", "why", err)
			if sleep(ctx, time.Second) != nil {
				return nil
			}
			continue
		case !errors.Is(err, errCut):
			return stopped(ctx, err)
		}
		if err := g.reload(ctx); err != nil {
			return stopped(ctx, err)
		}
	}
}

// reload loads the tables again, while nobody processes, and no query sees a part of one.
func (g *globals) reload(ctx context.Context) error {
	defer g.rt.stand()()
	for _, t := range g.tables {
		g.rt.hideGlobal(t.store.Name())
		if err := g.load(ctx, t); err != nil {
			return fmt.Errorf("load the global table %q again: %w", t.store.Name(), err)
		}
		g.rt.showGlobal(t.store.Shard())
	}
	return nil
}

// tail reads on with one client. errCut says that a table has to be loaded again.
func (g *globals) tail(ctx context.Context) error {
	byTopic, from := map[string]*globalTable{}, map[string]map[int32]kgo.Offset{}
	for _, t := range g.tables {
		byTopic[t.topic], from[t.topic] = t, map[int32]kgo.Offset{}
		for p, next := range t.next {
			from[t.topic][int32(p)] = kgo.NewOffset().At(next)
		}
	}
	log := g.rt.cfg.Logger.With("client", "global tables")
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.MetadataMinAge(250 * time.Millisecond), kgo.MaxBufferedRecords(pollRecords), kgo.WithLogger(session.NewLogger(log)),
	}, g.rt.cfg.Client...)...)
	if err != nil {
		return fmt.Errorf("configure the client: %w", err)
	}
	defer cl.Close()
	every := min(topicInfoAge, g.rt.cfg.LookInterval)
	for looked := time.Now(); ctx.Err() == nil; {
		poll, cancel := context.WithTimeout(ctx, every)
		fetches := cl.PollRecords(poll, pollRecords)
		cancel()
		if time.Since(looked) >= every {
			looked = time.Now()
			if g.madeAnew(ctx, slices.Collect(maps.Keys(byTopic))) {
				return errCut
			}
		}
		if err := g.take(byTopic, fetches); err != nil {
			return err
		}
		for _, t := range g.tables {
			g.grow(cl, t)
		}
	}
	return ctx.Err()
}

// madeAnew reports whether a topic is another one than its table was made of: the client reads on in the one that is gone.
func (g *globals) madeAnew(ctx context.Context, names []string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if g.rt.topics.load(ctx, names...) != nil {
		return false // the next look may have an answer
	}
	return slices.ContainsFunc(g.tables, func(t *globalTable) bool {
		info, ok := g.rt.topics.get(t.topic)
		other := ok && info.id != t.id && t.id != [16]byte{}
		if other {
			g.rt.cfg.Logger.Warn("global table is loaded anew: its topic was deleted and created again", "store", t.store.Name(), "topic", t.topic)
		}
		return other
	})
}

// take brings what was polled into the tables.
func (g *globals) take(byTopic map[string]*globalTable, fetches kgo.Fetches) (err error) {
	fetches.EachError(func(topic string, p int32, e error) {
		switch {
		case errors.Is(e, context.Canceled), errors.Is(e, context.DeadlineExceeded):
		case errors.Is(e, kerr.OffsetOutOfRange):
			g.rt.cfg.Logger.Warn("global table is loaded anew: records that it has not read are gone from the log", "partition", tp{topic, p}.String())
			err = errCut
		case !kerr.IsRetriable(e) && err == nil:
			err = session.Wrap("follow the global table's topic "+tp{topic, p}.String(), e)
		}
	})
	if err != nil {
		return err
	}
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		t, n := byTopic[f.Topic], len(f.Records)
		if err != nil || t == nil || n == 0 {
			return
		}
		c := globalChunk{p: f.Partition, next: f.Records[n-1].Offset + 1}
		for _, r := range f.Records {
			if !r.Attrs.IsControl() {
				c.recs = append(c.recs, r)
			}
		}
		err = g.process(t, c)
	})
	for _, t := range g.tables {
		if err == nil {
			err = g.commit(t)
		}
	}
	return err
}

// grow reads partitions that the topic has got since.
func (g *globals) grow(cl *kgo.Client, t *globalTable) {
	for n := g.rt.topics.partitions(t.topic); int(n) > len(t.next); {
		p := int32(len(t.next))
		t.next = append(t.next, 0)
		cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: {p: kgo.NewOffset().AtStart()}})
	}
}
