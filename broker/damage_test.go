package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A byte of a closed segment rots. The consumer is told that the log is corrupt, the operator where and what to do, once,
// and what lies behind the damage is still there.
func TestDamagedSegmentIsReported(t *testing.T) {
	dir := t.TempDir()
	var said bytes.Buffer
	cfg := Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&said, nil))}
	b := startWith(t, cfg)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer()), kgo.DefaultProduceTopic("rot"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	small := "65536"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{"segment.bytes": &small}, "rot"); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint(i, strings.Repeat("x", 5000)))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(dir, "rot-0", "00000000000000000000.log")
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	data[3000] ^= 1
	if err := os.WriteFile(first, data, 0o600); err != nil {
		t.Fatal(err)
	}

	b = startWith(t, cfg)
	read := func(from int64) error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer()), kgo.KeepRetryableFetchErrors(),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"rot": {0: kgo.NewOffset().At(from)}}))
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return err
		}
		if got := fs.Records(); len(got) == 0 || got[0].Offset != from {
			return fmt.Errorf("read %d records, the first is not at %d", len(got), from)
		}
		return nil
	}
	for range 2 {
		if err := read(0); !errors.Is(err, kerr.CorruptMessage) {
			t.Errorf("reading the damaged batch: %v, want CORRUPT_MESSAGE", err)
		}
	}
	if err := read(30); err != nil {
		t.Errorf("reading behind the damage: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(said.String(), "a segment is damaged"); n != 1 || !strings.Contains(said.String(), "00000000000000000000.log at byte 0") {
		t.Errorf("the damage was logged %d times, want once with its place:\n%s", n, said.String())
	}
}
