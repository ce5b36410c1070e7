package log

import (
	"errors"
	"fmt"
	"sort"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Read returns whole batches from the one that holds o.From on, as they lie on disk. It takes no lock of the log, and
// allocates nothing if o.Buf is large enough and no transaction was aborted. A batch that begins before o.From is
// returned whole. Batches of several segments come from several reads.
//
// Nothing below the log start and nothing at or beyond the limit (the high watermark, or with Committed the last stable
// offset) is returned; at the limit Batches is empty. Errors wrap OffsetOutOfRange below the log start or beyond the
// end (the result's Bounds are set all the same), KafkaStorageError, ErrCorrupt, ErrClosed, ErrDeleted.
//
// The bytes of a segment that an earlier process wrote are checked against their CRC when they are first read.
func (l *Log) Read(o ReadOptions) (ReadResult, error) {
	for {
		res, err := l.readOnce(&o)
		if !errors.Is(err, errDropped) {
			return res, err
		}
		// The segment went away under us: either retention moved the log start, or the log is gone.
		l.mu.Lock()
		gone := l.mu.gone != nil
		if gone {
			err = l.goneLocked()
		}
		l.mu.Unlock()
		if gone {
			return res, err
		}
	}
}

func (l *Log) readOnce(o *ReadOptions) (ReadResult, error) {
	// The bounds before the view: whatever lies below the end is in the view then, unless it was deleted meanwhile,
	// which shows in the first segment.
	if l.offline != nil {
		return ReadResult{Batches: []byte{}}, l.Online()
	}
	b := l.Bounds()
	segs := *l.view.Load()
	res := ReadResult{Batches: o.Buf[:0:0], Bounds: b}
	if res.Batches == nil {
		res.Batches = []byte{}
	}
	if o.From < b.LogStart || o.From > b.End {
		return res, refuse(kerr.OffsetOutOfRange, "offset %d, the log holds %d to %d", o.From, b.LogStart, b.End)
	}
	limit := b.HighWatermark
	if o.Committed {
		limit = b.LastStable
	}
	if l.left.Load() || segs[0].base > o.From {
		return res, errDropped
	}
	if o.From >= limit {
		return res, nil
	}
	i := sort.Search(len(segs), func(i int) bool { return segs[i].base > o.From }) - 1
	for ; i < len(segs) && segs[i].base < limit; i++ {
		batches, next, err := l.readSegment(segs[i], o, limit)
		if err != nil {
			return res, err
		}
		if batches == nil {
			continue // nothing at or after From is in this segment: compaction left a gap
		}
		res.Batches = batches
		if o.Committed && len(batches) > 0 {
			res.Aborted, err = l.abortedIn(segs[i:], o.From, next)
		}
		return res, err
	}
	return res, nil
}

// readSegment reads what o asks for from one segment. batches is nil if the segment has nothing at or after o.From, and
// empty if what it has does not fit. next is the offset after the last batch.
func (l *Log) readSegment(s *segment, o *ReadOptions, limit int64) (batches []byte, next int64, err error) {
	f, err := s.acquire()
	if err != nil {
		return nil, 0, err
	}
	defer s.release()
	if err := l.loadSegment(s, f); err != nil {
		return nil, 0, err
	}
	size := s.size.Load()
	w := l.window()
	pos, exact, err := s.locate(f, o.From, size, w)
	l.scratch.Put(w)
	if err != nil {
		return nil, 0, l.readFailed(err)
	}
	if pos >= size {
		return nil, 0, nil
	}
	batches, next, err = s.read(f, pos, size, limit, exact, o)
	if err != nil {
		return nil, 0, l.readFailed(err)
	}
	if len(batches) > 0 {
		if end := pos + int64(len(batches)); next-s.base < 1<<31 {
			s.hint.Store(uint64(next-s.base)<<32 | uint64(uint32(end)))
		}
	}
	return batches, next, nil
}

func (l *Log) readFailed(err error) error {
	var k *kerr.Error
	if errors.As(err, &k) {
		return fmt.Errorf("log %s: %w", l.cfg.Load().Name, err)
	}
	return storageError(l.cfg.Load().Name, "read", err)
}

// loadSegment brings the indexes of a segment into memory if they are not there.
func (l *Log) loadSegment(s *segment, f vfs.File) error {
	if s.loaded.Load() {
		return nil
	}
	err := s.load(f, l.cfg.Load().IndexIntervalBytes, func() ([]abortedEntry, error) { return l.replayAborted(s) })
	if err != nil {
		return l.readFailed(err)
	}
	return nil
}

// read reads whole batches from pos on that begin below limit. exact says that a batch begins at o.From.
func (s *segment) read(f vfs.File, pos, size, limit int64, exact bool, o *ReadOptions) (batches []byte, next int64, err error) {
	want := int(min(int64(max(o.MaxBytes, 0)), size-pos))
	if o.MinOne {
		want = int(min(int64(max(want, record.HeaderBytes)), size-pos))
	}
	if want < record.HeaderBytes {
		return []byte{}, 0, nil
	}
	buf := o.Buf[:cap(o.Buf)]
	if len(buf) < want {
		buf = make([]byte, want)
	}
	buf = buf[:want]
	if err := readFull(f, buf, pos); err != nil {
		return nil, 0, fmt.Errorf("%s at byte %d: %w", s.name, pos, err)
	}
	if b := record.Batch(buf); pos < s.tail && !s.gaps() {
		if first, last := b.BaseOffset(), b.LastOffset(); first > o.From || last < o.From || first != o.From && exact {
			return nil, 0, corruption(s.name, pos, fmt.Errorf("batch %d to %d where offset %d should be", first, last, o.From))
		}
	}
	n, next, err := s.whole(buf, pos, size, limit)
	if err == nil && n == 0 && o.MinOne {
		buf, n, next, err = s.readOne(f, buf, pos, size, limit)
	}
	if err != nil {
		return nil, 0, err
	}
	good, err := s.verify(buf[:n], pos)
	if err != nil && good > 0 { // what is before the damage is read; the next read will tell of it
		n, err = good, nil
		for at := 0; at < n; at += record.Batch(buf[at:]).Length() {
			next = record.Batch(buf[at:]).LastOffset() + 1
		}
	}
	return buf[:n:n], next, err
}

// whole counts the bytes of whole batches below limit at the start of buf, which was read from pos.
func (s *segment) whole(buf []byte, pos, size, limit int64) (n int, next int64, err error) {
	for len(buf)-n >= record.HeaderBytes {
		b := record.Batch(buf[n:])
		if err := s.checkHeader(b, pos+int64(n), size); err != nil {
			if n > 0 {
				return n, next, nil // the next read will tell
			}
			return 0, 0, err
		}
		if n > 0 && b.BaseOffset() != next && pos+int64(n) < s.tail && !s.gaps() {
			return n, next, nil // likewise
		}
		length := b.Length()
		if b.BaseOffset() >= limit || length > len(buf)-n {
			break
		}
		n += length
		next = b.LastOffset() + 1
	}
	return n, next, nil
}

// readOne reads the first batch, whose header is at the start of buf, however large it is.
func (s *segment) readOne(f vfs.File, buf []byte, pos, size, limit int64) ([]byte, int, int64, error) {
	b := record.Batch(buf)
	if err := s.checkHeader(b, pos, size); err != nil {
		return nil, 0, 0, err
	}
	length, next := b.Length(), b.LastOffset()+1
	if b.BaseOffset() >= limit || length <= len(buf) {
		return buf, 0, 0, nil
	}
	if cap(buf) < length {
		buf = append(make([]byte, 0, length), buf...)
	}
	have := len(buf)
	buf = buf[:length]
	if err := readFull(f, buf[have:], pos+int64(have)); err != nil {
		return nil, 0, 0, fmt.Errorf("%s at byte %d: %w", s.name, pos, err)
	}
	return buf, length, next, nil
}

// verify checks the CRC of batches read from pos that this process has neither written nor checked before. With an error, good is how
// many bytes are before the batch that is damaged.
func (s *segment) verify(batches []byte, pos int64) (good int, err error) {
	if pos >= s.tail {
		return len(batches), nil
	}
	done := s.verified.Load()
	end := pos + int64(len(batches))
	if end <= done {
		return len(batches), nil
	}
	for at := pos; len(batches) > 0 && at < s.tail; {
		b := record.Batch(batches[:record.Batch(batches).Length()])
		if at >= done {
			if err := b.Validate(); err != nil {
				return int(at - pos), corruption(s.name, at, err)
			}
		}
		batches = batches[len(b):]
		at += int64(len(b))
	}
	if pos <= done {
		s.verified.CompareAndSwap(done, end)
	}
	return int(end - pos), nil
}

// abortedIn lists the aborted transactions that touch the offsets [from, to), which are in the first of segs. Their
// markers may be in it or in later ones.
func (l *Log) abortedIn(segs []*segment, from, to int64) ([]AbortedTxn, error) {
	var out []AbortedTxn
	for i, s := range segs {
		if i > 0 && !s.loaded.Load() {
			f, err := s.acquire()
			if err != nil {
				return nil, err
			}
			err = l.loadSegment(s, f)
			s.release()
			if err != nil {
				return nil, err
			}
		}
		for _, a := range s.aborted.all() {
			if a.LastOffset >= from && a.FirstOffset < to {
				out = append(out, a.AbortedTxn)
			}
			if a.stable >= to {
				return sortAborted(out), nil
			}
		}
	}
	return sortAborted(out), nil
}

// sortAborted orders by first offset: clients walk the list in step with the records.
func sortAborted(a []AbortedTxn) []AbortedTxn {
	sort.Slice(a, func(i, j int) bool { return a[i].FirstOffset < a[j].FirstOffset })
	return a
}

// Available estimates how many bytes a reader at from can get now, too few by less than an index interval and a batch,
// and 1 rather than 0 if there is anything. It is for min.bytes of a long poll: it reads no file. Out of range it is 0.
func (l *Log) Available(from int64, committed bool) int64 {
	b := l.Bounds()
	segs := *l.view.Load()
	limit := b.HighWatermark
	if committed {
		limit = b.LastStable
	}
	if from < b.LogStart || from >= limit {
		return 0
	}
	place := func(offset int64) int64 {
		var before int64
		for i, s := range segs {
			if i == len(segs)-1 || segs[i+1].base > offset {
				if offset >= b.End {
					return before + s.size.Load()
				}
				p, _ := searchOffset(s.offsets.all(), s.rel(offset))
				return before + int64(p)
			}
			before += s.size.Load()
		}
		return before
	}
	return max(place(limit)-place(from), 1)
}
