package dsltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/streamstest"
	"github.com/twmb/franz-go/pkg/kgo"
)

// tracer records every span. Its sampler wants all that Leat begins by itself.
type tracer struct {
	*tracetest.SpanRecorder
	cfg streams.Config
}

func newTracer(more ...func(*streams.Config)) tracer {
	r := tracetest.NewSpanRecorder()
	tr := tracer{r, streams.Config{TracerProvider: sdk.NewTracerProvider(sdk.WithSpanProcessor(r))}}
	for _, f := range more {
		f(&tr.cfg)
	}
	return tr
}

// from gives a record the context of a producer: of trace n, sampled or not.
func from(n int, sampled bool) streamstest.Option {
	return streamstest.Headers(streams.Header{Key: "traceparent", Value: fmt.Appendf(nil, "00-%032x-%016x-0%d", n, n, map[bool]int{true: 1}[sampled])})
}

// span returns the one ended span of that name in trace n; 0: in any.
func (tr tracer) span(t *testing.T, name string, n int) sdk.ReadOnlySpan {
	t.Helper()
	var found []sdk.ReadOnlySpan
	for _, s := range tr.Ended() {
		if s.Name() == name && (n == 0 || s.SpanContext().TraceID().String() == fmt.Sprintf("%032x", n)) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		var all []string
		for _, s := range tr.Ended() {
			all = append(all, s.Name()+" of "+s.SpanContext().TraceID().String())
		}
		t.Fatalf("%d spans %q of trace %d, want 1 of %q", len(found), name, n, all)
	}
	return found[0]
}

// links are the span ids that a span is linked to.
func links(s sdk.ReadOnlySpan) (ids []trace.SpanID) {
	for _, l := range s.Links() {
		ids = append(ids, l.SpanContext.SpanID())
	}
	return ids
}

func wantLinks(t *testing.T, s sdk.ReadOnlySpan, to ...sdk.ReadOnlySpan) {
	t.Helper()
	var want []trace.SpanID
	for _, x := range to {
		want = append(want, x.SpanContext().SpanID())
	}
	if got := links(s); !slices.Equal(got, want) {
		t.Errorf("span %q has links %v, want %v", s.Name(), got, want)
	}
}

func parent(r *kgo.Record) string {
	for _, h := range r.Headers {
		if h.Key == "traceparent" {
			return string(h.Value)
		}
	}
	return ""
}

// One trace goes from the producer's span by a repartition and an aggregate to the result.
func TestATraceGoesThroughTheTopology(t *testing.T) {
	tr := newTracer()
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).GroupBy(func(k, _ string) string { return k[:1] }).
			Count(streams.Store[string, int64]{Name: "n"}).
			ToStream().MapValues(func(_ string, n int64) (*int64, error) { return &n, nil }).To(results)
	}, tr.cfg)
	d.Send(words, "apple", "x", at(5), from(7, true))
	out := d.ReadRaw("results")
	if len(out) != 1 || !strings.HasPrefix(parent(out[0]), fmt.Sprintf("00-%032x-", 7)) || !strings.HasSuffix(parent(out[0]), "-01") {
		t.Fatalf("results %v, want one of trace 7", out)
	}
	chain := []string{"process words", "send test-n-repartition", "process test-n-repartition", "send results"}
	up := fmt.Sprintf("%016x", 7)
	for _, name := range chain {
		s := tr.span(t, name, 7)
		if s.Parent().SpanID().String() != up {
			t.Errorf("span %q is a child of %s, want %s", name, s.Parent().SpanID(), up)
		}
		up = s.SpanContext().SpanID().String()
	}
	if !strings.Contains(parent(out[0]), up) {
		t.Errorf("the result continues %s, want span %s", parent(out[0]), up)
	}
	process := tr.span(t, "process words", 7)
	got := map[string]string{}
	for _, a := range process.Attributes() {
		got[string(a.Key)] = a.Value.Emit()
	}
	for k, v := range map[string]string{"messaging.system": "kafka", "messaging.operation.type": "process", "messaging.destination.name": "words",
		"messaging.destination.partition.id": "0", "messaging.kafka.offset": "0", "messaging.consumer.group.name": "test", "leat.task": "0_0"} {
		if got[k] != v {
			t.Errorf("attribute %s is %q, want %q", k, got[k], v)
		}
	}
	if process.SpanKind() != trace.SpanKindConsumer || tr.span(t, "send results", 7).SpanKind() != trace.SpanKindProducer {
		t.Error("a record is processed by a consumer's span, and sent by a producer's")
	}
}

// A context that is not sampled passes as it is, and a record without one is not traced.
func TestOnlySampledRecordsAreTraced(t *testing.T) {
	tr := newTracer()
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(words, "a", "x", from(7, false))
	d.Send(words, "a", "x")
	d.Send(words, "a", "x", streamstest.Headers(streams.Header{Key: "traceparent", Value: []byte("00-garbage-01")}))
	out := d.ReadRaw("out")
	if len(tr.Started()) != 0 || parent(out[0]) != fmt.Sprintf("00-%032x-%016x-00", 7, 7) || len(out[1].Headers) != 0 || parent(out[2]) != "00-garbage-01" {
		t.Errorf("%d spans, results %v: want none, and the headers as they came", len(tr.Started()), out)
	}
}

// Of several records that went into one update the last one's trace goes on, with links to the others.
func TestAnUpdateLinksToAllThatWentIntoIt(t *testing.T) {
	tr := newTracer()
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).GroupByKey().Count(streams.Store[string, int64]{Name: "n"}).ToStream().
			MapValues(func(_ string, n int64) (*int64, error) { return &n, nil }).To(results)
	}, tr.cfg)
	d.Together(func() {
		for n := 1; n <= 3; n++ {
			d.Send(words, "a", "x", from(n, true))
		}
	})
	send := tr.span(t, "send results", 3)
	if send.Parent().SpanID() != tr.span(t, "process words", 3).SpanContext().SpanID() {
		t.Error("the result is not a child of the last record's span")
	}
	wantLinks(t, send, tr.span(t, "process words", 1), tr.span(t, "process words", 2))
}

func TestSuppressedResultsLinkToTheirRecord(t *testing.T) {
	tr := newTracer()
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).GroupByKey().Count(streams.Store[string, int64]{Name: "n"}).
			Suppress(streams.Suppression{Name: "sup", Wait: 10 * time.Millisecond}).ToStream().
			MapValues(func(_ string, n int64) (*int64, error) { return &n, nil }).To(results)
	}, tr.cfg)
	d.Send(words, "a", "x", at(1), from(1, true))
	d.Restart() // the buffer's state carries the context
	d.Send(words, "b", "x", at(20), from(2, true))
	out := d.ReadRaw("results")
	if len(out) != 1 {
		t.Fatalf("%d results, want 1", len(out))
	}
	send := tr.span(t, "send results", 0)
	wantLinks(t, send, tr.span(t, "process words", 1))
	if send.Parent().IsValid() || !strings.Contains(parent(out[0]), send.SpanContext().TraceID().String()) {
		t.Errorf("the result continues %s; want a trace of its own", parent(out[0]))
	}
}

// joinedTable joins words with a table that is traced or not.
func joinedTable(traced bool) func(b *streams.Builder) {
	return func(b *streams.Builder) {
		table := b.Table(streams.Topic[string, string]{Name: "table"}, streams.Store[string, string]{Name: "rows", Traced: traced})
		b.Stream(words).JoinTable(table, func(_, v, row string) (string, error) { return v + row, nil }).
			To(streams.Topic[string, string]{Name: "out"})
	}
}

var rows = streams.Topic[string, string]{Name: "table"}

func TestAJoinLinksToTheRecordOfTheRow(t *testing.T) {
	tr := newTracer()
	d := drive(t, joinedTable(true), tr.cfg)
	d.Send(rows, "a", "1", at(1), from(1, true))
	d.Send(words, "a", "x", at(2), from(2, true))
	wantLinks(t, tr.span(t, "process words", 2), tr.span(t, "process table", 1))
	d.Restart()
	d.Send(words, "a", "y", at(3), from(3, true))
	wantLinks(t, tr.span(t, "process words", 3), tr.span(t, "process table", 1))
	d.Send(rows, "a", "2", at(4)) // nobody traced this one
	d.Send(words, "a", "z", at(5), from(5, true))
	wantLinks(t, tr.span(t, "process words", 5))
	if all := d.ReadRaw("test-rows-changelog"); len(all) != 2 || len(all[0].Headers) != 0 || string(all[0].Value) != "1" {
		t.Errorf("the changelog has %v, want the two rows as they are without traces", all)
	}
	if marks := d.ReadRaw("test-rows-traces-changelog"); len(marks) != 1 || len(marks[0].Value) != 32 {
		t.Errorf("the contexts' changelog has %v, want one", marks)
	}
}

func TestWithoutTracedAJoinHasNoLink(t *testing.T) {
	tr := newTracer()
	d := drive(t, joinedTable(false), tr.cfg)
	d.Send(rows, "a", "1", at(1), from(1, true))
	d.Send(words, "a", "x", at(2), from(2, true))
	wantLinks(t, tr.span(t, "process words", 2))
}

// Of two tables the update goes out when the stores are flushed: its span links to the other table's row.
func TestAJoinOfTablesLinksToTheOtherRow(t *testing.T) {
	tr := newTracer()
	d := drive(t, func(b *streams.Builder) {
		l := b.Table(streams.Topic[string, string]{Name: "words"}, streams.Store[string, string]{Name: "l", Traced: true})
		r := b.Table(rows, streams.Store[string, string]{Name: "r", Traced: true})
		l.Join(r, func(_, l, r string) (string, error) { return l + r, nil }).ToStream().To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(rows, "a", "1", at(1), from(1, true))
	d.Send(words, "a", "x", at(2), from(2, true))
	wantLinks(t, tr.span(t, "send out", 2), tr.span(t, "process table", 1))
}

func TestAStreamJoinLinksToItsPartner(t *testing.T) {
	tr := newTracer()
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).Join("j", b.Stream(rows), streams.Within(time.Second), func(_, l, r string) (string, error) { return l + r, nil }).
			To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(rows, "a", "1", at(1), from(1, true))
	d.Restart()
	d.Send(words, "a", "x", at(2), from(2, true))
	wantLinks(t, tr.span(t, "process words", 2), tr.span(t, "process table", 1))
	if tr.span(t, "send out", 2).Parent().SpanID() != tr.span(t, "process words", 2).SpanContext().SpanID() {
		t.Error("the result is not a child of the record that made it")
	}
}

func TestFinalWindowsLinkToTheirRecord(t *testing.T) {
	counted := streams.Topic[streams.Windowed[string], int64]{Name: "counted"}
	for name, build := range map[string]func(b *streams.Builder){
		"time": func(b *streams.Builder) {
			b.Stream(words).GroupByKey().WindowedBy(streams.Tumbling(10 * time.Millisecond)).Final().
				Count(streams.WindowStore[string, int64]{Name: "w", Traced: true}).To(counted)
		},
		"session": func(b *streams.Builder) {
			b.Stream(words).GroupByKey().WindowedBySession(streams.Session(5 * time.Millisecond)).Final().
				Count(streams.SessionStore[string, int64]{Name: "w", Traced: true}).To(counted)
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTracer()
			d := drive(t, build, tr.cfg)
			d.Send(words, "a", "x", at(1), from(1, true))
			d.Send(words, "a", "x", at(2), from(2, true))
			d.Restart()
			d.Send(words, "b", "x", at(100), from(3, true))
			send := tr.span(t, "send counted", 0)
			wantLinks(t, send, tr.span(t, "process words", 2))
			if send.Parent().IsValid() {
				t.Error("a final result is the child of a record")
			}
		})
	}
}

// What a punctuator makes of rows links to the records that wrote them.
func TestPunctuatorsLinkToTheRowsThatTheyRead(t *testing.T) {
	tr := newTracer()
	store := streams.Store[string, string]{Name: "s", Traced: true}
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).Process("p", func(task *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
			st := task.Store(store)
			task.Every(time.Second, streams.WallClock, func(context.Context, time.Time) error {
				for k, v := range st.All() {
					if err := emit(streams.Record[string, string]{Key: k, Value: v}); err != nil {
						return err
					}
				}
				return st.Err()
			})
			return func(_ context.Context, r streams.Record[string, string]) error { return st.Put(r.Key, r.Value) }, nil
		}, store).To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(words, "a", "x", at(1), from(1, true))
	d.Send(words, "b", "x", at(2))
	d.Send(words, "c", "x", at(3), from(3, true))
	d.Advance(2 * time.Second)
	var linked [][]trace.SpanID
	for _, s := range tr.Ended() {
		if s.Name() == "send out" {
			linked = append(linked, links(s))
		}
	}
	want := [][]trace.SpanID{{tr.span(t, "process words", 1).SpanContext().SpanID()}, {tr.span(t, "process words", 3).SpanContext().SpanID()}}
	if fmt.Sprint(linked) != fmt.Sprint(want) {
		t.Errorf("what the punctuator sent has links %v, want %v", linked, want)
	}
}

// A processor has the span in its context, and what it emits goes on in the trace though it gives no headers.
func TestProcessorsAreInTheTrace(t *testing.T) {
	tr := newTracer()
	var seen trace.SpanContext
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).Process("p", func(_ *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
			return func(ctx context.Context, r streams.Record[string, string]) error {
				seen = trace.SpanContextFromContext(ctx)
				return emit(streams.Record[string, string]{Key: r.Key, Value: r.Value})
			}, nil
		}).To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(words, "a", "x", from(1, true))
	process := tr.span(t, "process words", 1)
	if !seen.Equal(process.SpanContext()) || tr.span(t, "send out", 1).Parent().SpanID() != process.SpanContext().SpanID() {
		t.Errorf("the processor saw %v, want %v, and its result as a child of it", seen, process.SpanContext())
	}
}

// An error is on the record's span, and the dead letter continues it.
func TestErrorsAreOnTheSpan(t *testing.T) {
	tr := newTracer(func(c *streams.Config) {
		c.OnError = func(context.Context, *streams.RecordError) streams.Decision { return streams.DeadLetter("dead") }
	})
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).MapValues(func(string, string) (string, error) { return "", errors.New("no") }).
			To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(words, "a", "x", from(1, true))
	process := tr.span(t, "process words", 1)
	if process.Status().Description != "no" || len(process.Events()) != 1 {
		t.Errorf("the span has status %v and events %v, want the error", process.Status(), process.Events())
	}
	send := tr.span(t, "send dead", 1)
	if letters := d.ReadRaw("dead"); len(letters) != 1 || !strings.Contains(parent(letters[0]), send.SpanContext().SpanID().String()) ||
		send.Parent().SpanID() != process.SpanContext().SpanID() {
		t.Errorf("the letter %v does not go on from the record's span", letters)
	}
}

func TestTraceLinks(t *testing.T) {
	tr := newTracer(func(c *streams.Config) { c.TraceLinks = true })
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).To(streams.Topic[string, string]{Name: "out"})
	}, tr.cfg)
	d.Send(words, "a", "x", from(1, true))
	process := tr.span(t, "process words", 0)
	if got := links(process); process.Parent().IsValid() || len(got) != 1 || got[0].String() != fmt.Sprintf("%016x", 1) {
		t.Errorf("the span is a child of %v with links %v, want a trace of its own, linked to the sender", process.Parent(), got)
	}
}

// The contexts of a traced store are nobody's state: with them or without, the topology is the same one.
func TestTracedIsNotPartOfTheManifest(t *testing.T) {
	build := func(traced bool) streams.Manifest {
		var b streams.Builder
		joinedTable(traced)(&b)
		topology, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return topology.Manifest()
	}
	if p := streams.PlanChanges(build(true), build(false)); len(p.Changes) > 0 {
		t.Errorf("without traces the plan is\n%s", p)
	}
}

// A record that is not sampled costs no allocation with a provider either.
func TestUnsampledRecordsCostNoAllocation(t *testing.T) {
	var b streams.Builder
	b.Stream(words).MapValues(func(_, v string) (string, error) { return v, nil }).ForEach(func(string, string) error { return nil })
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	for name, provider := range map[string]trace.TracerProvider{"off": nil, "on": sdk.NewTracerProvider()} {
		env := &engine.Env{AppID: "test", Tracer: provider, Send: func(*kgo.Record) {}}
		task, err := started(topology.Engine(), env)
		if err != nil {
			t.Fatal(err)
		}
		r := &kgo.Record{Topic: "words", Key: []byte{}, Value: []byte{}, Timestamp: time.UnixMilli(1),
			Headers: []kgo.RecordHeader{{Key: "traceparent", Value: fmt.Appendf(nil, "00-%032x-%016x-00", 1, 1)}}}
		recs := []*kgo.Record{nil}
		if n := testing.AllocsPerRun(100, func() {
			recs[0] = r
			task.Enqueue("words", 0, recs)
			if n, err := task.Process(1); n != 1 || err != nil {
				t.Fatalf("processed %d, %v", n, err)
			}
		}); n != 0 {
			t.Errorf("traces %s: %v allocations a record, want 0", name, n)
		}
		if err := task.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
