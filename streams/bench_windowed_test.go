package streams_test

import (
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
)

type benchGroup = streams.KGroupedStream[int64, int64]

var windowOperators = []struct {
	name  string
	build func(s *benchStream, g *benchGroup)
}{
	{"tumbling", func(_ *benchStream, g *benchGroup) { reduced(g.WindowedBy(streams.Tumbling(time.Second))) }},
	{"tumbling, final", func(_ *benchStream, g *benchGroup) { reduced(g.WindowedBy(streams.Tumbling(time.Second)).Final()) }},
	{"hopping, 4 windows", func(_ *benchStream, g *benchGroup) {
		reduced(g.WindowedBy(streams.Hopping(time.Second, time.Second/4)))
	}},
	{"sliding", func(_ *benchStream, g *benchGroup) { reduced(g.WindowedBy(streams.Sliding(20 * time.Millisecond))) }},
	{"calendar", func(_ *benchStream, g *benchGroup) { reduced(g.WindowedBy(streams.Calendar(streams.Day, nil))) }},
	{"unlimited", func(_ *benchStream, g *benchGroup) {
		reduced(g.WindowedBy(streams.Unlimited(time.UnixMilli(0))))
	}},
	{"custom", func(_ *benchStream, g *benchGroup) {
		reduced(g.WindowedBy(streams.Custom(time.Second, func(at time.Time, add func(start, end time.Time)) {
			start := at.Truncate(time.Second)
			add(start, start.Add(time.Second))
		})))
	}},
	{"session", func(_ *benchStream, g *benchGroup) {
		g.WindowedBySession(streams.Session(5 * time.Millisecond)).Count(streams.SessionStore[int64, int64]{Name: "n"})
	}},
	{"count windows of 10", func(_ *benchStream, g *benchGroup) {
		g.WindowedByCount(streams.CountWindows(10)).Reduce(streams.Store[int64, int64]{Name: "n"}, sumOf).To(benchSum)
	}},
	{"count windows of 10, one every 2", func(_ *benchStream, g *benchGroup) {
		g.WindowedByCount(streams.CountWindows(10).Every(2)).Reduce(streams.Store[int64, int64]{Name: "n"}, sumOf).To(benchSum)
	}},
	{"cogroup, tumbling", func(_ *benchStream, g *benchGroup) {
		g.Cogroup(func(_, v, a int64) (int64, error) { return a + v, nil }).WindowedBy(streams.Tumbling(time.Second)).
			Aggregate(streams.WindowStore[int64, int64]{Name: "n"}, func() int64 { return 0 })
	}},
	{"suppressed", func(_ *benchStream, g *benchGroup) {
		g.Count(streams.Store[int64, int64]{Name: "n"}).Suppress(streams.Suppression{Name: "s", Wait: 50 * time.Millisecond}).To(benchSum)
	}},
	{"table with a time to live", func(s *benchStream, _ *benchGroup) {
		s.ToTable(streams.Store[int64, int64]{Name: "n", TTL: 50 * time.Millisecond})
	}},
	{"table with a bound", func(s *benchStream, _ *benchGroup) {
		s.ToTable(streams.Store[int64, int64]{Name: "n", MaxEntries: 500})
	}},
	{"table of versions", func(s *benchStream, _ *benchGroup) {
		s.ToTable(streams.Store[int64, int64]{Name: "n", Versioned: 50 * time.Millisecond})
	}},
}

func reduced(w *streams.TimeWindowedKStream[int64, int64]) {
	w.Reduce(streams.WindowStore[int64, int64]{Name: "n"}, sumOf)
}

// BenchmarkWindows gives the cost of a record through each windowed aggregate, and each store that forgets, with a commit
// every 10,000: 1,000 keys, 100 records to the millisecond. BenchmarkHandWrittenCount is what a store alone takes.
func BenchmarkWindows(b *testing.B) {
	for _, w := range windowOperators {
		b.Run(w.name, func(b *testing.B) {
			benchOperator(b, 1000, func(s *benchStream) { w.build(s, s.GroupByKey()) })
		})
	}
}
