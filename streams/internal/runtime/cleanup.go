package runtime

import (
	"context"
	"errors"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// cleaner removes the state of tasks that went elsewhere long ago. One goroutine does so. What it removes is no task's that
// runs, is restored or is copied here: those have a claim, and it takes the claim itself before it removes anything. What a
// changelog cannot bring back is left alone.
//
// A task is looked at only while the instance is up, so that neither a start nor an outage of the brokers counts. It is
// removed in two steps, a look apart: first the instance does not tell the group any more that it has the state, so that no
// leader gives it the task for that; then, if it has not got the task meanwhile, the state goes.
type cleaner struct {
	rt     *Runtime
	cancel context.CancelFunc
	done   chan struct{}

	idle map[engine.TaskID]time.Time // since when a task with state has had no claim, as far as seen
	used map[engine.TaskID]time.Time // when a task was last seen with one
}

const (
	cleanEvery  = time.Minute      // at most
	cleanSettle = 10 * time.Minute // without a claim before state is old, whatever its age: the group may still be giving out tasks
)

func newCleaner(rt *Runtime) *cleaner {
	ctx, cancel := context.WithCancel(context.Background())
	c := &cleaner{rt: rt, cancel: cancel, done: make(chan struct{}), idle: map[engine.TaskID]time.Time{}, used: map[engine.TaskID]time.Time{}}
	go c.run(ctx)
	return c
}

func (c *cleaner) close() {
	c.cancel()
	<-c.done
}

// wake implements claimant: the cleaner waits for no claim.
func (c *cleaner) wake() {}

func (c *cleaner) run(ctx context.Context) {
	defer close(c.done)
	if c.rt.cfg.StateCleanup <= 0 {
		return
	}
	for sleep(ctx, min(cleanEvery, c.rt.cfg.StateCleanup)) == nil {
		if !c.rt.crew.allUp() {
			continue
		}
		if err := c.look(time.Now()); err != nil && ctx.Err() == nil {
			c.rt.cfg.Logger.Warn("state of tasks that went elsewhere cannot be removed, trying again later", "err", err)
		}
	}
}

// look removes what was old at the last look already, and marks what is old now.
func (c *cleaner) look(now time.Time) error {
	kept, err := c.rt.cfg.DB.Kept()
	if err != nil {
		return err
	}
	of := map[string]int{} // sub-topologies by the stores that can be restored
	for _, sub := range c.rt.cfg.Plan.Subs {
		for _, s := range sub.Stores {
			if s.Changelog.Name != "" && !sub.Global {
				of[s.Name] = sub.ID
			}
		}
	}
	stores, written := map[engine.TaskID][]state.Kept{}, map[engine.TaskID]time.Time{}
	for _, k := range kept {
		sub, ok := of[k.Store]
		if !ok {
			continue
		}
		id := engine.TaskID{Sub: sub, Partition: k.Partition}
		stores[id] = append(stores[id], k)
		if k.Position.At.After(written[id]) {
			written[id] = k.Position.At
		}
	}
	for id := range c.idle {
		if stores[id] == nil {
			delete(c.idle, id)
		}
	}
	var errs []error
	for id := range stores {
		errs = append(errs, c.judge(id, stores[id], written[id], now))
	}
	return errors.Join(errs...)
}

// judge looks at one task with state.
func (c *cleaner) judge(id engine.TaskID, stores []state.Kept, written, now time.Time) error {
	if !c.rt.claimFree(id, c) {
		delete(c.idle, id)
		c.used[id] = now
		c.rt.condemn(id, false)
		return nil
	}
	defer c.rt.release(id)
	since, seen := c.idle[id]
	if !seen {
		c.idle[id] = now
		return nil
	}
	last, limit := written, c.rt.cfg.StateCleanup
	if used := c.used[id]; used.After(last) {
		last = used
	}
	old := now.Sub(since) >= min(limit, cleanSettle) && now.Sub(last) >= limit
	if !old || c.rt.follower.wants(id) { // a copy that could not be opened yet
		c.rt.condemn(id, false)
		return nil
	}
	if !c.rt.condemn(id, true) {
		return nil
	}
	for _, s := range stores {
		if err := c.rt.cfg.DB.Remove(s.Store, s.Partition); err != nil {
			return err
		}
	}
	c.rt.condemn(id, false)
	delete(c.used, id)
	c.rt.cfg.Logger.Info("state of a task that went elsewhere is removed", "task", id.String(), "last_used", last, "stores", len(stores))
	return nil
}

// condemn says that a task's state is to be removed, or that it stays after all. It returns whether it was to be removed
// before.
func (rt *Runtime) condemn(id engine.TaskID, is bool) (was bool) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	was = rt.mu.condemned[id]
	if is {
		rt.mu.condemned[id] = true
	} else {
		delete(rt.mu.condemned, id)
	}
	return was
}

func (rt *Runtime) isCondemned(id engine.TaskID) bool {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.mu.condemned[id]
}

// claimFree is claim for a task that nobody has; it does not wait for one.
func (rt *Runtime) claimFree(id engine.TaskID, by claimant) bool {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.mu.claims[id] != nil {
		return false
	}
	rt.mu.claims[id] = &claim{owner: by}
	return true
}

// wants reports whether the group wants a copy of a task here.
func (f *follower) wants(id engine.TaskID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, copies := range f.mu.wanted {
		for _, c := range copies {
			if c.task == id.String() {
				return true
			}
		}
	}
	return false
}
