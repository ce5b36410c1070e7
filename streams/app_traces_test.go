package streams_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// wantWork wants a span of each poll that brought a record of the trace, with a link to what it brought, and one of each commit
// of such, with a link to how it was processed.
func wantWork(t *testing.T, all []sdk.ReadOnlySpan, b *bench, id string) {
	t.Helper()
	processed := map[string]bool{}
	for _, s := range all {
		if strings.HasPrefix(s.Name(), "process ") {
			processed[s.SpanContext().SpanID().String()] = true
		}
	}
	work := map[string]int{}
	for _, s := range all {
		name := s.Name()
		if name != "commit" && !strings.HasPrefix(name, "poll") {
			continue
		}
		work[name]++
		got := map[string]string{}
		for _, a := range s.Attributes() {
			got[string(a.Key)] = a.Value.Emit()
		}
		kind := map[bool]string{true: "settle", false: "receive"}[name == "commit"]
		if s.SpanKind() != trace.SpanKindClient || s.Parent().IsValid() || got["messaging.operation.type"] != kind || got["messaging.consumer.group.name"] != b.app {
			t.Errorf("span %q of kind %v has %v", name, s.SpanKind(), got)
		}
		if len(s.Links()) != 1 || s.Links()[0].SpanContext.TraceID().String() != id || (name == "commit") != processed[s.Links()[0].SpanContext.SpanID().String()] {
			t.Errorf("span %q has links %v", name, s.Links())
		}
	}
	if n := work["commit"]; n < 1 || n > 2 || work["poll "+b.in] != 1 || work["poll "+b.app+"-counts-repartition"] != 1 || len(work) != 3 {
		t.Errorf("work has the spans %v, want one of each poll, and one or two commits", work)
	}
}

// A sampled line is one trace to the count of its word, over the log and the repartition topic.
func TestATraceIsWhole(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		spans := tracetest.NewSpanRecorder()
		cfg := b.config("a")
		cfg.TracerProvider = sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
		app := b.start(cfg, nil)
		app.ready(t)
		const id, producer = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
		line := &kgo.Record{Topic: b.in, Key: []byte("k"), Value: []byte("word"),
			Headers: []kgo.RecordHeader{{Key: "traceparent", Value: []byte("00-" + id + "-" + producer + "-01")}}}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := b.client().ProduceSync(ctx, line).FirstErr(); err != nil {
			t.Fatal(err)
		}
		var got string
		out := b.client(kgo.ConsumeTopics(b.out), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		for got == "" && ctx.Err() == nil {
			out.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				for _, h := range r.Headers {
					if h.Key == "traceparent" {
						got = string(h.Value)
					}
				}
			})
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		parents, names := map[string]string{}, map[string]string{}
		for _, s := range spans.Ended() {
			if s.SpanContext().TraceID().String() == id {
				names[s.SpanContext().SpanID().String()] = strings.Fields(s.Name())[0]
				parents[s.SpanContext().SpanID().String()] = s.Parent().SpanID().String()
			}
		}
		if !strings.HasPrefix(got, "00-"+id+"-") {
			t.Fatalf("the result continues %q, want trace %s", got, id)
		}
		var way []string
		at := got[36:52]
		for ; names[at] != ""; at = parents[at] {
			way = append(way, names[at])
		}
		if want := "send process send process"; strings.Join(way, " ") != want || at != producer {
			t.Errorf("from the result back: %q to %s, want %q to %s", way, at, want, producer)
		}
		wantWork(t, spans.Ended(), b, id)
	})
}
