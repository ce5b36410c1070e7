package streams_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/failpoint"
	"github.com/leatstream/leat/streams/internal/session"
)

// ticking writes 1, 2, 3 and so on by a punctuator of the first partition's task, without ever reading a record.
func ticking(t testing.TB, b *bench, ticks *atomic.Int64) *streams.Topology {
	t.Helper()
	var bl streams.Builder
	bl.Stream(streams.Topic[string, string]{Name: b.in}).
		Process("tick", func(t *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
			if strings.HasSuffix(t.ID(), "_0") {
				t.Every(10*time.Millisecond, streams.WallClock, func(_ context.Context, now time.Time) error {
					return emit(streams.Record[string, string]{Key: "k", Value: strconv.FormatInt(ticks.Add(1), 10), Time: now})
				})
			}
			return func(context.Context, streams.Record[string, string]) error { return nil }, nil
		}).
		To(streams.Topic[string, string]{Name: b.out})
	topology, err := bl.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

// The group takes a member's tasks away in the middle of its commit. It has only punctuated; nothing of it may appear.
func TestZombieThatOnlyPunctuatesIsFenced(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		admin := kadm.NewClient(b.client())
		out := b.client(kgo.ConsumeTopics(b.out), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		var ticks, lost atomic.Int64
		points := &failpoint.Set{}
		points.Arm(failpoint.StoresFlushed, 3, func() error {
			g, err := admin.DescribeGroups(context.Background(), b.app)
			if err != nil {
				return err
			}
			for _, m := range g[b.app].Members {
				if err := session.Leave(context.Background(), b.client(), b.app, *m.InstanceID); err != nil {
					return err
				}
			}
			lost.Store(ticks.Load())
			return nil
		})
		app := b.run(ticking(t, b, &ticks), b.config("a"), points)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		for last := int64(0); last == 0 || lost.Load() == 0 || last <= lost.Load(); {
			if ctx.Err() != nil {
				t.Fatalf("the last tick is %d, %d was lost", last, lost.Load())
			}
			out.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				n, err := strconv.ParseInt(string(r.Value), 10, 64)
				if err != nil {
					t.Error(err)
				}
				if last = n; n == lost.Load() {
					t.Errorf("tick %d was committed by a member that had lost its task", n)
				}
			})
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

// Where reading begins at the end of a topic, that is decided once: what comes while the application is away is read when
// it is back, even if it had read nothing before.
func TestWhatBeganAtTheEndOfATopicGoesOnFromThere(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		var bl streams.Builder
		bl.Stream(streams.Topic[string, string]{Name: b.in}, streams.Source{Reset: streams.Latest}).
			GroupByKey().
			Count(streams.Store[string, int64]{Name: "counts"}).
			ToStream().To(streams.Topic[string, int64]{Name: b.out})
		topology, err := bl.Build()
		if err != nil {
			t.Fatal(err)
		}
		b.say(map[string]int64{}, "too", "early")
		app := b.run(topology, b.config("a"), nil)
		app.ready(t)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		b.say(map[string]int64{}, "these", "are", "read")
		b.run(topology, b.config("a"), nil)
		b.results().expect(map[string]int64{"0": 1, "1": 1, "2": 1}) // by key
	})
}
