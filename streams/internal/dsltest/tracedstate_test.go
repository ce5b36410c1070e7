package dsltest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/leatstream/leat/streams"
)

// sends are the spans of what was sent to the topic, the first one first.
func (tr tracer) sends(topic string) (all []sdk.ReadOnlySpan) {
	for _, s := range tr.Ended() {
		if s.Name() == "send "+topic {
			all = append(all, s)
		}
	}
	return all
}

// A batch that is full goes on from the record that filled it, with links to the others; one whose time has come begins a
// trace with links to all. The contexts are part of what waits.
func TestABatchLinksToItsRecords(t *testing.T) {
	tr := newTracer()
	sizes := streams.Topic[string, int64]{Name: "sizes"}
	d := drive(t, func(b *streams.Builder) {
		streams.Batch(b.Stream(words), "batch", 3, time.Second).
			MapValues(func(_ string, all []string) (int64, error) { return int64(len(all)), nil }).To(sizes)
	}, tr.cfg)
	d.Send(words, "a", "x", at(1), from(1, true))
	d.Send(words, "a", "x", at(2))
	d.Restart()
	d.Send(words, "a", "x", at(3), from(3, true))
	full := tr.span(t, "send sizes", 3)
	if full.Parent().SpanID() != tr.span(t, "process words", 3).SpanContext().SpanID() {
		t.Error("the batch is not a child of the record that filled it")
	}
	wantLinks(t, full, tr.span(t, "process words", 1))
	if out := d.ReadRaw("sizes"); len(out) != 1 || len(out[0].Headers) != 1 || !strings.Contains(parent(out[0]), full.SpanContext().SpanID().String()) {
		t.Errorf("the batch has headers %v, want the context alone", out)
	}

	d.Send(words, "b", "x", at(4), from(4, true))
	d.Send(words, "b", "x", at(5), from(5, true))
	d.Restart()
	d.Advance(2 * time.Second)
	d.Send(words, "c", "x", at(6), from(6, true))
	for range 2 { // filled by one that is not sampled
		d.Send(words, "c", "x", at(7))
	}
	sends := tr.sends("sizes")
	if len(sends) != 3 || sends[1].Parent().IsValid() || sends[2].Parent().IsValid() {
		t.Fatalf("%d batches were sent, want 3, the last two in traces of their own", len(sends))
	}
	wantLinks(t, sends[1], tr.span(t, "process words", 4), tr.span(t, "process words", 5))
	wantLinks(t, sends[2], tr.span(t, "process words", 6))
	for i, r := range d.ReadRaw("test-batch-changelog") {
		if r.Value != nil && len(r.Headers) > 0 {
			t.Errorf("changelog record %d has headers %v, want none", i, r.Headers)
		}
	}
}

// What waits of records that nobody samples is written as it was before there were contexts.
func TestABatchWithoutTracesIsTheSame(t *testing.T) {
	d := drive(t, func(b *streams.Builder) {
		streams.Batch(b.Stream(words), "batch", 3, time.Second).ForEach(func(string, []string) error { return nil })
	}, newTracer().cfg)
	d.SetClock(time.UnixMilli(7))
	d.Send(words, "a", "x", at(1), from(1, false))
	if out := d.ReadRaw("test-batch-changelog"); len(out) != 1 || !slices.Equal(out[0].Value, []byte{1, 14, 2, 'x'}) {
		t.Errorf("the changelog has %v, want version 1, the time, and the value", out)
	}
}

var versioned = streams.Store[string, string]{Name: "rows", Versioned: time.Hour, Traced: true}

func TestAJoinLinksToTheRecordOfTheVersion(t *testing.T) {
	tr := newTracer()
	d := drive(t, func(b *streams.Builder) {
		table := b.Table(rows, versioned)
		b.Stream(words).JoinTable(table, func(_, v, row string) (string, error) { return v + row, nil }).To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(rows, "a", "1", at(10), from(1, true))
	d.Send(rows, "a", "2", at(20), from(2, true))
	d.Send(rows, "a", "3", at(30))
	d.Restart()
	d.Send(words, "a", "x", at(15), from(4, true))
	d.Send(words, "a", "x", at(25), from(5, true))
	d.Send(words, "a", "x", at(35), from(6, true))
	wantLinks(t, tr.span(t, "process words", 4), tr.span(t, "process table", 1))
	wantLinks(t, tr.span(t, "process words", 5), tr.span(t, "process table", 2))
	wantLinks(t, tr.span(t, "process words", 6)) // of a version that nobody sampled
}

func TestProcessorsLinkToTheVersionsThatTheyRead(t *testing.T) {
	tr := newTracer()
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).Process("p", func(task *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
			st := task.VersionedStore(versioned)
			return func(_ context.Context, r streams.Record[string, string]) error {
				if r.Value == "put" {
					_, err := st.Put(r.Key, r.Value, r.Time)
					return err
				}
				_, _, err := st.GetAsOf(r.Key, time.UnixMilli(15))
				return err
			}, nil
		}, versioned).To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(words, "a", "put", at(10), from(1, true))
	d.Send(words, "a", "put", at(20), from(2, true))
	d.Send(words, "a", "get", at(30), from(3, true))
	wantLinks(t, tr.span(t, "process words", 3), tr.span(t, "process words", 1))
}

// Rows of a global table link to the span that sent their record: each instance reads them, and none has a span for that.
func TestAJoinLinksToTheSenderOfAGlobalRow(t *testing.T) {
	for name, traced := range map[string]bool{"traced": true, "not traced": false} {
		t.Run(name, func(t *testing.T) {
			tr := newTracer()
			d := drive(t, func(b *streams.Builder) {
				table := b.GlobalTable(rows, streams.Store[string, string]{Name: "rows", Traced: traced})
				b.Stream(words).JoinGlobal(table, func(k, _ string) (string, bool) { return k, true }, func(_, v, row string) (string, error) { return v + row, nil }).
					To(streams.Topic[string, string]{Name: "out"})
			}, tr.cfg)
			d.Send(rows, "a", "1", at(1), from(1, true))
			d.Send(words, "a", "x", at(2), from(2, true))
			d.Send(words, "a", "x", at(3), from(3, true)) // the row is known by now
			d.Send(rows, "a", "2", at(4))
			d.Send(words, "a", "x", at(5), from(5, true))
			var want []trace.SpanID
			if traced {
				want = append(want, trace.SpanID{7: 1})
			}
			for n := 2; n <= 3; n++ {
				if got := links(tr.span(t, "process words", n)); !slices.Equal(got, want) {
					t.Errorf("record %d has links %v, want %v", n, got, want)
				}
			}
			wantLinks(t, tr.span(t, "process words", 5))
			for _, s := range tr.Ended() {
				if s.Name() == "process table" {
					t.Error("a record of a global table has a span")
				}
			}
		})
	}
}

// A processor that fills a global store leaves contexts, too, and another one that reads it links to them.
func TestProcessorsLinkToGlobalRows(t *testing.T) {
	tr := newTracer()
	store := streams.Store[string, string]{Name: "rows", Traced: true}
	d := drive(t, func(b *streams.Builder) {
		b.GlobalStore(rows, store, func(task *streams.Task) (streams.Processor[string, string], error) {
			st := task.Store(store)
			return func(_ context.Context, r streams.Record[string, string]) error { return st.Put(r.Key, r.Value) }, nil
		})
		b.Stream(words).Process("p", func(task *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
			st := task.Store(store)
			return func(_ context.Context, r streams.Record[string, string]) error {
				_, _, err := st.Get(r.Key)
				return err
			}, nil
		}).To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(rows, "a", "1", at(1), from(1, true))
	d.Send(words, "a", "x", at(2), from(2, true))
	if got, want := links(tr.span(t, "process words", 2)), []trace.SpanID{{7: 1}}; !slices.Equal(got, want) {
		t.Errorf("links %v, want %v", got, want)
	}
}
