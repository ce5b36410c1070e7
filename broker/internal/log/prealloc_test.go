package log

import (
	"math/rand/v2"
	"testing"

	"github.com/leatstream/leat/internal/vfs"
)

// TestPreallocation: a log that is synced often and little gets zeros ahead; they are no records, neither to a reader
// nor after a crash, and they are gone after a clean stop.
func TestPreallocation(t *testing.T) {
	fs := vfs.NewMem()
	cfg := Config{SegmentBytes: 4 << 20}
	l := mustOpen(t, fs, cfg, nil)
	value := string(make([]byte, 2000))
	n := 0
	for ; l.mu.active.alloc == l.mu.active.size.Load(); n++ {
		if n > 1000 {
			t.Fatal("nothing was preallocated")
		}
		mustAppend(t, l, plain(1, value))
	}
	for range 20 { // into the zeros
		mustAppend(t, l, plain(1, value))
		n++
	}
	ahead := func(fs vfs.FS) int64 {
		t.Helper()
		info, err := fs.Stat(l.mu.active.name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size - l.Size()
	}
	if ahead(fs) < preallocLow {
		t.Fatalf("%d bytes ahead", ahead(fs))
	}
	if got := len(readAll(t, l, false, 10_000)); got != n {
		t.Fatalf("%d batches, want %d", got, n)
	}
	for _, keep := range []int{0, 50, 100} {
		crashed := fs.CrashClone(keep, rand.New(rand.NewPCG(1, 1)))
		again := mustOpen(t, crashed, cfg, nil)
		if got := len(readAll(t, again, false, 10_000)); got != n || again.LeaderEpoch() != 0 {
			t.Fatalf("keep %d%%: %d batches, want %d; epoch %d", keep, got, n, again.LeaderEpoch())
		}
		mustAppend(t, again, plain(1, "more"))
		mustClose(t, again)
	}
	for base := l.mu.active.base; l.mu.active.base == base; { // a roll trims as well
		mustAppend(t, l, plain(1, value))
	}
	first := (*l.view.Load())[0]
	if info, err := fs.Stat(first.name); err != nil || info.Size != first.size.Load() {
		t.Errorf("rolled segment has %d bytes, %d of batches (%v)", info.Size, first.size.Load(), err)
	}
	mustClose(t, l)
	if ahead(fs) != -first.size.Load() { // Size counts both segments
		t.Errorf("%d bytes ahead after a clean stop", ahead(fs)+first.size.Load())
	}
}
