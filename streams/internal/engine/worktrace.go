package engine

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// WorkTrace is the tracing of what a worker does for many records at once: its polls ("receive", as OpenTelemetry's
// conventions for messaging call it) and its commits ("settle"). Only those that have to do with a sampled record get a span,
// which has links to such records, 32 at most, and begins a trace of its own. Its owner's goroutine uses it, and that of its
// tasks, which is the same one. nil does nothing, and costs nothing.
type WorkTrace struct {
	tracer trace.Tracer
	group  string
	worker int

	links   []trace.SpanContext // of the records processed since the last commit
	sampled int64               // how many these were
}

// NewWorkTrace returns nil without a provider.
func NewWorkTrace(p trace.TracerProvider, group string, worker int) *WorkTrace {
	if p == nil {
		return nil
	}
	return &WorkTrace{tracer: p.Tracer(tracerName), group: group, worker: worker}
}

// processed notes the span of a sampled record.
func (w *WorkTrace) processed(sc trace.SpanContext) {
	if w == nil {
		return
	}
	w.sampled++
	if len(w.links) < maxLinks {
		w.links = append(w.links, sc)
	}
}

// Forget drops what was noted: it is not going to be committed.
func (w *WorkTrace) Forget() {
	if w != nil {
		w.links, w.sampled = w.links[:0], 0
	}
}

// Polled makes the span of a poll that began then and has brought records, if any of them is sampled.
func (w *WorkTrace) Polled(began time.Time, fetches kgo.Fetches) {
	if w == nil {
		return
	}
	var links []trace.SpanContext
	n, topic, several := 0, "", false
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if n += len(p.Records); len(p.Records) == 0 {
			return
		}
		several = several || topic != "" && topic != p.Topic
		topic = p.Topic
		for _, r := range p.Records {
			if len(links) == maxLinks {
				return
			}
			if sc, ok := TraceContext(r.Headers); ok {
				links = append(links, sc)
			}
		}
	})
	if len(links) == 0 {
		return
	}
	name, at := "poll", w.attributes("poll", "receive", n)
	if !several {
		name += " " + topic
		at = append(at, attribute.String("messaging.destination.name", topic))
	}
	w.start(name, began, at, links).End()
}

// Commit begins the span of a commit that began then, if a sampled record was processed since the last one: one span for the
// whole transaction. The result ends it, and does nothing if there is none; n is the number of records.
func (w *WorkTrace) Commit(began time.Time, n int) (end func(error)) {
	if w == nil || w.sampled == 0 {
		return func(error) {}
	}
	at := append(w.attributes("commit", "settle", n), attribute.Int64("leat.sampled", w.sampled))
	span := w.start("commit", began, at, w.links)
	w.Forget()
	return func(err error) {
		if err != nil {
			span.RecordError(err)
			span.SetAttributes(attribute.String("error.type", "commit"))
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

func (w *WorkTrace) attributes(operation, kind string, n int) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.operation.name", operation), attribute.String("messaging.operation.type", kind),
		attribute.String("messaging.consumer.group.name", w.group),
		attribute.Int("messaging.batch.message_count", n), attribute.Int("leat.worker", w.worker),
	}
}

func (w *WorkTrace) start(name string, began time.Time, at []attribute.KeyValue, links []trace.SpanContext) trace.Span {
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(began), trace.WithAttributes(at...)}
	for _, sc := range links {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: sc}))
	}
	_, span := w.tracer.Start(context.Background(), name, opts...)
	return span
}
