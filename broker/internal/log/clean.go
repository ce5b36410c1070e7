package log

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// Compaction keeps, of the records of a key, the latest.
//
// A pass reads the dirty part (what was never compacted) into a map from key to latest offset, and then rewrites the
// segments from the first of the log to the end of that part, one after the other, each in its place and under its
// name. What it rests on:
//
//   - Offsets have no gaps afterwards: where batches go, one empty batch (record.Filler) takes all their offsets. So every
//     check of a segment that is not compacted holds, at start too, and nothing has to say which one it was.
//   - A segment is swapped by one rename. Before it or after it a crash leaves a log that is right: a record goes only
//     because of a later one that is on disk, and segments are swapped, durably, in order; so a tombstone, or a marker,
//     never goes before what it deletes or decides.
//   - The state of producers at the end of the part is on disk as a snapshot before anything goes; snapshots inside
//     of the part, which may have transactions open whose markers go, are removed. Whoever builds the state from the batches
//     all the same meets the last batches and markers of every producer that is remembered: they stay, the
//     batches emptied if need be.
//   - The marker of a transaction stays as long as any batch of it, so it cannot be taken for open.

// cleanedSuffix names the file that is being written to take the place of a segment; one that a crash left is removed.
const cleanedSuffix = ".cleaned"

// CleanOptions are what the owner of several logs says about a compaction. A zero field is its default.
type CleanOptions struct {
	Now     time.Time // the broker's clock; zero is time.Now()
	MaxKeys int       // keys in memory at once, about 64 bytes each; default 1 million. Where it does not suffice, a pass ends early
}

// Cleaned says what a compaction did.
type Cleaned struct {
	Segments      int   // how many were swapped
	Before, After int64 // bytes of these
}

// cleaner is the state between compactions.
type cleaner struct {
	sync.Mutex       // held during a compaction, and by who removes the directory
	known      bool  // from was read
	from       int64 // the dirty part begins here
}

// Clean compacts the log once if it has Config.Compact and there is enough to gain: see Config.MinDirtyRatio and the
// lags beside it. The active segment is never touched; it is rolled when its oldest record is older than MaxCompactionLag.
// Clean returns when it is done, fails, or ctx ends or the log is closed; what it has finished by then counts. Errors
// wrap those of reads, KafkaStorageError, ErrCorrupt, ctx's error.
func (l *Log) Clean(ctx context.Context, o CleanOptions) (Cleaned, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.MaxKeys <= 0 {
		o.MaxKeys = 1_000_000
	}
	cfg := l.cfg.Load()
	if !cfg.Compact || l.offline != nil {
		return Cleaned{}, nil
	}
	l.clean.Lock()
	defer l.clean.Unlock()
	p := &cleaning{l: l, cfg: cfg, ctx: ctx, now: o.Now.UnixMilli(), maxKeys: o.MaxKeys}
	defer p.release()
	err := p.run()
	if errors.Is(err, errStartMoved) {
		err = nil // what is left is looked at again
	}
	return p.done, err
}

// errStartMoved says that retention or DeleteRecords took segments away during a pass.
var errStartMoved = errors.New("log: the log start has moved")

func (p *cleaning) run() error {
	l := p.l
	due, err := p.plan()
	if err != nil || !due {
		return err
	}
	if err := p.keepProducers(); err != nil {
		return err
	}
	if err := p.readKeys(); err != nil {
		return err
	}
	for i := range p.segs {
		if p.segs[i].base >= p.mapEnd {
			break
		}
		if err := p.rewrite(i); err != nil {
			return err
		}
	}
	if err := writeOffset(l.fsys, l.dir, cleanFile, p.mapEnd); err != nil {
		return storageError(p.cfg.Name, "write "+cleanFile, err)
	}
	l.clean.from = p.mapEnd
	return nil
}

// cleaning is one pass.
type cleaning struct {
	l       *Log
	cfg     *Config
	ctx     context.Context // of this call
	now     int64
	maxKeys int

	segs   []*segment // from the first of the log on
	files  []vfs.File // theirs; a reference is held of each
	ends   []int64    // the offset after each
	from   int64      // the dirty part begins here
	mapEnd int64      // and ends here, at the end of a batch

	latest     map[keyHash]int64
	aborted    map[int64][]AbortedTxn // by producer
	remembered map[int64]bool         // last offsets of batches and markers that the state of producers needs
	unfinished map[int64]bool         // producers with batches of a transaction whose marker is still to come

	rebuilder record.Rebuilder
	first     *segment // of the log
	rolled    bool
	done      Cleaned
}

func (p *cleaning) release() {
	for i := range p.files {
		p.segs[i].release()
	}
}

// ended says why the pass must not go on.
func (p *cleaning) ended() error {
	if p.l.left.Load() {
		return p.l.usable()
	}
	return p.ctx.Err()
}

// plan finds the segments to compact and reports whether it is worth it.
func (p *cleaning) plan() (bool, error) {
	l := p.l
	segs, lso, err := p.look()
	if p.rolled {
		l.syncer.dirty(l) // seals it; its turn comes with the next look
	}
	if err != nil || len(segs) == 0 {
		return false, err
	}
	p.from = max(l.clean.from, segs[0].base)
	var clean, dirty int64
	oldest := int64(-1)
	for i, s := range segs {
		end := l.endOf(s)
		if end > lso {
			break
		}
		if end <= p.from {
			clean += s.size.Load()
		} else {
			newest, err := l.newest(s)
			if err != nil {
				return false, err
			}
			if lag := p.cfg.MinCompactionLag; lag > 0 && p.now-newest < lag.Milliseconds() {
				break
			}
			if dirty == 0 {
				oldest = s.firstTime()
			}
			dirty += s.size.Load()
		}
		f, err := s.acquire()
		if err != nil {
			return false, l.readFailed(err)
		}
		p.segs, p.files, p.ends = append(p.segs, s), append(p.files, f), append(p.ends, end)
		if err := l.loadSegment(segs[i], f); err != nil {
			return false, err
		}
	}
	late := oldest >= 0 && p.cfg.MaxCompactionLag > 0 && p.now-oldest > p.cfg.MaxCompactionLag.Milliseconds()
	return dirty > 0 && (late || float64(dirty) > p.cfg.MinDirtyRatio*float64(clean+dirty)), nil
}

// look takes what plan needs under the lock: the closed segments whose seals are written, and the last stable offset.
func (p *cleaning) look() ([]*segment, int64, error) {
	l := p.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(); err != nil {
		return nil, 0, err
	}
	if !l.clean.known {
		from, err := readOffset(l.fsys, l.dir, cleanFile)
		if err != nil || from > l.end.Load() {
			from = 0 // once more from the start: that only costs time
		}
		l.clean.from, l.clean.known = from, true
	}
	s, lag := l.mu.active, p.cfg.MaxCompactionLag
	if lag > 0 && s.size.Load() > 0 && s.firstTS >= 0 && p.now-s.firstTS > lag.Milliseconds() {
		if err := l.rollLocked(p.cfg, p.now); err != nil {
			return nil, 0, l.writeFailedLocked("start a segment", err)
		}
		p.rolled = true
	}
	view := *l.view.Load()
	n := 0
	for n < len(view)-1 && !slices.Contains(l.mu.rolled, view[n]) {
		n++
	}
	return view[:n], l.lso.Load(), nil
}

// keepProducers makes the snapshot behind the segments durable and removes those between them.
func (p *cleaning) keepProducers() error {
	if err := p.moveSnapshots(); err != nil {
		return err
	}
	l, last := p.l, len(p.segs)-1
	// What is remembered at the end of the part, not only what is now: a power cut may bring any state from there on back.
	p.remembered = map[int64]bool{}
	at, err := readSnapshot(l.fsys, l.dir, p.ends[last], time.UnixMilli(p.now))
	if err != nil {
		return l.readFailed(err)
	}
	p.remember(at)
	l.mu.Lock()
	p.remember(l.mu.producers)
	l.mu.Unlock()
	// What was open where the log begins is open for whoever starts from that snapshot: its marker has to stay.
	p.unfinished = map[int64]bool{}
	if ps, err := readSnapshot(l.fsys, l.dir, p.segs[0].base, time.UnixMilli(p.now)); err == nil {
		for _, o := range ps.open {
			p.unfinished[o.ProducerID] = true
		}
	}
	aborted, err := l.abortedIn(*l.view.Load(), p.segs[0].base, p.ends[last])
	if err != nil {
		return l.readFailed(err)
	}
	p.aborted = map[int64][]AbortedTxn{}
	for _, t := range aborted {
		p.aborted[t.ProducerID] = append(p.aborted[t.ProducerID], t)
	}
	return nil
}

// remember notes the batches and markers that the state of producers is made of.
func (p *cleaning) remember(ps *producers) {
	for _, q := range ps.byID {
		p.remembered[q.lastStart] = true
		for _, m := range q.batches[:q.n] {
			p.remembered[m.lastOffset] = true
		}
	}
}

func (p *cleaning) moveSnapshots() error {
	l, last := p.l, len(p.segs)-1
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(); err != nil {
		return err
	}
	p.first = p.segs[0]
	if (*l.view.Load())[0] != p.first {
		return errStartMoved // the snapshot where the log begins now must not go
	}
	if err := l.keepProducersLocked(p.segs[last], p.ends[last]); err != nil {
		return storageError(p.cfg.Name, "keep the producers", err)
	}
	for _, s := range p.segs[1:] {
		if err := l.fsys.Remove(fileName(l.dir, s.base, ".snapshot")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storageError(p.cfg.Name, "remove a snapshot", err)
		}
	}
	if err := l.fsys.SyncDir(l.dir); err != nil {
		return storageError(p.cfg.Name, "remove snapshots", err)
	}
	return nil
}

// swap puts the finished file in the place of the segment it was made from.
func (p *cleaning) swap(old, next *segment, end int64) error {
	l := p.l
	l.mu.Lock()
	view := *l.view.Load()
	err := l.usableLocked()
	if err == nil && view[0] != p.first {
		// A snapshot of producers where it begins now may have transactions open whose data went in this pass.
		err = errStartMoved
	}
	if err != nil {
		l.mu.Unlock()
		return errors.Join(err, l.fsys.Remove(old.name+cleanedSuffix))
	}
	if err := p.replaceLocked(old); err != nil {
		l.mu.Unlock()
		return err
	}
	view = slices.Clone(view)
	view[slices.Index(view, old)] = next
	l.view.Store(&view)
	if old == p.first {
		p.first = next
	}
	l.mu.Unlock()
	p.done.Segments++
	p.done.Before += old.size.Load()
	p.done.After += next.size.Load()
	old.release() // the log's; ours keeps its file open for who is reading it
	if err := next.writeSeal(next.size.Load(), end); err != nil {
		p.cfg.Logger.Warn("could not write the indexes of a segment; they are rebuilt at the next start",
			"partition", p.cfg.Name, "segment", next.name, "error", err)
	}
	return nil
}

// replaceLocked renames. The seal goes first: it would promise more bytes than there are.
func (p *cleaning) replaceLocked(old *segment) error {
	l := p.l
	err := l.fsys.Remove(fileName(old.dir, old.base, ".seal"))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = l.fsys.SyncDir(l.dir)
	}
	if err != nil {
		return l.writeFailedLocked("remove the seal of "+old.name, err)
	}
	old.mu.Lock()
	old.mu.dropped = true // no seal for it any more
	old.mu.Unlock()
	if err := errors.Join(l.fsys.Rename(old.name+cleanedSuffix, old.name), l.fsys.SyncDir(l.dir)); err != nil {
		l.poisonLocked("swap "+old.name, err) // nobody knows which of the two is there
		return storageError(p.cfg.Name, "swap "+old.name, err)
	}
	return nil
}

// firstTime is the time of the segment's first records, -1 if unknown.
func (s *segment) firstTime() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.firstTS
}
