package log

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// TestConcurrent lets producers, readers, long polls, deletions, retention and inspection run side by side: each
// producer's batches stay in order, no reader sees a bound violated or a byte wrong, and nothing deadlocks.
func TestConcurrent(t *testing.T) {
	const producers, perProducer = 4, 300
	l := mustOpen(t, vfs.NewMem(), Config{SegmentBytes: 4000, IndexIntervalBytes: 200}, startSyncer(t))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var writers, others sync.WaitGroup
	var done atomic.Bool
	for pid := range int64(producers) {
		writers.Go(func() {
			for seq := range int32(perProducer) {
				a, err := l.Append(inTxn(pid, 0, seq, 1), AppendOptions{Now: epochTime})
				if err != nil {
					t.Error(err)
					return
				}
				off := a.LastOffset
				if seq%10 == 9 {
					if off, err = l.AppendMarker(pid, 0, seq%20 == 9, 0); err != nil {
						t.Error(err)
						return
					}
				}
				if seq%7 == 0 {
					if err := l.WaitSynced(ctx, off+1); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for _, committed := range []bool{false, true} {
		others.Go(func() { tail(ctx, t, l, committed, producers*(perProducer+perProducer/10), &done) })
	}
	others.Go(func() {
		for !done.Load() {
			b := l.Bounds()
			if b.LogStart > b.LastStable || b.LastStable > b.HighWatermark || b.HighWatermark > b.End {
				t.Errorf("bounds %+v", b)
			}
			if _, _, err := l.OffsetForTime(epochTime.UnixMilli(), false); err != nil {
				t.Error(err)
			}
			if _, _, err := l.MaxTimestamp(); err != nil {
				t.Error(err)
			}
			l.Available(b.LogStart, true)
			l.Producers()
			l.OpenTxns()
		}
	})
	others.Go(func() {
		for !done.Load() {
			if high := l.Bounds().HighWatermark; high > 400 {
				if _, err := l.DeleteRecords(high - 400); err != nil {
					t.Error(err)
				}
			}
			if _, err := l.Retain(epochTime); err != nil {
				t.Error(err)
			}
		}
	})
	writers.Wait()
	others.Wait()
	mustClose(t, l)
}

// tail follows the log to its end as a consumer with a long poll does.
func tail(ctx context.Context, t *testing.T, l *Log, committed bool, until int, done *atomic.Bool) {
	defer done.Store(true)
	w := NewWaiter()
	l.Watch(w)
	defer l.Unwatch(w)
	buf := make([]byte, 2000)
	next := map[int64]int32{}
	for off := int64(0); off < int64(until); {
		res, err := l.Read(ReadOptions{From: off, MaxBytes: len(buf), MinOne: true, Committed: committed, Buf: buf})
		if errors.Is(err, kerr.OffsetOutOfRange) && off < res.Bounds.LogStart {
			off = res.Bounds.LogStart // too slow for the deletions
			clear(next)
			continue
		}
		if err != nil {
			t.Errorf("read at %d: %v", off, err)
			return
		}
		if len(res.Batches) == 0 {
			select {
			case <-w.C:
			case <-ctx.Done():
				t.Errorf("committed %v: stuck at %d, bounds %+v", committed, off, l.Bounds())
				return
			}
		}
		for rest := res.Batches; len(rest) > 0; {
			b, err := record.Parse(rest)
			if err == nil {
				err = b.Validate()
			}
			if err != nil || b.BaseOffset() > off || b.LastOffset() < off {
				t.Errorf("at %d: batch %d: %v", off, b.BaseOffset(), err)
				return
			}
			if want, seen := next[b.ProducerID()]; !b.Control() {
				if seen && b.BaseSequence() != want {
					t.Errorf("producer %d: sequence %d, want %d", b.ProducerID(), b.BaseSequence(), want)
				}
				next[b.ProducerID()] = b.LastSequence() + 1
			}
			off = b.LastOffset() + 1
			rest = rest[len(b):]
		}
	}
}

// TestCloseAndDeleteWakeEverybody: who waits is told, with the right code, and reads and appends fail afterwards.
func TestCloseAndDeleteWakeEverybody(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*Log) error
		is   error
		code *kerr.Error
	}{
		{"close", (*Log).Close, ErrClosed, kerr.NotLeaderForPartition},
		{"delete", (*Log).Delete, ErrDeleted, kerr.UnknownTopicOrPartition},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			l := mustOpen(t, fs, Config{}, NewSyncer(SyncerOptions{})) // a syncer that never runs
			a := mustAppend(t, l, plain(1, "x"))
			w := NewWaiter()
			l.Watch(w)
			waited := make(chan error)
			go func() { waited <- l.WaitSynced(context.Background(), a.LastOffset+100) }()
			for registered := false; !registered; {
				l.mu.Lock()
				registered = len(l.mu.waits) == 1
				l.mu.Unlock()
			}
			if err := c.end(l); err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{
				<-waited,
				func() error { _, err := l.Append(plain(1, "y"), AppendOptions{Now: epochTime}); return err }(),
				func() error { _, err := l.AppendMarker(1, 0, true, 0); return err }(),
				func() error { _, err := l.Read(ReadOptions{From: 0, MaxBytes: 100, MinOne: true}); return err }(),
				func() error { _, _, err := l.OffsetForTime(0, false); return err }(),
				func() error { _, err := l.DeleteRecords(-1); return err }(),
				l.WaitSynced(context.Background(), a.LastOffset+100),
			} {
				if !errors.Is(err, c.is) || !errors.Is(err, c.code) {
					t.Errorf("got %v", err)
				}
			}
			<-w.C
			l.Unwatch(w)
			if err := c.end(l); err != nil {
				t.Errorf("twice: %v", err)
			}
			exists, err := vfs.Exists(fs, "/data/t-0")
			if err != nil || exists != (c.name == "close") {
				t.Errorf("directory exists: %v %v", exists, err)
			}
		})
	}
}

// TestOneSyncForMany: appends that come while a sync runs share the next one.
func TestOneSyncForMany(t *testing.T) {
	syncs := 0
	gate := make(chan struct{})
	entered := make(chan struct{}, 100)
	fs := &vfs.Faulty{FS: vfs.NewMem()}
	l := mustOpen(t, fs, Config{}, startSyncer(t))
	fs.Fail(func(op vfs.Op, _ string) error {
		if op == vfs.OpSync {
			syncs++
			entered <- struct{}{}
			<-gate
		}
		return nil
	})
	ctx := context.Background()
	first := mustAppend(t, l, plain(1, "first"))
	<-entered
	var last Appended
	for i := range 50 {
		last = mustAppend(t, l, plain(1, fmt.Sprint(i)))
	}
	if l.Bounds().HighWatermark != 0 {
		t.Errorf("bounds %+v before any sync ended", l.Bounds())
	}
	close(gate)
	if err := l.WaitSynced(ctx, first.LastOffset+1); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitSynced(ctx, last.LastOffset+1); err != nil {
		t.Fatal(err)
	}
	if syncs != 2 {
		t.Errorf("%d syncs for 51 batches, want 2", syncs)
	}
	fs.Fail(nil)
	mustClose(t, l)
}

func TestWaitSyncedEndsWithItsContext(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Config{}, NewSyncer(SyncerOptions{}))
	defer l.Close()
	a := mustAppend(t, l, plain(1, "x"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.WaitSynced(ctx, a.LastOffset+1); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(l.mu.waits) != 0 {
		t.Error("the waiter is left behind")
	}
}

// Who is told that a record is safe finds it, also if it reads only what is stable.
func TestWhatIsSafeIsStable(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Config{Flush: FlushAlways}, startSyncer(t))
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 2000 {
				a, err := l.Append(plain(1, "v"), AppendOptions{Now: epochTime})
				if err == nil {
					err = l.WaitSynced(t.Context(), a.LastOffset+1)
				}
				if b := l.Bounds(); err != nil || b.LastStable <= a.LastOffset {
					t.Errorf("error %v; %d is safe, bounds %+v", err, a.LastOffset, b)
					return
				}
			}
		})
	}
	writers.Wait()
	mustClose(t, l)
}
