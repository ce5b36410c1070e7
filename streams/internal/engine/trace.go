package engine

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Trace is the tracing of one task (OpenTelemetry, W3C trace context in record headers); nil does nothing, and costs nothing.
//
// The context travels in the headers: a sampled record gets a span while it is processed, and for that time its traceparent
// is that span's. So whatever keeps headers, which is everything that keeps records (joins, suppressions, calls, the updates
// that wait for a commit), keeps the context with them, and each record that is sent continues the context that is in its
// headers. What is made of state rather than of a record has links instead. A record whose context is not sampled, or that
// has none, is passed on as it came.
type Trace struct {
	tracer trace.Tracer
	linked bool // a record's span begins a trace of its own
	group  string
	task   string

	work *WorkTrace // whose commits and polls have spans of their own; nil: nobody's

	span   trace.Span // of the record in hand; nil: it is not sampled
	header []byte     // its traceparent
	links  []trace.SpanContext
	names  map[string]string // "send t" by topic
}

// maxLinks bounds the links of one span, and those that wait for one.
const maxLinks = 32

const (
	traceParent = "traceparent"
	traceState  = "tracestate"
	tracerName  = "github.com/leatstream/leat/streams"
)

func newTrace(e *Env, id TaskID) *Trace {
	if e.Tracer == nil {
		return nil
	}
	return &Trace{tracer: e.Tracer.Tracer(tracerName), linked: e.TraceLinks, group: e.AppID, task: id.String(), work: e.Work, names: map[string]string{}}
}

// TraceContext is the span's context that headers carry, if there is one and it is sampled.
func TraceContext(headers []kgo.RecordHeader) (sc trace.SpanContext, ok bool) {
	for i := range headers {
		if h := &headers[i]; h.Key == traceParent && sampled(h.Value) {
			ctx := propagation.TraceContext{}.Extract(context.Background(), headerCarrier(headers))
			sc = trace.SpanContextFromContext(ctx)
			return sc, sc.IsValid() && sc.IsSampled()
		}
	}
	return sc, false
}

// sampled looks at the flags of a traceparent: 00-<32 of trace>-<16 of span>-<2 of flags>.
func sampled(parent []byte) bool {
	if len(parent) < 55 || parent[2] != '-' || parent[52] != '-' {
		return false
	}
	flags, err := strconv.ParseUint(string(parent[53:55]), 16, 8)
	return err == nil && flags&1 != 0
}

// headerCarrier is a record's headers as the propagator reads them.
type headerCarrier []kgo.RecordHeader

func (c headerCarrier) Get(key string) string {
	for _, h := range c {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func (c headerCarrier) Set(string, string) {}
func (c headerCarrier) Keys() []string     { return []string{traceParent, traceState} }

// withContext returns a copy of headers that carries sc and no other context; without a valid sc none.
func withContext(headers []kgo.RecordHeader, sc trace.SpanContext) []kgo.RecordHeader {
	out := make([]kgo.RecordHeader, 0, len(headers)+2)
	for _, h := range headers {
		if h.Key != traceParent && h.Key != traceState {
			out = append(out, h)
		}
	}
	if !sc.IsValid() {
		return out
	}
	set := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), sc), set)
	for _, key := range []string{traceParent, traceState} {
		if v := set[key]; v != "" {
			out = append(out, kgo.RecordHeader{Key: key, Value: []byte(v)})
		}
	}
	return out
}

// begin starts the span of the record that c has in hand, if its context is sampled.
func (tr *Trace) begin(c *Cursor, r *kgo.Record) {
	if tr == nil {
		return
	}
	tr.links = tr.links[:0]
	parent, ok := TraceContext(r.Headers)
	if !ok {
		return
	}
	at := []attribute.KeyValue{
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", r.Topic),
		attribute.String("messaging.destination.partition.id", strconv.Itoa(int(r.Partition))),
		attribute.Int64("messaging.kafka.offset", r.Offset),
		attribute.String("messaging.consumer.group.name", tr.group), attribute.String("leat.task", tr.task),
	}
	if r.Value == nil {
		at = append(at, attribute.Bool("messaging.kafka.message.tombstone", true))
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(at...)}
	ctx := context.Background()
	if tr.linked {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: parent}))
	} else {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	_, span := tr.tracer.Start(ctx, "process "+r.Topic, opts...)
	if !span.SpanContext().IsSampled() { // the provider's sampler does not want it
		span.End()
		c.Headers = withContext(r.Headers, span.SpanContext())
		return
	}
	tr.span = span
	tr.work.processed(span.SpanContext())
	c.Headers = withContext(r.Headers, span.SpanContext())
	tr.header = []byte(headerCarrier(c.Headers).Get(traceParent))
}

// end ends the span of the record in hand.
func (tr *Trace) end() {
	if tr != nil && tr.span != nil {
		tr.span.End()
		tr.span, tr.header = nil, nil
	}
}

// failed notes an error of the record in hand.
func (tr *Trace) failed(phase Phase, cause error) {
	if tr == nil || tr.span == nil {
		return
	}
	tr.span.RecordError(cause)
	tr.span.SetAttributes(attribute.String("error.type", string(phase)))
	tr.span.SetStatus(codes.Error, cause.Error())
}

// Context is ctx with the span of the record in hand, for user code.
func (tr *Trace) Context(ctx context.Context) context.Context {
	if tr == nil || tr.span == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, tr.span)
}

// Carry returns the headers of a record that user code emits: with the context of the record in hand, unless they have one.
func (tr *Trace) Carry(headers []kgo.RecordHeader) []kgo.RecordHeader {
	if tr == nil || tr.span == nil || headerCarrier(headers).Get(traceParent) != "" {
		return headers
	}
	return withContext(headers, tr.span.SpanContext())
}

// letter returns the headers that a dead letter of src begins with: the context is that of src's span.
func (tr *Trace) letter(src *kgo.Record) []kgo.RecordHeader {
	if tr == nil || tr.span == nil {
		return src.Headers
	}
	return withContext(src.Headers, tr.span.SpanContext())
}

// Wants reports whether a link would have a span: that of the record whose headers c has, or the one under which a record is
// sent that is made of none.
func (tr *Trace) Wants(c *Cursor) bool {
	if tr == nil {
		return false
	}
	if _, ok := TraceContext(c.Headers); ok {
		return true
	}
	return c.Record == nil
}

// Link links what is made now to sc: the span of the record in hand, if what is made is of that record, else the spans under
// which the results are sent.
func (tr *Trace) Link(c *Cursor, sc trace.SpanContext) {
	if tr == nil || !sc.IsValid() {
		return
	}
	if tr.span != nil && headerCarrier(c.Headers).Get(traceParent) == string(tr.header) {
		if tr.span.SpanContext().SpanID() != sc.SpanID() {
			tr.span.AddLink(trace.Link{SpanContext: sc})
		}
		return
	}
	tr.links = addLink(tr.links, sc)
}

func addLink(links []trace.SpanContext, sc trace.SpanContext) []trace.SpanContext {
	for _, have := range links {
		if have.SpanID() == sc.SpanID() {
			return links
		}
	}
	if len(links) >= maxLinks {
		return links
	}
	return append(links, sc)
}

// LinkTo is Link to what headers carry.
func (tr *Trace) LinkTo(c *Cursor, headers []kgo.RecordHeader) {
	if tr == nil {
		return
	}
	if sc, ok := TraceContext(headers); ok {
		tr.Link(c, sc)
	}
}

// Replaced returns the links of a change that takes the place of one with these links and headers.
func (tr *Trace) Replaced(links []trace.SpanContext, headers []kgo.RecordHeader) []trace.SpanContext {
	if tr == nil {
		return nil
	}
	if sc, ok := TraceContext(headers); ok {
		links = addLink(links, sc)
	}
	for _, sc := range tr.links {
		links = addLink(links, sc)
	}
	return links
}

// Behind says that what follows is not made of the record in hand, but of what is linked to: a change that others went into.
// It returns what is to be given back to Again.
func (tr *Trace) Behind(links []trace.SpanContext) []trace.SpanContext {
	if tr == nil {
		return nil
	}
	was := tr.links
	tr.links = links
	return was
}

// Again ends Behind.
func (tr *Trace) Again(was []trace.SpanContext) {
	if tr != nil {
		tr.links = was
	}
}

// Apart is Behind for what comes out of state long after its record: it begins a trace, with a link to the one in headers.
// It returns the headers without it.
func (tr *Trace) Apart(headers []kgo.RecordHeader) (rest []kgo.RecordHeader, was []trace.SpanContext) {
	if tr == nil {
		return headers, nil
	}
	sc, ok := TraceContext(headers)
	if !ok {
		return headers, tr.Behind(nil)
	}
	return withContext(headers, trace.SpanContext{}), tr.Behind([]trace.SpanContext{sc})
}

// Of says that what follows is made of several records, with these contexts, the one in hand maybe among them: it goes on
// from that one if it is sampled, with links to the others, and else begins a trace with links to all. It returns the headers
// for it, which have nothing but the context, and what is to be given back to Again.
func (tr *Trace) Of(headers []kgo.RecordHeader, of []Mark) (context []kgo.RecordHeader, was []trace.SpanContext) {
	if tr == nil {
		return nil, nil
	}
	own, ok := TraceContext(headers)
	if ok {
		context = withContext(nil, own)
	}
	var links []trace.SpanContext
	for _, m := range of {
		if sc := m.Context(); !ok || sc.SpanID() != own.SpanID() {
			links = addLink(links, sc)
		}
	}
	return context, tr.Behind(links)
}

// Forget drops the links that wait: what was read belongs to a result that is out.
func (tr *Trace) Forget() {
	if tr != nil && tr.span == nil {
		tr.links = tr.links[:0:0]
	}
}

// sending starts the span of a record that is being sent, which Sent ends: the record carries it on.
func (tr *Trace) sending(r *kgo.Record) {
	if tr == nil {
		return
	}
	parent, ok := TraceContext(r.Headers)
	if !ok && (len(tr.links) == 0 || headerCarrier(r.Headers).Get(traceParent) != "") {
		return
	}
	name := tr.names[r.Topic]
	if name == "" {
		name = "send " + r.Topic
		tr.names[r.Topic] = name
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.operation.name", "send"), attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", r.Topic), attribute.String("leat.task", tr.task))}
	for _, sc := range tr.links {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: sc}))
	}
	ctx := context.Background()
	if ok {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	ctx, span := tr.tracer.Start(ctx, name, opts...)
	r.Headers = withContext(r.Headers, span.SpanContext())
	r.Context = ctx
}

// Sent ends the span of a record that the log has, or will never have. Any goroutine may call it.
func Sent(r *kgo.Record, err error) {
	if r.Context == nil {
		return
	}
	span := trace.SpanFromContext(r.Context)
	if !span.IsRecording() {
		return
	}
	if err != nil {
		span.RecordError(err)
		span.SetAttributes(attribute.String("error.type", string(Producing)))
		span.SetStatus(codes.Error, err.Error())
	} else {
		span.SetAttributes(attribute.String("messaging.destination.partition.id", strconv.Itoa(int(r.Partition))),
			attribute.Int64("messaging.kafka.offset", r.Offset))
	}
	span.End()
}

// Mark is a span's context as a store keeps it with a row: of the record that wrote the row, and that record's time.
type Mark struct {
	Trace trace.TraceID
	Span  trace.SpanID
	Time  int64 // of the row, in milliseconds: the mark of a row that has another one since is stale
}

// Mark is the mark that the record in hand leaves, if it is sampled.
func (tr *Trace) Mark(c *Cursor, at int64) (m Mark, ok bool) {
	if tr == nil {
		return m, false
	}
	return MarkOf(c, at)
}

// MarkOf is the mark of the context that the record in hand came with, whether tasks trace or not.
func MarkOf(c *Cursor, at int64) (m Mark, ok bool) {
	sc, ok := TraceContext(c.Headers)
	return Mark{sc.TraceID(), sc.SpanID(), at}, ok
}

// Context is the span's context that the mark was made of.
func (m Mark) Context() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: m.Trace, SpanID: m.Span, TraceFlags: trace.FlagsSampled, Remote: true})
}
