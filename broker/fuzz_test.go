package broker

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzFrames sends arbitrary frames to a broker: whatever comes, nothing panics, nothing hangs, and the memory taken stays in
// proportion to the frame.
func FuzzFrames(f *testing.F) {
	crashes := &crashLog{}
	b, err := Start(context.Background(), Config{Dir: f.TempDir(), Flush: FlushOS, MaxTopics: 40, MaxPartitions: 60, Logger: slog.New(slog.NewTextHandler(crashes, nil))})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close() })
	for _, row := range b.routes {
		if row == nil {
			continue
		}
		for _, v := range []int16{row.acceptMin, row.max} {
			req := kmsg.RequestForKey(row.key)
			req.SetVersion(v)
			f.Add(kmsg.NewRequestFormatter(kmsg.FormatterClientID("f")).AppendRequest(nil, req, 1)[4:])
		}
	}
	for _, v := range []int16{3, 9, 13} {
		req := produceRequest1("t", 0, 1, batch("x"))
		req.SetVersion(v)
		f.Add(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)[4:])
	}
	for _, v := range []int16{4, 12, 17} {
		req := fetchOf("t", [16]byte{1}, 0, 0)
		req.SetVersion(v)
		f.Add(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)[4:])
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < 8 || len(frame) > 64<<10 {
			return
		}
		row := b.routes.find(int16(frame[0])<<8 | int16(frame[1]))
		if row == nil {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		serveFrame(t, b, row, append([]byte(nil), frame...))
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("a frame of %d bytes took %v", len(frame), took)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(decodedWeight*4*len(frame))+8<<20 {
			t.Errorf("a frame of %d bytes took %d bytes of memory", len(frame), took)
		}
		if text := crashes.String(); strings.Contains(text, "panic") {
			t.Fatal(text)
		}
	})
}

// serveFrame decodes and serves one frame as a connection would, with 10 ms for what waits.
func serveFrame(t *testing.T, b *Broker, row *route, frame []byte) {
	client, err := b.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	c := newConn(b, client, nil)
	defer c.cancel()
	r, err := decodeRequest(ctx, row, frame)
	if err != nil {
		return
	}
	resp, err := row.serve(b, c, r)
	if err != nil {
		return
	}
	rep, err := resp.await(ctx)
	if err != nil || rep == nil {
		return
	}
	out := newOutFrame(&b.pool, r.version, r.correlation, r.flexible && r.key != keyAPIVersions)
	rep.appendTo(out)
	if out.size() < 8 {
		t.Errorf("response of %d bytes", out.size())
	}
	if out.budget > 0 {
		b.responseBytes.Release(out.budget)
	}
	out.release()
}

// crashLog remembers what was logged.
type crashLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (c *crashLog) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text.Len() < 1<<20 {
		c.text.Write(p)
	}
	return len(p), nil
}

func (c *crashLog) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}
