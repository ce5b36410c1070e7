package streams_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/twmb/franz-go/pkg/kgo"
)

// network is all sub-topologies of one partition, in one goroutine: what one sends to a topic that another reads is given
// to it, what nobody reads is dropped. A join by a foreign key needs it, whose two sides lie in different sub-topologies.
type network struct {
	tb      testing.TB
	db      *state.DB
	slab    engine.Slab
	tasks   []*engine.Task
	readers map[string]int // topic to task
	waiting [][]*kgo.Record
	offsets map[string]int64
}

func newNetwork(tb testing.TB, b *streams.Builder) *network {
	tb.Helper()
	topology, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	db, err := state.Open(state.Options{Dir: "state", FS: vfs.NewMem()})
	if err != nil {
		tb.Fatal(err)
	}
	plan := topology.Engine()
	n := &network{tb: tb, db: db, readers: map[string]int{}, offsets: map[string]int64{}, waiting: make([][]*kgo.Record, len(plan.Subs))}
	env := &engine.Env{AppID: "bench", DB: db, Slab: &n.slab, Send: n.send, Partitions: func(string) int32 { return 1 }}
	for i, sub := range plan.Subs {
		task, err := engine.NewTask(plan, sub, 0, env)
		if err == nil {
			err = task.Start()
		}
		if err != nil {
			tb.Fatal(err)
		}
		n.tasks = append(n.tasks, task)
		for _, src := range sub.Sources {
			for _, topic := range src.Topics {
				n.readers[topic.In("bench")] = i
			}
		}
	}
	tb.Cleanup(func() {
		for _, t := range n.tasks {
			if err := t.Close(); err != nil {
				tb.Error(err)
			}
		}
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return n
}

func (n *network) send(r *kgo.Record) {
	if to, ok := n.readers[r.Topic]; ok {
		r.Partition, r.Offset = 0, n.offsets[r.Topic]
		n.offsets[r.Topic]++
		n.waiting[to] = append(n.waiting[to], r)
	}
}

// pass processes records until nobody has any left, and commits.
func (n *network) pass(topic string, recs []*kgo.Record) {
	n.process(n.readers[topic], topic, recs)
	for busy := true; busy; {
		busy = false
		for i, recs := range n.waiting {
			if n.waiting[i] = nil; len(recs) > 0 {
				busy = true
				for len(recs) > 0 { // runs of one topic
					run := 1
					for run < len(recs) && recs[run].Topic == recs[0].Topic {
						run++
					}
					n.process(i, recs[0].Topic, recs[:run])
					recs = recs[run:]
				}
			}
		}
	}
	batch := n.db.NewBatch()
	for _, t := range n.tasks {
		t.Seal(batch, func(string) state.Position { return state.Position{} })
	}
	batch.Apply()
	n.slab.Reset()
}

func (n *network) process(task int, topic string, recs []*kgo.Record) {
	n.tb.Helper()
	t := n.tasks[task]
	t.Enqueue(topic, 0, recs)
	if got, err := t.Process(len(recs)); err != nil || got != len(recs) {
		n.tb.Fatalf("processed %d of %d records of %s: %v", got, len(recs), topic, err)
	}
	if err := t.Flush(func(state.Store, []byte, []byte, int64) error { return nil }); err != nil {
		n.tb.Fatal(err)
	}
}

// BenchmarkForeignJoin gives the cost of an update of either side: the left one goes to the right side and back, the right
// one to the ten rows that refer to it. 10,000 rows on the left, 1,000 on the right, a commit every 10,000 updates.
func BenchmarkForeignJoin(b *testing.B) {
	for _, side := range []string{"left", "right"} {
		b.Run(side, func(b *testing.B) {
			var sb streams.Builder
			left := sb.Table(streams.Topic[int64, int64]{Name: "left", Key: benchInt.Key, Value: benchInt.Value}, streams.Store[int64, int64]{Name: "l"})
			right := sb.Table(streams.Topic[int64, int64]{Name: "right", Key: benchInt.Key, Value: benchInt.Value}, streams.Store[int64, int64]{Name: "r"})
			left.JoinForeign("j", right, func(k, _ int64) (int64, bool) { return k % 1000, true },
				func(_, l, r int64) (int64, error) { return l + r, nil }).ToStream().To(benchSum)
			n := newNetwork(b, &sb)
			version := int64(0)
			update := func(topic string, rows, count int) {
				version++
				recs := make([]*kgo.Record, count)
				for i := range recs {
					recs[i] = &kgo.Record{Topic: topic, Key: binary.BigEndian.AppendUint64(nil, uint64(i%rows)),
						Value: binary.BigEndian.AppendUint64(nil, uint64(version)), Offset: n.offsets[topic], Timestamp: time.UnixMilli(version)}
					n.offsets[topic]++
				}
				b.StartTimer()
				n.pass(topic, recs)
				b.StopTimer()
			}
			b.StopTimer()
			update("right", 1000, 1000)
			update("left", 10_000, 10_000)
			rows := map[string]int{"left": 10_000, "right": 1000}[side]
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += 10_000 {
				update(side, rows, min(10_000, b.N-done))
			}
		})
	}
}

var commitJoins = []struct {
	name  string
	build func(s *benchStream)
}{
	{"tables, inner", func(s *benchStream) {
		l, r := s.ToTable(streams.Store[int64, int64]{Name: "l"}), s.GroupByKey().Count(streams.Store[int64, int64]{Name: "r"})
		l.Join(r, func(_, l, r int64) (int64, error) { return l + r, nil }).ToStream().To(benchSum)
	}},
	{"tables, outer", func(s *benchStream) {
		l, r := s.ToTable(streams.Store[int64, int64]{Name: "l"}), s.GroupByKey().Count(streams.Store[int64, int64]{Name: "r"})
		l.OuterJoin(r, func(_ int64, l, r *int64) (int64, error) { return *l, nil }).ToStream().To(benchSum)
	}},
	{"streams, inner, one match", func(s *benchStream) {
		s.Join("j", s.MapValues(func(_, v int64) (int64, error) { return v, nil }), streams.Within(time.Millisecond),
			func(_, l, r int64) (int64, error) { return l + r, nil }).To(benchSum)
	}},
	{"streams, outer, no match", func(s *benchStream) {
		even, odd := s.Filter(func(_, v int64) bool { return v%2 == 0 }), s.Filter(func(_, v int64) bool { return v%2 == 1 })
		even.OuterJoin("j", odd, streams.Within(time.Millisecond), func(_ int64, l, r *int64) (int64, error) { return 0, nil }).To(benchSum)
	}},
}

// BenchmarkJoins gives the cost of a record through both sides of a join, with a commit every 10,000: 1,000 keys, 100
// records to the millisecond.
func BenchmarkJoins(b *testing.B) {
	for _, j := range commitJoins {
		b.Run(j.name, func(b *testing.B) { benchOperator(b, 1000, j.build) })
	}
}
