package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plan is A -> repartition r -> sub 1, where r is joined with the topics of with.
func planWith(pinned int32, with ...string) *Plan {
	join := []*SourceSpec{{Node: "r-source", Topics: []Topic{{Name: "r", Internal: true}}, Group: 0}}
	for _, name := range with {
		join = append(join, &SourceSpec{Node: name, Topics: []Topic{{Name: name}}, Group: 0})
	}
	return &Plan{
		Subs: []*Sub{
			{ID: 0, Sources: []*SourceSpec{{Node: "A", Topics: []Topic{{Name: "A"}}, Group: -1}, {Node: "B", Topics: []Topic{{Name: "B"}}, Group: -1}}},
			{ID: 1, Sources: join, Stores: []*StoreSpec{{Name: "s", Changelog: Topic{Name: "s-changelog", Internal: true}}}},
		},
		Repartitions: []*Repartition{{Topic: Topic{Name: "r", Internal: true}, Partitions: pinned, From: []int{0}, To: 1}},
	}
}

// docs/semantics.md 75.
func TestPartitionCounts(t *testing.T) {
	counts := map[string]int32{"A": 3, "B": 5, "T": 7, "U": 7, "W": 2}
	for _, c := range []struct {
		name  string
		plan  *Plan
		tasks []int32
		err   error
	}{
		{"a repartition topic has as many as its largest input", planWith(0), []int32{5, 5}, nil},
		{"pinned", planWith(4), []int32{5, 4}, nil},
		{"a joined topic decides", planWith(0, "T"), []int32{5, 7}, nil},
		{"joined topics must agree", planWith(0, "T", "W"), nil, ErrCopartition},
		{"joined topics that agree", planWith(0, "T", "U"), []int32{5, 7}, nil},
		{"pinned otherwise than the joined topic", planWith(4, "T"), nil, ErrCopartition},
		{"pinned like the joined topic", planWith(7, "T"), []int32{5, 7}, nil},
		{"missing topic (95)", planWith(0, "nowhere"), nil, ErrMissingTopic},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := c.plan.Layout("app", func(topic string) (int32, bool) { n, ok := counts[topic]; return n, ok }, nil)
			if !errors.Is(err, c.err) || (err != nil) != (c.err != nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(c.tasks, l.Tasks); diff != "" {
				t.Errorf("tasks (-want +got):\n%s", diff)
			}
			want := []InternalTopic{
				{Name: "app-r", Partitions: c.tasks[1], Repartition: true, Config: map[string]string{"cleanup.policy": "delete",
					"segment.bytes": "52428800", "retention.ms": "-1", "message.timestamp.type": "CreateTime"}},
				{Name: "app-s-changelog", Partitions: c.tasks[1], Store: "s", Config: map[string]string{"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}},
			}
			if diff := cmp.Diff(want, l.Internal); diff != "" {
				t.Errorf("internal topics (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCountsThatDependOnEachOtherAreAnError(t *testing.T) {
	p := &Plan{
		Subs:         []*Sub{{ID: 0, Sources: []*SourceSpec{{Node: "r", Topics: []Topic{{Name: "r", Internal: true}}, Group: -1}}}},
		Repartitions: []*Repartition{{Topic: Topic{Name: "r", Internal: true}, From: []int{0}}},
	}
	if _, err := p.Layout("app", func(string) (int32, bool) { return 0, false }, nil); err == nil {
		t.Error("no error for a circle of repartitions")
	}
}

// A sub-topology that writes a repartition topic which it reads itself has the count of its other inputs.
func TestRepartitionThatIsReadWhereItIsWritten(t *testing.T) {
	internal := func(name string) Topic { return Topic{Name: name, Internal: true} }
	p := &Plan{
		Subs: []*Sub{
			{ID: 0, Sources: []*SourceSpec{{Node: "in", Topics: []Topic{{Name: "in"}}, Group: -1}}},
			{ID: 1, Sources: []*SourceSpec{
				{Node: "a", Topics: []Topic{internal("a")}, Group: 0}, {Node: "own", Topics: []Topic{internal("own")}, Group: 0}}},
		},
		Repartitions: []*Repartition{{Topic: internal("own"), From: []int{1}, To: 1}, {Topic: internal("a"), From: []int{0}, To: 1}},
	}
	l, err := p.Layout("app", func(string) (int32, bool) { return 6, true }, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range l.Internal {
		if in.Partitions != 6 {
			t.Errorf("%s has %d partitions, want 6", in.Name, in.Partitions)
		}
	}
}

// Changelog topics have the configs that Kafka Streams gives them.
func TestChangelogConfigs(t *testing.T) {
	for _, c := range []struct {
		spec StoreSpec
		want map[string]string
	}{
		{StoreSpec{Kind: KeyValue}, map[string]string{"cleanup.policy": "compact"}},
		{StoreSpec{Kind: Window, RetentionMillis: 1000}, map[string]string{"cleanup.policy": "compact,delete", "retention.ms": fmt.Sprint(1000 + 86400000)}},
		{StoreSpec{Kind: Versioned, RetentionMillis: 5}, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": fmt.Sprint(5 + 86400000)}},
		{StoreSpec{Kind: KeyValue, Overrides: map[string]string{"segment.bytes": "7"}}, map[string]string{"cleanup.policy": "compact", "segment.bytes": "7"}},
	} {
		c.want["message.timestamp.type"] = "CreateTime"
		if diff := cmp.Diff(c.want, c.spec.Config()); diff != "" {
			t.Errorf("config of %+v (-want +got):\n%s", c.spec, diff)
		}
	}
}

// A pattern that finds nothing yet leaves what depends on it for later; when what it had found shrinks, the topics that
// were made for it stay as they are.
func TestLayoutOfPatterns(t *testing.T) {
	internal := func(name string) Topic { return Topic{Name: name, Internal: true} }
	p := &Plan{
		Subs: []*Sub{
			{ID: 0, Sources: []*SourceSpec{{Node: "p", Pattern: "in-.*", Group: -1}}},
			{ID: 1, Sources: []*SourceSpec{{Node: "r", Topics: []Topic{internal("r")}, Group: -1}},
				Stores: []*StoreSpec{{Name: "s", Changelog: internal("s-changelog")}}},
		},
		Repartitions: []*Repartition{{Topic: internal("r"), From: []int{0}, To: 1}},
	}
	counts := map[string]int32{}
	layout := func(existing ...string) *Layout {
		t.Helper()
		found, err := p.Matching("app", existing)
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.Layout("app", func(topic string) (int32, bool) { n, ok := counts[topic]; return n, ok }, found)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := layout("other", "__in-1"); l.Tasks[0] != 0 || l.Tasks[1] != 0 || len(l.Internal) != 0 {
		t.Errorf("nothing found: %+v", l)
	}
	counts["in-1"], counts["in-2"] = 4, 2
	l := layout("in-1", "in-2")
	if l.Tasks[0] != 4 || l.Tasks[1] != 4 || len(l.Internal) != 2 || l.Internal[1].Partitions != 4 || !l.Internal[1].AtLeast {
		t.Errorf("two topics: %+v", l)
	}
	counts["app-r"], counts["app-s-changelog"] = 4, 4
	if l := layout("in-2"); l.Tasks[0] != 2 || l.Tasks[1] != 4 || l.Internal[0].Partitions != 4 {
		t.Errorf("the larger one is gone: %+v", l)
	}
	if l := layout(); l.Tasks[0] != 0 || l.Tasks[1] != 4 {
		t.Errorf("both are gone: %+v", l)
	}
	p.Subs[0].Sources = append(p.Subs[0].Sources, &SourceSpec{Node: "q", Pattern: ".*-2", Group: -1})
	if _, err := p.Matching("app", []string{"in-1", "in-2"}); !errors.Is(err, ErrTwoPatterns) {
		t.Errorf("two patterns: %v", err)
	}
}
