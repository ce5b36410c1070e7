package streams

import (
	"context"
	"errors"
	"fmt"
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
