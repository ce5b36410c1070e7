package streams_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

// A row of a store that no changelog would take is an error of that row, with all that one needs to know, and the policy
// decides; the application goes on, or its next start does.
func TestARowThatIsTooLargeIsForThePolicy(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		store := streams.Store[string, string]{Name: "joined"}
		topology := func() *streams.Topology {
			var bu streams.Builder
			bu.Stream(streams.Topic[string, string]{Name: b.in}).GroupByKey().
				Reduce(store, func(a, v string) (string, error) { return a + v, nil }).
				ToStream().
				MapValues(func(_, v string) (int64, error) { return int64(len(v)), nil }).
				To(streams.Topic[string, int64]{Name: b.out})
			topology, err := bu.Build()
			if err != nil {
				t.Fatal(err)
			}
			return topology
		}
		out := b.results()
		app := b.run(topology(), b.config("a"), nil)
		cl := b.client(kgo.DefaultProduceTopic(b.in))
		say := func(key string, size int) {
			r := &kgo.Record{Key: []byte(key), Value: []byte(strings.Repeat("v", size))}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		say("grows", 600_000)
		out.expect(map[string]int64{"grows": 600_000})
		say("grows", 600_000)
		err := app.wait(t)
		if err == nil {
			t.Fatal("it ended without an error")
		}
		for _, part := range []string{`store "joined"`, `key "grows"`, "1200005 bytes", "kgo.ProducerBatchMaxBytes", "max.message.bytes", b.app + "-joined-changelog", "Config.OnError"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the error does not say %s: %v", part, err)
			}
		}
		phases := make(chan string, 10)
		cfg := b.config("a")
		cfg.OnError = func(_ context.Context, e *streams.RecordError) streams.Decision {
			phases <- string(e.Phase) + " " + e.Store + " " + string(e.Key)
			return streams.Skip()
		}
		app = b.run(topology(), cfg, nil)
		say("small", 5)
		out.expect(map[string]int64{"grows": 600_000, "small": 5})
		if p := <-phases; p != "produce joined grows" {
			t.Errorf("the policy was asked about %q", p)
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}
