package streams

import (
	"fmt"

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

var roles = [...]TaskRole{runtime.Restoring: TaskRestoring, runtime.Running: TaskRunning, runtime.Standby: TaskStandby, runtime.WarmUp: TaskWarmUp}
