package log

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// What tells damage from the remains of a crash, when a log is opened: a crash takes only what was never synced, and seals and
// snapshots are written when what they are about is.

// cutAfter ends the log with s, which a crash left shorter than it was: the segments after it were not durable either,
// for segments are synced in order. If one of them was sealed, or there is a snapshot of what was before it, it was, and the damage is
// not a crash's.
func (r *recovery) cutAfter(s *segment, end int64, later []int64) error {
	if r.complete > end {
		return corruption(s.name, s.size.Load(), fmt.Errorf("records from offset %d to %d are missing, and were complete once", end, later[0]-1))
	}
	for _, base := range later {
		t := newSegment(r.l.fsys, r.l.dir, base)
		if _, sealed := t.readSeal(); sealed {
			return corruption(s.name, s.size.Load(), fmt.Errorf("records from offset %d to %d are missing, and later ones were complete once", end, later[0]-1))
		}
	}
	for _, base := range slices.Backward(later) {
		r.cfg.Logger.Warn("a segment behind the end of the log is removed: the one before it was not completely written",
			"partition", r.cfg.Name, "segment", base, "end", end)
		if err := newSegment(r.l.fsys, r.l.dir, base).drop(); err != nil {
			return err
		}
	}
	r.lost = true
	return r.l.fsys.SyncDir(r.l.dir)
}

// goOn is what can be done about the end of a log that has to be whole.
const goOn = "to go on with what is left remove the .seal and .snapshot files there"

// checkEnd looks whether the end of the log is where it was. Then what told of it goes.
func (r *recovery) checkEnd(end int64) error {
	if r.complete > end {
		if last := r.segs[len(r.segs)-1]; r.cfg.Whole {
			return corruption(last.name, last.size.Load(), fmt.Errorf("the log ends at offset %d, and was complete up to %d once: %s", end, r.complete, goOn))
		}
		// As when the last segment is shorter than its seal says. The next leader epoch tells consumers.
		r.cfg.Logger.Warn("the end of the log was removed by somebody else; going on with what is left", "partition", r.cfg.Name,
			"end", end, "missing", r.complete-end)
		r.lost = true
	}
	for _, name := range r.orphans {
		if err := r.l.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// wholeBehind reports whether a batch that is damaged, at pos, is followed by one that is whole, with an offset beyond next.
func wholeBehind(f vfs.File, pos, size, next int64) bool {
	buf := make([]byte, size-pos)
	if readFull(f, buf, pos) != nil {
		return false
	}
	n, err := record.Size(buf)
	if err != nil || n >= len(buf) {
		return false
	}
	b, err := record.Parse(buf[n:])
	return err == nil && b.Validate() == nil && b.BaseOffset() > next
}
