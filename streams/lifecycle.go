package streams

import (
	"context"
	"errors"
	"fmt"

	"github.com/leatstream/leat/streams/internal/runtime"
)

// State is what an instance is doing. It goes from StateCreated to StateRebalancing and StateRunning, between these two as
// often as the group gives out tasks, and by StateStopping to StateStopped or StateFailed, which are final. A paused
// instance has the state that it would have.
type State int

const (
	// StateCreated: Run was not called.
	StateCreated State = iota
	// StateRebalancing: it joins the group, or some of its tasks are being restored; the others process.
	StateRebalancing
	// StateRunning: every task that it was given processes.
	StateRunning
	// StateStopping: it commits what was processed.
	StateStopping
	// StateStopped: Run has ended without an error.
	StateStopped
	// StateFailed: Run has ended with one.
	StateFailed
)

// String names the state.
func (s State) String() string {
	names := [...]string{"created", "rebalancing", "running", "stopping", "stopped", "failed"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return names[s]
}

// State returns what the instance is doing.
func (a *App) State() State {
	a.life.Lock()
	defer a.life.Unlock()
	return a.life.state
}

// enter goes to a state, unless a later one was reached, and tells Config.OnState, one call at a time.
func (a *App) enter(s State) {
	a.life.tell.Lock()
	defer a.life.tell.Unlock()
	a.life.Lock()
	was := a.life.state
	stays := was == s || was >= StateStopping && s < was
	if !stays {
		a.life.state = s
	}
	a.life.Unlock()
	if stays {
		return
	}
	if s == StateRunning {
		a.first.Do(func() { close(a.ready) })
	}
	a.cfg.Logger.Info("state", "app", a.cfg.AppID, "was", was.String(), "is", s.String())
	if a.cfg.OnState != nil {
		a.cfg.OnState(s)
	}
}

// up is told by the runtime. A worker that stops is not up, either.
func (a *App) up(ctx context.Context, is bool) {
	switch {
	case ctx.Err() != nil:
		a.enter(StateStopping)
	case is:
		a.enter(StateRunning)
	default:
		a.enter(StateRebalancing)
	}
}

// Run works until ctx is done. Then it commits what was processed and returns nil; every goroutine that it started has
// ended. While brokers are away it waits, and says in the log for what. It returns early with an error that trying again
// would not cure: a record that fails (Config.OnError), a source topic that does not exist (ErrMissingTopic), internal
// topics of another topology (ErrInternalTopic), a state directory in use (state.ErrLocked), a missing right. Run may be
// called once.
func (a *App) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	a.mu.Lock()
	if a.mu.ran {
		a.mu.Unlock()
		return errors.New("App.Run was called before: make a new App")
	}
	a.mu.ran, a.mu.stop = true, stop
	if a.mu.leave {
		stop()
	}
	a.mu.Unlock()
	a.enter(StateRebalancing)
	defer context.AfterFunc(ctx, func() { a.enter(StateStopping) })()
	if err := a.run(ctx); err != nil {
		a.enter(StateFailed)
		return fmt.Errorf("application %s: %w", a.cfg.AppID, err)
	}
	a.enter(StateStopped)
	return nil
}

// Pause stops processing on this instance, punctuators included, until Resume. Tasks keep their places, restores and copies
// of state go on, and what was processed is committed. An instance can be paused before Run.
func (a *App) Pause() { a.setPaused(true) }

// Resume ends a Pause.
func (a *App) Resume() { a.setPaused(false) }

// Paused reports whether the instance is paused.
func (a *App) Paused() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.paused
}

func (a *App) setPaused(p bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.paused = p
	if a.mu.rt != nil {
		a.mu.rt.SetPaused(p)
	}
}

// ErrWorkers is wrapped by the errors of AddWorker and RemoveWorker: the instance does not run, or has one worker alone.
var ErrWorkers = runtime.ErrWorkers

// AddWorker starts one more worker on this instance while it runs, and returns its number. It joins the group, which gives it
// a part of the tasks; those that stay go on meanwhile. It lasts until Run ends: Config.Workers says how many begin.
func (a *App) AddWorker() (int, error) {
	rt, err := a.runs()
	if err != nil {
		return 0, err
	}
	return rt.AddWorker()
}

// RemoveWorker ends the worker with the highest number, and returns that: it commits what it has processed and leaves the
// group, and its tasks go to others, of this instance first, where their state is. The last one stays. RemoveWorker waits
// for the worker's end, until ctx is done at most; the worker ends in any case.
func (a *App) RemoveWorker(ctx context.Context) (int, error) {
	rt, err := a.runs()
	if err != nil {
		return 0, err
	}
	return rt.RemoveWorker(ctx)
}

func (a *App) runs() (*runtime.Runtime, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.rt == nil {
		return nil, fmt.Errorf("%w: the application does not run", ErrWorkers)
	}
	return a.mu.rt, nil
}
