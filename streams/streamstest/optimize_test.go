package streamstest_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// optimizedOtherShape lists topologies that the optimisation gives another shape than Kafka's.
var optimizedOtherShape = map[string]string{}

// TestDescribeOptimizedEqualsKafkas compares, to the byte, what Builder.Optimize makes of each recorded topology with what
// topology.optimization=all made of it; for most that is nothing.
func TestDescribeOptimizedEqualsKafkas(t *testing.T) {
	for _, top := range readLines[vectorTopology](t, filepath.Join(vectorsDir(), "topologies.jsonl")) {
		build := vectorTopologies[top.Name]
		if build == nil || otherShape[top.Name] != "" {
			continue
		}
		want := top.DescribeOptimized
		if want == "" {
			want = top.Describe
		}
		_, topology := buildVector(t, func(x *vector) { x.Optimize = true; build(x) })
		diff := cmp.Diff(want, topology.Describe())
		if why := optimizedOtherShape[top.Name]; why != "" {
			if diff == "" {
				t.Errorf("%s is equal to Kafka's text: take it off the list (%s)", top.Name, why)
			}
			continue
		}
		if diff != "" {
			t.Errorf("%s (-Kafka +Leat):\n%s", top.Name, diff)
		}
	}
}

// TestOptimizedVectors runs the recorded scenarios of the topologies that the optimisation changes: results are the same.
func TestOptimizedVectors(t *testing.T) {
	for _, top := range readLines[vectorTopology](t, filepath.Join(vectorsDir(), "topologies.jsonl")) {
		build := vectorTopologies[top.Name]
		if top.DescribeOptimized == "" || build == nil {
			continue
		}
		for _, sc := range readLines[vectorScenario](t, filepath.Join(vectorsDir(), "scenarios", top.Name+".jsonl")) {
			t.Run(top.Name+"/"+sc.Scenario, func(t *testing.T) {
				runScenario(t, top, sc, func(x *vector) { x.Optimize = true; build(x) })
			})
		}
	}
}

// rekeyedThrice groups one rekeyed stream three times: by itself, behind a filter twice, and joins it with one of the
// counts.
func rekeyedThrice(optimize bool) (*streams.Topology, error) {
	b := streams.Builder{Optimize: optimize}
	s := b.Stream(streams.Topic[string, int64]{Name: "in"}).SelectKey(func(k string, _ int64) string { return k[:1] })
	odd := s.Filter(func(_ string, v int64) bool { return v%2 == 1 })
	all := s.GroupByKey().Count(streams.Store[string, int64]{Name: "all"})
	odds := odd.GroupByKey().Count(streams.Store[string, int64]{Name: "odds"})
	odd.GroupByKey().Reduce(streams.Store[string, int64]{Name: "sum"}, func(a, b int64) (int64, error) { return a + b, nil }).
		ToStream().To(streams.Topic[string, int64]{Name: "sums"})
	s.JoinTable(odds, func(_ string, v, n int64) (int64, error) { return v + 1000*n, nil }, streams.TableJoin{Name: "j"}).
		To(streams.Topic[string, int64]{Name: "joined"})
	all.ToStream().To(streams.Topic[string, int64]{Name: "alls"})
	s.Peek(func(string, int64) {}).To(streams.Topic[string, int64]{Name: "out"}) // no repartition: stays before the topic
	return b.Build()
}

// One repartition topic takes the place of four, and every result is the same.
func TestMergedRepartitionsGiveTheSameResults(t *testing.T) {
	run := func(optimize bool) (topics []string, results string) {
		topology, err := rekeyedThrice(optimize)
		if err != nil {
			t.Fatal(err)
		}
		d := streamstest.New(t, topology)
		d.SetPartitions("in", 4)
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			d.Send(streams.Topic[string, int64]{Name: "in"}, fmt.Sprintf("%c%d", 'a'+rnd.IntN(5), rnd.IntN(9)), rnd.Int64N(100))
		}
		for _, name := range []string{"alls", "sums", "joined", "out"} {
			perKey := map[string][]int64{}
			for _, r := range d.Read(streams.Topic[string, int64]{Name: name}) {
				perKey[r.Key] = append(perKey[r.Key], r.Value)
			}
			if name == "joined" { // which count a record meets is a matter of two repartition topics, or of one
				for k, v := range perKey {
					perKey[k] = []int64{int64(len(v))}
				}
			}
			results += fmt.Sprintln(name, perKey)
		}
		for line := range strings.SplitSeq(topology.Describe(), "\n") {
			if _, topic, ok := strings.Cut(line, "Sink: "); ok && strings.Contains(topic, "-repartition") {
				topics = append(topics, topic)
			}
		}
		return topics, results
	}
	many, want := run(false)
	one, got := run(true)
	if len(many) != 4 || len(one) != 1 || !strings.Contains(one[0], "all-repartition") {
		t.Errorf("repartition topics: %q without the optimisation, %q with it; want four, and that of the first", many, one)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-as wired +optimized):\n%s", diff)
	}
}

// Repartitions that do not carry the same records, or are the user's own, stay.
func TestWhatIsNotMerged(t *testing.T) {
	for name, build := range map[string]func(s *streams.KStream[string, int64]){
		"a value was changed in between": func(s *streams.KStream[string, int64]) {
			s.GroupByKey().Count(streams.Store[string, int64]{Name: "a"})
			s.MapValues(func(_ string, v int64) (int64, error) { return v + 1, nil }).GroupByKey().Count(streams.Store[string, int64]{Name: "b"})
		},
		"the user asked for it": func(s *streams.KStream[string, int64]) {
			s.GroupByKey().Count(streams.Store[string, int64]{Name: "a"})
			s.Repartition(streams.Topic[string, int64]{Name: "own", Partitions: 3}).To(streams.Topic[string, int64]{Name: "out"})
		},
		"other keys": func(s *streams.KStream[string, int64]) {
			s.GroupBy(func(k string, _ int64) string { return k }).Count(streams.Store[string, int64]{Name: "a"})
			s.GroupBy(func(k string, _ int64) string { return k + "!" }).Count(streams.Store[string, int64]{Name: "b"})
		},
	} {
		b := streams.Builder{Optimize: true}
		build(b.Stream(streams.Topic[string, int64]{Name: "in"}).SelectKey(func(k string, _ int64) string { return k }))
		topology, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(topology.Engine().Repartitions); n != 2 {
			t.Errorf("%s: %d repartition topics, want 2", name, n)
		}
	}
}
