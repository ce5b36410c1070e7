package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	lines = streams.Topic[string, string]{Name: "lines"}
	words = streams.Topic[string, int64]{Name: "words"}
)

// wordCount is two sub-topologies and a repartition topic between them; the second has state.
func wordCount() (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(lines).
		FlatMapValues(func(_, line string) ([]string, error) { return strings.Fields(line), nil }).
		GroupBy(func(_, word string) string { return word }).
		Count(streams.Store[string, int64]{Name: "counts"}).
		ToStream().
		To(words)
	return b.Build()
}

func say(f *cluster.Feed) {
	for i := range 300 {
		var line []string
		for range 1 + f.Rand.IntN(4) {
			line = append(line, fmt.Sprint("w", f.Rand.IntN(40)))
		}
		f.Send(lines, fmt.Sprint(i), strings.Join(line, " "))
	}
}

func wordsOf(_, line string) []string { return strings.Fields(line) }

func TestWordCountIsExact(t *testing.T) {
	cluster.Test(t, cluster.Scenario{
		Topology: wordCount,
		Topics:   map[string]int{"lines": 3, "words": 3},
		Input:    say,
		Check:    cluster.Rising(words, cluster.Tally(lines, wordsOf)),
	})
}

// A copy of the state is kept, two workers share an instance, and the application is idle most of the time.
func TestWordCountWithStandbysIsExact(t *testing.T) {
	cluster.Test(t, cluster.Scenario{
		Topology: wordCount,
		Topics:   map[string]int{"lines": 4, "words": 1},
		Input:    say,
		Check:    cluster.Rising(words, cluster.Tally(lines, wordsOf)),
		Config:   streams.Config{Standbys: 1, Workers: 2, AcceptableLag: 1, LeaveOnStop: true},
	})
}

func TestWithoutStateEachRecordIsThereOnce(t *testing.T) {
	upper := streams.Topic[string, string]{Name: "upper"}
	cluster.Test(t, cluster.Scenario{
		Topology: func() (*streams.Topology, error) {
			var b streams.Builder
			b.Stream(lines).MapValues(func(k, v string) (string, error) { return k + " " + strings.ToUpper(v), nil }).To(upper)
			return b.Build()
		},
		Topics: map[string]int{"lines": 3, "upper": 2},
		Input:  say,
		Check: cluster.Each(upper, func(o *cluster.Outcome) ([]streams.Record[string, string], error) {
			in, err := o.Read(lines)
			for i, r := range in {
				in[i].Value = r.Key + " " + strings.ToUpper(r.Value)
			}
			return in, err
		}),
	})
}

// At least once nothing is lost; a count may run ahead.
func TestAtLeastOnceLosesNothing(t *testing.T) {
	cluster.Test(t, cluster.Scenario{
		Topology: wordCount,
		Topics:   map[string]int{"lines": 3, "words": 3},
		Input:    say,
		Config:   streams.Config{Guarantee: streams.AtLeastOnce},
		Check: func(o *cluster.Outcome) error {
			want, err := cluster.Tally(lines, wordsOf)(o)
			if err != nil {
				return err
			}
			out, err := o.Read(words)
			got := map[string]int64{}
			for _, r := range out {
				got[r.Key] = max(got[r.Key], r.Value)
			}
			for w, n := range want {
				if got[w] < n {
					return fmt.Errorf("%s was counted to %d, and came %d times", w, got[w], n)
				}
			}
			return err
		},
	})
}

type order struct {
	Customer string
	Cents    int64
}

// A stream that meets a table, another key, a window over all of the run: the last values equal those of a run without a
// cluster.
func TestJoinAndWindowEqualTheOracle(t *testing.T) {
	orders := streams.Topic[string, order]{Name: "orders", Value: serde.JSON[order]()}
	sums := streams.Topic[string, int64]{Name: "sums"}
	topology := func() (*streams.Topology, error) {
		var b streams.Builder
		customers := b.Table(streams.Topic[string, string]{Name: "customers"}, streams.Store[string, string]{Name: "customers"})
		b.Stream(orders).
			SelectKey(func(_ string, o order) string { return o.Customer }).
			LeftJoinTable(customers, func(_ string, o order, _ *string) (int64, error) { return o.Cents, nil }, streams.TableJoin{Name: "with-customer"}).
			GroupByKey().
			WindowedBy(streams.Tumbling(24*time.Hour)).
			Reduce(streams.WindowStore[string, int64]{Name: "sold"}, func(a, b int64) (int64, error) { return a + b, nil }).
			ToStream(func(w streams.Windowed[string]) string { return w.Key }).
			To(sums)
		return b.Build()
	}
	cluster.Test(t, cluster.Scenario{
		Topology: topology,
		Topics:   map[string]int{"orders": 3, "customers": 2, "sums": 2},
		Input: func(f *cluster.Feed) {
			for i := range 200 {
				c := fmt.Sprint("c", f.Rand.IntN(20))
				if f.Rand.IntN(5) == 0 {
					f.Send(streams.Topic[string, string]{Name: "customers"}, c, fmt.Sprint("Ada ", i))
				}
				f.Send(orders, fmt.Sprint("o", i), order{c, 1 + f.Rand.Int64N(100)})
			}
		},
		Check: cluster.Rising(sums, cluster.Oracle(topology, sums, "orders", "customers")),
	})
}
