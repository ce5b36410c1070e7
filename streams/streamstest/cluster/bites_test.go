package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/leatstream/leat/streams"
)

// forgetful counts in memory of its own, which a restart loses: what the checker has to find.
func forgetful() (*streams.Topology, error) {
	in, out := streams.Topic[string, string]{Name: "in"}, streams.Topic[string, int64]{Name: "out"}
	counts := map[string]int64{} // one for each process: its one task alone uses it
	var b streams.Builder
	b.Stream(in).MapValues(func(k, _ string) (int64, error) { counts[k]++; return counts[k], nil }).To(out)
	return b.Build()
}

func TestWhatForgetsIsFound(t *testing.T) {
	out := streams.Topic[string, int64]{Name: "out"}
	s, err := Scenario{
		Topology: forgetful,
		Topics:   map[string]int{"in": 1, "out": 1},
		Input: func(f *Feed) {
			for range 100 {
				f.SendRaw("in", []byte("k"), []byte("v"))
			}
		},
		Check:     Rising(out, Tally(streams.Topic[string, string]{Name: "in"}, func(k, _ string) []string { return []string{k} })),
		Instances: 1,
		Faults:    []Fault{Restart},
		Strikes:   1,
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	w := simulate(t, &s, 1)
	for seed := uint64(2); w.err == nil && seed < 30; seed++ { // a restart before the first record loses nothing
		w = simulate(t, &s, seed)
	}
	if w.err == nil {
		t.Fatalf("nothing is wrong with an application that forgets:\n%s", w.trace)
	}
	for _, want := range []string{"restart is armed for instance a", "instance a: stopped", "instance a: starts", "everything is processed"} {
		if !strings.Contains(w.trace.String(), want) {
			t.Errorf("the trace does not say %q:\n%s", want, w.trace)
		}
	}
}

func TestASeedFixesInputAndFaults(t *testing.T) {
	s, err := Scenario{Topology: forgetful, Topics: map[string]int{"in": 1}, Input: func(*Feed) {}, Check: Every()}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[Fault]bool{}
	for seed := range uint64(50) {
		a, b := draw(&s, source(seed, 1)), draw(&s, source(seed, 1))
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Fatalf("seed %d: %v, then %v", seed, a, b)
		}
		for _, k := range a {
			kinds[k.kind] = true
		}
	}
	if len(kinds) != len(All) {
		t.Errorf("50 seeds draw %d kinds of faults, want %d", len(kinds), len(All))
	}
}

func TestScenarioNamesWhatIsMissing(t *testing.T) {
	for _, s := range []Scenario{{}, {Topology: forgetful}, {Topology: forgetful, Topics: map[string]int{"in": 1}}, {Topology: forgetful, Topics: map[string]int{"in": 1}, Input: func(*Feed) {}}} {
		if _, err := s.withDefaults(); err == nil || !strings.Contains(err.Error(), "Scenario.") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestSeedsComeFromTheEnvironment(t *testing.T) {
	for _, c := range []struct{ many, first, one, want string }{
		{"", "", "", "[1 2]"}, {"3", "", "", "[1 2 3]"}, {"3", "8", "", "[8 9 10]"}, {"", "8", "", "[8 9]"}, {"3", "8", "17", "[17]"},
		{"none", "", "", "error"}, {"", "x", "", "error"}, {"", "-1", "", "error"}, {"", "", "x", "error"}, {"0", "", "", "error"},
	} {
		t.Setenv(seedsVariable, c.many)
		t.Setenv(firstVariable, c.first)
		t.Setenv(seedVariable, c.one)
		seeds, err := seedsToRun(2)
		got := fmt.Sprint(seeds)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
