package log

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// Open opens the log in dir, creates it if there is none, and recovers it if it was not closed: what lies behind the
// last seal is read batch by batch, the log is cut at the first that is not whole, indexes and producers are rebuilt.
// Damage in a segment that was sealed is not cut but refused, with ErrCorrupt and the place. sync may be nil: then
// every append under FlushAlways syncs by itself (for tests). cfg's zero fields are defaults.
func Open(fsys vfs.FS, dir string, cfg Config, sync *Syncer) (*Log, error) {
	cfg = cfg.withDefaults(path.Base(dir))
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	l := &Log{fsys: fsys, dir: dir, syncer: sync}
	l.cfg.Store(&cfg)
	l.dec.MaxBytes = cfg.MaxDecompressedBytes
	r := &recovery{l: l, cfg: &cfg, now: time.Now()}
	if err := r.run(); err != nil {
		for _, s := range r.segs {
			s.release()
		}
		return nil, fmt.Errorf("open log %s: %w", cfg.Name, err)
	}
	return l, nil
}

// recovery is the state of one Open.
type recovery struct {
	l    *Log
	cfg  *Config
	now  time.Time
	segs []*segment
	ends []int64 // offset after the last record of each

	orphans   []string // index files and seals without a segment
	snapshots []int64  // offsets of snapshot files, ascending
	start     int64
	rescanned int64        // first offset that was read batch by batch; math.MaxInt64 if none
	scanned   bool         // something behind a seal was found or cut
	lost      bool         // bytes that are not zeros were cut
	epochs    []epochEntry // where the batches that were read begin new ones
	fresh     bool         // the directory had no segment
	lostSync  bool         // a sync failed before: see lostSyncFile
	complete  int64        // everything below was on disk once, by what is left of seals and snapshots
}

func (r *recovery) run() error {
	l := r.l
	r.rescanned = math.MaxInt64
	exists, err := vfs.Exists(l.fsys, l.dir)
	if err != nil {
		return err
	}
	if err := l.fsys.MkdirAll(l.dir); err != nil {
		return err
	}
	l.mu.dirsDirty = !exists
	bases, err := r.list()
	if err != nil {
		return err
	}
	if r.start, err = readStart(l.fsys, l.dir); err != nil {
		// Losing it makes deleted records of one segment visible again, refusing would make all others unreadable.
		r.cfg.Logger.Warn("the log start is taken from the first segment", "partition", r.cfg.Name, "error", err)
		r.start = 0
	}
	if bases, err = r.prune(bases); err != nil {
		return err
	}
	if err := r.openSegments(bases); err != nil {
		return err
	}
	if err := r.settleStart(); err != nil {
		return err
	}
	l.view.Store(&r.segs)
	l.mu.active = r.segs[len(r.segs)-1]
	end := r.ends[len(r.ends)-1]
	if err := r.checkEnd(end); err != nil {
		return err
	}
	l.end.Store(end)
	l.start.Store(r.start)
	if err := r.producers(end); err != nil {
		return err
	}
	return r.finish(end)
}

// prune finishes the removal of segments that are wholly below the log start. That the producers were kept before, in a
// snapshot at the first segment that stays, tells a removal that had begun from one that is still to come.
func (r *recovery) prune(bases []int64) ([]int64, error) {
	keep := 0
	for i := 1; i < len(bases) && bases[i] <= r.start; i++ {
		if _, err := readSnapshot(r.l.fsys, r.l.dir, bases[i], r.now); err == nil {
			keep = i
		}
	}
	for _, base := range bases[:keep] {
		if err := newSegment(r.l.fsys, r.l.dir, base).drop(); err != nil {
			return nil, err
		}
	}
	return bases[keep:], nil
}

// list sorts the directory's files into segments and snapshots, and removes what a crash left half-made.
func (r *recovery) list() (bases []int64, err error) {
	names, err := r.l.fsys.List(r.l.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		stem, suffix, _ := strings.Cut(name, ".")
		base, err := strconv.ParseInt(stem, 10, 64)
		if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, cleanedSuffix) {
			if err := r.l.fsys.Remove(path.Join(r.l.dir, name)); err != nil {
				return nil, err
			}
			continue
		}
		r.lostSync = r.lostSync || name == lostSyncFile
		if err != nil || len(stem) != 20 || base < 0 {
			continue // not ours
		}
		switch suffix {
		case "log":
			bases = append(bases, base)
		case "snapshot":
			r.snapshots = append(r.snapshots, base)
			r.complete = max(r.complete, base) // it is written when the batches below are synced
		}
	}
	if len(bases) == 0 && len(names) > 0 {
		r.cfg.Logger.Warn("a partition's directory has no segment: it begins empty. Unless the broker was killed while the topic was made, restore the directory from a copy", "dir", r.l.dir)
	}
	for _, name := range names { // indexes without a segment: of one whose removal was cut short, or that somebody else removed
		stem, suffix, _ := strings.Cut(name, ".")
		base, err := strconv.ParseInt(stem, 10, 64)
		if err != nil || len(stem) != 20 || slices.Contains(bases, base) {
			continue
		}
		if v, ok := newSegment(r.l.fsys, r.l.dir, base).readSeal(); ok && suffix == "seal" {
			r.complete = max(r.complete, v.end)
		}
		switch suffix {
		case "index", "timeindex", "txnindex", "seal":
			r.orphans = append(r.orphans, path.Join(r.l.dir, name))
		}
	}
	return bases, nil
}

// openSegments goes through the segments in order. One that ends early, for a crash took the rest, ends the log.
func (r *recovery) openSegments(bases []int64) error {
	next := int64(0)
	for i, base := range bases {
		if base < next {
			return corruption(fileName(r.l.dir, base, ".log"), 0, fmt.Errorf("the segment before it goes up to offset %d", next))
		}
		s := newSegment(r.l.fsys, r.l.dir, base)
		r.segs = append(r.segs, s)
		last := i == len(bases)-1
		end, err := r.openSegment(s, last)
		if err != nil {
			return err
		}
		r.ends = append(r.ends, end)
		if !last && end != bases[i+1] {
			// Also with a seal: it may be of an earlier stop, and what came after it lost.
			if err := r.cutAfter(s, end, bases[i+1:]); err != nil {
				return err
			}
			s.release()
			s = newSegment(r.l.fsys, r.l.dir, base) // once more, as the last
			r.segs[i] = s
			if r.ends[i], err = r.openSegment(s, true); err != nil {
				return err
			}
			break
		}
		next = end
	}
	if len(r.segs) > 0 {
		return r.reopenLast()
	}
	r.fresh = true
	return r.begin(r.start)
}

// begin creates the first segment. Nothing is synced: the first sync of a batch syncs the directories as well, and
// until then there is nothing to lose, so that making thousands of partitions is quick.
func (r *recovery) begin(base int64) error {
	s, err := createSegment(r.l.fsys, r.l.dir, base)
	if err != nil {
		return err
	}
	r.segs, r.ends = []*segment{s}, []int64{base}
	r.l.mu.dirsDirty = true
	return nil
}

// openSegment finds out how far a segment goes.
func (r *recovery) openSegment(s *segment, last bool) (end int64, err error) {
	info, err := r.l.fsys.Stat(s.name)
	if err != nil {
		return 0, err
	}
	v, ok := s.readSeal()
	promised := v.size
	if ok && info.Size < v.size {
		err := fmt.Errorf("the file has %d bytes, %d were complete once", info.Size, v.size)
		if !last {
			return 0, corruption(s.name, info.Size, err)
		}
		if r.cfg.Whole {
			return 0, corruption(s.name, info.Size, fmt.Errorf("%w: %s", err, goOn))
		}
		r.cfg.Logger.Warn("the last segment was cut by somebody else; going on with what is left",
			"partition", r.cfg.Name, "error", err)
		r.lost, promised = true, 0
		// A seal that no longer holds must not come back to life when the file has grown to its size again.
		if err := errors.Join(r.l.fsys.Remove(fileName(s.dir, s.base, ".seal")), r.l.fsys.SyncDir(s.dir)); err != nil {
			return 0, err
		}
		ok = false
	}
	if ok && info.Size == v.size {
		s.mu.seal = v
		s.size.Store(v.size)
		s.alloc, s.tail = v.size, v.size
		if !last {
			return v.end, nil // the indexes are read when they are needed
		}
		if s.loadIndexes(v) {
			s.loaded.Store(true)
			s.lastSync = v.size
			return v.end, nil
		}
		ok = false
	}
	from, next := int64(0), s.base
	if ok && s.loadIndexes(v) {
		from, next = v.size, v.end
		s.mu.seal = v
		s.size.Store(from)
	}
	s.tail = from
	return r.scan(s, from, info.Size, next, promised)
}

// scan reads the batches from a position to the end of the file and cuts what is not a batch. Below promised there must
// be nothing to cut: a seal said that it was on disk.
func (r *recovery) scan(s *segment, from, size, next, promised int64) (end int64, err error) {
	f, err := s.fsys.OpenReadWrite(s.name)
	if err != nil {
		return 0, err
	}
	s.mu.file = f
	s.alloc = from
	end = next
	pos, err := s.scan(f, from, size, next, func(b record.Batch, pos int64) error {
		s.note(b, pos, r.cfg.IndexIntervalBytes)
		if n := len(r.epochs); n == 0 || r.epochs[n-1].epoch < b.LeaderEpoch() {
			r.epochs = append(r.epochs, epochEntry{b.LeaderEpoch(), b.BaseOffset()})
		}
		end = b.LastOffset() + 1
		return nil
	})
	s.loaded.Store(true)
	if pos > from || size > from {
		r.scanned = true
		r.rescanned = min(r.rescanned, next)
	}
	if err != nil && !errors.Is(err, record.ErrCorrupt) && !errors.Is(err, record.ErrShort) {
		return 0, err // the disk, not the data
	}
	if pos < promised {
		return 0, corruption(s.name, pos, err)
	}
	if pos < size && r.cfg.Serial && wholeBehind(f, pos, size, end) {
		return 0, corruption(s.name, pos, fmt.Errorf("%w; what comes behind it is whole, so it was on disk once: cut the file there if you can do without it and all that follows", err))
	}
	if pos < size {
		if err := r.cut(s, f, pos, size, err); err != nil {
			return 0, err
		}
	}
	if pos == size && r.cfg.Flush == FlushOS && !r.lostSync {
		return end, nil // it is as durable as it was before; what is behind a cut must not come back
	}
	return end, r.syncScanned(f, from, pos)
}

// cut truncates a segment at pos, the end of its last whole batch.
func (r *recovery) cut(s *segment, f vfs.File, pos, size int64, cause error) error {
	zero, err := allZero(f, pos, size)
	if err != nil {
		return err
	}
	if !zero {
		r.lost = true
		r.cfg.Logger.Warn("the end of a segment was not completely written; it is cut off", "partition", r.cfg.Name,
			"file", s.name, "position", pos, "bytes", size-pos, "cause", cause)
	}
	s.alloc = pos
	return f.Truncate(pos)
}

// allZero reports whether a file holds nothing but zeros from pos to size: space written ahead.
func allZero(f vfs.File, pos, size int64) (bool, error) {
	buf := make([]byte, min(64<<10, size-pos))
	for pos < size {
		n := min(int64(len(buf)), size-pos)
		if err := readFull(f, buf[:n], pos); err != nil {
			return false, err
		}
		for _, c := range buf[:n] {
			if c != 0 {
				return false, nil
			}
		}
		pos += n
	}
	return true, nil
}

// reopenLast opens the last segment for appends.
func (r *recovery) reopenLast() error {
	s := r.segs[len(r.segs)-1]
	if s.mu.file != nil {
		return nil
	}
	f, err := s.fsys.OpenReadWrite(s.name)
	s.mu.file = f
	return err
}

// settleStart brings log start and segments together.
func (r *recovery) settleStart() error {
	if end := r.ends[len(r.ends)-1]; end < r.start {
		// Everything up to the log start had been deleted, and a crash took what came after.
		for _, s := range r.segs {
			if err := s.drop(); err != nil {
				return err
			}
		}
		r.segs = nil
		return r.begin(r.start)
	}
	if base := r.segs[0].base; base > r.start {
		r.cfg.Logger.Warn("the log starts later than noted: earlier segments are gone", "partition", r.cfg.Name,
			"noted", r.start, "start", base)
		r.start = base
	}
	return nil
}

// finish makes what was recovered durable and sets the bounds.
func (r *recovery) finish(end int64) error {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.synced, l.mu.asked = end, end
	active := l.mu.active
	active.lastSync = active.size.Load()
	for _, s := range r.segs[:len(r.segs)-1] {
		if s.mu.seal.size != s.size.Load() {
			l.mu.rolled = append(l.mu.rolled, s)
		}
	}
	if err := r.epochsLocked(end); err != nil {
		return err
	}
	if r.cfg.TopicID != [16]byte{} {
		if err := r.topicID(); err != nil {
			return err
		}
	}
	if err := r.entriesLocked(); err != nil {
		return err
	}
	if r.lostSync { // if it stays, more is written than has to be
		_ = l.fsys.Remove(path.Join(l.dir, lostSyncFile))
	}
	if r.scanned && !r.fresh {
		r.cfg.Logger.Info("log recovered", "partition", r.cfg.Name, "start", r.start, "end", end,
			"segments", len(r.segs), "scannedFrom", r.rescanned, "cut", r.lost)
	}
	l.lso.Store(r.start)
	l.publishLocked()
	return nil
}

// entriesLocked makes the directory entries durable where nobody can tell whether they are: a process that was killed
// before the first sync of a segment leaves an entry that everybody sees and that a power cut takes, with all that was
// synced into the file later. An empty log has nothing to lose yet, and under FlushOS nobody was promised anything: there the
// first sync does it.
func (r *recovery) entriesLocked() error {
	l, s := r.l, r.l.mu.active
	if size := s.size.Load(); size > 0 && s.mu.seal.size == size {
		return nil // they were synced before it was sealed
	}
	l.mu.dirDirty, l.mu.dirsDirty = true, l.mu.dirsDirty || !r.cfg.EntrySynced
	if len(r.segs) == 1 && s.size.Load() == 0 || r.cfg.Flush == FlushOS {
		return nil
	}
	for _, dir := range l.takeDirsLocked() {
		if err := l.fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// topicID writes partition.metadata, or checks the one that is there.
func (r *recovery) topicID() error {
	have, err := ReadTopicID(r.l.fsys, r.l.dir)
	if err != nil {
		r.cfg.Logger.Warn("partition.metadata is written anew", "partition", r.cfg.Name, "error", err)
	}
	if have == r.cfg.TopicID {
		return nil
	}
	if have != [16]byte{} && err == nil {
		return fmt.Errorf("%w: %s belongs to the topic with id %x, not to %x: move the directory away, or remove its partition.metadata if nothing else is wrong with it",
			ErrForeign, r.l.dir, have, r.cfg.TopicID)
	}
	r.l.mu.dirsDirty = true
	return writeMetadata(r.l.fsys, r.l.dir, r.cfg.TopicID)
}
