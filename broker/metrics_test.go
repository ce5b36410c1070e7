package broker

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/leatstream/leat/broker/internal/auth"
)

// collected are the sums of what has been measured, by instrument and the values of its attributes.
func collected(t *testing.T, reader sdk.Reader) map[string]float64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					out[strings.TrimSpace(m.Name+" "+p.Attributes.Encoded(encoder{}))] += float64(p.Value)
				}
			case metricdata.Sum[float64]:
				for _, p := range d.DataPoints {
					out[m.Name] += p.Value
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					out[m.Name] += float64(p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					out[m.Name+" "+p.Attributes.Encoded(encoder{})] += float64(p.Count)
				}
			}
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	reader := sdk.NewManualReader()
	b := start(t, func(c *Config) {
		c.MeterProvider = sdk.NewMeterProvider(sdk.WithReader(reader))
		c.Security = Security{Authorize: true, Users: map[string]Secret{"alice": "a"}}
		c.MaxConnections = 3
	})
	createTopic(t, b, "t", 4)
	quotaOf(t, dialRaw(t, b), nil, "producer_byte_rate", 1000)
	r := login(t, b, "alice", "a")
	do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, 1, batch(strings.Repeat("v", 1100))), 9) // denied, and throttled all the same
	b.authorizer.Change([]auth.Binding{onTopic(opWrite)}, nil)
	do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, 1, batch("v")), 9)
	if _, err := b.Dial(t.Context()); err == nil {
		t.Error("a fourth connection")
	}
	got := collected(t, reader)
	for name, want := range map[string]float64{
		"leat.broker.request.duration Produce": 2, "leat.broker.request.duration CreateTopics": 1, "leat.broker.connections": 3, "leat.broker.connections.refused": 1,
		"leat.broker.topics": 4, "leat.broker.partitions": 7, "leat.broker.authorization.denials": 1, "leat.broker.throttle.time": .01,
		"leat.broker.network.io in": 1200, "leat.broker.network.io out": 100, "leat.broker.log.size": 100,
	} {
		exact := strings.Contains(name, "duration") || strings.Contains(name, "connections") || want == 4 || want == 7
		if got[name] < want || exact && got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestHealth(t *testing.T) {
	b := start(t, nil)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		b.Health().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if code, body := get(path); code != 200 || body != "ok\n" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := get("/"); code != 404 {
		t.Error("something else is served:", code)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if code, body := get(path); code != 503 || !strings.Contains(body, "closed") {
			t.Errorf("%s after Close: %d %s", path, code, body)
		}
	}
}

// Limits per address: others still come in, and the first ones when some have left.
func TestConnectionsPerIP(t *testing.T) {
	b := start(t, func(c *Config) {
		c.Listen = []string{"127.0.0.1:0"}
		c.Security.MaxConnectionsPerIP = 2
	})
	served := func(r *raw) bool {
		_ = r.nc.SetDeadline(time.Now().Add(2 * time.Minute))
		r.t = quiet{r.t}
		req := kmsg.NewPtrApiVersionsRequest()
		r.next++
		if _, err := r.nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, r.next)); err != nil {
			return false
		}
		_, _, err := r.tryReceive()
		return err == nil
	}
	first, second, third := dialRawTCP(t, b.Addr()), dialRawTCP(t, b.Addr()), (*raw)(nil)
	if !served(first) || !served(second) {
		t.Fatal("two are allowed")
	}
	if third = dialRawTCP(t, b.Addr()); served(third) {
		t.Error("a third connection of one address is served")
	}
	inside, err := b.Dial(t.Context())
	if err != nil {
		t.Error("in process:", err)
	} else {
		inside.Close()
	}
	first.nc.Close()
	for deadline := time.Now().Add(2 * time.Minute); !served(dialRawTCP(t, b.Addr())); {
		if time.Now().After(deadline) {
			t.Fatal("a place that became free stays taken")
		}
	}
}

type quiet struct{ testing.TB }

func TestReadyAfterADiskFailure(t *testing.T) {
	cfg := Config{Dir: filepath.Join(t.TempDir(), "d")}
	b := startWith(t, cfg)
	l, _ := b.partition(offsetsTopic, 0)
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := b.Ready(); err == nil || errors.Is(err, ErrClosed) {
		t.Errorf("ready is %v without the offsets' log", err)
	}
}

// encoder writes the values of attributes.
type encoder struct{}

func (encoder) Encode(it attribute.Iterator) string {
	var parts []string
	for it.Next() {
		parts = append(parts, it.Attribute().Value.Emit())
	}
	return strings.Join(parts, " ")
}

func (encoder) ID() attribute.EncoderID { return attribute.EncoderID{} }
