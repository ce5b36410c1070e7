package state

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Batch is what one commit writes: the sealed changes of any number of stores, applied atomically.
type Batch struct {
	db      *DB
	parts   []part        // one for each engine
	applied atomic.Bool   // the changes are in Pebble
	done    chan struct{} // closed when they are, or never will be
}

// NewBatch returns an empty batch. Each goroutine fills its own. A batch that something was sealed into must be applied.
func (db *DB) NewBatch() *Batch { return &Batch{db: db, done: make(chan struct{})} }

// add takes over p.
func (b *Batch) add(e *engine, p *pebble.Batch) {
	for i := range b.parts {
		if b.parts[i].eng == e {
			b.parts[i].changes = append(b.parts[i].changes, p)
			return
		}
	}
	b.parts = append(b.parts, part{e, []*pebble.Batch{p}})
}

// part is what a batch holds for one engine.
type part struct {
	eng     *engine
	changes []*pebble.Batch
}

// Apply hands the batch to the database's one applier goroutine and returns; it waits only if several batches are
// pending. Batches are applied in this order. The batch must not be used afterwards.
func (b *Batch) Apply() { b.db.queue <- b }

// Done is closed when the batch is applied, or never will be because an earlier one failed ([DB.Err]).
func (b *Batch) Done() <-chan struct{} { return b.done }

// apply is the applier goroutine.
func (db *DB) apply() {
	tick := time.NewTicker(db.opt.FlushEvery)
	defer tick.Stop()
	for {
		select {
		case b, ok := <-db.queue:
			if !ok {
				return
			}
			db.applyBatch(b)
		case <-tick.C:
			db.flushDue(0)
		}
	}
}

func (db *DB) applyBatch(b *Batch) {
	defer close(b.done)
	ok := true
	for _, p := range b.parts {
		if !db.applyParts(p.eng, p.changes) {
			ok = false
		}
	}
	b.parts = nil
	if ok {
		b.applied.Store(true)
		db.flushDue(int64(db.opt.FlushRecords))
	}
}

// applyParts commits the parts as one batch.
func (db *DB) applyParts(e *engine, parts []*pebble.Batch) bool {
	whole, err := parts[0], db.Err()
	for _, p := range parts[1:] {
		if err == nil {
			err = whole.Apply(p, nil)
		}
		p.Close()
	}
	if err == nil {
		e.wrote(int(whole.Count()))
		err = e.commit(whole)
	}
	whole.Close()
	if err != nil {
		db.fail(err)
	}
	return err == nil
}

// flushDue asks for a flush of every memtable that has taken at least so many records since the last one.
func (db *DB) flushDue(records int64) {
	db.mu.Lock()
	engines := slices.Clone(db.mu.engines)
	db.mu.Unlock()
	for _, e := range engines {
		if e.records.Load() < records {
			continue
		}
		if err := e.flushSoon(); err != nil {
			db.fail(err)
		}
	}
}
