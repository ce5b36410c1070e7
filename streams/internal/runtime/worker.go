package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// worker is one member of the group. One goroutine runs it; see the package comment for who else touches what.
type worker struct {
	rt  *Runtime
	n   int
	id  string // instance id in the group
	log *slog.Logger
	ctx context.Context // ends with the application, or when the worker is removed

	stop    context.CancelFunc // ends ctx
	done    chan struct{}      // closed when it has ended
	removed bool               // it is to end and the others are not; guarded by crew.mu

	s       *session.Session
	sub     *subscription // that s was opened for
	env     engine.Env    // of its tasks, but for Send
	slab    engine.Slab
	pool    engine.RecordPool
	sent    int64 // bytes sent since the last commit
	sendErr error
	sentAck func(*kgo.Record, error)

	balancer  *balancer
	owned     map[tp]bool // what the group gave us
	tasks     []*task     // sorted by id
	parts     map[tp]*part
	moved     bool        // a position moved, or something was processed, since the last commit
	next      time.Time   // when to commit
	due       atomic.Bool // it is, or process has taken as long: it comes back after the record in hand
	alarm     *time.Timer // sets due
	began     time.Time   // of the time since the last commit
	turn      int         // the task that is to begin: the one before has used up the interval
	refreshed time.Time   // when positions were last renewed without a change

	held     bool // processing is paused
	waits    bool // for a task that another worker of this process still has open
	measured measured

	traced *engine.WorkTrace // nil: nothing is traced
	taken  int               // records since the last commit

	up   atomic.Bool // joined, and every task runs
	warm atomic.Bool // a copy has caught up whose task is to move here: the group is to be asked

	ends struct { // where reading begins at the end of the log, or elsewhere than at the group's position; adjust and start agree by it
		sync.Mutex
		at   map[tp]int64
		gaps map[tp]gap
	}
	poll struct {
		sync.Mutex
		cancel   context.CancelFunc
		woken    bool
		restored []*restoreJob // done, and not looked at yet
	}
}

const (
	pollRecords  = 5000
	processStep  = 1000
	idlePoll     = time.Second
	closeTimeout = 10 * time.Second
)

func newWorker(ctx context.Context, rt *Runtime, n int) *worker {
	w := &worker{rt: rt, n: n, ctx: ctx, id: fmt.Sprintf("%s-%d", rt.cfg.InstanceID, n)}
	w.log = rt.cfg.Logger.With("worker", n)
	w.env = engine.Env{
		AppID: rt.cfg.AppID, DB: rt.cfg.DB, Records: &w.pool, Slab: &w.slab, Partitions: rt.topics.partitions,
		Now: time.Now, Sleep: w.sleep, Wake: w.wake, Context: ctx, OnError: rt.cfg.OnError, Wrap: rt.cfg.Wrap, Logger: w.log,
		IdleAdvance: rt.cfg.IdleAdvance, Yield: &w.due,
		Tracer: rt.cfg.Tracer, TraceLinks: rt.cfg.TraceLinks,
		Globals: &rt.changes,
	}
	w.traced = engine.NewWorkTrace(rt.cfg.Tracer, rt.cfg.AppID, n)
	w.env.Work = w.traced
	return w
}

// fencedTwice is the time within which a worker is fenced twice if another process has its name. Once it may be a request of
// its own last session that arrived late.
const fencedTwice = time.Minute

// run works until ctx ends, or something fails that trying again does not cure.
func (w *worker) run() error {
	wait := 50 * time.Millisecond
	var fenced time.Time
	for {
		progressed, err := w.life()
		switch {
		case err == nil && w.ctx.Err() == nil:
			continue // other topics are to be read
		case err == nil:
			return nil
		case w.ctx.Err() != nil && errors.Is(err, w.ctx.Err()):
			return nil
		case session.Fenced(err) && time.Since(fenced) > fencedTwice:
			fenced = time.Now()
		case !session.Recoverable(err):
			return err
		}
		if progressed {
			wait = 50 * time.Millisecond
		}
		w.rt.topics.askAgain()
		w.rt.look() // a topic may be gone
		w.log.Warn("starting again from the last commit", "why", err, "in", wait)
		if w.sleep(wait) != nil {
			return nil
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// life is one session, from its opening to its end: of the application, or of what it reads. progressed reports whether it committed anything.
func (w *worker) life() (progressed bool, err error) {
	cfg := &w.rt.cfg
	w.sub = w.rt.current.Load()
	w.balancer = &balancer{plan: w.sub.layout, instance: cfg.InstanceID, rack: cfg.Rack, address: cfg.Address, state: w.rt.stateTasks,
		rules: copyRules{standbys: cfg.Standbys, acceptable: cfg.AcceptableLag, warmups: cfg.Warmups, ends: w.rt.changelogEnds},
		mixed: func(others int, unread []string) {
			w.log.Warn("members of the group run another topology than this one, which leads it: while they do, tasks are given out as this one has them",
				"members", others, "topics_that_wait", unread)
		}}
	sc := session.Config{
		Group: cfg.AppID, Topics: w.sub.sources, InstanceID: w.id, Client: cfg.Client, Logger: w.log, Failpoints: cfg.Failpoints,
		TransactionTimeout: cfg.TransactionTimeout, SessionTimeout: cfg.SessionTimeout, HeartbeatInterval: cfg.HeartbeatInterval,
		NoTopicCreation: true, PauseAssigned: true, OnChange: w.wake, Adjust: w.adjust,
		Balancer: w.balancer,
	}
	if cfg.ExactlyOnce {
		sc.TransactionalID = cfg.AppID + "-" + w.id
	}
	w.ends.Lock()
	w.ends.at, w.ends.gaps = map[tp]int64{}, map[tp]gap{}
	w.ends.Unlock()
	w.s, err = session.Open(w.ctx, sc)
	if err != nil {
		return false, err
	}
	s := w.s
	w.env.MaxBatchBytes, _ = s.Client().OptValue(kgo.ProducerBatchMaxBytesFn).(func(string) int32)
	w.sentAck = func(r *kgo.Record, err error) { s.Acked(r, err); w.pool.Put(r) }
	if cfg.Tracer != nil {
		w.sentAck = func(r *kgo.Record, err error) { engine.Sent(r, err); s.Acked(r, err); w.pool.Put(r) }
	}
	w.parts, w.owned = map[tp]*part{}, map[tp]bool{}
	w.moved, w.sent, w.sendErr, w.held, w.taken = false, 0, nil, false, 0
	w.traced.Forget()
	defer func() { err = errors.Join(err, w.drop(err == nil)) }()
	w.refreshed = time.Now()
	w.alarm = time.AfterFunc(cfg.CommitInterval, func() { w.due.Store(true) })
	defer w.alarm.Stop()
	w.schedule()
	for w.ctx.Err() == nil && w.sub == w.rt.current.Load() {
		if err := w.step(); err != nil {
			return progressed, w.tooSlow(err)
		}
		if w.commitDue() {
			something := w.moved || s.Dirty()
			ctx, cancel := w.closing()
			err := w.commit(ctx)
			cancel()
			if err != nil {
				return progressed, w.tooSlow(err)
			}
			progressed = progressed || something
			s.AllowRebalance()
		}
	}
	ctx, cancel := w.closing()
	defer cancel()
	return progressed, w.commit(ctx)
}

// closing is the context of a commit: it ends a while after the application is to stop, whoever does not answer.
func (w *worker) closing() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.ctx))
	stop := context.AfterFunc(w.ctx, func() { time.AfterFunc(closeTimeout, cancel) })
	return ctx, func() { stop(); cancel() }
}

// drop ends the session and its tasks. Only after a clean end is everything committed.
func (w *worker) drop(clean bool) error {
	w.setUp(false)
	if !clean {
		for _, t := range w.tasks {
			if t.running {
				t.engine.Abort()
			}
		}
	}
	var errs []error
	for _, t := range w.tasks {
		errs = append(errs, w.give(t))
	}
	w.tasks, w.parts, w.owned, w.waits = nil, nil, nil, false
	w.rt.follower.follow(w, nil)
	if clean {
		w.s.Close()
		w.slab.Reset()
	} else {
		w.s.Kill()
		w.slab = engine.Slab{} // acknowledgements, of errors, may still be on their way, and look at what lies in it
	}
	return errors.Join(errs...)
}

// step polls once and processes what is there, until it is time to commit.
func (w *worker) step() error {
	w.pauseFull()
	began := time.Now()
	fetches, err := w.fetch()
	if err != nil {
		return err
	}
	w.traced.Polled(began, fetches)
	if err := w.changes(); err != nil {
		return err
	}
	if err := w.startRestored(); err != nil {
		return err
	}
	if err := w.enqueue(fetches); err != nil {
		return err
	}
	w.checkUp()
	w.hold()
	return w.process()
}

// fetch polls: without waiting while there is something to process, else until something comes or is due.
func (w *worker) fetch() (kgo.Fetches, error) {
	if w.runnable() {
		return w.s.TryPoll(pollRecords)
	}
	wait := idlePoll
	if w.moved {
		wait = time.Until(w.next)
	}
	for _, t := range w.tasks {
		if w.held {
			break
		}
		if at, ok := t.engine.NextPunctuation(); ok && t.running {
			wait = min(wait, time.Until(at))
		}
		if at, ok := t.engine.ReadyAt(time.Now()); ok && t.running {
			wait = min(wait, time.Until(at))
		}
	}
	ctx, cancel := context.WithTimeout(w.ctx, max(wait, 0))
	defer cancel()
	w.poll.Lock()
	w.poll.cancel = cancel
	if w.poll.woken {
		w.poll.woken = false
		cancel()
	}
	w.poll.Unlock()
	fetches, err := w.s.Poll(ctx, pollRecords)
	w.poll.Lock()
	w.poll.cancel = nil
	w.poll.Unlock()
	return fetches, err
}

// wake ends a poll that waits. Any goroutine may call it.
func (w *worker) wake() {
	w.poll.Lock()
	defer w.poll.Unlock()
	w.wakeLocked()
}

func (w *worker) wakeLocked() {
	if w.poll.cancel != nil {
		w.poll.cancel()
		return
	}
	w.poll.woken = true
}

// arrived is called by the restorer when a job is done.
func (w *worker) arrived(j *restoreJob) {
	w.poll.Lock()
	defer w.poll.Unlock()
	w.poll.restored = append(w.poll.restored, j)
	w.wakeLocked()
}

// runnable reports whether a task has something to process now.
func (w *worker) runnable() bool {
	if w.held {
		return false
	}
	for _, t := range w.tasks {
		if t.running && t.engine.BufferedAll() > 0 && t.engine.Ready(1, time.Now) > 0 {
			return true
		}
	}
	return false
}

// enqueue hands records to their tasks, control records left out.
func (w *worker) enqueue(fetches kgo.Fetches) (err error) {
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		p := w.parts[tp{f.Topic, f.Partition}]
		if p == nil || !p.task.running {
			if len(f.Records) > 0 { // they would be lost
				err = &session.Error{Op: "read " + f.Topic, Err: fmt.Errorf("records came of partition %d, which no running task has", f.Partition)}
			}
			return
		}
		if f.LastStableOffset > p.end {
			p.end = f.LastStableOffset
			p.task.engine.NoteEnd(f.Topic, f.Partition, p.end)
		}
		n := len(f.Records)
		if n == 0 {
			return
		}
		w.measured.polled += int64(n)
		last := f.Records[n-1]
		recs := f.Records
		if slices.ContainsFunc(recs, func(r *kgo.Record) bool { return r.Attrs.IsControl() }) {
			recs = slices.DeleteFunc(recs, func(r *kgo.Record) bool { return r.Attrs.IsControl() })
		}
		e := p.task.engine
		e.Enqueue(f.Topic, f.Partition, recs)
		e.NotePosition(f.Topic, f.Partition, last.Offset+1, last.LeaderEpoch)
		p.position = last.Offset + 1
		w.moved = true
	})
	return err
}

// process runs the tasks until nothing is left or it is time to commit, in steps so that none waits for long. A task that is cut
// short by the commit comes last after it.
func (w *worker) process() error {
	done, ok := w.rt.still.work()
	if !ok {
		return nil // and the next step holds
	}
	defer done()
	if w.due.Load() { // nothing came for long: what has come now is to be processed before the commit, not after it
		w.due.Store(false)
		w.alarm.Reset(w.rt.cfg.CommitInterval)
	}
	for !w.held {
		worked, first := false, w.turn
		for i := range w.tasks {
			at := (first + i) % len(w.tasks)
			t := w.tasks[at]
			if !t.running {
				continue
			}
			early := !w.due.Load()
			if max := t.engine.Ready(processStep, time.Now); max > 0 {
				n, err := t.engine.Process(max)
				if err == nil {
					err = w.sendErr
				}
				if err != nil {
					return w.taskError(t, err)
				}
				w.taken += n
				worked = worked || n > 0
			}
			if early && w.due.Load() {
				w.turn = at + 1
			}
			if err := t.engine.Punctuate(time.Now()); err != nil {
				return w.taskError(t, err)
			}
			if t.engine.TakeAdvanced() {
				t.wrote = true // the times that were observed are to be committed, with some position
			}
			if t.engine.Dirty() {
				w.moved = true
			}
			if t.engine.TakeCommitRequest() {
				w.next = time.Time{}
			}
		}
		if !worked || w.commitDue() {
			return nil
		}
	}
	return nil
}

func (w *worker) taskError(t *task, err error) error {
	if w.ctx.Err() != nil {
		return w.ctx.Err() // a retry that was cut short
	}
	if session.Recoverable(err) || engine.NamesTask(err) {
		return err
	}
	return fmt.Errorf("task %s: %w", t.id, err)
}

// schedule has the next commit come an interval from now.
func (w *worker) schedule() {
	w.began = time.Now()
	w.next = w.began.Add(w.rt.cfg.CommitInterval)
	w.due.Store(false)
	w.alarm.Reset(w.rt.cfg.CommitInterval)
}

// tooSlow says so of an error that comes after a transaction may have timed out.
func (w *worker) tooSlow(err error) error {
	took, most := time.Since(w.began), w.rt.cfg.TransactionTimeout
	if !w.rt.cfg.ExactlyOnce || most == 0 || took < most || w.ctx.Err() != nil || !session.Recoverable(err) {
		return err
	}
	return fmt.Errorf("what was processed since the last commit took %v, and the brokers abort a transaction after %v: a function is slow, or waits, "+
		"with a record; make it faster, or raise Config.TransactionTimeout: %w", took.Round(time.Millisecond), most, err)
}

// commitDue reports whether it is time: by the clock, because a rebalance waits, or because memory fills.
func (w *worker) commitDue() bool {
	return w.s.RebalanceWanted() || w.sent > w.rt.cfg.MaxSentBytes || w.rt.cfg.DB.Full() || !time.Now().Before(w.next)
}

func (w *worker) send(r *kgo.Record) {
	w.sent += int64(len(r.Key) + len(r.Value) + 64)
	if err := w.s.Send(r, w.sentAck); err != nil && w.sendErr == nil {
		w.sendErr = err
	}
}

func (w *worker) sleep(d time.Duration) error { return sleep(w.ctx, d) }
