package runtime

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/leatstream/leat/streams/internal/engine"
)

// metrics are the OpenTelemetry instruments of an application. Tasks count in plain fields (engine.Counters), and what was
// counted is handed over after each commit, so that a record costs nothing more. A nil *metrics measures nothing.
type metrics struct {
	app       attribute.KeyValue
	processed metric.Int64Counter
	dropped   metric.Int64Counter
	polled    metric.Int64Counter
	commit    metric.Float64Histogram
	observed  metric.Registration
}

// dropReasons are the values of the attribute "reason", with where they are counted.
var dropReasons = []struct {
	name  string
	count func(*engine.Counters) int64
}{
	{"null", func(c *engine.Counters) int64 { return c.NullDropped }},
	{"late", func(c *engine.Counters) int64 { return c.Late }},
	{"duplicate", func(c *engine.Counters) int64 { return c.Duplicates }},
	{"skipped", func(c *engine.Counters) int64 { return c.Skipped }},
	{"dead_letter", func(c *engine.Counters) int64 { return c.DeadLetters }},
	{"bad_time", func(c *engine.Counters) int64 { return c.BadTime }},
}

func newMetrics(rt *Runtime, provider metric.MeterProvider) (m *metrics, err error) {
	if provider == nil {
		return nil, nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("make the instruments of the metrics: %w", err)
		}
	}()
	meter := provider.Meter("github.com/leatstream/leat/streams")
	m = &metrics{app: attribute.String("app", rt.cfg.AppID)}
	counter := func(name, unit, what string) (c metric.Int64Counter) {
		if err == nil {
			c, err = meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
		}
		return c
	}
	m.processed = counter("leat.stream.task.processed", "{record}", "Records taken by a task, counted at commits")
	m.dropped = counter("leat.stream.task.dropped", "{record}", "Records that had no effect, by reason, counted at commits")
	m.polled = counter("leat.stream.thread.polled", "{record}", "Records that a worker received")
	if err != nil {
		return nil, err
	}
	m.commit, err = meter.Float64Histogram("leat.stream.thread.commit.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from the flush of the stores to the end of the transaction"),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	if err != nil {
		return nil, err
	}
	return m, m.observe(rt, meter)
}

// observe registers what is looked up when somebody collects.
func (m *metrics) observe(rt *Runtime, meter metric.Meter) error {
	gauge := func(name, unit, what string) (metric.Int64ObservableGauge, error) {
		return meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
	}
	tasks, err := gauge("leat.stream.tasks", "{task}", "Tasks of the instance, by role")
	if err != nil {
		return err
	}
	lag, err := gauge("leat.stream.task.lag", "{record}", "Offsets of a task's inputs that are not committed")
	if err != nil {
		return err
	}
	remaining, err := gauge("leat.stream.task.restore.remaining", "{record}", "Changelog offsets that a task's state is behind, of tasks that do not run here")
	if err != nil {
		return err
	}
	restored, err := meter.Int64ObservableCounter("leat.stream.client.restored", metric.WithUnit("{record}"), metric.WithDescription("Changelog records replayed into state"))
	if err != nil {
		return err
	}
	m.observed, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		var roles [len(roleNames)]int64
		for _, s := range rt.Statuses() {
			roles[s.Role]++
			task := metric.WithAttributes(m.app, attribute.String("task", s.ID.String()))
			if s.Role == Running {
				o.ObserveInt64(lag, s.Lag, task)
			} else {
				o.ObserveInt64(remaining, s.Remaining, task)
			}
		}
		for r, n := range roles {
			o.ObserveInt64(tasks, n, metric.WithAttributes(m.app, attribute.String("role", roleNames[r])))
		}
		o.ObserveInt64(restored, rt.Restored(), metric.WithAttributes(m.app))
		return nil
	}, tasks, lag, remaining, restored)
	return err
}

var roleNames = [...]string{Restoring: "restoring", Running: "running", Standby: "standby", WarmUp: "warm-up"}

func (m *metrics) close() error {
	if m == nil {
		return nil
	}
	return m.observed.Unregister()
}

// measured is what a worker has handed over of its own.
type measured struct {
	polled int64 // records since the last commit
	thread metric.MeasurementOption
}

// taskMeasured is what was handed over of a task.
type taskMeasured struct {
	counters engine.Counters
	task     metric.MeasurementOption
	reasons  []metric.MeasurementOption
}

// committed hands over what a worker's tasks have counted. took is the time of the commit; 0 if there was none.
func (m *metrics) committed(ctx context.Context, w *worker, took time.Duration) {
	if m == nil {
		return
	}
	if w.measured.thread == nil {
		w.measured.thread = metric.WithAttributeSet(attribute.NewSet(m.app, attribute.Int("thread", w.n)))
	}
	m.commit.Record(ctx, took.Seconds(), w.measured.thread)
	m.polled.Add(ctx, w.measured.polled, w.measured.thread)
	w.measured.polled = 0
	for _, t := range w.tasks {
		if t.running {
			m.counted(ctx, t)
		}
	}
}

func (m *metrics) counted(ctx context.Context, t *task) {
	d := &t.measured
	if d.task == nil {
		id := attribute.String("task", t.id.String())
		d.task = metric.WithAttributeSet(attribute.NewSet(m.app, id))
		for _, r := range dropReasons {
			d.reasons = append(d.reasons, metric.WithAttributeSet(attribute.NewSet(m.app, id, attribute.String("reason", r.name))))
		}
	}
	now := t.engine.Counters
	if n := now.Processed - d.counters.Processed; n > 0 {
		m.processed.Add(ctx, n, d.task)
	}
	for i, r := range dropReasons {
		if n := r.count(&now) - r.count(&d.counters); n > 0 {
			m.dropped.Add(ctx, n, d.reasons[i])
		}
	}
	d.counters = now
}
