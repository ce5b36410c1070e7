package streams_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

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
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
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
	})
}
