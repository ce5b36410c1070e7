package dsltest

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/state/statetest"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// counted counts the writes that an engine is given.
type counted struct {
	state.Engine
	writes *int
}

func (c counted) Apply(writes []state.Write, sync bool) error {
	*c.writes += len(writes)
	return c.Engine.Apply(writes, sync)
}

// Tables, windows and sessions may lie in an engine of one's own.
func TestStoresInAnEngineOfOnesOwn(t *testing.T) {
	opened, writes := 0, 0
	engine := &state.OwnEngine{Name: "slab", Open: func(dir string, log *slog.Logger) (state.Engine, error) {
		opened++
		e, err := statetest.OpenSlab(dir, log)
		return counted{e, &writes}, err
	}}
	counts := streams.Store[string, int64]{Name: "counts", Engine: engine}
	minutes := streams.WindowStore[string, int64]{Name: "minutes", Engine: engine}
	visits := streams.SessionStore[string, int64]{Name: "visits", Engine: engine}
	var b streams.Builder
	g := b.Stream(in).GroupByKey()
	g.Count(counts)
	g.WindowedBy(streams.Tumbling(time.Minute)).Count(minutes)
	g.WindowedBySession(streams.Session(time.Minute)).Count(visits)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology)
	d.SetPartitions("in", 2)
	for range 3 {
		d.Send(in, "a", "x")
		d.Send(in, "b", "x")
		d.Restart()
	}
	for _, k := range []string{"a", "b"} {
		if n, _ := d.Store(counts).Get(k); n != 3 {
			t.Errorf("%q was counted %d times, want 3", k, n)
		}
	}
	if n := len(d.WindowStore(minutes).All()); n != 2 {
		t.Errorf("%d windows, want 2", n)
	}
	if n := len(d.SessionStore(visits).All()); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	if opened != 1 || writes == 0 {
		t.Errorf("the engine was opened %d times and got %d writes, want 1 and some", opened, writes)
	}
}

func TestEngineMistakes(t *testing.T) {
	one := &state.OwnEngine{Name: "one", Open: statetest.OpenSlab}
	for want, stores := range map[string][2]streams.Store[string, int64]{
		"up to 60 of a-z":   {{Name: "a", Engine: &state.OwnEngine{Name: "No!", Open: statetest.OpenSlab}}, {Name: "b"}},
		"has no Open":       {{Name: "a", Engine: &state.OwnEngine{Name: "x"}}, {Name: "b"}},
		"choose one":        {{Name: "a", Engine: one, InMemory: true}, {Name: "b"}},
		"two engines named": {{Name: "a", Engine: one}, {Name: "b", Engine: &state.OwnEngine{Name: "one", Open: statetest.OpenSlab}}},
	} {
		var b streams.Builder
		g := b.Stream(in).GroupByKey()
		g.Count(stores[0])
		g.Count(stores[1])
		if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
}
