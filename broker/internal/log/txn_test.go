package log

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// committedValues reads as a read_committed client does: it skips what the aborted list tells it to.
func committedValues(t *testing.T, l *Log, maxBytes int) []string {
	t.Helper()
	var out []string
	for off := l.Bounds().LogStart; ; {
		res, err := l.Read(ReadOptions{From: off, MaxBytes: maxBytes, MinOne: true, Committed: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Batches) == 0 {
			return out
		}
		pending := res.Aborted
		for i := 1; i < len(pending); i++ {
			if pending[i-1].FirstOffset > pending[i].FirstOffset {
				t.Fatalf("aborted list is not sorted: %v", pending)
			}
		}
		aborting := map[int64]bool{}
		for rest := res.Batches; len(rest) > 0; {
			b, err := record.Parse(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[len(b):]
			off = b.LastOffset() + 1
			for len(pending) > 0 && pending[0].FirstOffset <= b.LastOffset() {
				aborting[pending[0].ProducerID] = true
				pending = pending[1:]
			}
			if b.Control() {
				delete(aborting, b.ProducerID())
				continue
			}
			if b.Transactional() && aborting[b.ProducerID()] {
				continue
			}
			it := record.NewIterator(b, nil)
			for it.Next() {
				out = append(out, string(it.Record().Value))
			}
		}
	}
}

func TestTransactionsStableOffsetAndAbortedList(t *testing.T) {
	for _, seg := range []int64{1 << 20, 200} {
		t.Run(fmt.Sprint("segment ", seg), func(t *testing.T) {
			fs := vfs.NewMem()
			cfg := Config{SegmentBytes: seg, IndexIntervalBytes: 1}
			l := mustOpen(t, fs, cfg, nil)
			lso := func(want int64) {
				t.Helper()
				if b := l.Bounds(); b.LastStable != want || b.HighWatermark != b.End {
					t.Fatalf("bounds %+v, want last stable %d", b, want)
				}
			}
			mustAppend(t, l, inTxn(1, 0, 0, 2)) // 0,1
			lso(0)
			mustAppend(t, l, inTxn(2, 0, 0, 1)) // 2
			mustAppend(t, l, plain(1, "plain")) // 3
			mustAppend(t, l, inTxn(3, 0, 0, 1)) // 4
			mark(1, 0, 'a', 0).run(t, l, 0)     // 5
			lso(2)
			mustAppend(t, l, inTxn(1, 0, 2, 1)) // 6
			mark(3, 0, 'a', 0).run(t, l, 1)     // 7: aborts 4, while 2 is open
			lso(2)
			mark(2, 0, 'c', 0).run(t, l, 2) // 8
			lso(6)
			check := func() {
				t.Helper()
				for _, max := range []int{1, 200, 1 << 20} {
					if got := fmt.Sprint(committedValues(t, l, max)); got != "[2/0/0 plain]" {
						t.Fatalf("max %d: committed %s", max, got)
					}
				}
			}
			check()
			for range 2 {
				mustClose(t, l)
				l = mustOpen(t, fs, cfg, nil)
				check()
				lso(6)
			}
			crashed := fs.CrashClone(0, nil)
			mustClose(t, l)
			l = mustOpen(t, crashed, cfg, nil)
			check()
			if open := fmt.Sprint(l.OpenTxns()); open != "[{1 0 6}]" {
				t.Fatalf("open %s", open)
			}
			mark(1, 0, 'c', 0).run(t, l, 3)
			lso(l.Bounds().End)
			if got := fmt.Sprint(committedValues(t, l, 1)); got != "[2/0/0 plain 1/0/2]" {
				t.Fatalf("committed %s", got)
			}
			mustClose(t, l)
		})
	}
}

// TestStableWaitsForTheMarkersSync: as long as a marker may be lost, its transaction's records are not stable.
func TestStableWaitsForTheMarkersSync(t *testing.T) {
	s := NewSyncer(SyncerOptions{}) // does not run: nothing is synced unless the test does it
	l := mustOpen(t, vfs.NewMem(), Config{}, s)
	mustAppend(t, l, inTxn(1, 0, 0, 2))
	l.syncOnce()
	if _, err := l.AppendMarker(1, 0, true, 0); err != nil {
		t.Fatal(err)
	}
	if b := l.Bounds(); b != (Bounds{0, 0, 2, 3}) {
		t.Fatalf("before the marker's sync: %+v", b)
	}
	l.syncOnce()
	if b := l.Bounds(); b != (Bounds{0, 3, 3, 3}) {
		t.Fatalf("after: %+v", b)
	}
	mustClose(t, l)
}

func TestVerifyUnderTheLock(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Config{}, nil)
	defer l.Close()
	calls := 0
	no := errors.New("no such transaction")
	verify := func(err error) func() error { return func() error { calls++; return err } }
	appendTxn := func(b record.Batch, v func() error) error {
		_, err := l.AppendTxn(b, AppendOptions{Now: epochTime}, v)
		return err
	}
	if err := appendTxn(inTxn(1, 0, 0, 1), verify(no)); !errors.Is(err, no) || l.Bounds().End != 0 {
		t.Fatalf("%v, end %d", err, l.Bounds().End)
	}
	for i, want := range []int{2, 2, 2} { // asked once for a transaction, and not for a duplicate
		b := inTxn(1, 0, int32(i), 1)
		if i == 2 {
			b = inTxn(1, 0, 1, 1)
		}
		if err := appendTxn(b, verify(nil)); err != nil || calls != want {
			t.Fatalf("batch %d: %v, %d calls", i, err, calls)
		}
	}
	mark(1, 0, 'c', 0).run(t, l, 0)
	if err := appendTxn(inTxn(1, 0, 2, 1), verify(no)); !errors.Is(err, no) || calls != 3 {
		t.Fatalf("after the marker: %v, %d calls", err, calls)
	}
	if err := l.WaitSynced(context.Background(), l.Bounds().End); err != nil {
		t.Fatal(err)
	}
}

// A marker that nobody hastens goes to the disk with the next records; one that is hastened goes at once, whatever was refused or
// repeated in between.
func TestLazyMarker(t *testing.T) {
	for name, tc := range map[string]struct {
		between func(t *testing.T, l *Log)
		hasten  bool
	}{
		"hastened": {func(*testing.T, *Log) {}, true},
		"after a refused batch": {func(t *testing.T, l *Log) {
			_, err := l.Append(inTxn(1, 0, 7, 2), AppendOptions{})
			wantErr(t, err, kerr.OutOfOrderSequenceNumber)
		}, true},
		"after a repeated batch": {func(t *testing.T, l *Log) {
			if at := mustAppend(t, l, inTxn(1, 0, 0, 2)); !at.Duplicate {
				t.Fatalf("%+v is no duplicate", at)
			}
		}, true},
		"with other records": {func(t *testing.T, l *Log) { mustAppend(t, l, inTxn(2, 0, 0, 2)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := mustOpen(t, vfs.NewMem(), Config{}, startSyncer(t))
			defer mustClose(t, l)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := l.WaitSynced(ctx, mustAppend(t, l, inTxn(1, 0, 0, 2)).LastOffset+1); err != nil {
				t.Fatal(err)
			}
			at, err := l.AppendMarkerLazily(1, 0, true, 0)
			if err != nil {
				t.Fatal(err)
			}
			tc.between(t, l)
			if tc.hasten {
				l.Hasten(at + 1)
			}
			if err := l.WaitSynced(ctx, at+1); err != nil {
				t.Fatal(err)
			}
			if b := l.Bounds(); b.LastStable != at+1 {
				t.Errorf("%+v, the marker is at %d", b, at)
			}
		})
	}
}
