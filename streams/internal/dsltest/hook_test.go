package dsltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/streamstest"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hookedTopology is a topology with a bit of everything.
func hookedTopology(t *testing.T) *streams.Topology {
	t.Helper()
	var b streams.Builder
	words := b.Stream(in).Named("words")
	words.Filter(func(_, v string) bool { return v != "no" }).Named("keep").
		MapValues(func(_, v string) (string, error) { return strings.ToUpper(v), nil }).Named("upper").
		To(out).Named("to-out")
	words.GroupByKey().Count(streams.Store[string, int64]{Name: "counts"}).Named("count").
		Changes(func(_ string, c streams.Change[int64]) (int64, error) { return *c.New, nil }).Named("changes").
		To(streams.Topic[string, int64]{Name: "counted"}).Named("to-counted")
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

func TestWrapSeesEveryNode(t *testing.T) {
	var seen []string
	d := streamstest.New(t, hookedTopology(t), streams.Config{Wrap: func(n streams.Node) streams.Wrapper {
		return func(v *streams.Visit, next func() error) error {
			key, _ := v.Key[string]()
			text := fmt.Sprintf("%s %s", n.Name, key)
			if s, ok := v.Value[string](); ok {
				text += " string " + s
			}
			if i, ok := v.Value[int64](); ok {
				text += fmt.Sprint(" int64 ", i)
			}
			if c, ok := v.Value[streams.Change[int64]](); ok {
				text += fmt.Sprint(" change to ", *c.New)
			}
			if at, ok := v.Origin(); ok {
				text += fmt.Sprintf(" from %s/%d@%d", at.Topic, at.Partition, at.Offset)
			}
			seen = append(seen, text)
			return next()
		}
	}})
	d.Send(in, "k", "a")
	want := []string{
		"words k string a from in/0@0", "keep k string a from in/0@0", "upper k string a from in/0@0", "to-out k string A from in/0@0",
		"count k string a from in/0@0",
		"changes k change to 1", "to-counted k int64 1",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Of every topology node there is a hook to be had: whatever Describe shows of these operators, Wrap is asked for.
func TestWrapIsAskedForEveryNode(t *testing.T) {
	asked := make(map[string]int)
	topology := hookedTopology(t)
	d := streamstest.New(t, topology, streams.Config{Wrap: func(n streams.Node) streams.Wrapper {
		asked[n.Name]++
		if n.Name == "count" && !slices.Equal(n.Stores, []string{"counts"}) || n.Source != (n.Name == "words") ||
			n.Sink != strings.HasPrefix(n.Name, "to-") || n.Sink && len(n.Topics) != 1 || n.Task != "0_0" {
			t.Errorf("node %+v", n)
		}
		return nil
	}})
	d.Send(in, "k", "a")
	for _, line := range strings.Split(topology.Describe(), "\n") {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if kind == "Source" || kind == "Processor" || kind == "Sink" {
			name, _, _ := strings.Cut(rest, " ")
			if asked[name] != 1 {
				t.Errorf("node %q was asked for %d times, want once", name, asked[name])
			}
		}
	}
}

func TestWrapDrops(t *testing.T) {
	d := streamstest.New(t, hookedTopology(t), streams.Config{Wrap: func(n streams.Node) streams.Wrapper {
		if n.Name != "upper" {
			return nil
		}
		return func(v *streams.Visit, next func() error) error {
			if s, _ := v.Value[string](); s == "secret" {
				return nil
			}
			return next()
		}
	}})
	d.Send(in, "k", "secret")
	d.Send(in, "k", "b")
	if got := d.Read(out); len(got) != 1 || got[0].Value != "B" {
		t.Errorf("out: %v", got)
	}
	if n, _ := d.Store(streams.Store[string, int64]{Name: "counts"}).Get("k"); n != 2 {
		t.Errorf("the sibling counted %d, want 2", n)
	}
	if n := d.Dropped().Skipped; n != 1 {
		t.Errorf("%d skipped, want 1", n)
	}
}

// A hook's own error, or panic, is that record's error at that node; tried again, the node gets the record once.
func TestWrapFails(t *testing.T) {
	fails := 0
	var nodes []string
	cfg := streams.Config{
		Wrap: func(n streams.Node) streams.Wrapper {
			if n.Name != "keep" {
				return nil
			}
			return func(v *streams.Visit, next func() error) error {
				s, _ := v.Value[string]()
				if s == "panic" {
					panic("no")
				}
				if err := next(); err != nil {
					return err
				}
				if fails++; s == "after" && fails < 3 {
					return errors.New("not yet")
				}
				return nil
			}
		},
		OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
			nodes = append(nodes, e.Node)
			var panicked *streams.PanicError
			if errors.As(e.Err, &panicked) {
				return streams.Skip()
			}
			return streams.Retry(1)
		},
	}
	d := streamstest.New(t, hookedTopology(t), cfg)
	d.Send(in, "k", "panic")
	d.Send(in, "k", "after")
	if got := d.Read(out); len(got) != 1 || got[0].Value != "AFTER" {
		t.Errorf("out: %v", got)
	}
	if diff := cmp.Diff([]string{"keep", "keep", "keep"}, nodes); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

// What ends the task below a hook ends it, whatever the hook makes of it.
func TestWrapCannotHideAnError(t *testing.T) {
	var b streams.Builder
	b.Stream(in).Named("words").MapValues(func(_, _ string) (string, error) { return "", errors.New("bad") }).To(out)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology, streams.Config{Wrap: func(streams.Node) streams.Wrapper {
		return func(_ *streams.Visit, next func() error) error { _ = next(); return nil }
	}})
	if err := d.Fails(func() { d.Send(in, "k", "v") }); err == nil || !strings.Contains(err.Error(), "bad") {
		t.Errorf("error %v, want the mapper's", err)
	}
}

func TestWrapSeesDeletes(t *testing.T) {
	var b streams.Builder
	kept := streams.Store[string, string]{Name: "kept"}
	b.Table(in, kept).Named("table")
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	var values []any
	d := streamstest.New(t, topology, streams.Config{Wrap: func(n streams.Node) streams.Wrapper {
		if n.Name != "table" {
			return nil
		}
		return func(v *streams.Visit, next func() error) error {
			x, ok := v.Value[any]()
			values = append(values, x, ok)
			return next()
		}
	}})
	d.Send(in, "k", "v")
	d.Delete(in, "k")
	if diff := cmp.Diff([]any{"v", true, nil, false}, values); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A hook that looks at a record of its own type allocates nothing.
func TestWrapAllocatesNothing(t *testing.T) {
	var b streams.Builder
	ints := streams.Topic[int64, int64]{Name: "in"}
	b.Stream(ints).Filter(func(_, _ int64) bool { return false })
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	plan, sum := topology.Engine(), int64(0)
	env := &engine.Env{AppID: "a", Wrap: func(engine.Node) engine.Wrapper {
		return func(v *engine.Visit, next func() error) error {
			k, _ := v.Key[int64]()
			n, _ := v.Value[int64]()
			sum += k + n
			return next()
		}
	}}
	task, err := started(plan, env)
	if err != nil {
		t.Fatal(err)
	}
	eight := []byte{0, 0, 0, 0, 0, 0, 0, 1}
	recs := []*kgo.Record{{Topic: "in", Key: eight, Value: eight, Timestamp: time.UnixMilli(1)}}
	batch := make([]*kgo.Record, 1)
	one := func() {
		copy(batch, recs) // the task takes what it is given
		task.Enqueue("in", 0, batch)
		if n, err := task.Process(1); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	one()
	if n := testing.AllocsPerRun(100, one); n != 0 {
		t.Errorf("%.0f allocations per record, want 0", n)
	}
	if sum != 2*2*102 { // both nodes, the key and the value, 100 runs and two before them
		t.Errorf("the hooks saw %d in all", sum)
	}
}
