package state

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// background watches what a Pebble does by itself. It tries what failed again at once and for ever, and when memtables or
// files have heaped up, writers wait for it: so the database ends before, with an error that says why, and its fence is shut.
type background struct {
	db                   *DB
	flushes, compactions atomic.Int32 // that failed, in a row
	said                 atomic.Int64 // when a failure was said last, in Unix nanoseconds
}

// seeToDisk is what next when the disk does not take what is written.
const seeToDisk = "nothing that has a changelog is lost: see to the disk and its space, then start again"

const (
	hopeless = 10               // failures in a row
	saysMost = 10 * time.Second // between two words about failures
)

// listener is what Pebble calls. It may hold its own locks.
func (b *background) listener(m Medium) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: b.failed,
		FlushEnd:        func(i pebble.FlushInfo) { b.tried(&b.flushes, "a memtable cannot be written", i.Err) },
		CompactionEnd:   func(i pebble.CompactionInfo) { b.tried(&b.compactions, "files cannot be compacted", i.Err) },
		DataCorruption:  func(i pebble.DataCorruptionInfo) { b.db.corrupted(m, i) },
	}
}

func (b *background) failed(err error) {
	now, said := time.Now().UnixNano(), b.said.Load()
	if b.db.Err() == nil && now-said >= int64(saysMost) && b.said.CompareAndSwap(said, now) {
		b.db.opt.Logger.Warn("state: background work failed, it will be tried again", "dir", b.db.opt.Dir, "error", err.Error()) // not the error: Pebble's print their stacks
	}
}

func (b *background) tried(inARow *atomic.Int32, what string, err error) {
	switch {
	case err == nil:
		inARow.Store(0)
	case errors.Is(err, pebble.ErrCancelledCompaction):
	case inARow.Add(1) == hopeless:
		b.db.fail(fmt.Errorf("%s: %w; %s", what, err, seeToDisk))
	}
}
