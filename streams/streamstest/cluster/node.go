package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/internal/vfs"
)

// node is the broker's machine. Its disk stays when the broker crashes.
type node struct {
	w  *world
	mu struct {
		sync.Mutex
		run  *running // nil while it is down
		disk *vfs.Mem
	}
	ghosts sync.WaitGroup // brokers that crashed, on their way out
}

// running is one run of the broker, from its start to its end.
type running struct {
	broker *broker.Broker
	disk   *vfs.Mem
	dead   atomic.Bool
	calls  atomic.Int64 // of the file system
	crash  atomic.Int64 // the call at which it crashes; 0: none
	slow   atomic.Int64 // the most that a sync takes, in nanoseconds of virtual time

	mu   sync.Mutex // guards what follows
	keep int        // percent of what was not synced that a crash leaves; for crash
	died func()     // called when it has crashed
	rng  *rand.Rand // for crash and syncs
}

// running returns the run that connections go to, nil if there is none.
func (n *node) running() *running {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.mu.run; r != nil && !r.dead.Load() {
		return r
	}
	return nil
}

// start starts the broker on what the disk has. armed says how many file calls it has until it crashes, 0 for no crash: it
// may happen before start returns. died is told.
func (n *node) start(ctx context.Context, armed int64, keep int, died func()) error {
	r := &running{died: died, rng: source(n.w.seed, n.w.count())}
	n.mu.Lock()
	r.disk = n.mu.disk
	n.mu.Unlock()
	r.keep = keep
	r.crash.Store(armed)
	files := &vfs.Faulty{FS: r.disk}
	files.Fail(func(op vfs.Op, name string) error { return n.call(r, op, name) })
	cfg := n.w.s.Broker
	cfg.Dir, cfg.FS, cfg.Listen, cfg.Listeners = "/data", files, nil, nil
	cfg.Logger = n.w.trace.logger("broker", &r.dead)
	b, err := broker.Start(ctx, cfg)
	if r.dead.Load() { // crashed while it started
		if err == nil {
			n.ghosts.Go(func() { _ = b.Close() })
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	r.broker = b
	n.mu.Lock()
	n.mu.run = r
	n.mu.Unlock()
	if r.dead.Load() {
		n.bury(r)
	}
	return nil
}

// call is before every call of the broker's file system.
func (n *node) call(r *running, op vfs.Op, name string) error {
	k := r.calls.Add(1)
	if at := r.crash.Load(); at > 0 && k >= at {
		r.mu.Lock()
		keep := r.keep
		r.mu.Unlock()
		n.kill(r, keep, fmt.Sprintf("at file call %d (%s)", k, name))
	}
	if most := r.slow.Load(); most > 0 && op == vfs.OpSync && !r.dead.Load() {
		r.mu.Lock()
		wait := time.Duration(r.rng.Int64N(most) + 1)
		r.mu.Unlock()
		<-time.After(wait)
	}
	return nil
}

// kill ends a run as a crash does: from now on nobody hears of it, and its disk stays as it was now, with keep percent of
// what was not synced. What the broker does until it has noticed goes to a disk that nobody reads. Any goroutine may call it.
func (n *node) kill(r *running, keep int, why string) {
	if r.dead.Swap(true) {
		return
	}
	r.mu.Lock()
	left, died := r.disk.CrashClone(keep, r.rng), r.died
	r.mu.Unlock()
	n.mu.Lock()
	n.mu.disk = left
	up := n.mu.run == r
	n.mu.Unlock()
	n.w.trace.note("broker crashes %s, keeping %d%% of what was not synced", why, keep)
	if up {
		n.bury(r)
	}
	if died != nil {
		died()
	}
}

// bury closes what is left of a run in the background.
func (n *node) bury(r *running) {
	n.mu.Lock()
	if n.mu.run != r {
		n.mu.Unlock()
		return
	}
	n.mu.run = nil
	n.mu.Unlock()
	n.ghosts.Go(func() { _ = r.broker.Close() })
}

// stop closes the broker cleanly.
func (n *node) stop() error {
	n.mu.Lock()
	r := n.mu.run
	n.mu.run = nil
	n.mu.Unlock()
	if r == nil {
		return nil
	}
	r.crash.Store(0)
	err := r.broker.Close()
	if r.dead.Load() {
		return nil
	}
	return err
}
