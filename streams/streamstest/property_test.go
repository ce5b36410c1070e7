package streamstest_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// A random topology is a list of numbered operators. It is built twice: as a topology, and as a model, which is nothing but
// lists and maps. Aggregates do not mind the order of records, since that is not given over several partitions.

type numbered struct{ kind, a int64 }

type randomTopology struct {
	stream []numbered
	fold   numbered
	table  []numbered
}

func randomised(r *rand.Rand) randomTopology {
	var t randomTopology
	for range r.IntN(5) {
		t.stream = append(t.stream, numbered{r.Int64N(8), 1 + r.Int64N(5)})
	}
	t.fold = numbered{r.Int64N(4), 1 + r.Int64N(5)}
	for range r.IntN(4) {
		t.table = append(t.table, numbered{r.Int64N(4), 1 + r.Int64N(5)})
	}
	return t
}

// joins reports whether two tables meet: then records of equal times may meet in either order.
func (t randomTopology) joins() bool {
	return slices.ContainsFunc(t.table, func(n numbered) bool { return n.kind == 3 })
}

type intRecord struct {
	k string
	v int64
}

func (n numbered) keeps(v int64) bool { return (v+n.a)%3 != 0 }
func (n numbered) key(v int64) string { return fmt.Sprintf("k%d", ((v%n.a)+n.a)%n.a) }

type intStream = streams.KStream[string, int64]

// onStream adds the operator to a stream.
func (n numbered) onStream(s *intStream, name string) *intStream {
	plus := func(_ string, v int64) (int64, error) { return v + n.a, nil }
	switch n.kind {
	case 0:
		return s.Filter(func(_ string, v int64) bool { return n.keeps(v) })
	case 1:
		return s.MapValues(func(_ string, v int64) (int64, error) { return 2*v + n.a, nil })
	case 2:
		return s.SelectKey(func(_ string, v int64) string { return n.key(v) })
	case 3:
		return s.FlatMapValues(func(_ string, v int64) ([]int64, error) { return []int64{v, v + n.a}[:1+(v&1)], nil })
	case 4:
		return s.Map(func(k string, v int64) (string, int64, error) { return "m" + k, v + n.a, nil })
	case 5:
		return s.Filter(func(_ string, v int64) bool { return v%2 == 0 }).Merge(s.FilterNot(func(_ string, v int64) bool { return n.keeps(v) }).MapValues(plus))
	case 6:
		parts := s.Split()
		even := parts.Branch(func(_ string, v int64) bool { return v%2 == 0 })
		return even.MapValues(plus).Merge(parts.Default())
	}
	return s.Repartition(streams.Topic[string, int64]{Name: name})
}

// onRecords is the model of onStream.
func (n numbered) onRecords(in []intRecord) (out []intRecord) {
	for _, r := range in {
		switch n.kind {
		case 0:
			if n.keeps(r.v) {
				out = append(out, r)
			}
		case 1:
			out = append(out, intRecord{r.k, 2*r.v + n.a})
		case 2:
			out = append(out, intRecord{n.key(r.v), r.v})
		case 3:
			if out = append(out, r); r.v&1 == 1 {
				out = append(out, intRecord{r.k, r.v + n.a})
			}
		case 4:
			out = append(out, intRecord{"m" + r.k, r.v + n.a})
		case 5:
			if r.v%2 == 0 {
				out = append(out, r)
			}
			if !n.keeps(r.v) {
				out = append(out, intRecord{r.k, r.v + n.a})
			}
		case 6:
			if r.v%2 == 0 {
				r.v += n.a
			}
			out = append(out, r)
		default:
			out = append(out, r)
		}
	}
	return out
}

// folded is a step of the aggregates; count, sum, maximum, and a sum of products.
func (n numbered) folded(a, v int64, first bool) int64 {
	switch n.kind {
	case 0:
		return a + 1
	case 1:
		return a + v
	case 2:
		if first {
			return v
		}
		return max(a, v)
	}
	return a + n.a*v
}

func (n numbered) onGroups(g *streams.KGroupedStream[string, int64], into streams.Store[string, int64]) *streams.KTable[string, int64] {
	switch n.kind {
	case 0:
		return g.Count(into)
	case 1, 2:
		return g.Reduce(into, func(a, v int64) (int64, error) { return n.folded(a, v, false), nil })
	}
	return g.Aggregate(into, func() int64 { return 0 }, func(_ string, v, a int64) (int64, error) { return n.folded(a, v, false), nil })
}

func (n numbered) onLists(in []intRecord) map[string]int64 {
	out := map[string]int64{}
	for _, r := range in {
		a, ok := out[r.k]
		out[r.k] = n.folded(a, r.v, !ok)
	}
	return out
}

// total is a group of rows; it is gone with its last row.
type total struct{ Sum, N int64 }

func groupOf(k string) string { return k[:min(2, len(k))] }

func joined(l, r *int64) (int64, error) {
	out := int64(-1)
	if l != nil {
		out = 7 * *l
	}
	if r != nil {
		out += *r
	}
	return out, nil
}

type intTable = streams.KTable[string, int64]

// onTable adds the operator to a table; other is a second table to join with.
func (n numbered) onTable(t, other *intTable, name string, noBuffer bool) *intTable {
	switch n.kind {
	case 0:
		return t.Filter(func(_ string, v int64) bool { return n.keeps(v) })
	case 1:
		return t.MapValues(func(_ string, v int64) (int64, error) { return 3*v + n.a, nil })
	case 2:
		store := streams.Store[string, *total]{Name: name, Value: serde.Nullable(serde.JSON[total]()), NoBuffer: noBuffer}
		return t.GroupBy(func(k string, v int64) (string, int64, error) { return groupOf(k), v, nil }).
			Aggregate(store, func() *total { return &total{} },
				func(_ string, v int64, a *total) (*total, error) { return &total{a.Sum + v, a.N + 1}, nil },
				func(_ string, v int64, a *total) (*total, error) {
					if a.N == 1 {
						return nil, nil
					}
					return &total{a.Sum - v, a.N - 1}, nil
				}).
			MapValues(func(_ string, a *total) (int64, error) { return a.Sum, nil })
	}
	store := streams.Store[string, int64]{Name: name, NoBuffer: noBuffer}
	switch n.a % 3 {
	case 0:
		return t.Join(other, func(_ string, l, r int64) (int64, error) { return joined(&l, &r) }, store)
	case 1:
		return t.LeftJoin(other, func(_ string, l int64, r *int64) (int64, error) { return joined(&l, r) }, store)
	}
	return t.OuterJoin(other, func(_ string, l, r *int64) (int64, error) { return joined(l, r) }, store)
}

func (n numbered) onRows(t, other map[string]int64) map[string]int64 {
	out := map[string]int64{}
	switch n.kind {
	case 0:
		for k, v := range t {
			if n.keeps(v) {
				out[k] = v
			}
		}
		return out
	case 1:
		for k, v := range t {
			out[k] = 3*v + n.a
		}
		return out
	case 2:
		for k, v := range t {
			out[groupOf(k)] += v
		}
		return out
	}
	both := maps.Clone(t)
	maps.Copy(both, other)
	for k := range both {
		var l, r *int64
		if v, ok := t[k]; ok {
			l = &v
		}
		if v, ok := other[k]; ok {
			r = &v
		}
		if l == nil && n.a%3 != 2 || r == nil && n.a%3 == 0 {
			continue
		}
		out[k], _ = joined(l, r)
	}
	return out
}

var (
	randomIn    = streams.Topic[string, int64]{Name: "in"}
	randomOut   = streams.Topic[string, *int64]{Name: "out"}
	randomFinal = streams.Store[string, int64]{Name: "final"}
)

func (t randomTopology) build(noBuffer, optimize bool) (*streams.Topology, error) {
	b := streams.Builder{Optimize: optimize}
	s := b.Stream(randomIn)
	for i, n := range t.stream {
		s = n.onStream(s, fmt.Sprint("via", i))
	}
	table := t.fold.onGroups(s.GroupByKey(), streams.Store[string, int64]{Name: "folded", NoBuffer: noBuffer})
	var other *intTable
	if t.joins() {
		other = s.GroupByKey().Count(streams.Store[string, int64]{Name: "other", NoBuffer: noBuffer})
	}
	for i, n := range t.table {
		table = n.onTable(table, other, fmt.Sprint("t", i), noBuffer)
	}
	final := randomFinal
	final.NoBuffer = noBuffer
	table.MapValues(func(_ string, v int64) (int64, error) { return v, nil }, final).To(streams.Topic[string, int64]{Name: "out"})
	return b.Build()
}

func (t randomTopology) model(in []intRecord) map[string]int64 {
	for _, n := range t.stream {
		in = n.onRecords(in)
	}
	table, other := t.fold.onLists(in), numbered{kind: 0}.onLists(in)
	for _, n := range t.table {
		table = n.onRows(table, other)
	}
	return table
}

// run gives the final table and the stream of its changes.
func (t randomTopology) run(tb testing.TB, in []intRecord, partitions int, noBuffer, optimize, crashing bool, seed uint64) (map[string]int64, []string) {
	tb.Helper()
	topology, err := t.build(noBuffer, optimize)
	if err != nil {
		tb.Fatalf("%+v: %v", t, err)
	}
	d := streamstest.New(tb, topology)
	d.SetPartitions("in", partitions)
	d.SetPartitions("out", partitions)
	r, next := rand.New(rand.NewPCG(seed, 3)), 0
	send := func(n int) {
		for ; n > 0 && next < len(in); n-- {
			d.Send(randomIn, in[next].k, in[next].v, streamstest.At(time.UnixMilli(int64(next))))
			next++
		}
	}
	for next < len(in) {
		n := 1 + r.IntN(9)
		switch {
		case crashing && r.IntN(3) == 0:
			d.Crash(func() { send(n) })
		case crashing && r.IntN(6) == 0:
			d.Restart()
		case noBuffer:
			send(n)
		default:
			d.Together(func() { send(n) })
		}
	}
	rows := map[string]int64{}
	for _, row := range d.Store(randomFinal).All() {
		rows[row.Key] = row.Value
	}
	var stream []string
	for _, r := range d.Read(randomOut) {
		stream = append(stream, fmt.Sprintf("%s=%s@%d", r.Key, showInt(r.Value), r.Time.UnixMilli()))
	}
	return rows, stream
}

func showInt(v *int64) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprint(*v)
}

// TestRandomTopologiesEqualTheirModels runs random topologies with and without buffering and optimisation, on 1 and 8
// partitions, with crashes before commits and without: the table in the end is the model's, and without buffers and joins the
// stream of changes is the same, crash or not.
func TestRandomTopologiesEqualTheirModels(t *testing.T) {
	runs := uint64(40)
	if testing.Short() {
		runs = 8
	}
	for seed := range runs {
		r := rand.New(rand.NewPCG(seed, 7))
		topology := randomised(r)
		in := make([]intRecord, 30+r.IntN(60))
		for i := range in {
			in[i] = intRecord{fmt.Sprintf("%c%d", 'a'+r.IntN(3), r.IntN(4)), r.Int64N(50)}
		}
		want := topology.model(in)
		var stream []string
		for _, c := range []struct {
			partitions                   int
			noBuffer, optimize, crashing bool
		}{
			{1, true, false, false}, {1, true, false, true}, {1, false, false, false}, {1, false, true, true},
			{8, true, true, false}, {8, false, false, true},
		} {
			rows, changes := topology.run(t, in, c.partitions, c.noBuffer, c.optimize, c.crashing, seed)
			if diff := cmp.Diff(want, rows); diff != "" {
				t.Fatalf("seed %d, %+v, %+v: the final table (-model +Leat):\n%s", seed, c, topology, diff)
			}
			if c.partitions != 1 || !c.noBuffer || topology.joins() {
				continue
			}
			if stream == nil {
				stream = changes
			} else if diff := cmp.Diff(stream, changes); diff != "" {
				t.Fatalf("seed %d, %+v, %+v: the stream of changes (-without crashes +with):\n%s", seed, c, topology, diff)
			}
		}
	}
}
