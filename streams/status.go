package streams

import (
	"fmt"
	"time"

	"github.com/leatstream/leat/streams/internal/runtime"
)

// TaskRole is what an instance does with a task.
type TaskRole int

const (
	// TaskRestoring: the task's state is brought to where its changelogs end; it does not process yet.
	TaskRestoring TaskRole = iota
	// TaskRunning: the task processes.
	TaskRunning
	// TaskStandby: another instance has the task, and its state is followed here (Config.Standbys).
	TaskStandby
	// TaskWarmUp: as TaskStandby; the task moves here when its state has caught up (Config.AcceptableLag).
	TaskWarmUp
)

// String names the role.
func (r TaskRole) String() string {
	switch r {
	case TaskRestoring:
		return "restoring"
	case TaskRunning:
		return "running"
	case TaskStandby:
		return "standby"
	case TaskWarmUp:
		return "warm-up"
	}
	return fmt.Sprintf("TaskRole(%d)", int(r))
}

// TaskStatus is one task that an instance has, or keeps a copy of, at one moment.
type TaskStatus struct {
	// ID is the number of the sub-topology and the partition, as in 0_3.
	ID   string
	Role TaskRole
	// Worker is the number of the worker that has it, from 0.
	Worker int
	// Remaining is how many changelog offsets its state is behind, of a task that is not TaskRunning; -1 while that is not
	// known.
	Remaining int64
	// Lag is how many offsets of its inputs a TaskRunning task has not committed, as of its last commit.
	Lag int64
}

// Tasks lists the tasks that this instance has or keeps copies of, by id; nil while Run does not work.
func (a *App) Tasks() []TaskStatus {
	a.mu.Lock()
	rt := a.mu.rt
	a.mu.Unlock()
	if rt == nil {
		return nil
	}
	var all []TaskStatus
	for _, s := range rt.Statuses() {
		all = append(all, TaskStatus{ID: s.ID.String(), Role: roles[s.Role], Worker: s.Worker, Remaining: s.Remaining, Lag: s.Lag})
	}
	return all
}

// Restore is how far the state of one task is on its way from its changelogs.
type Restore struct {
	Task string
	// Total and Remaining count changelog offsets, which are at least as many as records. -1: not known yet.
	Total, Remaining int64
	// Records and Bytes were written so far.
	Records, Bytes int64
	// Rate is in records a second, since the restore began; Left is the time that the rest takes if it goes on so, 0 while
	// nobody can tell.
	Rate float64
	Left time.Duration
}

// Restores lists the tasks that this instance is restoring, by id; none once it is StateRunning.
func (a *App) Restores() []Restore {
	rt := a.runtime()
	if rt == nil {
		return nil
	}
	var all []Restore
	for _, s := range rt.Statuses() {
		if s.Role == runtime.Restoring {
			all = append(all, restoreOf(s, time.Now()))
		}
	}
	return all
}

func restoreOf(s runtime.Status, now time.Time) Restore {
	r := Restore{Task: s.ID.String(), Total: s.Total, Remaining: s.Remaining, Records: s.Records, Bytes: s.Bytes}
	if s.Remaining < 0 {
		r.Total = -1
		return r
	}
	r.Rate, r.Left = s.Pace(now)
	return r
}

// restoredPercent is how much of the state of the tasks that the instance has is there: 0 while it has none.
func restoredPercent(all []runtime.Status) float64 {
	var total, remaining int64
	own := 0
	for _, s := range all {
		switch {
		case s.Role == runtime.Restoring && s.Remaining < 0:
			return 0
		case s.Role == runtime.Restoring:
			remaining += s.Remaining
			fallthrough
		case s.Role == runtime.Running:
			own++
			total += s.Total
		}
	}
	switch {
	case own == 0:
		return 0
	case total == 0:
		return 100
	}
	return 100 * float64(total-remaining) / float64(total)
}

var roles = [...]TaskRole{runtime.Restoring: TaskRestoring, runtime.Running: TaskRunning, runtime.Standby: TaskStandby, runtime.WarmUp: TaskWarmUp}
