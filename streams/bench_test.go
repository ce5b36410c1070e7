package streams_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	benchIn  = streams.Topic[[]byte, []byte]{Name: "in", Key: rawBytes{}, Value: rawBytes{}}
	benchOut = streams.Topic[[]byte, []byte]{Name: "out", Key: rawBytes{}, Value: rawBytes{}}
	benchInt = streams.Topic[int64, int64]{Name: "in", Key: serde.Int64, Value: serde.Int64}
	benchSum = streams.Topic[int64, int64]{Name: "out", Key: serde.Int64, Value: serde.Int64}
)

// rawBytes passes bytes through without a copy, so that the benchmark measures the engine.
type rawBytes struct{}

func (rawBytes) NullAware() bool { return true }
func (rawBytes) Append(dst []byte, _ serde.Place, v []byte) ([]byte, error) {
	return append(dst, v...), nil
}
func (rawBytes) Decode(_ serde.Place, data []byte) ([]byte, error) { return data, nil }

// benchTask opens the first task of a topology with a producer that drops everything at once.
func benchTask(tb testing.TB, b *streams.Builder) (*engine.Task, *engine.Slab) {
	tb.Helper()
	topology, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	db, err := state.Open(state.Options{Dir: "state", FS: vfs.NewMem()})
	if err != nil {
		tb.Fatal(err)
	}
	pool, slab := new(engine.RecordPool), new(engine.Slab)
	plan := topology.Engine()
	env := &engine.Env{AppID: "bench", DB: db, Records: pool, Slab: slab, Send: pool.Put,
		Partitions: func(string) int32 { return 4 }}
	task, err := engine.NewTask(plan, plan.Subs[0], 0, env)
	if err != nil {
		tb.Fatal(err)
	}
	if err := task.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for _, s := range task.Stores() {
			if err := s.Close(); err != nil {
				tb.Error(err)
			}
		}
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return task, slab
}

// feed passes n records through the task in polls of 1,000, as fast as it takes them.
func feed(tb testing.TB, task *engine.Task, slab *engine.Slab, n int, record func(i int) (key, value []byte)) {
	tb.Helper()
	const poll = 1000
	recs := make([]*kgo.Record, poll)
	for i := range recs {
		k, v := record(i)
		recs[i] = &kgo.Record{Topic: "in", Key: k, Value: v, Timestamp: time.UnixMilli(int64(i))}
	}
	batch := make([]*kgo.Record, poll)
	for done := 0; done < n; done += poll {
		size := min(poll, n-done)
		copy(batch, recs)
		task.Enqueue("in", 0, batch[:size])
		if got, err := task.Process(size); err != nil || got != size {
			tb.Fatalf("processed %d of %d: %v", got, size, err)
		}
		slab.Reset()
	}
}

func eightAndNinetyTwo(i int) (key, value []byte) {
	key, _ = serde.Int64.Append([]byte{}, serde.Place{}, int64(i))
	return key, make([]byte, 92)
}

// BenchmarkFusedOperators gives the cost of a record through a source, n operators and a sink. Target (P2): each further
// operator at most 25 ns and no allocation.
func BenchmarkFusedOperators(b *testing.B) {
	keep := func(_, v []byte) bool { return len(v) > 0 }
	same := func(_, v []byte) ([]byte, error) { return v, nil }
	for _, n := range []int{0, 1, 11} {
		b.Run(fmt.Sprintf("operators=%d", n), func(b *testing.B) {
			var sb streams.Builder
			s := sb.Stream(benchIn)
			for i := range n {
				if i%2 == 0 {
					s = s.Filter(keep)
				} else {
					s = s.MapValues(same)
				}
			}
			s.To(benchOut)
			task, slab := benchTask(b, &sb)
			feed(b, task, slab, 1000, eightAndNinetyTwo)
			b.ReportAllocs()
			b.ResetTimer()
			feed(b, task, slab, b.N, eightAndNinetyTwo)
		})
	}
}

// BenchmarkEachOperator gives the cost of one operator of each kind, a source and a sink included.
func BenchmarkEachOperator(b *testing.B) {
	type stream = streams.KStream[int64, int64]
	for _, c := range []struct {
		name string
		op   func(s *stream) *stream
	}{
		{"none", func(s *stream) *stream { return s }},
		{"Filter", func(s *stream) *stream { return s.Filter(func(_, v int64) bool { return v >= 0 }) }},
		{"Map", func(s *stream) *stream {
			return s.Map(func(k, v int64) (int64, int64, error) { return v, k, nil })
		}},
		{"MapValues", func(s *stream) *stream {
			return s.MapValues(func(_, v int64) (int64, error) { return v + 1, nil })
		}},
		{"SelectKey", func(s *stream) *stream { return s.SelectKey(func(_, v int64) int64 { return v }) }},
		{"FlatMap", func(s *stream) *stream {
			return s.FlatMap(func(k, v int64, emit func(int64, int64)) error { emit(k, v); return nil })
		}},
		{"Peek", func(s *stream) *stream { return s.Peek(func(_, _ int64) {}) }},
		{"Merge", func(s *stream) *stream { return s.Merge(s.Filter(func(_, _ int64) bool { return false })) }},
		{"Split", func(s *stream) *stream {
			sp := s.Split()
			sp.Branch(func(_, v int64) bool { return v < 0 })
			return sp.Default()
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var sb streams.Builder
			c.op(sb.Stream(benchInt)).To(benchSum)
			task, slab := benchTask(b, &sb)
			feed(b, task, slab, 1000, int64s)
			b.ReportAllocs()
			b.ResetTimer()
			feed(b, task, slab, b.N, int64s)
		})
	}
}

func int64s(i int) (key, value []byte) {
	key, _ = serde.Int64.Append([]byte{}, serde.Place{}, int64(i))
	return key, key
}

// BenchmarkCount gives the cost of a record through a count by key, between commits.
func BenchmarkCount(b *testing.B) {
	var sb streams.Builder
	sb.Stream(benchInt).GroupByKey().Count(streams.Store[int64, int64]{Name: "n"}).To(benchSum)
	task, slab := benchTask(b, &sb)
	feed(b, task, slab, 1000, int64s)
	b.ReportAllocs()
	b.ResetTimer()
	feed(b, task, slab, b.N, int64s)
}

// BenchmarkWindowedCount is BenchmarkCount in tumbling windows.
func BenchmarkWindowedCount(b *testing.B) {
	var sb streams.Builder
	sb.Stream(benchInt).GroupByKey().WindowedBy(streams.Tumbling(time.Minute)).Count(streams.WindowStore[int64, int64]{Name: "n"}).
		To(streams.Topic[streams.Windowed[int64], int64]{Name: "out", Key: serde.Windowed(serde.Int64, time.Minute)})
	task, slab := benchTask(b, &sb)
	feed(b, task, slab, 1000, int64s)
	b.ReportAllocs()
	b.ResetTimer()
	feed(b, task, slab, b.N, int64s)
}

// P2, and the aggregates on top of it: a record allocates nothing, between commits, on its way through fused operators, a
// count and a windowed count.
func TestRecordsDoNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("allocations cannot be counted under the race detector")
	}
	for name, build := range map[string]func(b *streams.Builder){
		"stateless": func(b *streams.Builder) {
			b.Stream(benchIn).Filter(func(_, v []byte) bool { return len(v) > 0 }).
				MapValues(func(_, v []byte) ([]byte, error) { return v, nil }).
				Map(func(k, v []byte) ([]byte, []byte, error) { return k, v, nil }).
				FlatMap(func(k, v []byte, emit func(k, v []byte)) error { emit(k, v); return nil }).To(benchOut)
		},
		"fan-out": func(b *streams.Builder) {
			s := b.Stream(benchIn).Peek(func(_, _ []byte) {})
			s.To(benchOut)
			sp := s.Split()
			sp.Branch(func(_, v []byte) bool { return len(v) == 0 })
			sp.Default().SelectKey(func(_, v []byte) []byte { return v }).To(streams.Topic[[]byte, []byte]{Name: "out2", Key: rawBytes{}, Value: rawBytes{}})
		},
		"count": func(b *streams.Builder) {
			b.Stream(benchInt).GroupByKey().Count(streams.Store[int64, int64]{Name: "n"}).To(benchSum)
		},
		"windowed count": func(b *streams.Builder) {
			b.Stream(benchInt).GroupByKey().WindowedBy(streams.Tumbling(time.Hour)).Count(streams.WindowStore[int64, int64]{Name: "n"})
		},
		"join": func(b *streams.Builder) {
			s := b.Stream(benchInt)
			n := s.GroupByKey().Count(streams.Store[int64, int64]{Name: "n"})
			s.JoinTable(n, func(_, v, n int64) (int64, error) { return v + n, nil }).To(benchSum)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b streams.Builder
			build(&b)
			record := eightAndNinetyTwo
			if name != "stateless" && name != "fan-out" {
				record = int64s
			}
			task, slab := benchTask(t, &b)
			feed(t, task, slab, 5000, record)
			recs := make([]*kgo.Record, 1000)
			for i := range recs {
				k, v := record(i)
				recs[i] = &kgo.Record{Topic: "in", Key: k, Value: v, Timestamp: time.UnixMilli(int64(i))}
			}
			batch := make([]*kgo.Record, len(recs))
			allocs := testing.AllocsPerRun(20, func() {
				copy(batch, recs)
				task.Enqueue("in", 0, batch)
				if n, err := task.Process(len(batch)); n != len(batch) || err != nil {
					t.Fatal(n, err)
				}
				slab.Reset()
			})
			if allocs > 10 { // per thousand records; a pool may be emptied by the collector in between
				t.Errorf("%v allocations for 1,000 records, want none", allocs)
			}
		})
	}
}

// BenchmarkCommit gives the cost per row of the flush of a count with 50,000 changed rows, each of which is logged and
// passed on to a sink.
func BenchmarkCommit(b *testing.B) {
	const rows = 50_000
	var sb streams.Builder
	sb.Stream(benchInt).GroupByKey().Count(streams.Store[int64, int64]{Name: "n"}).ToStream().To(benchSum)
	task, slab := benchTask(b, &sb)
	recs := make([]*kgo.Record, rows)
	for i := range recs {
		k, v := int64s(i * 7919 % rows)
		recs[i] = &kgo.Record{Topic: "in", Key: k, Value: v, Timestamp: time.UnixMilli(int64(i))}
	}
	batch, logged := make([]*kgo.Record, rows), 0
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += rows {
		b.StopTimer()
		copy(batch, recs)
		task.Enqueue("in", 0, batch)
		if _, err := task.Process(rows); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := task.Flush(func(state.Store, []byte, []byte, int64) error { logged++; return nil }); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		batch := task.Env().DB.NewBatch()
		task.Seal(batch, func(string) state.Position { return state.Position{} })
		batch.Apply()
		slab.Reset()
		b.StartTimer()
	}
	if logged == 0 {
		b.Fatal("nothing was logged")
	}
}
