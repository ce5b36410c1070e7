package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/leatstream/leat/streams/internal/session"
)

// ErrWorkers is wrapped by the error of a change to the number of workers that cannot be made.
var ErrWorkers = errors.New("the number of workers stays")

// MaxWorkers bounds the workers of an instance.
const MaxWorkers = 1000

// crew is the workers of an instance. They begin together; later one can be added, or the last one removed. Each runs in a
// goroutine of its own, which work waits for.
type crew struct {
	rt *Runtime
	wg sync.WaitGroup
	mu struct {
		sync.Mutex
		ctx     context.Context // of all of them; nil until they begin
		cancel  context.CancelFunc
		workers []*worker // by number
		over    bool      // one has ended that was not removed: the others follow
		errs    []error
	}
	upMu sync.Mutex // guards isUp, and orders the calls of OnUp
	isUp bool
}

// work runs the workers until ctx ends; the first one that fails stops the others.
func (c *crew) work(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.mu.ctx, c.mu.cancel = ctx, cancel
	for range c.rt.cfg.Workers {
		c.beginLocked()
	}
	c.mu.Unlock()
	var followed, watched error
	if c.rt.globals != nil {
		c.wg.Go(func() {
			defer cancel()
			followed = c.rt.globals.follow(ctx)
		})
	}
	c.wg.Go(func() {
		defer cancel()
		watched = c.rt.watch(ctx)
	})
	c.wg.Wait()
	return errors.Join(c.rt.once(append(c.mu.errs, followed, watched, c.rt.cfg.DB.Drain()))...)
}

// once leaves out of errors all but the first that say that the database has failed: whoever met it says so.
func (rt *Runtime) once(errs []error) []error {
	failed, said := rt.cfg.DB.Err(), false
	if failed == nil {
		return errs
	}
	return slices.DeleteFunc(errs, func(err error) bool {
		again := said && errors.Is(err, failed)
		said = said || errors.Is(err, failed)
		return again
	})
}

// beginLocked starts a worker with the least number that is free: its name in the group is one that was there before.
func (c *crew) beginLocked() *worker {
	n := 0
	for n < len(c.mu.workers) && c.mu.workers[n].n == n {
		n++
	}
	ctx, stop := context.WithCancel(c.mu.ctx)
	w := newWorker(ctx, c.rt, n)
	w.stop, w.done = stop, make(chan struct{})
	c.mu.workers = slices.Insert(c.mu.workers, n, w)
	c.wg.Go(func() {
		defer close(w.done)
		defer stop()
		c.ended(w, w.run())
	})
	return w
}

// ended is after the end of a worker, in its goroutine.
func (c *crew) ended(w *worker, err error) {
	c.mu.Lock()
	removed := w.removed && err == nil && c.mu.ctx.Err() == nil
	if err != nil {
		c.mu.errs = append(c.mu.errs, err)
	}
	if !removed {
		c.mu.over = true
		c.mu.cancel()
	}
	c.mu.Unlock()
	if !removed {
		return
	}
	// Before its number is free: the next worker that has it is the same member to the group, and must not be taken out for it.
	c.rt.leave(w)
	c.mu.Lock()
	c.mu.workers = slices.DeleteFunc(c.mu.workers, func(o *worker) bool { return o == w })
	c.mu.Unlock()
	c.checkUp()
}

// all returns the workers.
func (c *crew) all() []*worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.workers)
}

// checkUp tells OnUp when the instance came up, every worker with all of its tasks, or is not up any more.
func (c *crew) checkUp() {
	c.upMu.Lock()
	defer c.upMu.Unlock()
	workers := c.all()
	up := !slices.ContainsFunc(workers, func(w *worker) bool { return !w.up.Load() })
	if up == c.isUp {
		return
	}
	c.isUp = up
	if up {
		c.rt.cfg.Logger.Info("ready", "workers", len(workers))
	}
	if c.rt.cfg.OnUp != nil {
		c.rt.cfg.OnUp(up)
	}
}

// allUp reports whether the instance is up.
func (c *crew) allUp() bool {
	c.upMu.Lock()
	defer c.upMu.Unlock()
	return c.isUp
}

// AddWorker starts one more worker, and returns its number. Any goroutine may call it.
func (rt *Runtime) AddWorker() (int, error) {
	c := &rt.crew
	c.mu.Lock()
	if err := c.changeableLocked(); err != nil {
		c.mu.Unlock()
		return 0, err
	}
	if len(c.mu.workers) >= MaxWorkers {
		c.mu.Unlock()
		return 0, fmt.Errorf("%w: there are %d, which is the most", ErrWorkers, MaxWorkers)
	}
	w := c.beginLocked()
	c.mu.Unlock()
	rt.cfg.Logger.Info("worker added", "worker", w.n)
	c.checkUp()
	return w.n, nil
}

// RemoveWorker ends the worker with the highest number: it commits, and leaves the group, which gives its tasks to others.
// It waits for that until ctx ends; the worker ends then, too. Any goroutine may call it.
func (rt *Runtime) RemoveWorker(ctx context.Context) (int, error) {
	c := &rt.crew
	c.mu.Lock()
	if err := c.changeableLocked(); err != nil {
		c.mu.Unlock()
		return 0, err
	}
	stay := slices.DeleteFunc(slices.Clone(c.mu.workers), func(w *worker) bool { return w.removed })
	if len(stay) < 2 {
		c.mu.Unlock()
		return 0, fmt.Errorf("%w: there is one, which is the least", ErrWorkers)
	}
	w := stay[len(stay)-1]
	w.removed = true
	c.mu.Unlock()
	rt.cfg.Logger.Info("worker is removed", "worker", w.n)
	w.stop()
	select {
	case <-w.done:
		return w.n, nil
	case <-ctx.Done():
		return w.n, fmt.Errorf("wait for the end of worker %d: %w", w.n, ctx.Err())
	}
}

func (c *crew) changeableLocked() error {
	if c.mu.ctx == nil || c.mu.over || c.mu.ctx.Err() != nil {
		return fmt.Errorf("%w: the application does not run", ErrWorkers)
	}
	return nil
}

// leaveAll gives the partitions of this instance to the others at once, if that is wanted.
func (rt *Runtime) leaveAll() {
	if rt.cfg.LeaveOnStop != nil && rt.cfg.LeaveOnStop() {
		rt.leave(rt.crew.all()...)
	}
}

// leave takes workers that have ended out of the group. If the brokers do not answer the others get the tasks when the
// session has timed out.
func (rt *Runtime) leave(workers ...*worker) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var ids []string
	for _, w := range workers {
		ids = append(ids, w.id)
	}
	if err := session.Leave(ctx, rt.topics.cl, rt.cfg.AppID, ids...); err != nil {
		rt.cfg.Logger.Warn("could not leave the group: the others get the tasks when the session has timed out", "err", err)
	}
}

// SetPaused stops processing, punctuators included, or goes on with it; tasks keep their places, restores and copies go on,
// and what was processed is committed. Any goroutine may call it.
func (rt *Runtime) SetPaused(p bool) {
	rt.paused.Store(p)
	rt.wakeAll()
}
