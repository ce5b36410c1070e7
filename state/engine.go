package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// engine is one Pebble database, or one engine of the user's own, and the catalogue of the shards in it.
//
// Keys begin with a 4-byte big-endian number. Number 0 is the catalogue. Every shard has two numbers: the even one is
// the key of its position, the odd one stands before each of its data keys, so that both are one range.
type engine struct {
	medium  Medium
	own     Engine     // nil: db is the engine
	name    string     // of the own one
	db      *pebble.DB // beside an own engine only for its batches, and never written
	dir     string
	failed  func() error // the database's Err: what is done when it has failed reaches no disk
	records atomic.Int64 // written since the last memtable flush was asked for
	next    uint32       // even number of the next shard; guarded by DB.mu
}

func (db *DB) engine(m Medium) (*engine, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.engineLocked(m, nil)
}

// engineLocked returns the engine of a medium, opened when it is first used.
func (db *DB) engineLocked(m Medium, own *OwnEngine) (*engine, error) {
	for _, e := range db.mu.engines {
		if e.medium == m && (own == nil && e.own == nil || own != nil && e.own != nil && e.name == own.Name) {
			return e, nil
		}
	}
	if own != nil {
		return db.openOwnLocked(m, own)
	}
	e, err := db.openPebble(m)
	if m == Disk && (pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist)) { // of a file that should be there
		if err = db.discard(err.Error()); err == nil {
			e, err = db.openPebble(m)
		}
	}
	if err != nil {
		return nil, err
	}
	db.mu.engines = append(db.mu.engines, e)
	return e, nil
}

// path is the directory of a medium.
func (db *DB) path(m Medium) string {
	return db.opt.FS.PathJoin(db.opt.Dir, [...]string{"data", "memory", "logged"}[m])
}

func (db *DB) openPebble(m Medium) (*engine, error) {
	dir := db.path(m)
	p, err := pebble.Open(dir, db.pebbleOptions(m))
	if err != nil {
		return nil, fmt.Errorf("state: open %s: %w", dir, err)
	}
	if err := db.Err(); err != nil { // a file without which it cannot go on could not be written
		return nil, fmt.Errorf("state: open %s: %w", dir, firstError(err, p.Close()))
	}
	e := &engine{medium: m, db: p, dir: dir, failed: db.Err}
	if e.next, err = e.lastNumber(); err != nil {
		return nil, fmt.Errorf("state: read catalogue of %s: %w", dir, firstError(err, p.Close()))
	}
	if m != Memory { // Pebble syncs what is in its directory, not the entry of the directory itself
		if err := syncDir(db.opt.FS, db.opt.Dir); err != nil {
			return nil, fmt.Errorf("state: sync %s: %w", db.opt.Dir, firstError(err, p.Close()))
		}
	}
	return e, nil
}

// pebbleOptions splits the memory: half goes to the decoded caches, half to Pebble's block cache, from which Pebble
// takes its memtables; so one of these is a sixteenth at most. The engines other than Disk are small.
func (db *DB) pebbleOptions(m Medium) *pebble.Options {
	o := &pebble.Options{
		FS:                          &fence{FS: db.opt.FS, db: db},
		DisableWAL:                  m != Logged,
		FormatMajorVersion:          pebble.FormatNewest,
		CacheSize:                   db.opt.MemoryBytes / 2,
		MemTableSize:                uint64(min(64<<20, max(1<<20, db.opt.MemoryBytes/16))),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               256 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      pebbleLogger{db.opt.Logger},
		EventListener:               (&background{db: db}).listener(m),
	}
	if m != Disk {
		o.CacheSize, o.MemTableSize = o.CacheSize/8, max(512<<10, o.MemTableSize/8)
	}
	if m == Memory {
		o.FS = vfs.NewMem()
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// A filter is one block for a whole file: it must be small beside the cache, or each miss reads it again.
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = min(32<<20, max(2<<20, o.CacheSize/16))
	}
	return o
}

// pebbleLogger passes on what is worth reading. Fatalf must not return: Pebble calls it when going on would corrupt.
type pebbleLogger struct{ l *slog.Logger }

func (pebbleLogger) Infof(string, ...any) {}
func (p pebbleLogger) Errorf(f string, a ...any) {
	p.l.Error("state: " + fmt.Sprintf(f, a...))
}
func (pebbleLogger) Fatalf(f string, a ...any) { panic("state: " + fmt.Sprintf(f, a...)) }

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func number(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// catalogueKey is number 0, the partition, the store's name. The value is the even number and a flag byte.
func catalogueKey(n shardName) []byte {
	k := binary.BigEndian.AppendUint32(make([]byte, 4, 8+len(n.store)), uint32(n.partition))
	return append(k, n.store...)
}

const (
	catalogueWindowed = 1 << iota
	catalogueSessions
	catalogueVersions
)

// lastNumber returns the first number that no shard has.
func (e *engine) lastNumber() (uint32, error) {
	it, err := e.newIter(number(0), number(1))
	if err != nil {
		return 0, err
	}
	next := uint32(2)
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err == nil && len(v) != 5 {
			err = fmt.Errorf("%w: catalogue value of %d bytes", ErrCorrupt, len(v))
		}
		if err != nil {
			return 0, firstError(err, it.Close())
		}
		next = max(next, binary.BigEndian.Uint32(v)+2)
	}
	return next, firstError(it.Error(), it.Close())
}

// wrote counts records towards the next memtable flush.
func (e *engine) wrote(n int) { e.records.Add(int64(n)) }

// flushSoon rotates the memtable if it holds anything; Pebble flushes it in the background.
func (e *engine) flushSoon() error {
	if e.medium == Memory || e.records.Swap(0) == 0 {
		return nil
	}
	if e.own != nil {
		return e.own.Flush()
	}
	_, err := e.db.AsyncFlush()
	return err
}
