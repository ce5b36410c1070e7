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
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A partition whose directory somebody removed begins empty, and the operator is told.
func TestMissingPartitionIsReported(t *testing.T) {
	dir := t.TempDir()
	var said syncBuffer
	cfg := Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&said, nil))}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	createTopic(t, b, "t", 2)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "t-1")); err != nil {
		t.Fatal(err)
	}
	startWith(t, cfg)
	if got := said.String(); strings.Count(got, "directory is missing") != 1 || !strings.Contains(got, "t-1") {
		t.Errorf("logged: %s", got)
	}
}

// A data directory without its metadata is not begun anew; one with a directory that nobody knows is, and says so.
func TestLostMetadataIsRefused(t *testing.T) {
	dir := t.TempDir()
	var said syncBuffer
	cfg := Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&said, nil))}
	if err := os.Mkdir(filepath.Join(dir, "nobodys-3"), 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := said.String(); !strings.Contains(got, "belong to no topic") || !strings.Contains(got, "nobodys-3") {
		t.Errorf("logged: %s", got)
	}
	createTopic(t, b, "t", 1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(dir, metadataTopic+"-0")
	if err := os.Rename(lost, dir+".kept"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "metadata") || !strings.Contains(err.Error(), dir) {
			t.Fatalf("started without metadata: %v", err)
		}
	}
	if err := os.Rename(dir+".kept", lost); err != nil {
		t.Fatal(err)
	}
	if b = startWith(t, cfg); b.topic("t") == nil {
		t.Error("the topic is not there again")
	}
}

// A byte of a closed log rots, in its last segment. That keeps neither the broker from starting nor producers from going on; where it is the
// broker's own, the error of the start says what to do.
func TestDamageAtTheEndDoesNotStopTheBroker(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	createTopic(t, b, "t", 1)
	do[*kmsg.ProduceResponse](dialRaw(t, b), produceRequest1("t", 0, -1, batch("x")), 9)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	rot := func(partition string) {
		t.Helper()
		name := filepath.Join(dir, partition, "00000000000000000000.log")
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1] ^= 1
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rot("t-0")
	if b, err = Start(t.Context(), cfg); err != nil {
		t.Fatal("a rotten batch of a topic:", err)
	}
	r := dialRaw(t, b)
	id, _ := b.topicID("t")
	if got := do[*kmsg.FetchResponse](r, fetchOf("t", id, 0, 0), 12).Topics[0].Partitions[0].ErrorCode; got != kerr.CorruptMessage.Code {
		t.Error("reading it:", kerr.ErrorForCode(got))
	}
	if got := do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, -1, batch("y")), 9).Topics[0].Partitions[0].ErrorCode; got != 0 {
		t.Error("writing behind it:", kerr.ErrorForCode(got))
	}
	if got := do[*kmsg.FetchResponse](r, fetchOf("t", id, 1, 0), 12).Topics[0].Partitions[0]; len(values(t, got.RecordBatches)) != 1 {
		t.Error("reading behind it:", kerr.ErrorForCode(got.ErrorCode))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	rot(metadataTopic + "-0")
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "from a copy") {
		t.Error("a rotten batch of the metadata:", err)
	}
}

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
