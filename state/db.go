package state

import (
	"log/slog"
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

// DB is the state of one instance. Its methods are safe for use by several goroutines.
type DB struct{}

// Open opens or creates the database in o.Dir and locks the directory. Errors: [ErrLocked] (names the process that
// holds it), [ErrVersion] (the directory was written by a later version).
func Open(o Options) (*DB, error) { panic("not built yet") }

// InstanceID returns the random id that is kept in the directory.
func (db *DB) InstanceID() (string, error) { panic("not built yet") }

// Shard returns the part of a store that lies on one partition, made if it does not exist. The same arguments give the
// same Shard. partition is not negative.
func (db *DB) Shard(store string, partition int32, o ShardOptions) (*Shard, error) {
	panic("not built yet")
}

// NewBatch returns an empty batch. Each goroutine fills its own.
func (db *DB) NewBatch() *Batch { panic("not built yet") }

// Drain waits until every batch given to Apply before is in Pebble, and returns the error that stopped the database
// from applying, if there was one.
func (db *DB) Drain() error { panic("not built yet") }

// Err returns the error that stopped the database from applying batches, or nil.
func (db *DB) Err() error { panic("not built yet") }

// Full reports whether the changes that no commit has freed yet take more than half of the cache memory: time to
// commit early.
func (db *DB) Full() bool { panic("not built yet") }

// Flush writes the memtables to disk and waits for it.
func (db *DB) Flush() error { panic("not built yet") }

// Close applies what is pending, flushes, and unlocks the directory. Typed stores must not be used any more; views
// return [ErrClosed]. A second Close does nothing.
func (db *DB) Close() error { panic("not built yet") }

// Batch is what one commit writes: the sealed changes of any number of stores, applied atomically.
type Batch struct{}

// Apply hands the batch to the database's one applier goroutine and returns; it waits only if several batches are
// pending. Batches are applied in this order. The batch must not be used afterwards.
func (b *Batch) Apply() { panic("not built yet") }
