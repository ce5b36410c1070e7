package engine

import (
	"context"
	"sync"
	"time"
)

// calls are functions of the user's that run beside the task, and what they leave for its goroutine to do.
type calls struct {
	ctx     context.Context // ends with the task; nil before the first call
	cancel  context.CancelFunc
	running sync.WaitGroup
	held    int // operators that want no further records

	mu struct {
		sync.Mutex
		ended []func() error // in the order in which they ended
	}
}

// Go runs call in a goroutine of its own, whose context ends after timeout or with the task, and then settle on the task's
// goroutine, unless the task has ended meanwhile: Close waits for call. call must not touch the task. An error of settle
// is final.
func (t *Task) Go(timeout time.Duration, call func(ctx context.Context), settle func() error) {
	c := &t.calls
	if c.ctx == nil {
		c.ctx, c.cancel = context.WithCancel(t.env.Context)
	}
	c.running.Add(1)
	t.env.Go(c.ctx, timeout, func(ctx context.Context) {
		defer c.running.Done()
		call(ctx)
		t.Later(settle)
	})
}

// Later has settle run on the task's goroutine, soon. Any goroutine may call it.
func (t *Task) Later(settle func() error) {
	t.calls.mu.Lock()
	t.calls.mu.ended = append(t.calls.mu.ended, settle)
	t.calls.mu.Unlock()
	t.env.Wake()
}

// goWithTimeout is Env.Go where the environment has none.
func goWithTimeout(ctx context.Context, timeout time.Duration, run func(context.Context)) {
	go func() {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		run(ctx)
	}()
}

// Hold keeps the task from taking further records, until Release is called as often.
func (t *Task) Hold() { t.calls.held++ }

// Release is the end of a Hold.
func (t *Task) Release() { t.calls.held-- }

// Held reports whether the task takes no records for now.
func (t *Task) Held() bool { return t.calls.held > 0 }

// Settle runs what calls that have ended left to do, and reports whether there was any. An error is final.
func (t *Task) Settle() (any bool, err error) {
	if t.dead != nil || !t.started {
		return false, t.dead
	}
	c := &t.calls
	c.mu.Lock()
	ended := c.mu.ended
	c.mu.ended = nil
	c.mu.Unlock()
	if len(ended) == 0 {
		return false, nil
	}
	saved := t.cur
	t.dirty = true
	t.awake()
	for _, settle := range ended {
		t.cur.reset()
		if err := settle(); err != nil && t.dead == nil {
			t.die(err)
		}
		if t.dead != nil {
			break
		}
	}
	t.cur = saved
	return true, t.dead
}

// endCalls cancels the calls that run, and waits for them.
func (t *Task) endCalls() {
	if t.calls.cancel != nil {
		t.calls.cancel()
		t.calls.running.Wait()
	}
}
