package streams_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

// What a suppression holds back is restored from its changelog by an instance that has nothing, and goes out there.
func TestSuppressionIsRestoredFromItsChangelog(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		var bl streams.Builder
		bl.Stream(streams.Topic[string, string]{Name: b.in}).GroupByKey().
			Count(streams.Store[string, int64]{Name: "counts"}).
			Suppress(streams.Suppression{Name: "calm", Wait: time.Minute}).
			ToStream().To(streams.Topic[string, int64]{Name: b.out})
		topology, err := bl.Build()
		if err != nil {
			t.Fatal(err)
		}
		cl := b.client(kgo.DefaultProduceTopic(b.in), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		say := func(key string, at int64) {
			t.Helper()
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte(key), Value: []byte("x"), Timestamp: time.UnixMilli(at)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		out := b.results()
		cfg := b.config("a")
		cfg.LeaveOnStop = true
		first := b.run(topology, cfg, nil)
		first.ready(t)
		logged := b.client(kgo.ConsumeTopics(b.app+"-calm-store-changelog"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		say("k", 1_000)
		say("k", 2_000)
		held := int64(0)
		for deadline := time.Now().Add(time.Minute); held < 2 && time.Now().Before(deadline); {
			logged.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
				if len(r.Headers) != 1 || r.Headers[0].Key != "v" || string(r.Headers[0].Value) != "\x03" {
					t.Errorf("headers %v, want Kafka's version 3", r.Headers)
				}
				held = int64(r.Value[len(r.Value)-9]) // the count is before the buffer time
			})
		}
		first.stop()
		if err := first.wait(t); err != nil {
			t.Fatal(err)
		}
		second := b.run(topology, b.config("b"), nil)
		second.ready(t)
		if second.RestoredRecords() == 0 {
			t.Error("nothing was restored")
		}
		say("later", 100_000) // perhaps both counts were committed at once, with the time of the second
		out.expect(map[string]int64{"k": 2})
		second.stop()
		if err := second.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}
