package streams_test

import (
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// sums collects the int64 metrics, summed over all attributes but those of want.
func sums(t *testing.T, r *metric.ManualReader, attrs ...attribute.KeyValue) map[string]int64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := r.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	add := func(name string, points []metricdata.DataPoint[int64]) {
		for _, p := range points {
			fits := true
			for _, a := range attrs {
				v, ok := p.Attributes.Value(a.Key)
				fits = fits && (!ok || v == a.Value)
			}
			if fits {
				got[name] += p.Value
			}
		}
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				add(m.Name, d.DataPoints)
			case metricdata.Gauge[int64]:
				add(m.Name, d.DataPoints)
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					got[m.Name] += int64(p.Count)
				}
			}
		}
	}
	return got
}

func TestMetricsSayWhatHappened(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		reader := metric.NewManualReader()
		cfg := b.config("a")
		cfg.MeterProvider = metric.NewMeterProvider(metric.WithReader(reader))
		want := map[string]int64{}
		out := b.results()
		app := b.start(cfg, nil)
		app.ready(t)
		b.say(want, lines(200, 50)...)
		out.expect(want)
		var words int64
		for _, n := range want {
			words += n
		}
		// Lines, and each word once more, out of the repartition topic. Of an idle application nothing is left to commit,
		// the transactions' markers included.
		idle := func(got map[string]int64) bool {
			return got["leat.stream.task.processed"] == 200+words && got["leat.stream.task.lag"] == 0
		}
		for late := time.Now().Add(time.Minute); !idle(sums(t, reader)); {
			if time.Now().After(late) {
				t.Fatalf("measured %v; want %d records processed, and no lag", sums(t, reader), 200+words)
			}
			<-time.After(20 * time.Millisecond)
		}
		got := sums(t, reader, attribute.String("role", "running"))
		if got["leat.stream.tasks"] != 6 || got["leat.stream.thread.commit.duration"] == 0 || got["leat.stream.thread.polled"] < 200+words || got["leat.stream.client.restored"] != 0 {
			t.Errorf("measured %v; want 6 running tasks, commits, at least %d records polled, and none restored", got, 200+words)
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		if got := sums(t, reader); got["leat.stream.tasks"] != 0 {
			t.Errorf("the application has ended and still says %v", got)
		}
	})
}
