package log

import (
	"context"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/leatstream/leat/internal/vfs"
)

// Preallocation: a log that is synced often and little gets zeros written ahead of its end, so that a sync writes data
// alone and not the file's size and extents as well (146 against 230 microseconds where this was measured). A log that
// syncs much at a time would only write everything twice.
const (
	preallocAfter    = 256 << 10 // bytes synced before the first step
	preallocFirst    = 1 << 20
	preallocMax      = 16 << 20
	preallocLow      = 128 << 10 // less than this left: next step
	preallocPerSync  = 64 << 10  // average bytes per sync above which it does not pay
	defaultSyncFiles = 4
)

// SyncerOptions configure a Syncer; a zero field is its default.
type SyncerOptions struct {
	Parallel int // logs synced at the same time; default 4
}

// Syncer makes logs durable: one for a broker. Appends mark their log as dirty and go on; Parallel workers take dirty
// logs in turn and sync each once for everything that came since the last time. So a log's syncs are as large as the
// disk is slow, a slow one delays no other, and nobody waits longer than it takes. There is no linger.
type Syncer struct {
	parallel int
	mu       struct {
		sync.Mutex
		queue   []*Log
		stopped bool
	}
	cond sync.Cond // queue grew, a worker finished, or stopped
}

// syncWork is a log's place in its syncer; state is guarded by the syncer's lock.
type syncWork struct {
	marked atomic.Bool // dirty since a worker last looked: the fast path of dirty
	state  syncState
}

type syncState int8

const (
	syncIdle syncState = iota
	syncQueued
	syncRunning
	syncAgain // running, and dirty again
)

// NewSyncer returns a Syncer that works while Run runs.
func NewSyncer(o SyncerOptions) *Syncer {
	if o.Parallel <= 0 {
		o.Parallel = defaultSyncFiles
	}
	s := &Syncer{parallel: o.Parallel}
	s.cond.L = &s.mu
	return s
}

// Run syncs until ctx is done and every worker has finished. Close the logs first: what is dirty then stays so.
func (s *Syncer) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.mu.stopped = true
		s.mu.Unlock()
		s.cond.Broadcast()
	})
	defer stop()
	var workers sync.WaitGroup
	for range s.parallel {
		workers.Go(s.worker)
	}
	workers.Wait()
	return ctx.Err()
}

func (s *Syncer) worker() {
	for l := s.next(); l != nil; l = s.next() {
		l.work.marked.Store(false)
		l.syncOnce()
		s.mu.Lock()
		if l.work.state == syncAgain {
			l.work.state = syncQueued
			s.mu.queue = append(s.mu.queue, l)
		} else {
			l.work.state = syncIdle
		}
		s.mu.Unlock()
		s.cond.Broadcast()
	}
}

// next waits for a dirty log; nil when the syncer stops.
func (s *Syncer) next() *Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.mu.queue) == 0 && !s.mu.stopped {
		s.cond.Wait()
	}
	if s.mu.stopped {
		return nil
	}
	l := s.mu.queue[0]
	s.mu.queue[0] = nil
	s.mu.queue = s.mu.queue[1:]
	l.work.state = syncRunning
	return l
}

// dirty asks for a sync of l. Without a syncer it is done at once.
func (s *Syncer) dirty(l *Log) {
	if s == nil {
		l.syncOnce()
		return
	}
	if l.work.marked.Swap(true) {
		return // a worker has not looked yet: it will see this append too
	}
	s.mu.Lock()
	switch l.work.state {
	case syncIdle:
		l.work.state = syncQueued
		s.mu.queue = append(s.mu.queue, l)
		s.cond.Signal()
	case syncRunning:
		l.work.state = syncAgain
	}
	s.mu.Unlock()
}

// forget takes l out of the queue and waits until no worker holds it. l must not become dirty any more.
func (s *Syncer) forget(l *Log) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		s.mu.queue = slices.DeleteFunc(s.mu.queue, func(q *Log) bool { return q == l })
		if l.work.state != syncRunning && l.work.state != syncAgain {
			l.work.state = syncIdle
			return
		}
		s.cond.Wait()
	}
}

// syncJob is what one sync has to do, taken under the log's lock.
type syncJob struct {
	end    int64
	rolled []*segment
	active *segment
	files  []vfs.File
	dirs   []string
	epochs []epochEntry // nil: they are in their file
	bytes  int64
}

// syncOnce makes everything appended so far durable and publishes it; rolled segments are sealed after that.
func (l *Log) syncOnce() {
	l.mu.Lock()
	if l.mu.gone != nil || l.mu.failed != nil {
		l.mu.Unlock()
		return
	}
	job, err := l.takeJobLocked()
	l.mu.Unlock()
	if err == nil {
		err = l.runJob(&job)
	}
	l.mu.Lock()
	moved := l.finishJobLocked(&job, err)
	l.mu.Unlock()
	if moved {
		l.watch.wake()
	}
	if err == nil {
		l.sealRolled(job.rolled)
	}
	for _, s := range job.held() {
		s.release()
	}
}

// finalSync is the last sync of a log that is being closed, without the syncer.
func (l *Log) finalSync() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed != nil {
		return
	}
	active := l.mu.active
	var err error
	if active.alloc > active.size.Load() {
		err = active.mu.file.Truncate(active.size.Load())
	}
	job := syncJob{end: l.end.Load(), dirs: l.takeDirsLocked(), epochs: l.takeEpochsLocked(), rolled: slices.Clone(l.mu.rolled)}
	dirty := active.mu.seal.size != active.size.Load() || active.alloc > active.size.Load()
	for _, s := range l.mu.rolled {
		job.files = append(job.files, s.mu.file)
	}
	if dirty {
		job.files = append(job.files, active.mu.file)
	}
	if err == nil {
		active.alloc = active.size.Load()
		err = l.runJob(&job)
	}
	l.finishJobLocked(&job, err)
}

func (j *syncJob) held() []*segment {
	if j.active == nil {
		return j.rolled
	}
	return append(j.rolled, j.active)
}

// takeJobLocked notes what is to be synced and takes references.
func (l *Log) takeJobLocked() (syncJob, error) {
	j := syncJob{end: l.end.Load(), dirs: l.takeDirsLocked(), epochs: l.takeEpochsLocked()}
	for _, s := range l.mu.rolled {
		f, err := s.acquire()
		if err != nil {
			return j, err
		}
		j.rolled, j.files = append(j.rolled, s), append(j.files, f)
	}
	if l.cfg.Load().Flush != FlushAlways {
		return j, nil
	}
	j.bytes = l.mu.active.size.Load()
	if err := l.preallocLocked(); err != nil {
		return j, err
	}
	f, err := l.mu.active.acquire()
	if err != nil {
		return j, err
	}
	j.active, j.files = l.mu.active, append(j.files, f)
	return j, nil
}

// takeDirsLocked returns the directories whose entries have to be synced for what was appended so far.
func (l *Log) takeDirsLocked() []string {
	var dirs []string
	if l.mu.dirDirty || l.mu.dirsDirty {
		dirs = append(dirs, l.dir)
	}
	if l.mu.dirsDirty {
		dirs = append(dirs, path.Dir(l.dir))
	}
	l.mu.dirDirty, l.mu.dirsDirty = false, false
	return dirs
}

// preallocLocked writes zeros ahead of the end where that pays. The lock is held: an append must not meet them.
func (l *Log) preallocLocked() error {
	s := l.mu.active
	size := s.size.Load()
	cfg := l.cfg.Load()
	if l.mu.syncTotal < preallocAfter && !cfg.Preallocate || l.mu.syncBytes > preallocPerSync || s.alloc-size >= preallocLow {
		return nil
	}
	step := min(max(preallocFirst, l.mu.syncTotal/4&^(1<<20-1)), preallocMax)
	from := max(s.alloc, size)
	to := min(size+step, cfg.SegmentBytes)
	if to <= from {
		return nil
	}
	if err := vfs.Preallocate(s.mu.file, from, to-from); err != nil {
		if vfs.IsFull(err) {
			return nil // the data itself may still fit
		}
		return err
	}
	s.alloc = to
	return nil
}

// runJob syncs, oldest first: what a crash leaves must be a prefix of the log.
func (l *Log) runJob(j *syncJob) error {
	for _, f := range j.files {
		if err := f.SyncData(); err != nil {
			return err
		}
	}
	if j.epochs != nil {
		if err := writeEpochs(l.fsys, l.dir, j.epochs); err != nil {
			return err
		}
	}
	for _, dir := range j.dirs {
		if j.epochs != nil && dir == l.dir {
			continue // that synced it
		}
		if err := l.fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// finishJobLocked publishes what is durable now, or poisons the log.
func (l *Log) finishJobLocked(j *syncJob, err error) (moved bool) {
	if err != nil {
		l.poisonLocked(opSync, err)
		return false
	}
	if l.cfg.Load().Flush == FlushAlways || j.active != nil {
		l.noteSyncedLocked(j)
	}
	return l.publishLocked()
}

func (l *Log) noteSyncedLocked(j *syncJob) {
	if j.active != nil {
		n := max(j.bytes-j.active.lastSync, 0)
		j.active.lastSync = j.bytes
		l.mu.syncTotal += n
		l.mu.syncBytes += (float64(n) - l.mu.syncBytes) / 16
	}
	l.mu.synced = max(l.mu.synced, j.end)
}

// sealRolled writes the indexes of segments that are closed and synced. A failure costs time at the next start, no data.
func (l *Log) sealRolled(rolled []*segment) {
	for _, s := range rolled {
		err := s.writeSeal(s.size.Load(), l.endOf(s))
		l.mu.Lock()
		l.mu.rolled = slices.DeleteFunc(l.mu.rolled, func(r *segment) bool { return r == s })
		l.mu.Unlock()
		if err != nil {
			cfg := l.cfg.Load()
			cfg.Logger.Warn("could not write the indexes of a segment; they are rebuilt at the next start",
				"partition", cfg.Name, "segment", s.name, "error", err)
		}
	}
}

// syncWait is one caller of WaitSynced.
type syncWait struct {
	offset int64
	done   chan error // capacity 1
}

// WaitSynced returns when everything below offset counts as safe under the flush policy: with FlushOS at once, with
// FlushAlways when it is on disk. Readers find it then, also those of what is stable if no transaction is open below. It
// fails with ctx's error, with KafkaStorageError if the disk failed (then nobody knows what is on it), or when the log is
// closed or deleted before.
func (l *Log) WaitSynced(ctx context.Context, offset int64) error {
	if l.safe.Load() >= offset {
		return nil
	}
	l.mu.Lock()
	if l.safe.Load() >= offset {
		l.mu.Unlock()
		return nil
	}
	if err := l.usableLocked(); err != nil {
		l.mu.Unlock()
		return err
	}
	w := syncWait{offset: offset, done: make(chan error, 1)}
	l.mu.waits = append(l.mu.waits, w)
	l.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.waits = slices.DeleteFunc(l.mu.waits, func(x syncWait) bool { return x.done == w.done })
	return ctx.Err()
}

func (l *Log) releaseWaitsLocked(high int64) {
	if len(l.mu.waits) == 0 {
		return
	}
	l.mu.waits = slices.DeleteFunc(l.mu.waits, func(w syncWait) bool {
		if w.offset <= high {
			w.done <- nil
			return true
		}
		return false
	})
}

func (l *Log) failWaitsLocked(err error) {
	for _, w := range l.mu.waits {
		w.done <- err
	}
	l.mu.waits = nil
}

// Waiter wakes one goroutine when any of the logs it watches has something new: C gets a value (at most one is kept)
// when the high watermark or the last stable offset moved, or the log was closed or deleted. Look at the bounds after
// registering and after each wake-up.
type Waiter struct{ C chan struct{} }

// NewWaiter returns a Waiter that watches nothing yet.
func NewWaiter() *Waiter { return &Waiter{C: make(chan struct{}, 1)} }

// Wake wakes the waiter for a reason of the caller's own.
func (w *Waiter) Wake() {
	select {
	case w.C <- struct{}{}:
	default:
	}
}

// watchers are the waiters of a log. Appends with nobody waiting pay one atomic load.
type watchers struct {
	n  atomic.Int32
	mu struct {
		sync.Mutex
		list []*Waiter
	}
}

func (w *watchers) wake() {
	if w.n.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.mu.list {
		x.Wake()
	}
}

// Watch registers w with the log; Unwatch it when done.
func (l *Log) Watch(w *Waiter) {
	l.watch.mu.Lock()
	l.watch.mu.list = append(l.watch.mu.list, w)
	l.watch.n.Store(int32(len(l.watch.mu.list)))
	l.watch.mu.Unlock()
	if l.left.Load() {
		w.Wake() // closed before: nothing else will wake it
	}
}

// Unwatch undoes one Watch. A wake-up may be left in w.C.
func (l *Log) Unwatch(w *Waiter) {
	l.watch.mu.Lock()
	defer l.watch.mu.Unlock()
	if i := slices.Index(l.watch.mu.list, w); i >= 0 {
		l.watch.mu.list = slices.Delete(l.watch.mu.list, i, i+1)
		l.watch.n.Store(int32(len(l.watch.mu.list)))
	}
}
