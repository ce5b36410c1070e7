package log

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// producers restores the producers' state from the newest snapshot that helps and the batches behind it.
func (r *recovery) producers(end int64) error {
	from := min(r.rescanned, end)
	ps, at := newProducers(), r.segs[0].base
	for _, off := range slices.Backward(r.snapshots) {
		if off > end {
			if err := r.l.fsys.Remove(fileName(r.l.dir, off, ".snapshot")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if off > from || off < at {
			continue
		}
		got, err := readSnapshot(r.l.fsys, r.l.dir, off, r.now)
		if err != nil {
			r.cfg.Logger.Warn("a producer snapshot is not used", "partition", r.cfg.Name, "error", err)
			continue
		}
		ps, at = got, off
		break
	}
	for _, off := range r.snapshots { // left by earlier stops
		if off != at && off <= end && !slices.ContainsFunc(r.segs, func(s *segment) bool { return s.base == off }) {
			if err := r.l.fsys.Remove(fileName(r.l.dir, off, ".snapshot")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	r.l.mu.producers = ps
	return r.l.replay(r.segs, ps, at, end, r.now.UnixMilli(), func(s *segment, e abortedEntry) {
		if es := s.aborted.all(); s.loaded.Load() && (len(es) == 0 || es[len(es)-1].LastOffset < e.LastOffset) {
			s.aborted.add(e)
		}
	})
}

func readSnapshot(fsys vfs.FS, dir string, off int64, now time.Time) (*producers, error) {
	name := fileName(dir, off, ".snapshot")
	data, err := vfs.ReadFile(fsys, name, maxSnapshotFileBytes)
	if err != nil {
		return nil, err
	}
	ps, err := decodeProducers(data, now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return ps, nil
}

// replay applies the batches with offsets in [from, to) to ps. aborted is told of each transaction that was aborted,
// and of the segment that holds its marker.
func (l *Log) replay(segs []*segment, ps *producers, from, to, now int64, aborted func(*segment, abortedEntry)) error {
	if from >= to {
		return nil // a log that was closed: nothing of it is read
	}
	for i, s := range segs {
		if i+1 < len(segs) && segs[i+1].base <= from || s.base >= to {
			continue
		}
		f, err := s.acquire()
		if err != nil {
			return err
		}
		pos, err := s.scan(f, 0, s.size.Load(), s.base, func(b record.Batch, _ int64) error {
			if b.BaseOffset() < from || b.BaseOffset() >= to {
				return nil
			}
			if !b.Control() {
				ps.append(b, now)
				return nil
			}
			m, known, err := record.ParseMarker(b)
			if err != nil || !known {
				return err
			}
			if t, ended := ps.marker(b, m, now); ended && !m.Commit {
				aborted(s, abortedEntry{t, ps.firstOpen(b.LastOffset() + 1)})
			}
			return nil
		})
		s.release()
		if err != nil {
			return corruption(s.name, pos, err)
		}
	}
	return nil
}

// replayAborted makes the transaction index of one closed segment from the batches up to its end.
func (l *Log) replayAborted(want *segment) ([]abortedEntry, error) {
	ps, at := l.nearestSnapshot(want.base)
	var out []abortedEntry
	err := l.replay(*l.view.Load(), ps, at, l.endOf(want), 0, func(s *segment, e abortedEntry) {
		if s == want {
			out = append(out, e)
		}
	})
	return out, err
}

// nearestSnapshot returns the newest usable snapshot at the base of a segment at or before an offset, and that base; or
// nothing known at the start of the log.
func (l *Log) nearestSnapshot(before int64) (*producers, int64) {
	segs := *l.view.Load()
	for _, s := range slices.Backward(segs) {
		if s.base > before {
			continue
		}
		if ps, err := readSnapshot(l.fsys, l.dir, s.base, time.Now()); err == nil {
			return ps, s.base
		}
	}
	return newProducers(), segs[0].base
}
