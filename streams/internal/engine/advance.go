package engine

import (
	"cmp"
	"slices"
	"time"
)

// advances is the idle advance of a task's stream time by the wall clock (Env.IdleAdvance).
type advances struct {
	by     time.Duration // how long nothing must have come; 0: stream time is that of records alone
	active time.Time     // when something last came
	of     []advance
	wrote  bool // an advance has closed something since TakeAdvanced
}

// advance is an operator that keeps an observed time of its own.
type advance struct {
	order int
	at    *int64
	run   func(c *Cursor) (closed bool, err error)
}

// OnAdvance has run called when the observed time at (Observe) was moved on because no records come: to pass on what is
// final by it, and to say whether there was any. Operators are called in the order of order: first those whose results
// others take. An error is final.
func (t *Task) OnAdvance(order int, at *int64, run func(c *Cursor) (closed bool, err error)) {
	t.idle.of = append(t.idle.of, advance{order, at, run})
	slices.SortStableFunc(t.idle.of, func(a, b advance) int { return cmp.Compare(a.order, b.order) })
}

// TakeAdvanced reports whether an idle advance has closed anything since it was last called: the observed times are then to
// be committed, though no position has moved.
func (t *Task) TakeAdvanced() bool {
	was := t.idle.wrote
	t.idle.wrote = false
	return was
}

// awake notes that something has come.
func (t *Task) awake() {
	if t.idle.by > 0 {
		t.idle.active = t.env.Now()
	}
}

// advanceIdle moves stream time on to by before now, if nothing has come for so long and nothing is on its way, and with
// it the observed time of every operator that has seen a record. By a repartition topic the results of idle tasks upstream
// arrive as records: such a task waits once more for each repartition before it (hops), so that they are not late.
func (t *Task) advanceIdle(now time.Time) {
	i := &t.idle
	if i.by == 0 || t.streamTime < 0 || now.Sub(i.active) < i.by {
		return
	}
	at := now.Add(-i.by).UnixMilli()
	if at <= t.streamTime || t.Held() {
		return
	}
	for _, q := range t.queues {
		if q.buffered > 0 || q.position < q.end {
			return
		}
	}
	if t.advance(at); t.dead != nil {
		return
	}
	saved := t.cur
	for _, a := range i.of {
		if t.dead != nil {
			break
		}
		if *a.at < 0 || *a.at >= at {
			continue
		}
		*a.at = at
		t.cur.reset()
		t.cur.Time = at
		closed, err := a.run(&t.cur)
		if err != nil && t.dead == nil {
			t.die(err)
		}
		if closed {
			i.wrote, t.dirty = true, true
		}
	}
	if t.punct.stream.due(at) && t.dead == nil {
		t.punctuate(&t.punct.stream, at)
		i.wrote = true
	}
	t.cur = saved
}

// hops is the largest number of repartition topics between a source topic and the sub-topology.
func (p *Plan) hops(sub int) int {
	seen := make(map[int]bool)
	var count func(sub int) int
	count = func(sub int) int {
		if seen[sub] {
			return 0 // it reads what it has written itself
		}
		seen[sub] = true
		defer delete(seen, sub)
		most := 0
		for _, rp := range p.Repartitions {
			if rp.To != sub {
				continue
			}
			for _, from := range rp.From {
				most = max(most, 1+count(from))
			}
		}
		return most
	}
	return count(sub)
}
