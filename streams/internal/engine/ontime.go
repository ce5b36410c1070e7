package engine

import "time"

// OnTime has run called whenever time has come further: stream time, before the record that moved it is processed; or the
// wall clock, each interval. run reports whether it changed anything, so that a task without input has nothing to commit
// until something has. Its errors are final. The task's cursor stands at the time, without a record.
func (t *Task) OnTime(wall bool, interval time.Duration, run func(now int64) (changed bool, err error)) {
	f := func(now int64) error {
		changed, err := run(now)
		t.dirty = t.dirty || changed
		if err != nil && t.dead == nil {
			t.die(err)
		}
		return err
	}
	if wall {
		t.Every("", interval, true, f).quiet = true
		return
	}
	t.onTime = append(t.onTime, f)
}

// advance moves stream time on.
func (t *Task) advance(now int64) {
	t.streamTime = now
	if len(t.onTime) == 0 || t.dead != nil {
		return
	}
	c := &t.cur
	saved := *c
	for _, f := range t.onTime {
		c.reset()
		c.Time = now
		if err := guard(f, now); err != nil {
			if t.dead == nil { // it has panicked
				t.die(err)
			}
			break
		}
	}
	*c = saved
}
