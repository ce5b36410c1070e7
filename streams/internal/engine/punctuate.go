package engine

import (
	"math"
	"time"
)

// punctuators are the schedules of a task, by clock.
type punctuators struct {
	stream schedule
	wall   schedule
}

type schedule struct {
	next  int64 // the earliest of entries; math.MaxInt64 if none. Zero value: set says whether it holds.
	set   bool
	items []*Punctuator
}

// Punctuator is one schedule of a processor.
type Punctuator struct {
	every   int64 // milliseconds
	at      int64 // when next
	stopped bool
	quiet   bool // run itself says whether there is something to commit
	node    string
	run     func(now int64) error
}

// Stop ends it. It may be called while it runs, and more than once.
func (p *Punctuator) Stop() { p.stopped = true }

// Every schedules run each interval of stream time, or of wall-clock time. Stream time is aligned to zero, so that the
// first record fires it; wall-clock time starts an interval from now.
func (t *Task) Every(node string, interval time.Duration, wall bool, run func(now int64) error) *Punctuator {
	p := &Punctuator{every: max(1, interval.Milliseconds()), node: node, run: run}
	s := &t.punct.stream
	if wall {
		s = &t.punct.wall
		p.at = t.env.Now().UnixMilli() + p.every
	}
	s.items = append(s.items, p)
	s.reset()
	return p
}

func (s *schedule) reset() {
	s.next, s.set = math.MaxInt64, len(s.items) > 0
	for _, p := range s.items {
		s.next = min(s.next, p.at)
	}
}

func (s *schedule) due(now int64) bool { return s.set && now >= s.next }

// Punctuate settles the calls that have ended, runs the wall-clock punctuators that are due, and moves stream time on where
// nothing comes (Env.IdleAdvance). An error is final.
func (t *Task) Punctuate(now time.Time) error {
	if _, err := t.Settle(); err != nil {
		return err
	}
	if ms := now.UnixMilli(); t.started && t.punct.wall.due(ms) {
		t.punctuate(&t.punct.wall, ms)
	}
	if t.started && t.dead == nil {
		t.advanceIdle(now)
	}
	return t.dead
}

// NextPunctuation returns when the next wall-clock punctuator is due, and whether there is one.
func (t *Task) NextPunctuation() (time.Time, bool) {
	if !t.punct.wall.set {
		return time.Time{}, false
	}
	return time.UnixMilli(t.punct.wall.next), true
}

// punctuate runs what is due, in the order of the times at which it was due. A late one runs once, with now as its
// argument, and is next due at the next multiple: the missed ones collapse.
func (t *Task) punctuate(s *schedule, now int64) {
	c := &t.cur
	saved := *c
	for s.due(now) && t.dead == nil {
		var p *Punctuator
		for _, it := range s.items {
			if it.at <= now && (p == nil || it.at < p.at) {
				p = it
			}
		}
		p.at += ((now-p.at)/p.every + 1) * p.every
		if !p.stopped {
			c.reset()
			c.Trace.Forget()
			c.Time = now
			t.dirty = t.dirty || !p.quiet
			t.fire(p, now)
		}
		if p.stopped {
			s.remove(p)
		}
		s.reset()
	}
	*c = saved
}

func (t *Task) fire(p *Punctuator, now int64) {
	for attempt := 1; ; attempt++ {
		err := guard(p.run, now)
		if err == nil || t.dead != nil {
			return
		}
		if again, _ := t.cur.Fail(p.node, Processing, attempt, err); !again {
			return
		}
	}
}

func guard(run func(int64) error, now int64) (err error) {
	defer Recover(&err)
	return run(now)
}

func (s *schedule) remove(p *Punctuator) {
	for i, it := range s.items {
		if it == p {
			s.items = append(s.items[:i], s.items[i+1:]...)
			return
		}
	}
}
