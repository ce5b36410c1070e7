package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/failpoint"
	"github.com/leatstream/leat/streams/internal/simulation"
)

var errCrash = errors.New("cluster: the instance is killed")

// instance is a machine that runs the application: a disk that stays, and one process after the other.
type instance struct {
	w    *world
	name string
	// The world's goroutine alone touches these two.
	now       *process // nil while none runs
	contested bool     // a copy of it runs, and neither has given up
	mu        struct {
		sync.Mutex
		disk *vfs.MemFS
	}
}

// process is one run of the application.
type process struct {
	of     *instance
	app    *streams.App
	host   *host
	disk   *vfs.MemFS
	points *failpoint.Set
	stop   context.CancelFunc
	done   chan struct{}
	dead   atomic.Bool  // it was killed: what it does from now on nobody sees
	fenced atomic.Bool  // another one has its name, so it may end with an error
	calls  atomic.Int64 // of the file system
	at     struct {     // the file call at which do is called
		sync.Mutex
		count int64
		do    func()
	}
}

// start starts the application on what the disk has.
func (i *instance) start() error {
	w := i.w
	i.mu.Lock()
	disk := i.mu.disk
	i.mu.Unlock()
	p := &process{of: i, host: newHost(w.node), disk: disk, points: new(failpoint.Set), done: make(chan struct{})}
	reg, hangUp := new(registry.Client), func() {}
	var err error
	if w.schemas != nil {
		if reg, hangUp, err = w.schemas.client(p.host); err != nil {
			return err
		}
	}
	topology, err := w.s.build(reg)
	if err != nil {
		return err
	}
	cfg := w.s.Config
	cfg.AppID, cfg.StateDir, cfg.Brokers = appID, "state", []string{"leat.invalid:9092"}
	cfg.Client = append([]kgo.Opt{kgo.Dialer(p.host.dial)}, cfg.Client...)
	cfg.Logger = w.trace.logger(i.name, &p.dead)
	told := cfg.OnState
	cfg.OnState = func(s streams.State) {
		if !p.dead.Load() {
			w.trace.note("%s: %s", i.name, s)
		}
		if told != nil {
			told(s)
		}
	}
	if p.app, err = streams.New(topology, cfg); err != nil {
		return err
	}
	p.app.Simulate(simulation.Seams{FS: errorfs.Wrap(disk, errorfs.InjectorFunc(p.call)), Failpoints: p.points})
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	i.now = p
	w.processes = append(w.processes, p)
	go func() {
		defer close(p.done)
		defer hangUp()
		err := p.app.Run(ctx)
		switch {
		case p.dead.Load():
		case err != nil && p.fenced.Load():
			w.trace.note("%s: ends, as another one has its name: %v", i.name, err)
		case err != nil:
			w.fail(fmt.Errorf("%s: %w", i.name, err))
		}
	}()
	return nil
}

// call is before every call of the process's file system.
func (p *process) call(errorfs.Op) error {
	n := p.calls.Add(1)
	p.at.Lock()
	do := p.at.do
	if do != nil && n >= p.at.count {
		p.at.do = nil
	} else {
		do = nil
	}
	p.at.Unlock()
	if do != nil {
		do()
	}
	return nil
}

// armFile has do called at the n-th file call from now.
func (p *process) armFile(n int64, do func()) {
	p.at.Lock()
	defer p.at.Unlock()
	p.at.count, p.at.do = p.calls.Load()+n, do
}

// kill ends the process as SIGKILL does, or as a power cut does if keep is below 100: nothing that it does from now on
// reaches the broker or the disk. Another process may be started on that at once. Any goroutine may call it.
func (p *process) kill(keep int, why string) {
	if p.dead.Swap(true) {
		return
	}
	p.host.kill()
	left := p.crashed(keep)
	p.of.mu.Lock()
	if p.of.mu.disk == p.disk {
		p.of.mu.disk = left
	}
	p.of.mu.Unlock()
	p.of.w.trace.note("%s: killed %s, its disk keeps %d%% of what was not synced", p.of.name, why, keep)
	p.stop()
}

// crashed is what the disk holds after a crash at this moment.
func (p *process) crashed(keep int) *vfs.MemFS {
	return p.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: source(p.of.w.seed, p.of.w.count())})
}

// end stops the process and waits for it.
func (p *process) end(leave bool) {
	if leave {
		p.app.Leave()
	}
	p.stop()
	p.wait()
}

// wait waits until Run has returned. If it never does nothing can go on: a bubble ends with its goroutines.
func (p *process) wait() {
	if !p.settled(10 * time.Minute) {
		panic(fmt.Sprintf("%s does not end within 10 minutes after it was told to; seed %d:\n%s", p.of.name, p.of.w.seed, p.of.w.trace))
	}
}

// settled waits until the process has ended, or the time is up.
func (p *process) settled(within time.Duration) bool {
	select {
	case <-p.done:
		return true
	default:
	}
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}
