package policytest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// merged is two topics in one stream, where the first is read as how says.
func merged(t *testing.T, how streams.Source) *streamstest.Driver {
	t.Helper()
	var b streams.Builder
	b.Stream(topic{Name: "A"}, how).Merge(b.Stream(topic{Name: "B"})).To(topic{Name: "out"})
	return streamstest.New(t, build(t, &b))
}

// docs/semantics.md 5: a partition without records is waited for, from when another one has one, and once.
func TestIdlePartitionsAreWaitedFor(t *testing.T) {
	want := func(d *streamstest.Driver, want ...string) {
		t.Helper()
		if got := values(d, "out"); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	a, b := topic{Name: "A"}, topic{Name: "B"}

	d := merged(t, streams.Source{Idle: 10 * time.Second})
	d.Advance(time.Hour) // nothing waits, and so nothing is waited for
	d.Send(b, "k", "b1", at(2))
	want(d)
	d.Advance(9 * time.Second)
	want(d)
	d.Send(a, "k", "a1", at(1)) // in time: it comes first
	want(d, "a1")
	d.Advance(9 * time.Second)
	want(d)
	d.Advance(time.Second)
	want(d, "b1")
	d.Send(b, "k", "b2", at(5)) // A has had its time
	want(d, "b2")
	d.Send(a, "k", "a2", at(3)) // and B is not waited for
	want(d, "a2")
	d.Send(b, "k", "b3", at(6)) // A has had records since
	want(d)
	d.Restart()
	want(d) // nobody has taken it
	d.Advance(10 * time.Second)
	want(d, "b3")

	d = merged(t, streams.Source{})
	d.Send(b, "k", "b1", at(2))
	want(d, "b1")
}

// What waits when the application crashes is processed after it, in the old order.
func TestRecordsThatWaitSurviveACrash(t *testing.T) {
	d := merged(t, streams.Source{Idle: time.Minute})
	d.Send(topic{Name: "B"}, "k", "b1", at(3))
	d.Crash(func() { d.Send(topic{Name: "B"}, "k", "b2", at(4)) })
	d.Send(topic{Name: "A"}, "k", "a1", at(1))
	d.Advance(time.Minute)
	if got, want := values(d, "out"), []string{"a1", "b1", "b2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A pattern reads what matches it, and neither what other sources name nor the application's own topics nor Kafka's.
func TestSourcesByPattern(t *testing.T) {
	var b streams.Builder
	all := b.Stream(topic{Pattern: ".*"})
	named := b.Stream(topic{Name: "in-named"})
	all.Merge(named).
		GroupBy(func(_, v string) string { return v }).
		Reduce(streams.Store[string, string]{Name: "last"}, func(_, v string) (string, error) { return v, nil }).
		ToStream().
		ForEach(func(string, string) error { return nil })
	d := streamstest.New(t, build(t, &b))
	d.SetPartitions("in-2", 3)
	d.SetPartitions("__consumer_offsets", 5)
	d.SetPartitions("test-last-changelog", 7)
	for _, name := range []string{"in-1", "in-2", "in-named"} { // in-1 comes while the application runs
		d.Send(topic{Name: name}, "k", "from "+name)
	}
	d.Restart()
	d.Send(topic{Name: "in-2"}, "k", "more")
	store := d.Store(streams.Store[string, string]{Name: "last"})
	for _, v := range []string{"from in-1", "from in-2", "from in-named", "more"} {
		if got, ok := store.Get(v); !ok || got != v {
			t.Errorf("%q is not there", v)
		}
	}
	if n := len(d.ReadRaw("test-last-repartition")); n != 4 {
		t.Errorf("%d records were repartitioned, want 4", n)
	}
}

func TestSourcesThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		what string
		t    topic
		how  []streams.Source
		want string
	}{
		{"a pattern that is none", topic{Pattern: "a("}, nil, "missing closing"},
		{"a pattern beside a name", topic{Pattern: "a.*", Name: "b"}, nil, "stands alone"},
		{"two resets", topic{Name: "a"}, []streams.Source{{Reset: streams.Latest, ResetBy: time.Hour}}, "both Reset and ResetBy"},
		{"a negative reset", topic{Name: "a"}, []streams.Source{{ResetBy: -1}}, "ResetBy is -1ns"},
		{"no reset", topic{Name: "a"}, []streams.Source{{Reset: 9}}, "Reset is 9"},
		{"told twice", topic{Name: "a"}, make([]streams.Source, 2), "not 2 times"},
	} {
		var b streams.Builder
		b.Stream(c.t, c.how...).To(topic{Name: "out"})
		if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.what, err, c.want)
		}
	}
}

// Names and partitions may be chosen by the record: several partitions, and none.
func TestDynamicNamesAndSeveralPartitions(t *testing.T) {
	var b streams.Builder
	b.Stream(topic{Name: "in"}).ToDynamic(func(r streams.Record[string, string]) string { return "out-" + r.Key },
		topic{Partitioner: func(_, v string, n int) []int {
			switch v {
			case "all":
				return []int{0, 1, 2}
			case "bad":
				return []int{n}
			case "panic":
				panic("no idea")
			}
			return nil
		}})
	d := streamstest.New(t, build(t, &b), streams.Config{OnError: skipAll})
	d.SetPartitions("out-x", 3)
	for _, v := range []string{"all", "none", "bad", "panic"} {
		d.Send(topic{Name: "in"}, "x", v)
	}
	var got []int32
	for _, r := range d.ReadRaw("out-x") {
		got = append(got, r.Partition)
	}
	if want := []int32{0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("written to partitions %v, want %v", got, want)
	}
	if n := d.Dropped().Skipped; n != 2 {
		t.Errorf("%d records were skipped, want the 2 that the partitioner had no partition for", n)
	}
}
