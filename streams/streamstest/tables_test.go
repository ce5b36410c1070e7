package streamstest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
)

// A table without a store passes its updates on; what needs its rows says at Build that a store is missing.
func TestTableOfAStreamWithoutAStore(t *testing.T) {
	in := streams.Topic[string, *string]{Name: "A"}
	d := driver(t, func(b *streams.Builder) {
		b.Stream(in).ToTable(streams.Store[string, *string]{}).
			MapValues(func(_ string, v *string) (*string, error) { return p(*v + "!"), nil }).
			ToStream().SelectKey(func(k string, v *string) string { return k + text(v) }).
			To(streams.Topic[string, *string]{Name: "out"})
	})
	d.Send(in, "k", p("v"), at(1))
	d.Send(in, "k", nil, at(2))
	want(t, show(d.Read(streams.Topic[string, *string]{Name: "out"})), "kv!=v!@1", "knull=null@2")
	if strings.Contains(d.Describe(), "stores: [k") {
		t.Errorf("the table has a store:\n%s", d.Describe())
	}

	var b streams.Builder
	b.Stream(in).SelectKey(func(k string, _ *string) string { return k }).ToTable(streams.Store[string, *string]{})
	if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), "give the table a store") {
		t.Errorf("a table by another key without a store: %v", err)
	}
}

// The changes of a windowed table have the value before, of every kind of window; deletes have no value after.
func TestChangesOfWindowedTables(t *testing.T) {
	in := streams.Topic[string, *string]{Name: "A"}
	out := streams.Topic[string, string]{Name: "changes"}
	val := func(v *int64) string {
		if v == nil {
			return "nil"
		}
		return fmt.Sprint(*v)
	}
	key := func(w streams.Windowed[string]) string {
		return fmt.Sprint(w.Key, w.Start.UnixMilli(), "-", w.End.UnixMilli())
	}
	value := func(_ streams.Windowed[string], c streams.Change[int64]) (string, error) {
		return val(c.Old) + ">" + val(c.New), nil
	}
	d := driver(t, func(b *streams.Builder) {
		g := b.Stream(in).GroupByKey()
		g.WindowedBy(streams.Tumbling(10*time.Millisecond)).Count(streams.WindowStore[string, int64]{Name: "w"}).Changes(key, value).To(out)
		g.WindowedBySession(streams.Session(5*time.Millisecond)).Count(streams.SessionStore[string, int64]{Name: "s"}).Changes(key, value).To(out)
	})
	for _, at1 := range []int64{1, 2, 9} {
		d.Send(in, "k", p("v"), at(at1))
	}
	want(t, show(d.Read(out)),
		"k0-10=nil>1@1", "k1-1=nil>1@1",
		"k0-10=1>2@2", "k1-1=1>nil@1", "k1-2=nil>2@2",
		"k0-10=2>3@9", "k9-9=nil>1@9")
}
