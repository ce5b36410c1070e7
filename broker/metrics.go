package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics are the broker's OpenTelemetry instruments; docs/broker-security.md lists them. A nil *metrics, which is what there is
// without a MeterProvider, measures nothing and costs nothing. Safe for concurrent use.
type metrics struct {
	duration  metric.Float64Histogram
	network   metric.Int64Counter
	throttled metric.Float64Counter
	refused   metric.Int64Counter
	failed    metric.Int64Counter
	denied    metric.Int64Counter

	// Attributes made beforehand: what is measured for each request allocates nothing.
	ofAPI       [len(routeTable{})][]metric.RecordOption
	in, out     []metric.AddOption
	observation metric.Registration
}

const meterName = "github.com/leatstream/leat/broker"

// instrument makes the instruments, if there is a provider. Those that are observed read the broker when they are collected.
func (b *Broker) instrument() error {
	if b.cfg.MeterProvider == nil {
		return nil
	}
	meter := b.cfg.MeterProvider.Meter(meterName)
	m := &metrics{}
	var err error
	note := func(e error) {
		if err == nil && e != nil {
			err = fmt.Errorf("make metrics: %w", e)
		}
	}
	counter := func(name, unit, text string) metric.Int64Counter {
		c, e := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
		note(e)
		return c
	}
	var e error
	m.duration, e = meter.Float64Histogram("leat.broker.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Time to serve a request, by API, without waiting for data, members or the disk"),
		metric.WithExplicitBucketBoundaries(.00001, .00003, .0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3))
	note(e)
	m.throttled, e = meter.Float64Counter("leat.broker.throttle.time", metric.WithUnit("s"), metric.WithDescription("Time that clients were made to wait by their quotas"))
	note(e)
	m.network = counter("leat.broker.network.io", "By", "Bytes of requests and responses, by direction")
	m.refused = counter("leat.broker.connections.refused", "{connection}", "Connections that were closed as they came, because of a limit")
	m.failed = counter("leat.broker.authentication.failures", "{attempt}", "SASL authentications that failed")
	m.denied = counter("leat.broker.authorization.denials", "{question}", "Operations on resources that access control lists did not allow")
	for key, row := range b.routes {
		if row != nil {
			name := attribute.String("api", kmsg.NameForKey(int16(key)))
			m.ofAPI[key] = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(name))}
		}
	}
	m.in = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("direction", "in")))}
	m.out = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("direction", "out")))}
	if err == nil {
		m.observation, err = b.observe(meter)
	}
	b.metrics = m
	return err
}

// observe makes the instruments that are read when they are collected.
func (b *Broker) observe(meter metric.Meter) (metric.Registration, error) {
	var all []metric.Observable
	var err error
	gauge := func(name, unit, text string) metric.Int64ObservableGauge {
		g, e := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
		if err == nil {
			err = e
		}
		all = append(all, g)
		return g
	}
	connections := gauge("leat.broker.connections", "{connection}", "Open connections")
	topics := gauge("leat.broker.topics", "{topic}", "Topics, internal ones included")
	partitions := gauge("leat.broker.partitions", "{partition}", "Partitions, those of internal topics included")
	failed := gauge("leat.broker.partitions.failed", "{partition}", "Partitions that take no records: the disk failed under them, or their files are damaged")
	size := gauge("leat.broker.log.size", "By", "Bytes of all partitions")
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		b.open.Lock()
		conns := b.open.conns
		b.open.Unlock()
		table := b.topics.Load()
		o.ObserveInt64(connections, int64(conns))
		o.ObserveInt64(topics, int64(len(table.byName)))
		o.ObserveInt64(partitions, int64(table.partitions))
		var bytes, unusable int64
		for _, t := range table.byName {
			for _, l := range t.parts {
				bytes += l.Size()
				if l.Usable() != nil {
					unusable++
				}
			}
		}
		o.ObserveInt64(size, bytes)
		o.ObserveInt64(failed, unusable)
		return nil
	}, all...)
}

// request notes a request that its handler is done with.
func (m *metrics) request(key int16, bytes int, took time.Duration) {
	if m == nil {
		return
	}
	ctx := context.Background()
	m.duration.Record(ctx, took.Seconds(), m.ofAPI[key]...)
	m.network.Add(ctx, int64(bytes+sizePrefixBytes), m.in...)
}

// response notes the bytes of an answer.
func (m *metrics) response(bytes int) {
	if m != nil {
		m.network.Add(context.Background(), int64(bytes), m.out...)
	}
}

// rested notes that a client had to wait.
func (m *metrics) rested(d time.Duration) {
	if m != nil {
		m.throttled.Add(context.Background(), d.Seconds())
	}
}

// refusal notes a connection that a limit kept out.
func (m *metrics) refusal() {
	if m != nil {
		m.refused.Add(context.Background(), 1)
	}
}

// failure notes an authentication that failed.
func (m *metrics) failure() {
	if m != nil {
		m.failed.Add(context.Background(), 1)
	}
}

// denial notes what an access control list did not allow.
func (m *metrics) denial() {
	if m != nil {
		m.denied.Add(context.Background(), 1)
	}
}

// close ends the collection of what is observed.
func (m *metrics) close() error {
	if m == nil || m.observation == nil {
		return nil
	}
	return m.observation.Unregister()
}
