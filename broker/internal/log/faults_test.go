package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// faultScript opens a log, works with it, closes it, opens and closes it again, as far as errors let it. It returns the
// batches that were acknowledged, and the log start that was.
func faultScript(t *testing.T, fs vfs.FS, cfg Config) (acked []record.Batch, start int64) {
	t.Helper()
	for round := range 2 {
		l, err := Open(fs, "/data/t-0", cfg, nil)
		if err != nil {
			return acked, start
		}
		for i := range int32(12) {
			b := from(1, int16(round), i, 1)
			if a, err := l.Append(b, AppendOptions{Now: epochTime}); err == nil {
				if l.WaitSynced(context.Background(), a.LastOffset+1) == nil {
					acked = append(acked, bytes.Clone(b))
				}
			}
			if i%5 == 4 {
				if off, err := l.AppendMarker(2, int16(round), i%2 == 0, 0); err == nil && l.WaitSynced(context.Background(), off+1) == nil {
					acked = append(acked, nil) // somewhere among the others
				}
			}
			if i == 6 {
				if s, err := l.DeleteRecords(int64(round)*14 + 2); err == nil {
					start = s
				}
			}
		}
		if _, err := l.Read(ReadOptions{From: l.Bounds().LogStart, MaxBytes: 1000, MinOne: true}); err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		if _, _, err := l.OffsetForTime(epochTime.UnixMilli(), false); err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		l.Close()
	}
	return acked, start
}

// TestEveryFault lets the N-th operation on files fail, for every N, once and for ever. Whatever happens, what was
// acknowledged is there when the log is opened again on a disk that works, after a SIGKILL and after a power cut.
func TestEveryFault(t *testing.T) {
	cfg := Config{SegmentBytes: 500, IndexIntervalBytes: 100, ProducerExpiry: 1e6 * time.Hour, TopicID: [16]byte{5}}
	for _, once := range []bool{true, false} {
		done := false
		for n := 0; !done; n++ {
			mem := vfs.NewMem()
			fs := &vfs.Faulty{FS: mem}
			count := 0
			fs.Fail(func(op vfs.Op, name string) error {
				count++
				if count-1 == n || count-1 > n && !once {
					if op == vfs.OpWrite && n%2 == 0 {
						return vfs.ShortWrite{Err: syscall.EIO}
					}
					return syscall.EIO
				}
				return nil
			})
			acked, start := faultScript(t, fs, cfg)
			done = count <= n
			for _, keep := range []int{0, 100} {
				what := fmt.Sprintf("operation %d, once %v, keep %d%%", n, once, keep)
				checkAcked(t, mem.CrashClone(keep, nil), cfg, acked, start, what)
			}
		}
	}
}

func checkAcked(t *testing.T, fs vfs.FS, cfg Config, acked []record.Batch, start int64, what string) {
	t.Helper()
	if err := fs.MkdirAll("/data"); err != nil {
		t.Fatal(err)
	}
	l, err := Open(fs, "/data/t-0", cfg, nil)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer mustClose(t, l)
	b := l.Bounds()
	if b.LogStart < start {
		t.Fatalf("%s: log start %d, %d was acknowledged", what, b.LogStart, start)
	}
	got := readAll(t, l, false, 1000)
	for _, want := range acked {
		if want == nil || want.LastOffset() < b.LogStart {
			continue
		}
		found := false
		for _, g := range got {
			found = found || bytes.Equal(g, want)
		}
		if !found {
			t.Fatalf("%s: batch %d is gone; bounds %+v", what, want.BaseOffset(), b)
		}
	}
	mustAppend(t, l, plain(1, "on it goes"))
}
