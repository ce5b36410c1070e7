package graph

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func groupNames(groups [][]*Node) (out []string) {
	for _, g := range groups {
		var s []string
		for _, n := range g {
			s = append(s, n.Name)
		}
		out = append(out, strings.Join(s, " "))
	}
	return out
}

// Sub-topologies are what edges and stores connect, numbered in the order of their sources' names: capitals first.
func TestGroups(t *testing.T) {
	var g Graph
	late := g.Add(Source, "z-source")
	early := g.Add(Source, "SOURCE-1")
	other := g.Add(Source, "a-source")
	p := g.Add(Processor, "p", late)
	q := g.Add(Processor, "q", other)
	g.Add(Sink, "sink", early)
	p.Stores, q.Stores = []string{"shared"}, []string{"shared"}
	if diff := cmp.Diff([]string{"SOURCE-1 sink", "z-source a-source p q"}, groupNames(g.Groups())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if late.Group != 1 || early.Group != 0 {
		t.Errorf("groups %d, %d; want 1, 0", late.Group, early.Group)
	}
}

func TestUpstreamStopsAtSources(t *testing.T) {
	var g Graph
	a, b := g.Add(Source, "a"), g.Add(Source, "b")
	m := g.Add(Processor, "merge", a, b)
	end := g.Add(Processor, "end", m)
	var got []string
	for _, n := range end.Upstream() {
		got = append(got, n.Name)
	}
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if a.LeadsToRelaxed() {
		t.Error("relaxed without a left join")
	}
	end.Relaxed = true
	if !a.LeadsToRelaxed() {
		t.Error("not relaxed before a left join")
	}
}

// Buckets of a java.util.HashMap of 16: the hash code, its upper half folded in, modulo the size.
func TestHashOrder(t *testing.T) {
	if bucket("Aa", 16) != bucket("BB", 16) {
		t.Error("Aa and BB have one hash code")
	}
	for name, want := range map[string]uint32{"a": 1, "b": 2, "p": 0, "": 0} {
		if got := bucket(name, 16); got != want {
			t.Errorf("bucket of %q is %d, want %d", name, got, want)
		}
	}
}

func TestDuplicates(t *testing.T) {
	var g Graph
	g.Add(Source, "x")
	g.Add(Source, "y")
	g.Add(Source, "x")
	g.Add(Source, "x")
	if diff := cmp.Diff([]string{"x"}, g.Duplicates()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
