package state

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options say where and how large a database is.
type Options struct {
	// Dir is the directory, created if it is not there. Required.
	Dir string
	// MemoryBytes bounds memtables, block cache and the decoded caches of all stores together; the changes of one
	// commit come on top. 0: 256 MiB. Less than 16 MiB counts as 16 MiB.
	MemoryBytes int64
	// FS is the file system; nil is the machine's. On another one (tests) the directory lock is the FS's.
	FS vfs.FS
	// Logger gets what the database has to say. Nil: nothing is logged.
	Logger *slog.Logger
	// FlushEvery and FlushRecords bound what a crash loses from memory, and so what a restart replays: memtables are
	// flushed when so much time or so many records have passed. 0: 10 s and 200,000.
	FlushEvery   time.Duration
	FlushRecords int
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("state: Options.Dir is empty: name the directory that keeps the state")
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 256 << 20
	}
	o.MemoryBytes = max(o.MemoryBytes, 16<<20)
	if o.FlushEvery <= 0 {
		o.FlushEvery = 10 * time.Second
	}
	if o.FlushRecords <= 0 {
		o.FlushRecords = 200_000
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// DB is the state of one instance. Its methods are safe for use by several goroutines.
//
// One goroutine, started by Open and awaited by Close, applies batches in the order in which they were handed over, and
// asks for memtable flushes. An error while applying is final: later batches are not applied (a shard must stay a prefix
// of its own batches), and every read that would have to go to Pebble returns the error.
type DB struct {
	opt    Options
	lock   io.Closer
	budget budget
	failed atomic.Pointer[error]

	ingested atomic.Uint64 // names the files that are ingested

	queue   chan *Batch
	applier sync.WaitGroup

	mu struct {
		sync.Mutex
		engines []*engine // that of Disk first; others are opened when first used
		shards  map[shardName]*Shard
		users   int // views at work; Close waits for them
		closing bool
		idle    chan struct{} // closed when users reaches 0 while closing
	}
}

// budget is the memory that the decoded caches of all stores share. Stores publish in steps.
type budget struct {
	limit  int64
	used   atomic.Int64
	dirty  atomic.Int64
	stores atomic.Int64
}

const (
	formatFile   = "FORMAT"
	formatPrefix = "leat-state "
	formatNow    = "1"
	instanceFile = "instance"
	lockFile     = "lock"
	pidFile      = "pid"
	ingestDir    = "ingest" // tables on their way into Pebble; what a crash left there is removed
	maxPending   = 2        // batches waiting for the applier before Apply waits
)

// Open opens or creates the database in o.Dir and locks the directory. Errors: [ErrLocked] (names the process that
// holds it), [ErrVersion] (the directory was written by a later version).
func Open(o Options) (*DB, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("state: create directory %s: %w", o.Dir, err)
	}
	if err := syncDir(o.FS, o.FS.PathDir(o.Dir)); err != nil {
		return nil, fmt.Errorf("state: sync the directory above %s: %w", o.Dir, err)
	}
	lock, err := lockDir(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	db := &DB{opt: o, lock: lock, queue: make(chan *Batch, maxPending)}
	db.mu.shards = map[shardName]*Shard{}
	db.budget.limit = o.MemoryBytes / 2
	if err := db.checkFormat(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := db.cleanIngest(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := db.discardCorrupt(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if _, err := db.engine(Disk); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	db.applier.Go(db.apply)
	return db, nil
}

// checkFormat refuses directories of later versions, and marks a new one.
func (db *DB) checkFormat() error {
	text, err := db.readFile(formatFile)
	if errors.Is(err, os.ErrNotExist) {
		return db.writeFile(formatFile, formatPrefix+formatNow+"\n")
	}
	if err != nil {
		return err
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(text), formatPrefix)
	if !ok {
		return fmt.Errorf("%w: %s in %s is not a state directory's", ErrCorrupt, formatFile, db.opt.Dir)
	}
	if version != formatNow {
		return fmt.Errorf("%w: %s is of format %q, this program reads %q: start the later version, or give this one another directory",
			ErrVersion, db.opt.Dir, version, formatNow)
	}
	return nil
}

func (db *DB) cleanIngest() error {
	dir := db.opt.FS.PathJoin(db.opt.Dir, ingestDir)
	if err := db.opt.FS.RemoveAll(dir); err != nil {
		return fmt.Errorf("state: clean %s: %w", dir, err)
	}
	if err := db.opt.FS.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("state: create %s: %w", dir, err)
	}
	return nil
}

// InstanceID returns the random id that is kept in the directory.
func (db *DB) InstanceID() (string, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	id, err := db.readFile(instanceFile)
	if err == nil {
		id = strings.TrimSpace(id)
		if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
			return "", fmt.Errorf("%w: %s in %s holds no id: remove it to get a new one", ErrCorrupt, instanceFile, db.opt.Dir)
		}
		return id, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	var raw [16]byte
	rand.Read(raw[:])
	id = hex.EncodeToString(raw[:])
	return id, db.writeFile(instanceFile, id+"\n")
}

func (db *DB) readFile(name string) (string, error) {
	f, err := db.opt.FS.Open(db.opt.FS.PathJoin(db.opt.Dir, name))
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(b), errors.Join(err, f.Close())
}

// writeFile writes durably: the file appears whole or not at all.
func (db *DB) writeFile(name, text string) error {
	fs, path := db.opt.FS, db.opt.FS.PathJoin(db.opt.Dir, name)
	f, err := fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("state: write %s: %w", path, err)
	}
	_, err = io.WriteString(f, text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(fs, db.opt.Dir)
	}
	if err != nil {
		return fmt.Errorf("state: write %s: %w", path, err)
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Drain waits until every batch given to Apply before is in Pebble, and returns the error that stopped the database
// from applying, if there was one.
func (db *DB) Drain() error {
	b := db.NewBatch()
	b.Apply()
	<-b.done
	return db.Err()
}

// Err returns the error that stopped the database from applying batches, or nil.
func (db *DB) Err() error {
	if p := db.failed.Load(); p != nil {
		return *p
	}
	return nil
}

func (db *DB) fail(err error) {
	err = fmt.Errorf("state: %s: %w", db.opt.Dir, err)
	if db.failed.CompareAndSwap(nil, &err) {
		db.opt.Logger.LogAttrs(context.Background(), slog.LevelError, "state database stopped", slog.Any("error", err))
	}
}

// Full reports whether the changes that no commit has freed yet take more than half of the cache memory: time to
// commit early.
func (db *DB) Full() bool { return db.budget.dirty.Load() > db.budget.limit/2 }

// Flush writes the memtables to disk and waits for it.
func (db *DB) Flush() error {
	db.mu.Lock()
	engines := slices.Clone(db.mu.engines)
	db.mu.Unlock()
	for _, e := range engines {
		if err := e.flush(); err != nil {
			return fmt.Errorf("state: flush %s: %w", db.opt.Dir, err)
		}
	}
	return nil
}

// acquire keeps the database open for a reader until release.
func (db *DB) acquire() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mu.closing {
		return ErrClosed
	}
	db.mu.users++
	return nil
}

func (db *DB) release() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mu.users--; db.mu.users == 0 && db.mu.closing {
		close(db.mu.idle)
	}
}

// Close applies what is pending, flushes, and unlocks the directory. Typed stores must not be used any more; views
// return [ErrClosed]. A second Close does nothing.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.mu.closing {
		db.mu.Unlock()
		return nil
	}
	db.mu.closing = true
	db.mu.idle = make(chan struct{})
	if db.mu.users == 0 {
		close(db.mu.idle)
	}
	engines, shards := db.mu.engines, db.mu.shards
	db.mu.Unlock()

	<-db.mu.idle
	close(db.queue)
	db.applier.Wait()
	err := db.Err()
	for _, s := range shards {
		s.releaseOwner()
	}
	for _, e := range slices.Backward(engines) { // Disk's last: the others may have its batches
		if e.medium != Memory && db.Err() == nil { // Pebble would wait for a flush that fails for ever
			err = errors.Join(err, e.flush())
		}
		err = errors.Join(err, e.close())
	}
	if failed := db.Err(); failed != nil && !errors.Is(err, failed) { // while it was closed
		err = errors.Join(failed, err)
	}
	return errors.Join(err, db.lock.Close())
}
