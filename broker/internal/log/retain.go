package log

import (
	"errors"
	"slices"
	"time"

	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// DeleteRecords makes to the first offset that can be read, and returns the log start that holds then. -1 means the
// high watermark. An offset at or below the log start changes nothing. The new start is durable when it returns;
// segments wholly below it are removed. Errors: OffsetOutOfRange beyond the high watermark, KafkaStorageError,
// ErrClosed, ErrDeleted.
func (l *Log) DeleteRecords(to int64) (logStart int64, err error) {
	l.mu.Lock()
	if err := l.usableLocked(); err != nil {
		l.mu.Unlock()
		return l.start.Load(), err
	}
	high := l.high.Load()
	if to == -1 {
		to = high
	}
	if to < 0 || to > high {
		l.mu.Unlock()
		return l.start.Load(), refuse(kerr.OffsetOutOfRange, "delete up to %d, the high watermark is %d", to, high)
	}
	gone, moved, err := l.moveStartLocked(to)
	logStart = l.start.Load()
	l.mu.Unlock()
	if moved {
		l.watch.wake()
	}
	return logStart, errors.Join(err, l.dropAll(gone))
}

// moveStartLocked persists and publishes a new log start, and takes the segments below it out of the view. Drop them
// without the lock.
func (l *Log) moveStartLocked(to int64) (gone []*segment, moved bool, err error) {
	if to <= l.start.Load() {
		return nil, false, nil
	}
	segs := *l.view.Load()
	n := 0
	for n+1 < len(segs) && segs[n+1].base <= to {
		n++
	}
	if n > 0 {
		if err := l.keepProducersLocked(segs[n-1], segs[n].base); err != nil {
			return nil, false, l.writeFailedLocked("write a producer snapshot", err)
		}
	}
	if err := writeStart(l.fsys, l.dir, to); err != nil {
		return nil, false, l.writeFailedLocked("write the log start", err)
	}
	if l.lso.Load() < to {
		l.lso.Store(to)
	}
	l.start.Store(to)
	if n > 0 {
		gone = segs[:n]
		rest := slices.Clone(segs[n:])
		l.view.Store(&rest)
		l.mu.rolled = slices.DeleteFunc(l.mu.rolled, func(s *segment) bool { return slices.Contains(gone, s) })
	}
	return gone, true, nil
}

// keepProducersLocked makes the snapshot at base durable, before the batches it was made from go with last and the
// segments before it. Else a crash would make the log forget producers whose batches are all deleted, and take their
// retries for something new.
func (l *Log) keepProducersLocked(last *segment, base int64) error {
	last.mu.Lock()
	data := last.snapshot
	last.snapshot = nil // or a seal still under way would write it again, unsynced
	last.mu.Unlock()
	name := fileName(l.dir, base, ".snapshot")
	if data == nil {
		var err error
		if data, err = vfs.ReadFile(l.fsys, name, maxSnapshotFileBytes); err == nil {
			_, err = decodeProducers(data, 0)
		}
		if err != nil { // a crash took it before: once more from the batches
			ps, at := l.nearestSnapshot(base)
			if err := l.replay(*l.view.Load(), ps, at, base, 0, func(*segment, abortedEntry) {}); err != nil {
				return err
			}
			data = ps.encode()
		}
	}
	return vfs.ReplaceFile(l.fsys, name, data)
}

func (l *Log) dropAll(segs []*segment) error {
	var errs []error
	for _, s := range segs {
		if err := s.drop(); err != nil {
			errs = append(errs, storageError(l.cfg.Load().Name, "remove "+s.name, err))
		}
	}
	return errors.Join(errs...)
}

// Retain applies retention: with Config.Delete, segments whose records are all older than RetentionAge go, and from the
// oldest as many as RetentionBytes can do without. A segment without times is taken to be as old as its file. The
// active segment is rolled first where its turn has come. It returns how many segments went. Call it now and then.
func (l *Log) Retain(now time.Time) (segments int, err error) {
	cfg := l.cfg.Load()
	if !cfg.Delete || l.offline != nil || cfg.RetentionAge <= 0 && cfg.RetentionBytes <= 0 {
		return 0, nil
	}
	segs := *l.view.Load()
	n, err := l.retainCount(segs, cfg, now)
	if n == 0 || err != nil {
		return 0, err
	}
	l.mu.Lock()
	if err := l.usableLocked(); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	if l.cfg.Load() != cfg { // somebody wants to keep more, perhaps: the next call goes by that
		l.mu.Unlock()
		return 0, nil
	}
	high := l.high.Load()
	last := segs[n-1]
	if last == l.mu.active {
		// Everything is due: it can go only once there is a segment to go on with, and not above the high watermark.
		if last.size.Load() == 0 || high < l.end.Load() {
			n--
		} else if err := l.rollLocked(cfg, now.UnixMilli()); err != nil {
			err = l.writeFailedLocked("start a segment", err)
			l.mu.Unlock()
			return 0, err
		}
	}
	var gone []*segment
	var moved bool
	if n > 0 {
		gone, moved, err = l.moveStartLocked(min(l.endOf(segs[n-1]), high))
	}
	l.mu.Unlock()
	if moved {
		l.watch.wake()
	}
	return len(gone), errors.Join(err, l.dropAll(gone))
}

// retainCount says how many of the first segments are due.
func (l *Log) retainCount(segs []*segment, cfg *Config, now time.Time) (int, error) {
	var total int64
	for _, s := range segs {
		total += s.size.Load()
	}
	n := 0
	for _, s := range segs {
		due := cfg.RetentionBytes > 0 && total-s.size.Load() >= cfg.RetentionBytes
		if !due && cfg.RetentionAge > 0 {
			newest, err := l.newest(s)
			if err != nil {
				return 0, err
			}
			due = s.size.Load() > 0 && now.UnixMilli()-newest > cfg.RetentionAge.Milliseconds()
		}
		if !due {
			break
		}
		total -= s.size.Load()
		n++
	}
	return n, nil
}

// newest returns the largest record time of a segment in milliseconds, or the time of its file if records have none.
func (l *Log) newest(s *segment) (int64, error) {
	f, err := s.acquire()
	if err != nil {
		return 0, l.readFailed(err)
	}
	defer s.release()
	if err := l.loadSegment(s, f); err != nil {
		return 0, err
	}
	if ts, _ := s.maxTimestamp(); ts >= 0 {
		return ts, nil
	}
	info, err := l.fsys.Stat(s.name)
	if err != nil {
		return 0, l.readFailed(err)
	}
	return info.ModTime.UnixMilli(), nil
}
