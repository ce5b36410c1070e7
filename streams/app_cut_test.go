package streams_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/streams"
)

// counters count words, in stores of each kind.
var counters = map[string]func(words *streams.KGroupedStream[string, string], out streams.Topic[string, int64]){
	"key-value": func(words *streams.KGroupedStream[string, string], out streams.Topic[string, int64]) {
		words.Count(streams.Store[string, int64]{Name: "counts"}).ToStream().To(out)
	},
	"window": func(words *streams.KGroupedStream[string, string], out streams.Topic[string, int64]) {
		words.WindowedBy(streams.Tumbling(24 * time.Hour)).Count(streams.WindowStore[string, int64]{Name: "counts"}).
			ToStream(func(k streams.Windowed[string]) string { return k.Key }).To(out)
	},
	"session": func(words *streams.KGroupedStream[string, string], out streams.Topic[string, int64]) {
		words.WindowedBySession(streams.Session(24 * time.Hour)).Count(streams.SessionStore[string, int64]{Name: "counts"}).
			ToStream(func(k streams.Windowed[string]) string { return k.Key }).To(out)
	},
}

// A changelog of which nothing is left, by its retention say, takes no state along that is on disk: it counts on. A copy, which
// has read the last marker, does so too.
func TestStateOutlivesItsChangelogsRecords(t *testing.T) {
	t.Parallel()
	for kind, count := range counters {
		t.Run(kind, func(t *testing.T) {
			onOurs(t, func(t *testing.T, b *bench) {
				topology := func() *streams.Topology {
					var bu streams.Builder
					count(bu.Stream(streams.Topic[string, string]{Name: b.in}).GroupByKey(), streams.Topic[string, int64]{Name: b.out})
					topology, err := bu.Build()
					if err != nil {
						t.Fatal(err)
					}
					return topology
				}
				changelog := b.app + "-counts-changelog"
				want, out := map[string]int64{}, b.results()
				run := func() {
					cfg := b.config("a")
					cfg.LeaveOnStop = true
					app := b.run(topology(), cfg, nil)
					app.ready(t)
					b.count(want, "a", "a", "b")
					out.expect(want)
					app.stop()
					if err := app.wait(t); err != nil {
						t.Fatal(err)
					}
				}
				run()
				admin := kadm.NewClient(b.client())
				policy := func(p string) {
					if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &p}}, changelog); err != nil {
						t.Fatal(err)
					}
				}
				if kind == "key-value" { // nobody may cut what is compacted only
					policy("compact,delete")
				}
				b.cut(changelog)
				if kind == "key-value" {
					policy("compact")
				}
				run()
				run()
			})
		})
	}
}

// cut deletes all records that a topic of three partitions has.
func (b *bench) cut(topic string) {
	b.t.Helper()
	ends := kadm.Offsets{}
	for p := range int32(3) {
		ends.AddOffset(topic, p, -1, -1)
	}
	deleted, err := kadm.NewClient(b.client()).DeleteRecords(b.t.Context(), ends)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
