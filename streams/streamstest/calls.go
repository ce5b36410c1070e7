package streamstest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// calls are the calls of MapAsync that run. The driver waits for each to end, or to fall asleep in Sleep, before it goes
// on: so what a test sees does not depend on how goroutines are scheduled.
type calls struct {
	mu     sync.Mutex
	idle   *sync.Cond // active fell to 0
	now    time.Time
	active int
	queue  []func()   // to be begun, one after the other, so that they end in the same order in every run
	asleep []*sleeper // in the order of falling asleep
}

// sleeper is a call in Sleep.
type sleeper struct {
	at   time.Time
	wake chan error
}

// asyncCall is a call as Sleep finds it in its context.
type asyncCall struct {
	calls    *calls
	deadline time.Time
	end      context.CancelCauseFunc
}

type callKey struct{}

func newCalls() *calls {
	c := &calls{}
	c.idle = sync.NewCond(&c.mu)
	return c
}

func (c *calls) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// begin is engine.Env.Go on virtual time. The call begins when the driver waits.
func (c *calls) begin(ctx context.Context, timeout time.Duration, run func(context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline := c.now.Add(timeout)
	c.queue = append(c.queue, func() {
		ctx, end := context.WithCancelCause(ctx)
		defer end(nil)
		run(context.WithValue(ctx, callKey{}, &asyncCall{calls: c, deadline: deadline, end: end}))
		c.mu.Lock()
		defer c.mu.Unlock()
		c.active--
		c.idle.Broadcast()
	})
}

// wait returns when every call has ended or sleeps.
func (c *calls) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.active > 0 || len(c.queue) > 0 {
		if c.active > 0 {
			c.idle.Wait()
			continue
		}
		next := c.queue[0]
		c.queue = c.queue[1:]
		c.active++
		go next()
	}
}

// wakeNext wakes the sleeper that is due first, if one is due, and reports whether there was one.
func (c *calls) wakeNext(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
	var first *sleeper
	for _, s := range c.asleep {
		if !s.at.After(now) && (first == nil || s.at.Before(first.at)) {
			first = s
		}
	}
	if first == nil {
		return false
	}
	c.asleep = slices.DeleteFunc(c.asleep, func(s *sleeper) bool { return s == first })
	c.active++
	first.wake <- nil
	return true
}

// Sleep is for the functions that a test gives to MapAsync: it takes its time on the driver's clock, and returns when
// Advance has moved that so far, or with an error when the call's Timeout has passed or the task has ended. Anything else
// that such a function waits for the driver waits for, too.
func Sleep(ctx context.Context, by time.Duration) error {
	call, ok := ctx.Value(callKey{}).(*asyncCall)
	if !ok {
		panic("streamstest: Sleep is for a function of MapAsync, with the context that it is given")
	}
	if by <= 0 {
		return context.Cause(ctx)
	}
	c := call.calls
	c.mu.Lock()
	s := &sleeper{at: c.now.Add(by), wake: make(chan error, 1)}
	late := s.at.After(call.deadline)
	if late {
		s.at = call.deadline
	}
	c.asleep = append(c.asleep, s)
	c.active--
	c.idle.Broadcast()
	c.mu.Unlock()
	select {
	case <-s.wake:
		if late {
			call.end(context.DeadlineExceeded)
			return context.DeadlineExceeded
		}
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		c.asleep = slices.DeleteFunc(c.asleep, func(o *sleeper) bool { return o == s })
		c.active++
		c.mu.Unlock()
		return context.Cause(ctx)
	}
}

// settle waits for calls and passes on what has ended, and reports whether anything had.
func (d *Driver) settle() (any bool) {
	d.t.Helper()
	d.calls.wait()
	for _, task := range d.tasks {
		if d.err != nil {
			return any
		}
		settled, err := task.Settle()
		d.check(err)
		any = any || settled
		if settled && d.err == nil && !d.retained {
			d.commitTask(task)
		}
	}
	return any
}
