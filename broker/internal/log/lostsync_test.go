package log

import (
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/leatstream/leat/internal/vfs"
)

// A sync fails, and what it should have written is on no disk, but in memory, where whoever opens the log again reads it. What is promised
// of it then is there after a power cut. The first round fails a sync of the running log, the second one that of the next start.
func TestWhatAFailedSyncLeftIsWrittenAnew(t *testing.T) {
	for _, atStart := range []bool{false, true} {
		mem := vfs.NewMem()
		fs := &vfs.Faulty{FS: mem}
		var syncer *Syncer
		if atStart {
			syncer = NewSyncer(SyncerOptions{}) // which does not run: the process is killed before the sync
		}
		l := mustOpen(t, fs, Config{}, syncer)
		if _, err := l.Append(from(7, 0, 0, 1), AppendOptions{Now: epochTime}); err != nil {
			t.Fatal(err)
		}
		failing := func() {
			fs.Fail(func(op vfs.Op, name string) error {
				if op == vfs.OpSync && path.Ext(name) == ".log" {
					return vfs.LostSync{Err: syscall.EIO}
				}
				return nil
			})
		}
		if !atStart {
			failing()
		}
		a, err := l.Append(from(7, 0, 1, 1), AppendOptions{Now: epochTime})
		if err != nil {
			t.Fatal(err)
		}
		if !atStart && l.WaitSynced(t.Context(), a.LastOffset+1) == nil {
			t.Fatal("promised after a failed sync")
		}
		if atStart {
			failing()
			if _, err := Open(fs, "/data/t-0", Config{}, nil); err == nil {
				t.Fatal("opened although nothing can be synced")
			}
		} else if err := l.Close(); err == nil {
			t.Fatal("closed although nothing could be synced")
		}
		fs.Fail(nil)
		l = mustOpen(t, fs, Config{}, nil)
		again, err := l.Append(from(7, 0, 1, 1), AppendOptions{Now: epochTime}) // the producer tries again
		if err != nil || !again.Duplicate || l.WaitSynced(t.Context(), again.LastOffset+1) != nil {
			t.Fatalf("%+v, %v", again, err)
		}
		if ok, err := vfs.Exists(fs, "/data/t-0/"+lostSyncFile); ok || err != nil {
			t.Error("the note is still there:", ok, err)
		}
		cut := mustOpen(t, mem.CrashClone(0, nil), Config{}, nil)
		if got := readAll(t, cut, false, 1<<20); len(got) != 2 {
			t.Errorf("at start %v: %d batches of 2 after a power cut", atStart, len(got))
		}
		mustClose(t, cut)
		mustClose(t, l)
	}
}

// Somebody removes a segment of a log whose process was killed. In the middle that is refused, whether anything else of the segment is
// left or not, rather than the end given up; at the end the log goes on with what is left, and says so, in a new leader epoch.
func TestSegmentsThatWereRemoved(t *testing.T) {
	cfg := Config{SegmentBytes: 500, IndexIntervalBytes: 100}
	for _, c := range []struct {
		name    string
		closed  bool
		remove  func(segs []string) (prefix string, only string)
		refused bool
	}{
		{"the middle's batches", false, func(s []string) (string, string) { return s[len(s)-2], ".log" }, true},
		{"all of the middle", false, func(s []string) (string, string) { return s[len(s)-2], "" }, true},
		{"the last's batches", true, func(s []string) (string, string) { return s[len(s)-1], ".log" }, false},
		{"all of the last", true, func(s []string) (string, string) { return s[len(s)-1], "" }, false},
		{"everything", true, func([]string) (string, string) { return "0", ".log" }, false},
	} {
		fs := vfs.NewMem()
		l := mustOpen(t, fs, cfg, nil)
		for i := range int32(20) {
			mustAppend(t, l, from(7, 0, i, 1))
		}
		var segs []string
		for _, s := range *l.view.Load() {
			segs = append(segs, strings.TrimSuffix(path.Base(s.name), ".log"))
		}
		if len(segs) < 3 {
			t.Fatal(len(segs), "segments")
		}
		if c.closed {
			mustClose(t, l)
		}
		prefix, only := c.remove(segs)
		files := snapshotOf(t, fs, "/data/t-0")
		for name := range files {
			if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, only) {
				delete(files, name)
			}
		}
		l, err := Open(restore(t, files), "/data/t-0", cfg, nil)
		if c.refused {
			if err == nil || !strings.Contains(err.Error(), ".log at byte") {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if l.LeaderEpoch() == 0 {
			t.Errorf("%s: consumers cannot tell: end %d in epoch 0", c.name, l.Bounds().End)
		}
		mustClose(t, l)
	}
}
