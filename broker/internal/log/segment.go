package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"sync"
	"sync/atomic"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// segment is a stretch of the log in one .log file, with its indexes.
//
// One goroutine at a time appends (the log's lock sees to it); any number read. What readers may see is published by
// size, which only grows, and by the sparse indexes. A segment lives while somebody holds a reference: one is the log's
// own, until the segment is dropped, and each reader takes one for the time of its read, so that a file is never closed
// under a read. Files are opened, and indexes loaded, when they are first needed: a thousand idle partitions cost no
// descriptors.
type segment struct {
	fsys vfs.FS
	dir  string
	base int64
	name string // path of the .log, for errors

	refs     atomic.Int32
	size     atomic.Int64 // bytes of whole batches
	verified atomic.Int64 // bytes from the start whose CRC was checked by reads
	hint     atomic.Uint64
	offsets  sparse[offsetEntry]
	times    sparse[timeEntry]
	aborted  sparse[abortedEntry]
	loaded   atomic.Bool // indexes are in memory

	// tail is where the part begins that this process has written, or read batch by batch when it opened the log: its
	// CRCs are known to be right.
	tail int64

	// The appender's own.
	alloc      int64  // size of the file: beyond size it is zeros, written ahead
	sinceIndex int    // bytes since the last index entry
	firstTS    int64  // largest timestamp of the first batch, -1 if unknown
	snapshot   []byte // producers at the end, to be written with the seal
	lastSync   int64  // size when it was last synced

	mu struct {
		sync.Mutex
		file    vfs.File // nil until opened, and after the last release
		dropped bool     // files are removed
		seal    seal
		maxTS   int64 // largest timestamp, -1 if none
		maxAt   int64 // last offset of the batch that has it
	}
}

// errDropped says that the segment left the log between the look at the view and the read: look again.
var errDropped = errors.New("segment is gone")

func fileName(dir string, base int64, suffix string) string {
	return path.Join(dir, fmt.Sprintf("%020d%s", base, suffix))
}

// newSegment makes the description of a segment; it touches no file.
func newSegment(fsys vfs.FS, dir string, base int64) *segment {
	s := &segment{fsys: fsys, dir: dir, base: base, name: fileName(dir, base, ".log"), firstTS: -1}
	s.refs.Store(1)
	s.mu.maxTS, s.mu.maxAt = -1, -1
	return s
}

// createSegment makes a new, empty segment, ready for appends.
func createSegment(fsys vfs.FS, dir string, base int64) (*segment, error) {
	s := newSegment(fsys, dir, base)
	f, err := fsys.Create(s.name)
	if err != nil {
		return nil, err
	}
	s.mu.file = f
	s.loaded.Store(true)
	return s, nil
}

// acquire takes a reference and returns the open file; errDropped if the segment is gone. Release it.
func (s *segment) acquire() (vfs.File, error) {
	for {
		n := s.refs.Load()
		if n <= 0 {
			return nil, errDropped
		}
		if s.refs.CompareAndSwap(n, n+1) {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.file == nil {
		f, err := s.fsys.Open(s.name)
		if err != nil {
			s.releaseLocked()
			return nil, err
		}
		s.mu.file = f
	}
	return s.mu.file, nil
}

func (s *segment) release() {
	if s.refs.Add(-1) == 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closeLocked()
	}
}

func (s *segment) releaseLocked() {
	if s.refs.Add(-1) == 0 {
		s.closeLocked()
	}
}

func (s *segment) closeLocked() {
	if s.mu.file != nil {
		s.mu.file.Close() // readers are gone and data was synced or given up: nothing can be lost by this error
		s.mu.file = nil
	}
}

// suffixes are the files of a segment.
var suffixes = [...]string{".log", ".index", ".timeindex", ".txnindex", ".seal", ".snapshot"}

// drop removes the files and gives up the log's reference. The segment must have left the view.
func (s *segment) drop() error {
	s.mu.Lock()
	s.mu.dropped = true
	var errs []error
	for _, x := range suffixes {
		if err := s.fsys.Remove(fileName(s.dir, s.base, x)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	s.mu.Unlock()
	s.release()
	return errors.Join(errs...)
}

// write appends a batch at the end of the file. The batch becomes visible with note.
func (s *segment) write(b record.Batch) error {
	n, err := s.mu.file.WriteAt(b, s.size.Load())
	if end := s.size.Load() + int64(n); end > s.alloc {
		s.alloc = end
	}
	return err
}

// note enters a batch at pos, which has been written or found, into the indexes and publishes it.
func (s *segment) note(b record.Batch, pos int64, interval int) {
	if pos == 0 {
		s.firstTS = b.MaxTimestamp()
	}
	if ts := b.MaxTimestamp(); ts > s.mu.maxTS && b.Count() > 0 {
		s.mu.Lock()
		s.mu.maxTS, s.mu.maxAt = ts, b.LastOffset()
		s.mu.Unlock()
	}
	if s.sinceIndex > interval {
		s.offsets.add(offsetEntry{
			last: uint32(b.LastOffset() - s.base), pos: uint32(pos), base: uint32(b.BaseOffset() - s.base),
		})
		s.noteTime()
		s.sinceIndex = 0
	}
	s.sinceIndex += len(b)
	end := pos + int64(len(b))
	s.size.Store(end)
	if end > s.alloc {
		s.alloc = end
	}
}

// noteTime adds the largest time so far to the time index, if it has grown since.
func (s *segment) noteTime() {
	es := s.times.all()
	if s.mu.maxTS >= 0 && (len(es) == 0 || es[len(es)-1].ts < s.mu.maxTS) {
		s.times.add(timeEntry{ts: s.mu.maxTS, rel: uint32(s.mu.maxAt - s.base)})
	}
}

// maxTimestamp returns the largest time and the last offset of its batch; -1, -1 if there is none. Indexes must be
// loaded.
func (s *segment) maxTimestamp() (ts, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.maxTS, s.mu.maxAt
}

// gaps reports whether offsets may be missing between batches.
func (s *segment) gaps() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.seal.flags&sealGaps != 0
}

// rel makes an offset relative; offsets beyond what a segment may hold become the largest.
func (s *segment) rel(offset int64) uint32 {
	return uint32(min(max(offset-s.base, 0), math.MaxInt32))
}

// windowBytes is what locate reads at a time to hop over small batches.
const windowBytes = 8 << 10

// header reads the header of the batch at pos into buf and checks that it can be one.
func (s *segment) header(f vfs.File, pos, size int64, buf []byte) (record.Batch, error) {
	if size-pos < record.HeaderBytes {
		return nil, corruption(s.name, pos, fmt.Errorf("%d bytes are left, less than a batch header", size-pos))
	}
	b := record.Batch(buf[:record.HeaderBytes])
	if err := readFull(f, b, pos); err != nil {
		return nil, fmt.Errorf("read %s at byte %d: %w", s.name, pos, err)
	}
	return b, s.checkHeader(b, pos, size)
}

// checkHeader checks what the header of a stored batch must fulfil at this place.
func (s *segment) checkHeader(b record.Batch, pos, size int64) error {
	n, err := record.Size(b)
	switch {
	case err != nil:
		return corruption(s.name, pos, err)
	case int64(n) > size-pos:
		return corruption(s.name, pos, fmt.Errorf("batch of %d bytes, %d are left", n, size-pos))
	case b.Magic() != 2:
		return corruption(s.name, pos, fmt.Errorf("magic %d", b.Magic()))
	case b.BaseOffset() < s.base || b.LastOffsetDelta() < 0:
		return corruption(s.name, pos, fmt.Errorf("offsets %d + %d in a segment from %d", b.BaseOffset(), b.LastOffsetDelta(), s.base))
	}
	return nil
}

// locate returns the position of the first batch whose last offset is at least from, or size if there is none. exact
// says that the batch must begin with from.
func (s *segment) locate(f vfs.File, from, size int64, scratch *[windowBytes]byte) (pos int64, exact bool, err error) {
	rel := s.rel(from)
	if h := s.hint.Load(); uint32(h>>32) == rel && h != 0 && int64(uint32(h)) <= size {
		return int64(uint32(h)), true, nil
	}
	if from <= s.base {
		return 0, from == s.base, nil
	}
	p, known := searchOffset(s.offsets.all(), rel)
	if known {
		return int64(p), false, nil
	}
	pos, err = s.hop(f, int64(p), size, scratch, func(b record.Batch) bool { return b.LastOffset() >= from })
	return pos, false, err
}

// hop goes from header to header, from pos on, until found says so; it returns that position, or size.
func (s *segment) hop(f vfs.File, pos, size int64, scratch *[windowBytes]byte, found func(record.Batch) bool) (int64, error) {
	var window []byte // bytes at winPos
	winPos := pos
	for pos < size {
		at := pos - winPos
		if at+record.HeaderBytes > int64(len(window)) {
			n := min(int64(len(scratch)), size-pos)
			window, winPos, at = scratch[:n], pos, 0
			if err := readFull(f, window, pos); err != nil {
				return 0, fmt.Errorf("read %s at byte %d: %w", s.name, pos, err)
			}
			if n < record.HeaderBytes {
				return 0, corruption(s.name, pos, fmt.Errorf("%d bytes are left, less than a batch header", n))
			}
		}
		b := record.Batch(window[at : at+record.HeaderBytes])
		if err := s.checkHeader(b, pos, size); err != nil {
			return 0, err
		}
		if found(b) {
			return pos, nil
		}
		pos += int64(b.Length())
	}
	return size, nil
}

// readFull reads exactly len(p) bytes.
func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// scan reads whole batches from pos on, checks each and hands it to f, until the size given or the first that is not
// good or does not follow its predecessor. It returns where it stopped and, if that is not size, why: an error that wraps record.ErrCorrupt or
// record.ErrShort says that the bytes there are not a batch; others come from the file or from f. next is the offset
// expected at pos.
func (s *segment) scan(file vfs.File, pos, size, next int64, f func(b record.Batch, pos int64) error) (int64, error) {
	buf := make([]byte, min(1<<20, max(size-pos, record.HeaderBytes)))
	var have []byte // unread bytes, at pos
	gaps := s.gaps()
	for pos < size {
		b, err := record.Parse(have)
		if errors.Is(err, record.ErrShort) && int64(len(have)) < size-pos {
			if n, serr := record.Size(have); serr == nil && n > len(buf) {
				if int64(n) > size-pos {
					return pos, record.ErrShort
				}
				buf = make([]byte, n)
			}
			n := min(int64(len(buf)), size-pos)
			have = buf[:n]
			if err := readFull(file, have, pos); err != nil {
				return pos, fmt.Errorf("read %s at byte %d: %w", s.name, pos, err)
			}
			continue
		}
		if err == nil {
			err = b.Validate()
		}
		if err == nil && (b.BaseOffset() < next || b.BaseOffset() > next && !gaps) {
			err = fmt.Errorf("%w: offset %d, want %d", record.ErrCorrupt, b.BaseOffset(), next)
		}
		if err == nil && b.LastOffset()-s.base > math.MaxInt32 {
			err = fmt.Errorf("%w: offset %d in the segment of %d", record.ErrCorrupt, b.LastOffset(), s.base)
		}
		if err != nil {
			return pos, err
		}
		if err := f(b, pos); err != nil {
			return pos, err
		}
		pos += int64(len(b))
		next = b.LastOffset() + 1
		have = have[len(b):]
	}
	return pos, nil
}
