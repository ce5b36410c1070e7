package streams_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

type order struct{ Country string }

// Build returns every mistake, each with the line where it was made.
func TestBuildReturnsEveryMistakeWithItsLine(t *testing.T) {
	var b streams.Builder
	orders := streams.Topic[string, order]{Name: "orders"}
	a := b.Stream(streams.Topic[string, string]{Name: "A"})
	b.Stream(orders)                                     // no serde for order
	b.Stream(streams.Topic[string, string]{Name: "A"})   // read twice
	a.To(streams.Topic[string, string]{Name: "no good"}) // bad name
	a.GroupByKey().Count(streams.Store[string, int64]{}) // no name
	table := b.Table(streams.Topic[string, string]{Name: "T"}, streams.Store[string, string]{})
	a.JoinTable(table, func(_, l, r string) (string, error) { return l + r, nil }) // table not kept
	a.SelectKey(func(_, v string) string { return v }).JoinTable(table, func(_, l, r string) (string, error) { return l + r, nil })
	table.Changes(func(string, streams.Change[string]) (string, error) { return "", nil })
	a.GroupByKey().WindowedBy(streams.Hopping(time.Second, 2*time.Second)) // advance beyond size
	a.GroupByKey().WindowedBy(streams.Tumbling(time.Minute)).Count(streams.WindowStore[string, int64]{Name: "w", Retention: time.Second})
	_, err := b.Build()
	if err == nil {
		t.Fatal("no error")
	}
	for i, want := range []string{
		`the value of topic "orders": serde: no serde for type streams_test.order`,
		`topic "A" is read by two sources`,
		`a sink's topic has the name "no good"`,
		`a store has no name`,
		`keep the table in a store`,
		`name the join`,
		`Changes needs the values before`,
		`advance by 2s`,
		`store "w" keeps windows for 1s, but they change for 1m0s`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("mistake %d is missing: %s", i, want)
		}
	}
	for line := range strings.Lines(err.Error()) {
		if !strings.Contains(line, "builder_test.go:") {
			t.Errorf("no file and line of this test: %s", line)
		}
	}
	if testing.Verbose() {
		t.Log(err)
	}
}

// Two stores, or two nodes, of one name are a mistake; one store used by several processors is not.
func TestNamesAreUnique(t *testing.T) {
	in := streams.Topic[string, string]{Name: "A"}
	counts := streams.Store[string, int64]{Name: "n"}
	var b streams.Builder
	g := b.Stream(in).GroupByKey()
	g.Count(counts)
	g.Count(counts)
	if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), `store "n" holds the table of two operators`) {
		t.Errorf("error %v", err)
	}
	var b2 streams.Builder
	s := b2.Stream(in)
	s.Peek(func(_, _ string) {}).Named("x")
	s.Peek(func(_, _ string) {}).Named("x")
	if _, err := b2.Build(); err == nil || !strings.Contains(err.Error(), `two nodes are named "x"`) {
		t.Errorf("error %v", err)
	}
	var b3 streams.Builder
	open := func(*streams.Task, streams.Emit[string, string]) (streams.Processor[string, string], error) {
		return func(context.Context, streams.Record[string, string]) error { return nil }, nil
	}
	s = b3.Stream(in)
	s.Process("one", open, counts)
	s.Process("two", open, counts)
	if _, err := b3.Build(); err != nil {
		t.Errorf("two processors with one store: %v", err)
	}
	if _, err := new(streams.Builder).Build(); err == nil || !strings.Contains(err.Error(), "no source") {
		t.Errorf("error of an empty topology: %v", err)
	}
}

// A topology is built once and run many times: tasks share nothing.
func TestTasksOfOneTopologyShareNothing(t *testing.T) {
	in, out := streams.Topic[string, string]{Name: "A"}, streams.Topic[string, int64]{Name: "out"}
	var b streams.Builder
	b.Stream(in).GroupByKey().Count(streams.Store[string, int64]{Name: "n"}).To(out)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	one, two := streamstest.New(t, topology), streamstest.New(t, topology)
	one.Send(in, "k", "v")
	one.Send(in, "k", "v")
	two.Send(in, "k", "v")
	if a, b := one.Read(out), two.Read(out); len(a) != 2 || len(b) != 1 || a[1].Value != 2 || b[0].Value != 1 {
		t.Errorf("counts %v and %v, want 1, 2 and 1", a, b)
	}
}

// A key that does not encode is its record's error, and another panic in a serde too.
func TestKeysThatDoNotEncodeAreRecordErrors(t *testing.T) {
	in := streams.Topic[string, string]{Name: "A"}
	out := streams.Topic[string, int64]{Name: "out", Key: picky{}}
	var b streams.Builder
	b.Stream(in).WithSerdes(picky{}, nil).GroupByKey().Count(streams.Store[string, int64]{Name: "n", Key: picky{}}).To(out)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	var phases []string
	d := streamstest.New(t, topology, streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
		phases = append(phases, fmt.Sprint(e.Phase, " ", string(e.Key)))
		return streams.Skip()
	}})
	for _, k := range []string{"ok", "bad", "ok"} {
		d.Send(in, k, "v")
	}
	if got := d.Read(streams.Topic[string, int64]{Name: "out"}); len(got) != 2 || got[1].Value != 2 {
		t.Errorf("results %v", got)
	}
	if fmt.Sprint(phases) != "[encode bad]" {
		t.Errorf("errors %q, want one of the key bad", phases)
	}
}

// picky is a string serde that refuses to write one value.
type picky struct{}

func (picky) Append(dst []byte, at serde.Place, v string) ([]byte, error) {
	if v == "bad" {
		return nil, errors.New("not that one")
	}
	return serde.String.Append(dst, at, v)
}

func (picky) Decode(at serde.Place, data []byte) (string, error) {
	return serde.String.Decode(at, data)
}

// Optimize makes a source table's topic its changelog: no topic of its own is made for it.
func TestOptimizeReusesSourceTopics(t *testing.T) {
	for _, optimize := range []bool{false, true} {
		b := streams.Builder{Optimize: optimize}
		b.Table(streams.Topic[string, string]{Name: "T"}, streams.Store[string, string]{Name: "t"})
		topology, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		l, err := topology.Engine().Layout("app", func(string) (int32, bool) { return 3, true }, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, spec := topology.Engine().Store("t")
		if spec.FromSource != optimize || len(l.Internal) != map[bool]int{false: 1, true: 0}[optimize] {
			t.Errorf("Optimize %v: from source %v, internal topics %v", optimize, spec.FromSource, l.Internal)
		}
		if want := map[bool]string{false: "app-t-changelog", true: "T"}[optimize]; spec.Changelog.In("app") != want {
			t.Errorf("Optimize %v: changelog %q, want %q", optimize, spec.Changelog.In("app"), want)
		}
	}
}

// A stream and the table it is joined with must have equal partition counts, also through operators between; streams that
// only meet in a merge need not.
func TestJoinedTopicsMustHaveEqualPartitionCounts(t *testing.T) {
	counts := func(topic string) (int32, bool) {
		n, ok := map[string]int32{"S": 3, "U": 4, "T": 2}[topic]
		return n, ok
	}
	var b streams.Builder
	merged := b.Stream(streams.Topic[string, string]{Name: "S"}).Merge(b.Stream(streams.Topic[string, string]{Name: "U"}))
	merged.ForEach(func(_, _ string) error { return nil })
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if l, err := topology.Engine().Layout("app", counts, nil); err != nil || l.Tasks[0] != 4 {
		t.Errorf("merged streams: %+v, %v", l, err)
	}
	b = streams.Builder{}
	s := b.Stream(streams.Topic[string, string]{Name: "S"}).Filter(func(_, _ string) bool { return true })
	table := b.Table(streams.Topic[string, string]{Name: "T"}, streams.Store[string, string]{Name: "t"}).
		MapValues(func(_, v string) (string, error) { return v, nil })
	s.JoinTable(table, func(_, l, r string) (string, error) { return l + r, nil })
	if topology, err = b.Build(); err != nil {
		t.Fatal(err)
	}
	_, err = topology.Engine().Layout("app", counts, nil)
	if !errors.Is(err, streams.ErrCopartition) || !strings.Contains(err.Error(), `"S" has 3 partitions and "T" has 2`) {
		t.Errorf("error %v", err)
	}
}
