package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// follower keeps copies of the state of tasks that run elsewhere: standbys and warm-ups. It reads their changelogs as far
// as they are committed and writes them into the same shards that the tasks would have here. One goroutine does that, and
// owns its client and the open tasks; workers tell it what the group wants of them.
type follower struct {
	rt     *Runtime
	cancel context.CancelFunc
	done   chan struct{}

	mu struct {
		sync.Mutex
		wanted map[*worker][]standbyCopy
		poke   context.CancelFunc // ends the poll under way; nil: there is none
		news   bool               // something to look at before the next poll
	}

	// The goroutine's own.
	cl    *kgo.Client // nil while there is nothing to follow
	tasks map[engine.TaskID]*followed
	logs  map[tp]*followedStore
	asked time.Time // when owners' positions in source topics were asked for
}

// followed is one task of which a copy is kept.
type followed struct {
	*task
	worker *worker
	kind   copyKind
	told   bool // a warm-up that has caught up has said so
}

// followedStore is one store of it, on its way along its changelog.
type followedStore struct {
	*taskStore
	of     *followed
	stable int64 // the log's last stable offset, of a source topic the owner's position, as far as known

	held   []*kgo.Record // of a source topic: beyond stable
	paused bool          // it is not read, as much is held

	lost    time.Time // when it was lost, and is not read since; zero: it is read
	anew    bool      // when it is read again, what it has is to be wiped
	expired int64     // the windows that the owner has let go of and the copy has not; 0: none
}

func newFollower(rt *Runtime) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{rt: rt, cancel: cancel, done: make(chan struct{}), tasks: map[engine.TaskID]*followed{}, logs: map[tp]*followedStore{}}
	f.mu.wanted = map[*worker][]standbyCopy{}
	go f.run(ctx)
	return f
}

// close ends it, and returns when every copy is closed.
func (f *follower) close() {
	f.cancel()
	<-f.done
}

// follow says what copies w is to keep from now on.
func (f *follower) follow(w *worker, copies []standbyCopy) {
	f.mu.Lock()
	if f.mu.wanted[w] = copies; len(copies) == 0 {
		delete(f.mu.wanted, w)
	}
	f.mu.Unlock()
	f.wake()
}

// wake makes the goroutine look at what is wanted.
func (f *follower) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.news = true
	if f.mu.poke != nil {
		f.mu.poke()
	}
}

const (
	followRetry = time.Second // what could not be opened is tried again
	followPoll  = 10_000      // records
)

func (f *follower) run(ctx context.Context) {
	defer close(f.done)
	defer f.end()
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, followRetry)
		f.mu.Lock()
		f.mu.poke, f.mu.news = cancel, false
		f.mu.Unlock()
		retry := f.change(ctx)
		if f.cl == nil {
			if !retry { // until somebody wants something
				cancel()
				poll, cancel = context.WithCancel(ctx)
				f.mu.Lock()
				f.mu.poke = cancel
				if f.mu.news {
					cancel()
				}
				f.mu.Unlock()
			}
			<-poll.Done()
		} else {
			f.take(ctx, f.cl.PollRecords(poll, followPoll))
			f.askOwners(ctx)
			f.resume(ctx)
		}
		f.mu.Lock()
		f.mu.poke = nil
		f.mu.Unlock()
		cancel()
	}
}

func (f *follower) end() {
	for id := range f.tasks {
		f.drop(id)
	}
	if f.cl != nil {
		f.cl.Close()
	}
}

// change closes the copies that are not wanted any more, and opens new ones. retry says that some could not be opened.
func (f *follower) change(ctx context.Context) (retry bool) {
	f.mu.Lock()
	wanted := map[engine.TaskID]*followed{}
	for w, copies := range f.mu.wanted {
		for _, c := range copies {
			if id, ok := f.rt.taskID(c.task); ok {
				wanted[id] = &followed{worker: w, kind: c.kind}
			}
		}
	}
	f.mu.Unlock()
	for id, have := range f.tasks {
		want := wanted[id]
		if want == nil {
			f.drop(id)
			continue
		}
		if have.kind != want.kind || have.worker != want.worker {
			have.kind, have.worker, have.told = want.kind, want.worker, false
			have.progress.set(have.kind.role(), have.worker.n)
		}
		delete(wanted, id)
	}
	for id, want := range wanted {
		if !f.rt.claim(id, f) {
			continue // woken when it is free
		}
		if err := f.open(ctx, id, want); err != nil {
			f.rt.release(id)
			if ctx.Err() == nil {
				f.rt.cfg.Logger.Warn("copy of state cannot be opened, trying again", "task", id.String(), "err", err)
			}
			retry = true
		}
	}
	if len(f.tasks) == 0 && f.cl != nil {
		f.cl.Close()
		f.cl = nil
	}
	return retry
}

// open opens a task's stores and has their changelogs read from where they stand.
func (f *follower) open(ctx context.Context, id engine.TaskID, c *followed) (err error) {
	if f.cl == nil {
		opts := append([]kgo.Opt{
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
			kgo.FetchMaxWait(500 * time.Millisecond), kgo.WithLogger(session.NewLogger(f.rt.cfg.Logger.With("client", "copies"))),
		}, f.rt.cfg.Client...)
		if f.cl, err = kgo.NewClient(opts...); err != nil {
			return fmt.Errorf("configure the client: %w", err)
		}
	}
	env := engine.Env{AppID: f.rt.cfg.AppID, DB: f.rt.cfg.DB, Partitions: f.rt.topics.partitions, Logger: f.rt.cfg.Logger}
	if c.task, err = f.rt.openTask(f.rt.cfg.Plan.Subs[id.Sub], id.Partition, &env); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.task.close())
		}
	}()
	var all []*followedStore
	for _, s := range c.stores {
		if s.changelog != "" {
			all = append(all, &followedStore{taskStore: s, of: c})
		}
	}
	begin, err := f.locate(ctx, all)
	if err != nil {
		return err
	}
	for _, s := range all {
		f.logs[s.at()] = s
	}
	f.tasks[id] = c
	c.progress.set(c.kind.role(), c.worker.n)
	f.note(c) // of what does not grow nothing will come
	f.rt.showCopy(c.task)
	f.cl.AddConsumePartitions(begin)
	f.rt.cfg.Logger.Info("keeping a copy of state", "task", id.String(), "kind", c.kind.String())
	return nil
}

func (f *follower) drop(id engine.TaskID) {
	c := f.tasks[id]
	gone := map[string][]int32{}
	for _, s := range c.stores {
		at := tp{s.changelog, id.Partition}
		if l := f.logs[at]; l != nil {
			gone[at.topic] = []int32{at.p}
			f.unpause(l)
			delete(f.logs, at)
		}
	}
	f.cl.RemoveConsumePartitions(gone)
	f.rt.hideCopy(c.task)
	delete(f.tasks, id)
	if err := c.task.close(); err != nil {
		f.rt.cfg.Logger.Error("copy of state closed with an error", "task", id.String(), "err", err)
	}
	f.rt.release(id)
	f.rt.cfg.Logger.Info("copy of state closed", "task", id.String())
}

// note says how far a copy is, and tells the worker of a warm-up, once, that the task can move.
func (f *follower) note(c *followed) {
	lag := f.lag(c)
	c.remaining.Store(lag)
	if c.kind == warmup && !c.told && lag <= f.rt.cfg.AcceptableLag {
		c.told = true
		c.worker.warm.Store(true)
		c.worker.wake()
	}
}

// lag is the number of changelog offsets that a copy is behind.
func (f *follower) lag(c *followed) (lag int64) {
	for _, s := range f.logs {
		if s.of == c {
			lag += max(0, s.stable-s.next)
		}
	}
	return lag
}

func (k copyKind) String() string {
	if k == warmup {
		return "warm-up"
	}
	return "standby"
}

func (k copyKind) role() Role {
	if k == warmup {
		return WarmUp
	}
	return Standby
}

// taskID finds a task of the layout by its name.
func (rt *Runtime) taskID(name string) (engine.TaskID, bool) {
	var id engine.TaskID
	if n, err := fmt.Sscanf(name, "%d_%d", &id.Sub, &id.Partition); n != 2 || err != nil {
		return id, false
	}
	layout := rt.current.Load().layout
	i := slices.IndexFunc(layout, func(s subTopology) bool { return s.id == id.Sub })
	return id, i >= 0 && id.Partition >= 0 && id.Partition < layout[i].tasks()
}
