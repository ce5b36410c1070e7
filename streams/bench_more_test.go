package streams_test

import (
	"context"
	"testing"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
	"github.com/twmb/franz-go/pkg/kgo"
)

// benchOperator feeds records of n keys, each id once, through an operator, with a commit every 10,000.
func benchOperator(b *testing.B, n int64, build func(*streams.KStream[int64, int64])) {
	b.Helper()
	var sb streams.Builder
	build(sb.Stream(benchInt))
	task, slab := benchTask(b, &sb)
	b.Cleanup(func() {
		if err := task.Close(); err != nil {
			b.Error(err)
		}
	})
	const step = 10_000
	recs := make([]*kgo.Record, step)
	key := func(i int64) []byte {
		return []byte{0, 0, byte(i >> 40), byte(i >> 32), byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
	}
	var next int64
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += step {
		b.StopTimer()
		for i := range recs {
			recs[i] = &kgo.Record{Topic: "in", Key: key(next % n), Value: key(next), Offset: next, Timestamp: time.UnixMilli(next / 100)}
			next++
		}
		b.StartTimer()
		task.Enqueue("in", 0, recs)
		for left := step; left > 0; {
			took, err := task.Process(left)
			if err == nil {
				_, err = task.Settle()
			}
			if err != nil {
				b.Fatal(err)
			}
			left -= took
		}
		if err := task.Flush(func(state.Store, []byte, []byte, int64) error { return nil }); err != nil {
			b.Fatal(err)
		}
		batch := task.Env().DB.NewBatch()
		task.Seal(batch, func(string) state.Position { return state.Position{} })
		batch.Apply()
		slab.Reset()
	}
}

func BenchmarkDeduplicate(b *testing.B) {
	benchOperator(b, 1000, func(s *streams.KStream[int64, int64]) {
		ids := streams.WindowStore[string, time.Time]{Name: "ids", Retention: time.Second}
		s.Deduplicate(ids, func(_, v int64) string { return string([]byte{byte(v >> 16), byte(v >> 8), byte(v)}) }).To(benchSum)
	})
}

func BenchmarkMapAsync(b *testing.B) {
	benchOperator(b, 1000, func(s *streams.KStream[int64, int64]) {
		s.MapAsync(streams.Async{Name: "calls"}, func(_ context.Context, _, v int64) (int64, error) { return v, nil }).To(benchSum)
	})
}

func BenchmarkBatch(b *testing.B) {
	benchOperator(b, 1000, func(s *streams.KStream[int64, int64]) {
		streams.Batch(s, "batch", 100, time.Hour).MapValues(func(_ int64, vs []int64) (int64, error) { return int64(len(vs)), nil }).To(benchSum)
	})
}
