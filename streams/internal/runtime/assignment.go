package runtime

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// What a worker does as the group gives it partitions and takes them.

// changes follows the group: what it takes was committed before.
func (w *worker) changes() error {
	changes := w.s.Changes()
	for _, c := range changes {
		if err := w.revoked(c.Revoked); err != nil {
			return err
		}
		for topic, ps := range c.Assigned {
			for _, p := range ps {
				w.owned[tp{topic, p}] = true
				if !w.sub.reads(tp{topic, p}) {
					w.rt.look() // another instance has found a topic, or partitions, that we have not seen yet
				}
			}
		}
	}
	if w.balancer.takeStale() {
		w.log.Info("the group gave out its tasks to an earlier run or topology of this instance: asking it to do so again")
		w.s.Client().ForceRebalance()
	}
	if copies, ok := w.balancer.takeCopies(); ok {
		w.rt.follower.follow(w, copies)
	}
	if w.warm.Swap(false) {
		w.log.Info("a task that is to move here has its state here: asking the group to give it out")
		w.balancer.asks.Add(1)
		w.s.Client().ForceRebalance()
	}
	if len(changes) == 0 && !w.waits {
		return nil
	}
	return w.take()
}

func (w *worker) revoked(gone session.Partitions) error {
	var errs []error
	for topic, ps := range gone {
		for _, p := range ps {
			delete(w.owned, tp{topic, p})
			at := w.parts[tp{topic, p}]
			if at == nil {
				continue
			}
			t := at.task
			for _, other := range t.parts {
				delete(w.parts, other.tp)
			}
			w.tasks = slices.DeleteFunc(w.tasks, func(o *task) bool { return o == t })
			w.log.Info("task given up", "task", t.id.String())
			errs = append(errs, w.give(t))
		}
	}
	return errors.Join(errs...)
}

// give closes a task, for whoever gets it next.
func (w *worker) give(t *task) error {
	w.rt.hide(t)
	defer w.rt.release(t.id)
	return t.close()
}

// take makes the tasks whose partitions are all ours, and has them restored.
func (w *worker) take() error {
	var taken []*task
	w.waits = false
	for i := range w.sub.layout {
		sub := &w.sub.layout[i]
		for n := range sub.tasks() {
			all, have := sub.partitions(n), []tp(nil)
			for topic := range all {
				if at := (tp{topic, n}); w.owned[at] && w.parts[at] == nil {
					have = append(have, at)
				}
			}
			if len(have) == 0 {
				continue
			}
			if len(have) < len(all) { // they stay paused until a rebalance brings the others
				w.log.Warn("task waits for the rest of its partitions", "sub_topology", sub.id, "partition", n, "have", len(have), "of", len(all))
				continue
			}
			id := engine.TaskID{Sub: sub.id, Partition: n}
			if !w.rt.claim(id, w) {
				w.waits = true
				continue
			}
			t, err := w.newTask(w.rt.cfg.Plan.Subs[sub.id], n, have)
			if err != nil {
				w.rt.release(id)
				return err
			}
			t.progress.set(Restoring, w.n)
			for _, p := range t.parts {
				w.parts[p.tp] = p
			}
			w.tasks = append(w.tasks, t)
			taken = append(taken, t)
		}
	}
	slices.SortFunc(w.tasks, func(a, b *task) int {
		return cmp.Or(a.id.Sub-b.id.Sub, int(a.id.Partition-b.id.Partition))
	})
	if len(taken) > 0 || w.waits {
		w.setUp(false)
	}
	if len(taken) > 0 {
		w.rt.restorer.restore(w.jobs(taken))
	}
	return nil
}

// jobs makes the jobs of tasks that are about to be restored: a task with a job waits for it when it is closed.
func (w *worker) jobs(taken []*task) []*restoreJob {
	var jobs []*restoreJob
	for _, t := range taken {
		t.job = &restoreJob{task: t, done: make(chan struct{}), notify: w.arrived}
		t.job.ctx, t.job.cancel = context.WithCancel(w.rt.restorer.ctx)
		jobs = append(jobs, t.job)
	}
	return jobs
}

// startRestored starts the tasks whose stores are there, and reads on.
func (w *worker) startRestored() error {
	w.poll.Lock()
	jobs := w.poll.restored
	w.poll.restored = nil
	w.poll.Unlock()
	for _, j := range jobs {
		t := j.task
		if !slices.Contains(w.tasks, t) {
			continue // given up meanwhile
		}
		if j.err != nil {
			return cmp.Or(w.ctx.Err(), j.err)
		}
		if err := w.gaps(t); err != nil {
			return err
		}
		if err := t.start(w.begin); err != nil {
			return err
		}
		if slices.ContainsFunc(t.parts, func(p *part) bool { return p.begins }) {
			w.moved = true
		}
		t.publish(nil)
		w.rt.show(t)
		w.rt.pulse()
		w.log.Info("task runs", "task", t.id.String())
		resume := session.Partitions{}
		for _, p := range t.parts {
			resume[p.topic] = append(resume[p.topic], p.p)
		}
		if !w.held {
			w.s.Resume(resume)
		}
	}
	return nil
}

// hold follows Runtime.SetPaused, and standstills: partitions of a paused application are not read, so that nothing heaps up.
func (w *worker) hold() {
	paused := w.rt.paused.Load() || w.rt.still.on.Load()
	if paused == w.held {
		return
	}
	w.held = paused
	parts := session.Partitions{}
	for _, t := range w.tasks {
		for _, p := range t.parts {
			if t.running {
				parts[p.topic] = append(parts[p.topic], p.p)
			}
		}
	}
	if paused {
		w.s.Pause(parts)
	} else {
		w.s.Resume(parts)
	}
}

func (w *worker) setUp(up bool) {
	if w.up.Swap(up) != up {
		w.rt.crew.checkUp()
	}
}

func (w *worker) checkUp() {
	if w.up.Load() || w.waits || w.s.Member() == "" && len(w.sub.sources) > 0 {
		return
	}
	for _, t := range w.tasks {
		if !t.running {
			return
		}
	}
	w.setUp(true)
}
