package broker

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a broker on a fresh directory until the test ends.
func start(t testing.TB, change func(*Config)) *Broker {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), Flush: FlushOS}
	if change != nil {
		change(&cfg)
	}
	return startWith(t, cfg)
}

func startWith(t testing.TB, cfg Config) *Broker {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

// setConfigs replaces what is configured on a topic.
func (b *Broker) setConfigs(name string, configs map[string]string) error {
	b.changes.Lock()
	defer b.changes.Unlock()
	return b.setConfigsLocked(name, configs)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

// both runs a test over the in-process listener and over TCP.
func both(t *testing.T, f func(t *testing.T, b *Broker, opts []kgo.Opt)) {
	t.Run("in-process", func(t *testing.T) {
		b := start(t, nil)
		f(t, b, []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())})
	})
	t.Run("tcp", func(t *testing.T) {
		b := start(t, func(c *Config) { c.Listen = []string{"127.0.0.1:0"}; c.Flush = FlushAlways })
		f(t, b, []kgo.Opt{kgo.SeedBrokers(b.Addr())})
	})
}

func newClient(t testing.TB, opts []kgo.Opt, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(append([]kgo.Opt{}, opts...), more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// within is a context for steps that must not take long.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// raw is a connection without a client behind it.
type raw struct {
	t    testing.TB
	nc   net.Conn
	next int32
}

func dialRaw(t testing.TB, b *Broker) *raw {
	t.Helper()
	var nc net.Conn
	var err error
	if len(b.cfg.Listen) > 0 {
		nc, err = net.Dial("tcp", b.Addr())
	} else {
		nc, err = b.Dial(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(3 * time.Minute))
	return &raw{t: t, nc: nc}
}

// send writes one request.
func (r *raw) send(req kmsg.Request, version int16) {
	r.t.Helper()
	req.SetVersion(version)
	r.next++
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, req, r.next)
	if _, err := r.nc.Write(frame); err != nil {
		r.t.Fatal(err)
	}
}

// receive reads one response frame and returns its correlation id and what follows.
func (r *raw) receive() (int32, []byte) {
	r.t.Helper()
	corr, body, err := r.tryReceive()
	if err != nil {
		r.t.Fatal(err)
	}
	return corr, body
}

func (r *raw) tryReceive() (int32, []byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r.nc, size[:]); err != nil {
		return 0, nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r.nc, frame); err != nil {
		return 0, nil, err
	}
	return int32(binary.BigEndian.Uint32(frame)), frame[4:], nil
}

// do sends a request and decodes its response.
func do[R kmsg.Response](r *raw, req kmsg.Request, version int16) R {
	r.t.Helper()
	r.send(req, version)
	corr, body := r.receive()
	if corr != r.next {
		r.t.Fatalf("response %d to request %d", corr, r.next)
	}
	return decode[R](r.t, req, body)
}

func decode[R kmsg.Response](t testing.TB, req kmsg.Request, body []byte) R {
	t.Helper()
	resp := req.ResponseKind()
	if resp.IsFlexible() && req.Key() != keyAPIVersions {
		if body[0] != 0 {
			t.Fatalf("response header has %d tags", body[0])
		}
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		t.Fatalf("key %d version %d: %v", req.Key(), req.GetVersion(), err)
	}
	// What is decoded and encoded again must be the same: nothing was left over.
	if again := resp.AppendTo(nil); len(again) != len(body) {
		t.Fatalf("key %d version %d: %d bytes came, %d are understood", req.Key(), req.GetVersion(), len(body), len(again))
	}
	return resp.(R)
}

// closed reports that the broker ends the connection rather than answer.
func (r *raw) closed() bool {
	_, _, err := r.tryReceive()
	return err != nil
}
