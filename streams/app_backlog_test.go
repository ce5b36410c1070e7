package streams_test

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

// A function that is so slow that what is polled at once takes longer than a transaction may: what fits is committed.
func TestASlowFunctionIsCommittedInTime(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		const n = 600 // of 4 ms each, where a transaction may take 2 s
		var tb streams.Builder
		tb.Stream(streams.Topic[string, string]{Name: b.in}).
			MapValues(func(_, v string) (string, error) {
				<-time.After(4 * time.Millisecond)
				return v, nil
			}).
			To(streams.Topic[string, string]{Name: b.out})
		topology, err := tb.Build()
		if err != nil {
			t.Fatal(err)
		}
		b.write(b.in, n, 1e12)
		cfg := b.config("a")
		cfg.TransactionTimeout = 2 * time.Second
		app := b.run(topology, cfg, nil)
		b.expectRecords(n)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

// A topic that is read ahead of another one waits in memory: not all of it.
func TestWhatWaitsForAnotherTopicIsBounded(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		const n = 40_000
		var tb streams.Builder
		busy := tb.Stream(streams.Topic[string, string]{Name: b.in}, streams.Source{Idle: time.Hour})
		silent := tb.Stream(streams.Topic[string, string]{Name: b.in + "-silent"}, streams.Source{Idle: time.Hour})
		b.create(3, b.in+"-silent")
		busy.Merge(silent).To(streams.Topic[string, string]{Name: b.out})
		topology, err := tb.Build()
		if err != nil {
			t.Fatal(err)
		}
		b.write(b.in, n, 1e12)
		log := &pauses{seen: make(chan struct{})}
		cfg := b.config("a")
		cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		app := b.run(topology, cfg, nil)
		select {
		case <-log.seen:
		case <-app.done:
			t.Fatalf("the application ended: %v", app.err)
		case <-time.After(time.Minute):
			t.Fatal("the busy topic is not paused")
		}
		b.write(b.in+"-silent", 1, 1e12+1) // all of the others are older
		b.expectRecords(n)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

// pauses is a log that tells of the first partition that is paused.
type pauses struct {
	once sync.Once
	seen chan struct{}
}

func (p *pauses) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("is not read on")) {
		p.once.Do(func() { close(p.seen) })
	}
	return len(line), nil
}

// write writes n records of one time to partition 0.
func (b *bench) write(topic string, n int, millis int64) {
	b.t.Helper()
	cl := b.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range n {
		cl.Produce(b.t.Context(), &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(i)), Value: []byte("v"), Timestamp: time.UnixMilli(millis)},
			func(_ *kgo.Record, err error) {
				if err != nil {
					b.t.Error(err)
				}
			})
	}
	if err := cl.Flush(b.t.Context()); err != nil {
		b.t.Error(err)
	}
}

// expectRecords waits until so many committed records are in the output.
func (b *bench) expectRecords(n int) {
	b.t.Helper()
	cl := b.client(kgo.ConsumeTopics(b.out), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	for got := 0; got < n; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			b.t.Fatalf("%d records came, want %d: %v", got, n, err)
		}
		got += fetches.NumRecords()
	}
}
