package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/leatstream/leat/streams/internal/failpoint"
)

// Fault is a kind of what can go wrong.
type Fault int

const (
	// CrashInCommit kills an instance at a step of a commit.
	CrashInCommit Fault = iota
	// CrashAtRequest kills an instance as it sends a request, which gets through or not.
	CrashAtRequest
	// CrashAtFile kills an instance, or cuts its power, as it calls its file system.
	CrashAtFile
	// Restart stops an instance and starts it again, sometimes after it has left the group.
	Restart
	// Join starts one more instance, which leaves after a while.
	Join
	// Partition cuts an instance off for a while, often longer than its session lasts: it comes back as a zombie.
	Partition
	// Cut breaks the connections of an instance at a request: before it, or after it so that the answer is lost.
	Cut
	// Twin starts a copy of an instance with its state directory and so its name, while that one runs: one has to give up, or both.
	Twin
	// BrokerCrash cuts the broker's power as it calls its file system. What it had not synced is lost, or some of it.
	BrokerCrash
	// BrokerRestart stops the broker and starts it again.
	BrokerRestart
	// Workers adds a worker to an instance, and removes it after a while.
	Workers
	// SlowDisk has the broker's syncs take up to half a second for a while.
	SlowDisk
	// RegistryCut breaks a connection to the schema registry at a request: before it, or after it so that the answer is lost.
	RegistryCut
	// RegistryAway lets the schema registry be away for a while: it refuses connections, or answers nothing.
	RegistryAway
)

// All are all kinds, but for those of the schema registry, which join them where a scenario has one.
var All = []Fault{CrashInCommit, CrashAtRequest, CrashAtFile, Restart, Join, Partition, Cut, Twin, BrokerCrash, BrokerRestart, Workers, SlowDisk}

// String names the kind.
func (f Fault) String() string {
	names := [...]string{"crash in a commit", "crash at a request", "crash at a file call", "restart", "join", "partition", "cut", "twin",
		"broker crash", "broker restart", "workers", "slow disk", "registry cut", "registry away"}
	if f < 0 || int(f) >= len(names) {
		return fmt.Sprintf("Fault(%d)", int(f))
	}
	return names[f]
}

// strike is one fault of a run, as its seed fixes it.
type strike struct {
	kind   Fault
	at     time.Duration
	target int           // which of the instances that run then
	n      int64         // at which step, request or file call
	point  string        // step of a commit
	lasts  time.Duration // how long something is away
	keep   int           // percent of what was not synced that a crash leaves
	coin   bool          // the request gets through; the instance leaves; the broker crashes once more as it starts
}

// draw makes the run's faults.
func draw(s *Scenario, rng *rand.Rand) []strike {
	if len(s.Faults) == 0 {
		return nil
	}
	strikes := make([]strike, 1+rng.IntN(s.Strikes))
	for i := range strikes {
		k := strike{kind: s.Faults[rng.IntN(len(s.Faults))], at: time.Duration(rng.Int64N(int64(s.During))), target: rng.IntN(100),
			n: 1 + rng.Int64N(20), coin: rng.IntN(2) == 0}
		points := failpoint.Points()
		k.point = points[rng.IntN(len(points))]
		k.keep = []int{0, 50, 100, 100}[rng.IntN(4)]
		switch rng.IntN(3) {
		case 0:
			k.lasts = time.Duration(rng.Int64N(int64(time.Second)))
		case 1:
			k.lasts = time.Duration(rng.Int64N(int64(15 * time.Second)))
		case 2: // longer than a session
			k.lasts = 45*time.Second + time.Duration(rng.Int64N(int64(20*time.Second)))
		}
		strikes[i] = k
	}
	return strikes
}

// strike arms one fault. It runs in the world's goroutine.
func (w *world) strike(k strike) error {
	switch k.kind {
	case Join:
		return w.join(k)
	case BrokerCrash, BrokerRestart, SlowDisk:
		return w.strikeBroker(k)
	case RegistryCut, RegistryAway:
		return w.schemas.strike(k)
	}
	i := w.target(k)
	if i == nil {
		w.trace.note("%s: no instance runs", k.kind)
		return nil
	}
	p := i.now
	back := func() { w.later(min(k.lasts, 20*time.Second), func() error { return w.revive(i, p) }) }
	w.trace.note("%s is armed for %s", k.kind, i.name)
	switch k.kind {
	case CrashInCommit:
		p.points.Arm(k.point, int(k.n), w.unlessHealed(func() error {
			p.kill(100, "at "+k.point)
			back()
			return errCrash
		}))
	case CrashAtRequest:
		p.host.arm(k.n*3, func(l *link) bool {
			_ = w.unlessHealed(func() error {
				if k.coin { // it gets through, and its answer does not
					return nil
				}
				p.kill(100, "at a request")
				back()
				return nil
			})()
			if k.coin && !w.healed.Load() {
				w.later(0, func() error { p.kill(100, "after a request"); back(); return nil })
				l.lost.Store(true)
			}
			return k.coin
		})
	case CrashAtFile:
		p.armFile(k.n, func() {
			_ = w.unlessHealed(func() error { p.kill(k.keep, "at a file call"); back(); return nil })()
		})
	case Restart:
		i.now = nil
		w.trace.note("%s: stops, leaving %v", i.name, k.coin)
		w.helpers.Go(func() { p.end(k.coin); back() })
	case Partition:
		w.trace.note("%s: cut off for %v", i.name, k.lasts)
		p.host.hold()
		w.later(k.lasts, func() error { w.trace.note("%s: no longer cut off", i.name); p.host.release(); return nil })
	case Cut:
		p.host.arm(k.n*3, func(l *link) bool {
			w.trace.note("%s: connections cut, request lost %v", i.name, !k.coin)
			if !k.coin {
				p.host.cut()
				return false
			}
			l.lost.Store(true)
			return true
		})
	case Twin:
		return w.twin(i)
	case Workers:
		w.addWorker(p, k.lasts)
	}
	return nil
}

// addWorker gives a process one more worker for a while.
func (w *world) addWorker(p *process, lasts time.Duration) {
	_, err := p.app.AddWorker()
	w.trace.note("%s: a worker is added: %v", p.of.name, err)
	w.later(lasts, func() error {
		w.helpers.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, err := p.app.RemoveWorker(ctx)
			w.trace.note("%s: a worker is removed: %v", p.of.name, err)
		})
		return nil
	})
}

// target is the instance that is struck, nil if none runs.
func (w *world) target(k strike) *instance {
	var up []*instance
	for _, i := range w.instances {
		if i.now != nil && !i.now.dead.Load() && !i.contested {
			up = append(up, i)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[k.target%len(up)]
}

// unlessHealed makes a fault that strikes no more when everything is to heal.
func (w *world) unlessHealed(do func() error) func() error {
	return func() error {
		if w.healed.Load() {
			return nil
		}
		return do()
	}
}

// revive starts an instance again whose process has ended or was killed, unless that was done.
func (w *world) revive(i *instance, was *process) error {
	if i.now != nil && i.now != was {
		return nil
	}
	w.trace.note("%s: starts", i.name)
	return i.start()
}

func (w *world) join(k strike) error {
	i := w.newInstance()
	w.trace.note("%s: joins for %v", i.name, k.lasts)
	w.later(k.lasts, func() error { return w.leave(i) })
	return i.start()
}

// leave ends an instance for good: once it is known which of its processes goes on, if a copy of it runs.
func (w *world) leave(i *instance) error {
	if i.contested {
		w.later(time.Second, func() error { return w.leave(i) })
		return nil
	}
	if p := i.now; p != nil {
		w.trace.note("%s: leaves", i.name)
		i.now = nil
		w.helpers.Go(func() { p.end(true) })
	}
	return nil
}

// twin starts a copy of an instance. One of the two has to give up, and the other goes on.
func (w *world) twin(i *instance) error {
	old := i.now
	i.mu.Lock()
	i.mu.disk = old.crashed(100)
	i.mu.Unlock()
	w.trace.note("%s: a copy starts", i.name)
	if err := i.start(); err != nil {
		return err
	}
	copied := i.now
	i.contested = true
	old.fenced.Store(true)
	copied.fenced.Store(true)
	w.helpers.Go(func() {
		select {
		case <-old.done:
		case <-copied.done:
		case <-time.After(2 * time.Minute):
			w.fail(fmt.Errorf("%s: a copy of it runs for two minutes, and neither was fenced", i.name))
			old.end(false)
		}
		// With several workers each may lose one of them, and then both end.
		if old.settled(0) {
			copied.settled(time.Minute)
		} else {
			old.settled(time.Minute)
		}
		w.later(0, func() error { return w.settle(i, old, copied) })
	})
	return nil
}

// settle notes which of the two goes on; if neither does the instance starts again.
func (w *world) settle(i *instance, old, copied *process) error {
	old.fenced.Store(false)
	copied.fenced.Store(false)
	i.contested = false
	switch {
	case i.now != copied || !copied.settled(0):
	case old.settled(0):
		return w.revive(i, copied)
	default:
		i.now = old
		i.mu.Lock()
		i.mu.disk = old.disk
		i.mu.Unlock()
	}
	return nil
}

func (w *world) strikeBroker(k strike) error {
	r := w.node.running()
	if r == nil {
		w.trace.note("%s: it does not run", k.kind)
		return nil
	}
	away := min(k.lasts, 20*time.Second)
	switch k.kind {
	case BrokerCrash:
		w.trace.note("%s is armed", k.kind)
		again := int64(0)
		if k.coin {
			again = k.n
		}
		r.mu.Lock()
		r.keep, r.died = k.keep, func() { w.later(away, func() error { return w.restartBroker(again, k.keep) }) }
		r.mu.Unlock()
		r.crash.Store(r.calls.Load() + k.n)
	case BrokerRestart:
		w.trace.note("broker stops")
		w.helpers.Go(func() {
			if err := w.node.stop(); err != nil {
				w.fail(fmt.Errorf("stop the broker: %w", err))
			}
			w.later(away, func() error { return w.restartBroker(0, 0) })
		})
	case SlowDisk:
		w.trace.note("broker's disk is slow for %v", k.lasts)
		r.slow.Store(int64(500 * time.Millisecond))
		w.later(k.lasts, func() error { r.slow.Store(0); return nil })
	}
	return nil
}

// restartBroker starts the broker after a stop or a crash; armed as node.start has it.
func (w *world) restartBroker(armed int64, keep int) error {
	if w.node.running() != nil {
		return nil
	}
	if w.healed.Load() {
		armed = 0
	}
	w.trace.note("broker starts")
	return w.node.start(w.ctx, armed, keep, func() { w.later(time.Second, func() error { return w.restartBroker(0, 0) }) })
}
