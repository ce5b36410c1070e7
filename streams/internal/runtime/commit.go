package runtime

import (
	"context"
	"slices"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/failpoint"
	"github.com/leatstream/leat/streams/internal/session"
)

// commit makes everything processed so far permanent, all or nothing. After an error the session is over.
func (w *worker) commit(ctx context.Context) (err error) {
	defer w.schedule()
	if err := w.rt.cfg.DB.Err(); err != nil { // records may have been left out for it
		return err
	}
	if !w.moved && !w.s.Dirty() {
		w.refresh()
		return nil
	}
	began := time.Now()
	end := w.traced.Commit(began, w.taken)
	defer func() { end(err) }()
	fp := w.rt.cfg.Failpoints
	if err := fp.Hit(failpoint.CommitBegin); err != nil {
		return err
	}
	if err := w.s.Lease(ctx); err != nil {
		return err
	}
	at, err := w.flush()
	if err == nil {
		err = w.rt.cfg.DB.Err()
	}
	if err != nil {
		return err
	}
	if err := fp.Hit(failpoint.StoresFlushed); err != nil {
		return err
	}
	if err := w.s.Commit(ctx, at); err != nil {
		return err
	}
	if err := w.seal(at); err != nil {
		return err
	}
	w.slab.Reset()
	w.moved, w.sent, w.taken = false, 0, 0
	w.rt.metrics.committed(ctx, w, time.Since(began))
	w.refresh() // tasks of which nothing came, beside others that are never done
	return fp.Hit(failpoint.BatchQueued)
}

// flush sends what the stores have and returns the positions to commit.
func (w *worker) flush() (session.Positions, error) {
	at := session.Positions{}
	for _, t := range w.tasks {
		if !t.running {
			continue
		}
		if t.engine.Dirty() {
			err := t.engine.Flush(func(s state.Store, key, value []byte, ts int64) error { return w.changelog(t, s, key, value, ts) })
			if err == nil {
				err = w.sendErr
			}
			if err != nil {
				return nil, w.taskError(t, err)
			}
			t.flushed = true
		}
		t.positions(at)
	}
	return at, nil
}

// changelog sends one change of a store. key and value stay as they are until the stores are sealed.
func (w *worker) changelog(t *task, store state.Store, key, value []byte, ts int64) error {
	s := t.last
	if s == nil || s.store != store {
		s = t.byStore[store.Name()]
		t.last = s
	}
	if s == nil || s.changelog == "" || s.fromSource {
		return nil
	}
	r := w.pool.Get()
	r.Topic, r.Partition, r.Key, r.Value, r.Headers = s.changelog, t.id.Partition, key, value, s.headers
	if to, ok := s.expires(); ok {
		r.Headers = append(slices.Clip(r.Headers), to)
	}
	r.Timestamp = time.UnixMilli(ts)
	w.sent += int64(len(key) + len(value) + 64)
	t.wrote = true
	return w.s.Send(r, s.ack)
}

// refreshEvery is how often the time is renewed that stands with the position of a store that does not change. It is far
// below the least time for which a log keeps deletes (delete.retention.ms).
const refreshEvery = 10 * time.Minute

// refresh renews the times of positions: what they say is true of now, since nobody else writes the changelogs.
func (w *worker) refresh() {
	now := time.Now()
	if now.Sub(w.refreshed) < refreshEvery {
		return
	}
	w.refreshed = now
	var batch *state.Batch
	for _, t := range w.tasks {
		if !t.running || len(t.stores) == 0 || t.engine.Dirty() {
			continue
		}
		if batch == nil {
			batch = w.rt.cfg.DB.NewBatch()
		}
		t.engine.Seal(batch, func(store string) state.Position { return t.position(store, now) })
	}
	if batch != nil {
		batch.Apply()
	}
}

// seal hands the state to the database, with the positions that the changelogs are at now.
func (w *worker) seal(at session.Positions) error {
	if err := w.rt.cfg.DB.Err(); err != nil {
		return err
	}
	var batch *state.Batch
	now := time.Now()
	for _, t := range w.tasks {
		moved := t.noteCommitted(at)
		t.noteLag()
		if moved {
			t.unsaid = true
			for _, p := range t.parts {
				w.rt.purger.committed(p.tp, p.committed)
			}
		}
		if len(t.stores) == 0 || !t.flushed && !(moved && t.unlogged()) {
			continue
		}
		t.flushed = false
		if batch == nil {
			batch = w.rt.cfg.DB.NewBatch()
		}
		t.engine.Seal(batch, func(store string) state.Position { return t.position(store, now) })
	}
	var applied <-chan struct{}
	if batch != nil {
		applied = batch.Done()
		batch.Apply()
	}
	for _, t := range w.tasks {
		if t.running && t.unsaid {
			t.publish(applied)
		}
	}
	w.rt.pulse()
	return nil
}
