package dsltest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
)

// updates writes a table of a stream with its deletes.
func updates(s streams.Store[string, int64]) func(b *streams.Builder) {
	return func(b *streams.Builder) {
		b.Stream(words).GroupByKey().Count(s).Changes(streams.NewValue).To(results)
	}
}

// A bounded table drops the row that was used the longest ago, and says so to its changelog and to what is made of it.
func TestABoundedTableDropsRows(t *testing.T) {
	for _, noBuffer := range []bool{false, true} {
		s := streams.Store[string, int64]{Name: "n", MaxEntries: 2, NoBuffer: noBuffer}
		d := drive(t, updates(s))
		d.Send(words, "a", "x", at(1))
		d.Send(words, "b", "x", at(2))
		d.Send(words, "a", "x", at(3))
		d.Send(words, "c", "x", at(4))
		d.Send(words, "b", "x", at(5))
		wants(t, d, "a=1@1", "b=1@2", "a=2@3", "c=1@4", "b=-@4", "b=1@5", "a=-@5")
		if values, deletes := logged(d, "n"); values != 5 || deletes != 2 {
			t.Errorf("%d values and %d deletes are logged, want 5 and 2", values, deletes)
		}
		d.Restart()
		d.Send(words, "d", "x", at(6))
		wants(t, d, "d=1@6", "c=-@6")
		d.Crash(func() { d.Send(words, "e", "x", at(7)) })
		wants(t, d, "e=1@7", "b=-@7")
		if _, ok := d.Store(s).Get("d"); !ok {
			t.Error("d is gone")
		}
	}
}

// A row that a bounded table drops is looked up and passed on under its own key, not that of the record in hand.
func TestADroppedRowHasItsOwnKey(t *testing.T) {
	d := drive(t, func(b *streams.Builder) {
		left := b.Stream(words).GroupByKey().Count(streams.Store[string, int64]{Name: "n", MaxEntries: 1, NoBuffer: true})
		right := b.Table(streams.Topic[string, string]{Name: "names"}, streams.Store[string, string]{Name: "names"})
		left.OuterJoin(right, func(_ string, n *int64, name *string) (*int64, error) {
			if n == nil {
				none := int64(-1)
				return &none, nil
			}
			return n, nil
		}).To(results)
	})
	d.Send(streams.Topic[string, string]{Name: "names"}, "a", "Ada", at(0))
	d.Send(words, "a", "x", at(1))
	d.Send(words, "b", "x", at(2))
	wants(t, d, "a=-1@0", "a=1@1", "b=1@2", "a=-1@2")
}

func TestTTLByStreamTime(t *testing.T) {
	for _, noBuffer := range []bool{false, true} {
		s := streams.Store[string, int64]{Name: "n", TTL: 100 * time.Millisecond, NoBuffer: noBuffer}
		d := drive(t, updates(s))
		d.Send(words, "a", "x", at(1000))
		d.Send(words, "b", "x", at(1050))
		d.Send(words, "c", "x", at(1099))
		wants(t, d, "a=1@1000", "b=1@1050", "c=1@1099")
		d.Send(words, "a", "x", at(1100)) // a's time is over when this comes
		if noBuffer {
			wants(t, d, "a=-@1100", "a=1@1100")
		} else {
			wants(t, d, "a=1@1100") // the delete and the row after it are one update
		}
		d.Restart()
		d.Send(words, "d", "x", at(1149))
		wants(t, d, "d=1@1149")
		d.Crash(func() { d.Send(words, "d", "x", at(1199)) })
		wants(t, d, "b=-@1150", "c=-@1199", "d=2@1199")
		d.Send(words, "late", "x", at(1099)) // its life was over before it came
		d.Send(words, "d", "x", at(1200))
		wants(t, d, "late=1@1099", "late=-@1199", "a=-@1200", "d=3@1200")
		d.Send(words, "d", "x", at(5000))
		if rows := d.Store(s).All(); len(rows) != 1 || rows[0].Key != "d" || rows[0].Value != 1 {
			t.Errorf("rows %+v, want d=1 alone", rows)
		}
	}
}

func TestTTLByTheWallClock(t *testing.T) {
	s := streams.Store[string, string]{Name: "last", TTL: time.Minute, TTLClock: streams.WallClock}
	d := drive(t, func(b *streams.Builder) {
		b.Table(words, s).Changes(func(_ string, c streams.Change[string]) (*int64, error) {
			if c.New == nil {
				return nil, nil
			}
			n := int64(len(*c.New))
			return &n, nil
		}).To(results)
	})
	d.Send(words, "a", "xx", at(0))
	d.Advance(30 * time.Second)
	d.Send(words, "b", "y", at(30_000))
	d.Send(words, "b", "y", at(40_000)) // the same again is a new life
	wants(t, d, "a=2@0", "b=1@30000", "b=1@40000")
	d.Advance(29 * time.Second)
	wants(t, d)
	d.Advance(time.Second)
	wants(t, d, "a=-@60000")
	d.Advance(39 * time.Second)
	wants(t, d)
	d.Advance(2 * time.Second)
	wants(t, d, "b=-@100000")
	if rows := d.Store(s).All(); len(rows) != 0 {
		t.Errorf("rows %+v, want none", rows)
	}
	if _, deletes := logged(d, "last"); deletes != 2 {
		t.Errorf("%d deletes are logged, want 2", deletes)
	}
}

// A processor's store has limits too.
func TestLimitsOfAProcessorsStore(t *testing.T) {
	s := streams.Store[string, int64]{Name: "n", TTL: 100 * time.Millisecond, MaxEntries: 2}
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).ProcessValues("p", func(task *streams.Task, emit streams.Emit[string, *int64]) (streams.Processor[string, string], error) {
			st := task.Store(s)
			return func(_ context.Context, r streams.Record[string, string]) error {
				n, _, err := st.Get(r.Key)
				n++
				return errors.Join(err, st.Put(r.Key, n), emit(streams.Record[string, *int64]{Key: r.Key, Value: &n}))
			}, nil
		}, s).To(results)
	})
	for i, k := range []string{"a", "b", "a", "c", "b"} {
		d.Send(words, k, "x", at(int64(i)))
	}
	wants(t, d, "a=1@0", "b=1@1", "a=2@2", "c=1@3", "b=1@4")
	d.Send(words, "c", "x", at(103))
	wants(t, d, "c=1@103")
}

func TestMistakenLimits(t *testing.T) {
	var b streams.Builder
	g := b.Stream(words).GroupByKey()
	g.Count(streams.Store[string, int64]{Name: "a", MaxEntries: -1})
	g.Count(streams.Store[string, int64]{Name: "b", TTL: time.Microsecond})
	g.Count(streams.Store[string, int64]{Name: "c", TTLClock: streams.WallClock})
	b.GlobalTable(streams.Topic[string, string]{Name: "g"}, streams.Store[string, string]{Name: "g", TTL: time.Hour})
	b.Table(streams.Topic[string, string]{Name: "v"}, streams.Store[string, string]{Name: "v", Versioned: time.Hour, MaxEntries: 3})
	_, err := b.Build()
	if err == nil {
		t.Fatal("the topology is accepted")
	}
	for _, part := range []string{"room for -1 entries", "rows for 1µs", "a TTLClock, but no TTL", "is its topic, whole", "keeps versions, whose number"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in:\n%v", part, err)
		}
	}
}

// With limits a table's topic cannot be its changelog: it does not say what was dropped.
func TestALimitedTableHasAChangelogOfItsOwn(t *testing.T) {
	d := drive(t, func(b *streams.Builder) {
		b.Optimize = true
		b.Table(words, streams.Store[string, string]{Name: "last", MaxEntries: 1})
	})
	d.Send(words, "a", "x", at(1))
	d.Send(words, "b", "x", at(2))
	if values, deletes := logged(d, "last"); values != 2 || deletes != 1 {
		t.Errorf("%d values and %d deletes are logged, want 2 and 1", values, deletes)
	}
}
