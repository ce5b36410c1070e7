package streamstest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	lines  = streams.Topic[string, string]{Name: "lines", Key: serde.String, Value: serde.String}
	counts = streams.Topic[string, int64]{Name: "counts", Key: serde.String, Value: serde.Int64}
	words  = streams.Store[string, int64]{Name: "words", Key: serde.String, Value: serde.Int64}
)

func wordCount(t testing.TB) *streams.Topology {
	t.Helper()
	var b streams.Builder
	b.Stream(lines).
		FlatMapValues(func(_, line string) ([]string, error) { return strings.Fields(strings.ToLower(line)), nil }).
		GroupBy(func(_, word string) string { return word }).
		Count(words).
		ToStream().
		To(counts)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

func TestWordCountCountsEveryWord(t *testing.T) {
	d := streamstest.New(t, wordCount(t))
	at := time.UnixMilli(5).UTC()
	d.Send(lines, "", "Hello world hello", streamstest.At(at))
	want := []streams.Record[string, int64]{{Key: "hello", Value: 1, Time: at}, {Key: "world", Value: 1, Time: at}, {Key: "hello", Value: 2, Time: at}}
	if diff := cmp.Diff(want, d.Read(counts)); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if n, ok := d.Store(words).Get("hello"); n != 2 || !ok {
		t.Errorf("store has hello = %d, %v; want 2", n, ok)
	}
}

func TestTogetherPassesOnTheLastUpdateOfEachKey(t *testing.T) {
	d := streamstest.New(t, wordCount(t))
	d.SetPartitions("lines", 3)
	d.Together(func() {
		for range 100 {
			d.Send(lines, "", "a b a")
			d.Send(lines, "x", "c")
		}
	})
	got := map[string]int64{}
	for _, r := range d.Read(counts) {
		if _, twice := got[r.Key]; twice {
			t.Errorf("%q was passed on twice in one commit", r.Key)
		}
		got[r.Key] = r.Value
	}
	if diff := cmp.Diff(map[string]int64{"a": 200, "b": 100, "c": 100}, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
