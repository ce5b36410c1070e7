package streams

import (
	"fmt"

	"github.com/leatstream/leat/streams/internal/runtime"
)

// TaskRole is what an instance does with a task.
type TaskRole int

const (
	// Restoring: the task's state is brought to where its changelogs end; it does not process yet.
	Restoring TaskRole = iota
	// Running: the task processes.
	Running
	// Standby: another instance has the task, and its state is followed here (Config.Standbys).
	Standby
	// WarmUp: as Standby; the task moves here when its state has caught up (Config.AcceptableLag).
	WarmUp
)

// String names the role.
func (r TaskRole) String() string {
	switch r {
	case Restoring:
		return "restoring"
	case Running:
		return "running"
	case Standby:
		return "standby"
	case WarmUp:
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
	// Remaining is how many changelog offsets its state is behind, of a task that is not Running; -1 while that is not
	// known.
	Remaining int64
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
		all = append(all, TaskStatus{ID: s.ID.String(), Role: roles[s.Role], Worker: s.Worker, Remaining: s.Remaining})
	}
	return all
}

var roles = [...]TaskRole{runtime.Restoring: Restoring, runtime.Running: Running, runtime.Standby: Standby, runtime.WarmUp: WarmUp}
