package log

import (
	"errors"
	"sort"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// OffsetForTime finds the first record, in offset order, whose time is ts (milliseconds) or later, among those that a
// reader may see: below the high watermark, or with committed below the last stable offset. found is false if there is
// none. Errors wrap KafkaStorageError, ErrCorrupt, ErrClosed, ErrDeleted.
func (l *Log) OffsetForTime(ts int64, committed bool) (t TimeOffset, found bool, err error) {
	for {
		t, found, err = l.offsetForTime(ts, committed)
		if !errors.Is(err, errDropped) {
			return t, found, err
		}
		if err := l.usable(); err != nil {
			return t, false, err
		}
	}
}

// usable is usableLocked for readers: a poisoned log can be read.
func (l *Log) usable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.gone != nil {
		return l.goneLocked()
	}
	return nil
}

func (l *Log) offsetForTime(ts int64, committed bool) (TimeOffset, bool, error) {
	if l.left.Load() {
		return TimeOffset{}, false, errDropped
	}
	if l.offline != nil {
		return TimeOffset{}, false, l.Online()
	}
	b := l.Bounds()
	segs := *l.view.Load()
	limit := b.HighWatermark
	if committed {
		limit = b.LastStable
	}
	for _, s := range segs {
		if s.base >= limit {
			break
		}
		t, found, err := l.timeInSegment(s, ts, b.LogStart, limit)
		if found || err != nil {
			return t, found, err
		}
	}
	return TimeOffset{}, false, nil
}

// timeInSegment is offsetForTime within one segment.
func (l *Log) timeInSegment(s *segment, ts, start, limit int64) (t TimeOffset, found bool, err error) {
	f, err := s.acquire()
	if err != nil {
		return t, false, err
	}
	defer s.release()
	if err := l.loadSegment(s, f); err != nil {
		return t, false, err
	}
	if top, _ := s.maxTimestamp(); top < ts {
		return t, false, nil
	}
	size := s.size.Load()
	w := l.window()
	defer l.scratch.Put(w)
	from := max(s.base+int64(searchTime(s.times.all(), ts)), start)
	pos, _, err := s.locate(f, from, size, w)
	for err == nil && pos < size {
		// Batches whose largest time is early enough are passed by their headers alone.
		pos, err = s.hop(f, pos, size, w, func(b record.Batch) bool {
			return b.MaxTimestamp() >= ts || b.BaseOffset() >= limit
		})
		if err != nil || pos >= size {
			break
		}
		var b record.Batch
		if b, err = s.readBatch(f, pos, size); err != nil || b.BaseOffset() >= limit {
			break
		}
		t, found, err = l.recordAt(b, func(r *record.Record) bool { return r.Timestamp >= ts && r.Offset >= start })
		if found || err != nil {
			break
		}
		pos += int64(len(b))
	}
	if err != nil {
		return t, false, l.readFailed(err)
	}
	return t, found, nil
}

// readBatch reads one whole batch and checks it.
func (s *segment) readBatch(f vfs.File, pos, size int64) (record.Batch, error) {
	var head [record.HeaderBytes]byte
	h, err := s.header(f, pos, size, head[:])
	if err != nil {
		return nil, err
	}
	b := make(record.Batch, h.Length())
	if err := readFull(f, b, pos); err != nil {
		return nil, err
	}
	if err := b.Validate(); err != nil {
		return nil, corruption(s.name, pos, err)
	}
	return b, nil
}

// recordAt finds the first record of b that want takes. A batch that cannot be decompressed stands for its first
// record: a client wrote it so, and asking for a time must not fail for ever because of it.
func (l *Log) recordAt(b record.Batch, want func(*record.Record) bool) (t TimeOffset, found bool, err error) {
	it := record.NewIterator(b, &l.dec)
	for it.Next() {
		if r := it.Record(); want(r) {
			return TimeOffset{Offset: r.Offset, Timestamp: r.Timestamp, LeaderEpoch: b.LeaderEpoch()}, true, nil
		}
	}
	if it.Err() != nil {
		return TimeOffset{Offset: b.BaseOffset(), Timestamp: b.MaxTimestamp(), LeaderEpoch: b.LeaderEpoch()}, true, nil
	}
	return t, false, nil
}

// MaxTimestamp finds the record with the largest timestamp (the first of them). found is false in an empty log. Errors
// as in OffsetForTime.
func (l *Log) MaxTimestamp() (t TimeOffset, found bool, err error) {
	for {
		t, found, err = l.maxTimestamp()
		if !errors.Is(err, errDropped) {
			return t, found, err
		}
		if err := l.usable(); err != nil {
			return t, false, err
		}
	}
}

func (l *Log) maxTimestamp() (TimeOffset, bool, error) {
	if l.left.Load() {
		return TimeOffset{}, false, errDropped
	}
	if l.offline != nil {
		return TimeOffset{}, false, l.Online()
	}
	var best *segment
	bestTS := int64(-1)
	b := l.Bounds()
	for _, s := range *l.view.Load() {
		ts, err := l.newestBelow(s, b.HighWatermark)
		if err != nil {
			return TimeOffset{}, false, err
		}
		if ts > bestTS {
			best, bestTS = s, ts
		}
	}
	if best == nil {
		return TimeOffset{}, false, nil
	}
	return l.timeInSegment(best, bestTS, b.LogStart, b.HighWatermark)
}

// newestBelow returns the largest time of the batches of s below limit, -1 if there is none.
func (l *Log) newestBelow(s *segment, limit int64) (int64, error) {
	f, err := s.acquire()
	if err != nil {
		return -1, err
	}
	defer s.release()
	if err := l.loadSegment(s, f); err != nil {
		return -1, err
	}
	ts, at := s.maxTimestamp()
	if at < limit {
		return ts, nil
	}
	// The newest is not visible yet: look through the headers.
	w := l.window()
	defer l.scratch.Put(w)
	ts = -1
	_, err = s.hop(f, 0, s.size.Load(), w, func(b record.Batch) bool {
		if b.BaseOffset() >= limit {
			return true
		}
		if b.Count() > 0 {
			ts = max(ts, b.MaxTimestamp())
		}
		return false
	})
	if err != nil {
		return -1, l.readFailed(err)
	}
	return ts, nil
}

// EpochEnd returns the largest leader epoch that is not larger than epoch, and the offset at which it ends: the start
// of the next one, or for the current epoch the high watermark. -1, -1 if there is none.
func (l *Log) EpochEnd(epoch int32) (int32, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	es := l.mu.epochs
	i := sort.Search(len(es), func(i int) bool { return es[i].epoch > epoch }) - 1
	switch {
	case i < 0 || epoch > l.epoch.Load():
		return -1, -1
	case i == len(es)-1:
		return es[i].epoch, l.high.Load()
	}
	return es[i].epoch, es[i+1].start
}
