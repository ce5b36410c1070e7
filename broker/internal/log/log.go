package log

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Log is one partition. Use [Open]. All methods are safe for use by several goroutines.
//
// # How it hangs together
//
// One lock, mu, is held from the check of a batch to its write and its entry into the indexes: 10 to 50 microseconds.
// Everything that readers need is published without it: the segments as an immutable slice behind an atomic pointer
// (view), each segment's size and indexes, and the four bounds, which only grow and are stored from the highest to the
// lowest and read from the lowest to the highest, so that LogStart <= LastStable <= HighWatermark <= End holds for
// every reader. A read is a search in memory, one pread, and a walk over batch headers.
//
// The order on disk: a segment's .log is synced before any later one, and the high watermark under FlushAlways moves
// only after the sync; so whatever a crash takes lies above every offset that anybody was told of. Rolled segments are
// sealed (see seal) in the background.
//
// An error of fsync poisons the log for good: the kernel may have marked the lost pages clean, and a second fsync that
// succeeds proves nothing. Only opening again, which reads what is really there, heals it. A failed write does not
// poison it if the disk is full: the file is what it was, and the next append goes to the same place.
type Log struct {
	fsys     vfs.FS
	dir      string
	syncer   *Syncer
	cfg      atomic.Pointer[Config]
	dec      record.Decompressor
	recoders sync.Pool // *record.Rebuilder
	scratch  sync.Pool // *[windowBytes]byte

	view  atomic.Pointer[[]*segment] // by base offset; never empty; never changed, only replaced
	start atomic.Int64
	lso   atomic.Int64
	high  atomic.Int64
	end   atomic.Int64
	safe  atomic.Int64 // the high watermark once the last stable offset has followed it: what writers may be told of
	epoch atomic.Int32
	left  atomic.Bool // closed or deleted: mu.gone says which

	offline error // why the log could not be opened, see Offline; nil if it was

	work  syncWork
	clean cleaner
	watch watchers

	mu struct {
		sync.Mutex
		active    *segment // the last of view
		producers *producers
		decided   []AbortedTxn // transactions (of either outcome) whose marker is not below the high watermark yet
		rolled    []*segment   // left behind by rolls, not sealed yet
		synced    int64        // everything below is on disk
		asked     int64        // everything below is on disk or on its way there
		dirDirty  bool         // a segment was created since the directory was synced
		dirsDirty bool         // the directory itself is new: sync its parent too
		epochs    []epochEntry
		newEpochs int64 // start of the first of epochs that is not in their file; math.MaxInt64: all are
		waits     []syncWait
		syncBytes float64 // bytes per sync, a moving average
		syncTotal int64   // bytes synced since open
		gone      error   // ErrClosed or ErrDeleted
		failed    error   // what poisoned the log
	}
}

// Dir returns the directory of the log.
func (l *Log) Dir() string { return l.dir }

// Config returns the configuration in force.
func (l *Log) Config() Config { return *l.cfg.Load() }

// SetConfig changes the configuration of a running log; it counts from the next append on. Name and TopicID stay.
func (l *Log) SetConfig(cfg Config) error {
	old := l.cfg.Load()
	cfg = cfg.withDefaults(l.dir)
	cfg.Name, cfg.TopicID = old.Name, old.TopicID
	if err := cfg.validate(); err != nil {
		return err
	}
	l.mu.Lock()
	l.cfg.Store(&cfg)
	moved := l.publishLocked()
	l.mu.Unlock()
	if moved {
		l.watch.wake()
	}
	return nil
}

// Bounds returns the four offsets. It takes no lock.
func (l *Log) Bounds() Bounds {
	// From the lowest to the highest; see Log.
	var b Bounds
	b.LogStart = l.start.Load()
	b.LastStable = l.lso.Load()
	b.HighWatermark = l.high.Load()
	b.End = l.end.Load()
	return b
}

// LeaderEpoch returns the current leader epoch. It grows when a restart may have lost records.
func (l *Log) LeaderEpoch() int32 { return l.epoch.Load() }

// Size returns the bytes of batches in all segments.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range *l.view.Load() {
		n += s.size.Load()
	}
	return n
}

// Usable reports why the log takes no more records, nil if it does.
func (l *Log) Usable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.usableLocked()
}

// ExpireProducers forgets producers that have been idle for longer than Config.ProducerExpiry; not those with transactions open.
func (l *Log) ExpireProducers(now time.Time) {
	cfg := l.cfg.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.producers.expire(now.UnixMilli() - cfg.ProducerExpiry.Milliseconds())
}

// Producers describes the producers that the partition remembers, by id.
func (l *Log) Producers() []ProducerInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.producers.list()
}

// OpenTxns returns the transactions without a marker, by first offset.
func (l *Log) OpenTxns() []OpenTxn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]OpenTxn(nil), l.mu.producers.open...)
}

// usableLocked says why the log takes no more appends, or nil.
func (l *Log) usableLocked() error {
	if l.mu.gone != nil {
		return l.goneLocked()
	}
	if l.mu.failed != nil {
		return storageError(l.cfg.Load().Name, "an earlier failure stopped this partition", l.mu.failed)
	}
	return nil
}

func (l *Log) goneLocked() error {
	code := kerr.NotLeaderForPartition
	if errors.Is(l.mu.gone, ErrDeleted) {
		code = kerr.UnknownTopicOrPartition
	}
	return fmt.Errorf("log %s: %w: %w", l.cfg.Load().Name, l.mu.gone, code)
}

// publishLocked moves the high watermark and the last stable offset to where they may be, and releases who waits for
// them. It reports whether either moved. The end must be stored before.
func (l *Log) publishLocked() bool {
	high := l.end.Load()
	if l.cfg.Load().Flush == FlushAlways {
		high = max(min(l.mu.synced, high), l.high.Load())
	}
	// As in Kafka, a transaction stays unstable until its marker itself is below the high watermark.
	keep := l.mu.decided[:0]
	stable := min(high, l.mu.producers.firstOpen(high))
	for _, t := range l.mu.decided {
		if t.LastOffset >= high {
			keep = append(keep, t)
			stable = min(stable, t.FirstOffset)
		}
	}
	l.mu.decided = keep
	stable = max(stable, l.start.Load())
	moved := high > l.high.Load() || stable > l.lso.Load()
	l.high.Store(high)
	l.lso.Store(stable)
	l.safe.Store(high)
	l.releaseWaitsLocked(high)
	return moved
}

// Close syncs and closes the log so that opening it again is quick: the file is trimmed, indexes, producers and the
// seal are written. Reads and appends fail from now on with ErrClosed. Closing twice is no error.
func (l *Log) Close() error {
	if !l.leave(ErrClosed) {
		return nil
	}
	l.clean.Lock() // a compaction under way ends soon now
	defer l.clean.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.mu.failed
	switch {
	case l.offline != nil:
		err = nil // nothing was done that could have failed
	case err == nil:
		err = l.sealAllLocked()
	}
	for _, s := range *l.view.Load() {
		s.release()
	}
	if err != nil {
		return storageError(l.cfg.Load().Name, "close", err)
	}
	return nil
}

// Delete closes the log and removes its directory. Waiters wake; who waits for a sync is told ErrDeleted.
func (l *Log) Delete() error {
	if !l.leave(ErrDeleted) {
		return nil
	}
	l.clean.Lock() // or it could write into the directory while it is removed
	defer l.clean.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range *l.view.Load() {
		s.mu.Lock()
		s.mu.dropped = true
		s.mu.Unlock()
		s.release()
	}
	return l.fsys.RemoveAll(l.dir)
}

// leave marks the log as gone, keeps the syncer away from it and wakes everybody. It returns false if the log was gone
// before.
func (l *Log) leave(why error) bool {
	l.mu.Lock()
	if l.mu.gone != nil {
		l.mu.Unlock()
		return false
	}
	l.mu.gone = why
	l.left.Store(true)
	l.mu.Unlock()
	l.syncer.forget(l)
	if why == ErrClosed {
		l.finalSync()
	}
	l.mu.Lock()
	l.failWaitsLocked(l.goneLocked())
	l.mu.Unlock()
	l.watch.wake()
	return true
}

// sealAllLocked trims and seals every segment that has something new, and writes the producers' snapshot.
func (l *Log) sealAllLocked() error {
	active := l.mu.active
	if active.mu.seal.size == active.size.Load() && active.mu.seal.size > 0 && len(l.mu.rolled) == 0 {
		return nil // nothing happened since it was opened
	}
	for _, s := range l.mu.rolled {
		if err := s.writeSeal(s.size.Load(), l.endOf(s)); err != nil {
			return err
		}
	}
	l.mu.rolled = nil
	if active.size.Load() == 0 {
		return nil
	}
	active.snapshot = l.mu.producers.encode()
	return active.writeSeal(active.size.Load(), l.end.Load())
}

// endOf returns the offset after the last record of a segment that is not the active one: the base of the next.
func (l *Log) endOf(s *segment) int64 {
	for _, n := range *l.view.Load() {
		if n.base > s.base {
			return n.base
		}
	}
	return l.end.Load()
}

func (l *Log) window() *[windowBytes]byte {
	if w, ok := l.scratch.Get().(*[windowBytes]byte); ok {
		return w
	}
	return new([windowBytes]byte)
}

func nowMillis(t time.Time) int64 {
	if t.IsZero() {
		t = time.Now()
	}
	return t.UnixMilli()
}
