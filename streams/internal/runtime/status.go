package runtime

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// Role is what an instance does with a task.
type Role int

const (
	Restoring Role = iota // its stores are brought to where their changelogs end
	Running               // it processes
	Standby               // another instance has it; its state is followed here
	WarmUp                // as Standby, and it moves here when its state has caught up
)

// Status is what is known of a task at one moment.
type Status struct {
	ID        engine.TaskID
	Role      Role
	Worker    int   // who has it, or asked for the copy
	Remaining int64 // changelog offsets still to be read; -1 while that is not known
	Lag       int64 // offsets of the inputs that are not committed, as of the last commit

	// Of the task's last restore: changelog offsets that it had to read, records and bytes that it has written, and when it
	// began and ended; zero times: not yet.
	Total, Records, Bytes int64
	Began, Ended          time.Time
}

// Pace is how fast the restore goes, or went, in records a second since it began, and the time that the rest takes if it goes
// on so; 0 while that cannot be told.
func (s *Status) Pace(now time.Time) (rate float64, left time.Duration) {
	if !s.Ended.IsZero() {
		now = s.Ended
	}
	took, done := now.Sub(s.Began), s.Total-s.Remaining
	if took > 0 {
		rate = float64(s.Records) / took.Seconds()
	}
	if done > 0 {
		left = time.Duration(float64(took) * float64(s.Remaining) / float64(done))
	}
	return rate, left
}

// progress is the Status of an open task, written by its owner and read by anybody.
type progress struct {
	role      atomic.Int32
	worker    atomic.Int32
	remaining atomic.Int64
	lag       atomic.Int64
	committed atomic.Pointer[committed] // of a task that runs

	total, records, bytes atomic.Int64 // of its restore
	began, ended          atomic.Int64 // Unix nanoseconds; 0: not yet
}

// restoring notes how much a restore that begins has to read.
func (p *progress) restoring(offsets int64) {
	p.total.Store(offsets)
	p.remaining.Store(offsets)
	p.began.Store(time.Now().UnixNano())
}

// read notes what came of it.
func (p *progress) read(offsets int64, recs []state.Restored) {
	var bytes int
	for i := range recs {
		bytes += len(recs[i].Key) + len(recs[i].Value)
	}
	p.remaining.Add(-offsets)
	p.records.Add(int64(len(recs)))
	p.bytes.Add(int64(bytes))
}

func nanos(n int64) (t time.Time) {
	if n != 0 {
		t = time.Unix(0, n)
	}
	return t
}

func (p *progress) set(r Role, worker int) {
	p.role.Store(int32(r))
	p.worker.Store(int32(worker))
}

// Statuses lists the tasks that this instance has or follows, by id. Any goroutine may call it.
func (rt *Runtime) Statuses() []Status {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	all := make([]Status, 0, len(rt.mu.progress))
	for _, id := range slices.SortedFunc(maps.Keys(rt.mu.progress), func(a, b engine.TaskID) int {
		return cmp.Or(a.Sub-b.Sub, int(a.Partition-b.Partition))
	}) {
		p := rt.mu.progress[id]
		all = append(all, Status{ID: id, Role: Role(p.role.Load()), Worker: int(p.worker.Load()), Remaining: p.remaining.Load(), Lag: p.lag.Load(),
			Total: p.total.Load(), Records: p.records.Load(), Bytes: p.bytes.Load(), Began: nanos(p.began.Load()), Ended: nanos(p.ended.Load())})
	}
	return all
}
