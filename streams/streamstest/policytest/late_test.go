package policytest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

func join2(_ string, v, agg string) (string, error) { return agg + v, nil }

func empty() string { return "" }

func merge(_ string, a, b string) (string, error) { return a + b, nil }

// Late records of sessions are a stream of their own, with their times and headers, whatever the results do.
func TestLateRecordsOfSessionsAreAStream(t *testing.T) {
	for _, final := range []bool{false, true} {
		var b streams.Builder
		w := b.Stream(topic{Name: "in"}).GroupByKey().WindowedBySession(streams.Session(10 * time.Second).Grace(5 * time.Second))
		if final {
			w = w.Final()
		}
		w.Late().To(topic{Name: "late"})
		w.Aggregate(streams.SessionStore[string, string]{Name: "s"}, empty, join2, merge)
		d := streamstest.New(t, build(t, &b))
		in := topic{Name: "in"}
		d.Send(in, "k", "a", at(100))
		d.Send(in, "edge", "in time", at(85))
		d.Send(in, "k", "late", at(84), streamstest.Headers(streams.Header{Key: "h", Value: []byte("1")}))
		d.Send(in, "other", "late", at(60))
		got := d.Read(topic{Name: "late"})
		if len(got) != 2 || got[0].Value != "late" || !got[0].Time.Equal(time.Unix(84, 0)) || len(got[0].Headers) != 1 || got[1].Key != "other" {
			t.Errorf("final %t: late records %v", final, got)
		}
		if n := d.Dropped().Late; n != 2 {
			t.Errorf("final %t: %d records were counted as late, want 2", final, n)
		}
	}
}

// Each stream of a cogroup has its own late records.
func TestLateRecordsOfCogroups(t *testing.T) {
	in, numbers := topic{Name: "in"}, streams.Topic[string, int64]{Name: "numbers"}
	for _, sessions := range []bool{false, true} {
		var b streams.Builder
		words, counts := b.Stream(in).GroupByKey(), b.Stream(numbers).GroupByKey()
		group := words.Cogroup(join2).Cogroup(counts, func(_ string, n int64, agg string) (string, error) { return agg + strings.Repeat("#", int(n)), nil })
		if sessions {
			w := group.WindowedBySession(streams.Session(10 * time.Second))
			w.Late(words).To(topic{Name: "late"})
			w.Final().Aggregate(streams.SessionStore[string, string]{Name: "s"}, empty, merge)
			w.Late(counts).MapValues(show).To(topic{Name: "late-numbers"})
		} else {
			w := group.WindowedBy(streams.Tumbling(10 * time.Second))
			w.Late(words).To(topic{Name: "late"})
			w.Final().Aggregate(streams.WindowStore[string, string]{Name: "s"}, empty)
			w.Late(counts).MapValues(show).To(topic{Name: "late-numbers"})
		}
		d := streamstest.New(t, build(t, &b))
		d.Send(in, "k", "a", at(100)) // final results: both streams have this time now
		d.Send(in, "k", "late", at(70))
		d.Send(numbers, "k", 2, at(99))
		d.Send(numbers, "k", 3, at(71))
		if got := values(d, "late"); !slices.Equal(got, []string{"late"}) {
			t.Errorf("sessions %t: late words %v", sessions, got)
		}
		if got, want := values(d, "late-numbers"), map[bool][]string{true: {"3"}, false: {"2", "3"}}[sessions]; !slices.Equal(got, want) {
			t.Errorf("sessions %t: late numbers %v, want %v", sessions, got, want)
		}
	}
}

func TestLateOfWhatIsNotThere(t *testing.T) {
	var b streams.Builder
	words, others := b.Stream(topic{Name: "in"}).GroupByKey(), b.Stream(topic{Name: "others"}).GroupByKey()
	w := words.Cogroup(join2).WindowedBy(streams.Tumbling(time.Second))
	w.Late(others)
	w.Aggregate(streams.WindowStore[string, string]{Name: "s"}, empty)
	b.Stream(topic{Name: "alone"}).GroupByKey().WindowedBySession(streams.Session(time.Second)).Late()
	_, err := b.Build()
	for _, want := range []string{"none of the cogroup's", "nothing aggregates these windows"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// docs/semantics.md 40, 41: a final result has the time of its window's latest record, a session's its end, and no headers; a
// suppressed one is the update that was held back, with its time and headers.
func TestTimesAndHeadersOfFinalResults(t *testing.T) {
	h := streamstest.Headers(streams.Header{Key: "h", Value: []byte("1")})
	key := func(w streams.Windowed[string]) string { return w.Key }
	for _, c := range []struct {
		name    string
		wire    func(g *streams.KGroupedStream[string, string]) *streams.KStream[string, string]
		at      int64
		headers int
	}{
		{"final window", func(g *streams.KGroupedStream[string, string]) *streams.KStream[string, string] {
			return g.WindowedBy(streams.Tumbling(10*time.Second)).Final().
				Aggregate(streams.WindowStore[string, string]{Name: "s"}, empty, join2).ToStream(key)
		}, 3, 0},
		{"final session", func(g *streams.KGroupedStream[string, string]) *streams.KStream[string, string] {
			return g.WindowedBySession(streams.Session(10*time.Second)).Final().
				Aggregate(streams.SessionStore[string, string]{Name: "s"}, empty, join2, merge).ToStream(key)
		}, 3, 0},
		{"suppressed window", func(g *streams.KGroupedStream[string, string]) *streams.KStream[string, string] {
			return g.WindowedBy(streams.Tumbling(10*time.Second)).
				Aggregate(streams.WindowStore[string, string]{Name: "s"}, empty, join2).Suppress(streams.Suppression{Name: "held"}).ToStream(key)
		}, 3, 1},
		{"suppressed table", func(g *streams.KGroupedStream[string, string]) *streams.KStream[string, string] {
			return g.Aggregate(streams.Store[string, string]{Name: "s"}, empty, join2).
				Suppress(streams.Suppression{Name: "held", Wait: 10 * time.Second}).ToStream()
		}, 3, 1},
	} {
		var b streams.Builder
		c.wire(b.Stream(topic{Name: "in"}).GroupByKey()).To(topic{Name: "out"})
		d := streamstest.New(t, build(t, &b))
		d.Send(topic{Name: "in"}, "k", "a", at(3))
		d.Send(topic{Name: "in"}, "k", "b", at(2), h)
		d.Send(topic{Name: "in"}, "other", "c", at(100))
		got := d.Read(topic{Name: "out"})
		if len(got) != 1 || got[0].Value != "ab" || got[0].Time.Unix() != c.at || len(got[0].Headers) != c.headers {
			t.Errorf("%s: got %v, want ab at %d s with %d headers", c.name, got, c.at, c.headers)
		}
	}
}
