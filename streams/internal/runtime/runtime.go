package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/failpoint"
	"github.com/leatstream/leat/streams/internal/session"
)

// Config is what the runtime needs; every field without a remark is required.
type Config struct {
	AppID       string
	Plan        *engine.Plan
	DB          *state.DB
	InstanceID  string // no other instance's of the application
	Client      []kgo.Opt
	ExactlyOnce bool

	CommitInterval    time.Duration
	Workers           int
	Standbys          int         // further copies of each task's state
	Rack              string      // where the instance runs: copies go to other racks where possible; empty: it does not say
	Address           string      // URL where the instance answers queries; empty: it does not
	AcceptableLag     int64       // changelog records that an instance may lack and still be given a task at once
	Warmups           int         // tasks that are copied at a time so that they can move
	ReplicationFactor int16       // of internal topics; -1: the broker's default
	MaxSentBytes      int64       // commit early when so much was sent
	MaxQueuedBytes    int64       // what is read and not processed yet, of all partitions: the largest are paused at their share
	LeaveOnStop       func() bool // nil: stay a static member
	OnUp              func(bool)  // called when every task that the instance has begins to run, and when that ends; nil: nobody asks

	PurgeInterval time.Duration // of processed records of repartition topics
	LookInterval  time.Duration // of looking for source topics that have changed, and for those that match a pattern
	StateCleanup  time.Duration // age at which state of tasks that went elsewhere is removed; 0 or less: it stays

	// Manifest is the topology's; CheckManifest compares it with the one that ran before, nil for none, and says whether it
	// is to be written. missing are the internal topics that are not there. nil: not compared.
	Manifest      []byte
	CheckManifest func(running []byte, missing []string) (write bool, err error)

	TransactionTimeout, SessionTimeout, HeartbeatInterval time.Duration // 0: the session's defaults

	IdleAdvance time.Duration // see engine.Env

	OnError    engine.ErrorPolicy               // nil: fail
	Wrap       func(engine.Node) engine.Wrapper // nil: none
	Logger     *slog.Logger
	Meters     metric.MeterProvider // nil: nothing is measured
	Tracer     trace.TracerProvider // nil: nothing is traced
	TraceLinks bool                 // see engine.Env
	Failpoints *failpoint.Set       // nil: none
}

// Runtime runs a plan. Make it with New, then call Run once.
type Runtime struct {
	cfg      Config
	topics   *topics
	restorer *restorer
	follower *follower
	purger   *purger
	cleaner  *cleaner
	metrics  *metrics // nil: nothing is measured
	crew     crew
	current  atomic.Pointer[subscription] // what the workers read; replaced when a pattern finds other topics
	poke     chan struct{}                // says that topics may have come or gone
	globals  *globals                     // nil: the plan has none
	changes  engine.Globals               // what changes in them
	replayed atomic.Int64
	paused   atomic.Bool
	still    standstill

	mu struct {
		sync.Mutex
		shards map[string]map[int32]*state.Shard // of the tasks that run, by store
		copies map[string]map[int32]*copied      // of other instances' tasks, by store
		ends   map[tp]logEnd                     // of changelogs of which copies are kept
		beat   chan struct{}                     // closed at the next pulse; nil: nobody waits
		tasks  map[int]int32                     // task counts by sub-topology
		claims map[engine.TaskID]*claim          // the tasks that have their stores open here

		condemned map[engine.TaskID]bool // whose state is about to be removed: the group is not told of it

		progress map[engine.TaskID]*progress // of the same tasks
	}
}

// claim is one task whose stores are open. The group may give a task to a worker of this process before another one, or
// the follower, that had it has closed its stores; the new one waits for that.
type claim struct {
	owner   claimant
	waiting []claimant
}

// claimant is who opens tasks: a worker, or the follower of their copies.
type claimant interface{ wake() }

// New returns a runtime that does nothing yet.
func New(cfg Config) *Runtime {
	rt := &Runtime{cfg: cfg, poke: make(chan struct{}, 1)}
	rt.crew.rt = rt
	rt.mu.claims, rt.mu.progress = map[engine.TaskID]*claim{}, map[engine.TaskID]*progress{}
	rt.mu.condemned = map[engine.TaskID]bool{}
	rt.mu.shards, rt.mu.tasks = map[string]map[int32]*state.Shard{}, map[int]int32{}
	rt.mu.copies, rt.mu.ends = map[string]map[int32]*copied{}, map[tp]logEnd{}
	return rt
}

// Shards returns the parts of a store whose tasks run here, by partition. Any goroutine may call it.
func (rt *Runtime) Shards(store string) []*state.Shard {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	var all []*state.Shard
	for _, p := range slices.Sorted(maps.Keys(rt.mu.shards[store])) {
		all = append(all, rt.mu.shards[store][p])
	}
	return all
}

// Tasks returns how many tasks a sub-topology has, once the application is laid out. Any goroutine may call it.
func (rt *Runtime) Tasks(sub int) int32 {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.mu.tasks[sub]
}

// show makes the stores of a task visible to queries; hide is before they are closed.
func (rt *Runtime) show(t *task) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, s := range t.stores {
		name := s.store.Name()
		if rt.mu.shards[name] == nil {
			rt.mu.shards[name] = map[int32]*state.Shard{}
		}
		rt.mu.shards[name][t.id.Partition] = s.store.Shard()
	}
}

func (rt *Runtime) hide(t *task) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, s := range t.stores {
		delete(rt.mu.shards[s.store.Name()], t.id.Partition)
	}
}

// showGlobal makes a global table visible to queries.
func (rt *Runtime) showGlobal(sh *state.Shard) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.mu.shards[sh.Store()] = map[int32]*state.Shard{0: sh}
}

// hideGlobal has queries wait for a global table, or ask others.
func (rt *Runtime) hideGlobal(store string) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	delete(rt.mu.shards, store)
}

// claim says that w is about to open the stores of a task. If it returns false another one has them open, and w is woken
// when they are closed.
func (rt *Runtime) claim(id engine.TaskID, w claimant) bool {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	c := rt.mu.claims[id]
	if c == nil {
		rt.mu.claims[id] = &claim{owner: w}
		return true
	}
	if c.owner != w && !slices.Contains(c.waiting, w) {
		c.waiting = append(c.waiting, w)
	}
	return c.owner == w
}

// release says that the stores of a task are closed.
func (rt *Runtime) release(id engine.TaskID) {
	defer rt.pulse()
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, w := range rt.mu.claims[id].waiting {
		w.wake()
	}
	delete(rt.mu.claims, id)
	delete(rt.mu.progress, id)
}

// Restored counts the changelog records that were replayed into stores. Any goroutine may call it.
func (rt *Runtime) Restored() int64 { return rt.replayed.Load() }

// Run works until ctx is done, then commits and returns nil; or until something fails for good. It returns when every
// goroutine that it started has ended.
func (rt *Runtime) Run(ctx context.Context) (err error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.WithLogger(session.NewLogger(rt.cfg.Logger.With("client", "admin"))),
	}, rt.cfg.Client...)...)
	if err != nil {
		return fmt.Errorf("configure the client: %w", err)
	}
	defer cl.Close()
	rt.topics = newTopics(cl, &rt.cfg)
	if rt.metrics, err = newMetrics(rt, rt.cfg.Meters); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.metrics.close()) }()
	for _, s := range rt.cfg.Plan.Starters {
		if err := s.Start(ctx); err != nil {
			return stopped(ctx, fmt.Errorf("start a serde: %w", err))
		}
	}
	changed, err := rt.checkManifest(ctx, cl) // before internal topics are made for it
	if err != nil {
		return rt.unreached(ctx, err)
	}
	var l *layout
	began := time.Now()
	err = session.Retry(ctx, rt.cfg.Logger, "the brokers and the source topics", func() (err error) {
		l, err = rt.topics.layout(ctx, &rt.cfg)
		if errors.Is(err, engine.ErrMissingTopic) && time.Since(began) < newTopicGrace {
			return newTopic{err}
		}
		return err
	})
	if err != nil {
		return rt.unreached(ctx, err)
	}
	if changed {
		if err := rt.keepManifest(ctx, cl); err != nil {
			return stopped(ctx, err)
		}
	}
	rt.subscribe(l)
	rt.restorer = newRestorer(&rt.cfg, rt.topics, &rt.replayed)
	defer rt.restorer.close()
	rt.follower = newFollower(rt)
	defer rt.follower.close()
	rt.purger = newPurger(rt, rt.repartitions())
	defer rt.purger.close()
	rt.cleaner = newCleaner(rt)
	defer rt.cleaner.close()
	if rt.globals = newGlobals(rt); rt.globals != nil {
		if err := rt.globals.open(ctx); err != nil {
			return errors.Join(stopped(ctx, err), rt.globals.close())
		}
	}
	err = rt.crew.work(ctx)
	rt.leaveAll()
	return errors.Join(err, rt.globals.close())
}

// newTopicGrace is for a source topic that was made just now: a broker of a cluster may hear of it a little later.
const newTopicGrace = 3 * time.Second

// newTopic is ErrMissingTopic while it may pass.
type newTopic struct{ error }

// unreached is stopped before the application has its topics; what it has waited for in vain is said in the log.
func (rt *Runtime) unreached(ctx context.Context, err error) error {
	left := stopped(ctx, err)
	if left == nil {
		rt.cfg.Logger.Warn("stopped before the application had its topics", "err", err)
	}
	return left
}

// stopped hides an error that only says that ctx was done.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// stateTasks lists the tasks that this instance has state of, for the balancer.
func (rt *Runtime) stateTasks() []held {
	var tasks []held
	layout := rt.current.Load().layout
	for i := range layout {
		sub := &layout[i]
		spec := rt.cfg.Plan.Subs[sub.id]
		for n := range sub.tasks() {
			id := engine.TaskID{Sub: sub.id, Partition: n}
			if rt.isCondemned(id) {
				continue
			}
			h, has := held{task: id.String()}, false
			for _, st := range spec.Stores {
				if st.Changelog.Name == "" {
					continue
				}
				if p, ok := rt.cfg.DB.Position(st.Name, n); ok {
					has = true
					h.reaches += p.Offset
				}
			}
			if has {
				tasks = append(tasks, h)
			}
		}
	}
	slices.SortFunc(tasks, func(a, b held) int { return cmp.Compare(a.task, b.task) })
	return tasks
}

// changelogEnds sums the ends of the changelogs of each task, for the balancer of a leader. A source topic that serves as
// changelog ends where the task's owner is: its table has what is processed.
func (rt *Runtime) changelogEnds() (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	sums := map[string]int64{}
	layout := rt.current.Load().layout
	for i := range layout {
		sub := &layout[i]
		if len(sub.sourced) > 0 {
			at, err := rt.processed(ctx, sub.sourced...)
			if err != nil {
				return nil, fmt.Errorf("the group's offsets: %w", err)
			}
			for of, next := range at { // topics that were not asked for may be among them
				if !slices.Contains(sub.sourced, of.topic) {
					continue
				}
				sums[engine.TaskID{Sub: sub.id, Partition: of.p}.String()] += next
			}
		}
		if len(sub.changelogs) == 0 {
			continue
		}
		ends, err := rt.topics.admin.ListEndOffsets(ctx, sub.changelogs...)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("the ends of the changelogs: %w", err)
		}
		ends.Each(func(o kadm.ListedOffset) {
			sums[engine.TaskID{Sub: sub.id, Partition: o.Partition}.String()] += o.Offset
		})
	}
	return sums, nil
}
