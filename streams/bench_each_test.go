package streams_test

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
)

type benchStream = streams.KStream[int64, int64]

// benchEach gives the cost of a record, per case, between commits.
func benchEach(b *testing.B, cases []benchCase) {
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			var sb streams.Builder
			c.build(sb.Stream(benchInt))
			task, slab := benchTask(b, &sb)
			feed(b, task, slab, 1000, int64s)
			b.ReportAllocs()
			b.ResetTimer()
			feed(b, task, slab, b.N, int64s)
		})
	}
}

type benchCase struct {
	name  string
	build func(s *benchStream)
}

// otherOperators are those that BenchmarkEachOperator leaves out.
var otherOperators = []benchCase{
	{"FilterNot", func(s *benchStream) { s.FilterNot(func(_, v int64) bool { return v < 0 }).To(benchSum) }},
	{"MapRecord", func(s *benchStream) {
		s.MapRecord(func(r streams.Record[int64, int64]) (streams.Record[int64, int64], error) { r.Value++; return r, nil }).To(benchSum)
	}},
	{"Process", func(s *benchStream) {
		s.Process("p", func(_ *streams.Task, emit streams.Emit[int64, int64]) (streams.Processor[int64, int64], error) {
			return func(_ context.Context, r streams.Record[int64, int64]) error { return emit(r) }, nil
		}).To(benchSum)
	}},
	{"ProcessValues", func(s *benchStream) {
		s.ProcessValues("p", func(_ *streams.Task, emit streams.Emit[int64, int64]) (streams.Processor[int64, int64], error) {
			return func(_ context.Context, r streams.Record[int64, int64]) error { return emit(r) }, nil
		}).To(benchSum)
	}},
	{"ForEach", func(s *benchStream) { s.ForEach(func(_, _ int64) error { return nil }) }},
	{"to two sinks", func(s *benchStream) {
		s.To(benchSum)
		s.To(streams.Topic[int64, int64]{Name: "out2"})
	}},
}

// BenchmarkOtherOperators goes with BenchmarkEachOperator. Target (P2): under 25 ns more than none, and no allocation.
func BenchmarkOtherOperators(b *testing.B) { benchEach(b, otherOperators) }

func sumOf(a, v int64) (int64, error) { return a + v, nil }

var aggregates = []benchCase{
	{"Count", func(s *benchStream) { s.GroupByKey().Count(streams.Store[int64, int64]{Name: "n"}) }},
	{"Reduce", func(s *benchStream) { s.GroupByKey().Reduce(streams.Store[int64, int64]{Name: "n"}, sumOf) }},
	{"Aggregate", func(s *benchStream) {
		s.GroupByKey().Aggregate(streams.Store[int64, int64]{Name: "n"}, func() int64 { return 0 },
			func(_, v, a int64) (int64, error) { return a + v, nil })
	}},
	{"tumbling Reduce", func(s *benchStream) {
		s.GroupByKey().WindowedBy(streams.Tumbling(time.Hour)).Reduce(streams.WindowStore[int64, int64]{Name: "n"}, sumOf)
	}},
	{"hopping Count, 4 windows", func(s *benchStream) {
		s.GroupByKey().WindowedBy(streams.Hopping(time.Hour, 15*time.Minute)).Count(streams.WindowStore[int64, int64]{Name: "n"})
	}},
	{"ToTable", func(s *benchStream) { s.ToTable(streams.Store[int64, int64]{Name: "n"}) }},
}

// BenchmarkEachAggregate gives the cost of a record through each aggregate, between commits. BenchmarkHandWrittenCount is
// what the store alone takes.
func BenchmarkEachAggregate(b *testing.B) { benchEach(b, aggregates) }

// BenchmarkSessionCount stands apart: sessions allocate.
func BenchmarkSessionCount(b *testing.B) {
	benchEach(b, []benchCase{{"session", func(s *benchStream) {
		s.GroupByKey().WindowedBySession(streams.Session(time.Hour)).Count(streams.SessionStore[int64, int64]{Name: "n"})
	}}})
}

// BenchmarkHandWrittenCount is a loop over the store of a count, without a topology.
func BenchmarkHandWrittenCount(b *testing.B) {
	db, err := state.Open(state.Options{Dir: "state", FS: vfs.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	sh, err := db.Shard("n", 0, state.ShardOptions{})
	if err != nil {
		b.Fatal(err)
	}
	st, err := state.OpenKeyValue(sh, serde.Int64, serde.Int64, state.StoreOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := st.Close(); err != nil {
			b.Error(err)
		}
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		e, err := st.Entry(nil, int64(i%1000))
		if err == nil {
			err = st.Set(e, e.Value+1, int64(i))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

var joins = []benchCase{
	{"JoinTable", func(s *benchStream) {
		n := s.GroupByKey().Count(streams.Store[int64, int64]{Name: "n"})
		s.JoinTable(n, func(_, v, n int64) (int64, error) { return v + n, nil }).To(benchSum)
	}},
	{"LeftJoinTable, no row", func(s *benchStream) {
		n := s.Filter(func(_, _ int64) bool { return false }).GroupByKey().Count(streams.Store[int64, int64]{Name: "n"})
		s.LeftJoinTable(n, func(_, v int64, _ *int64) (int64, error) { return v, nil }).To(benchSum)
	}},
	{"Join of streams", func(s *benchStream) {
		s.Join("j", s.Filter(func(_, v int64) bool { return v < 0 }), streams.Within(time.Second),
			func(_, l, r int64) (int64, error) { return l + r, nil }).To(benchSum)
	}},
}

// BenchmarkEachJoin gives the cost of a record through each join, between commits.
func BenchmarkEachJoin(b *testing.B) { benchEach(b, joins) }

// P2 for the operators and aggregates that TestRecordsDoNotAllocate leaves out.
func TestOtherOperatorsDoNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("allocations cannot be counted under the race detector")
	}
	for _, c := range append(append([]benchCase{}, otherOperators...), aggregates...) {
		t.Run(c.name, func(t *testing.T) {
			var sb streams.Builder
			c.build(sb.Stream(benchInt))
			task, slab := benchTask(t, &sb)
			feed(t, task, slab, 5000, int64s)
			perFeed := testing.AllocsPerRun(20, func() { feed(t, task, slab, 1000, int64s) })
			// feed itself makes 1,000 records, of a key each.
			if perFeed > 2100 {
				t.Errorf("%v allocations for 1,000 records, of which feeding takes 2,000", perFeed)
			}
		})
	}
}
