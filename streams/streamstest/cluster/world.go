package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	leatvfs "github.com/leatstream/leat/internal/vfs"
)

const (
	appID       = "app"
	healedAfter = 10 * time.Minute // of virtual time: until everything has to be processed
)

// world is one run: its parts, and the queue of what is to be done at which time. Its goroutine starts and stops things;
// others ask it to with later.
type world struct {
	s     *Scenario
	seed  uint64
	trace *trace
	ctx   context.Context
	node  *node
	own   *host // of the clients of the test

	schemas *schemas // nil: the scenario has no registry

	instances []*instance
	feed      Feed
	healed    atomic.Bool
	counter   atomic.Uint64
	processes []*process     // all there were
	helpers   sync.WaitGroup // that stop things in the background
	woken     chan struct{}
	err       error
	logs      map[string][]*kgo.Record // what the topics hold in the end
	mu        struct {
		sync.Mutex
		queue []action
		err   error // the first failure
		acked []*kgo.Record
		open  int // records sent and not acknowledged
	}
}

// action is something to be done by the world's goroutine.
type action struct {
	at time.Time
	do func() error
}

func newWorld(s *Scenario, seed uint64) *world {
	w := &world{s: s, seed: seed, trace: &trace{}}
	w.trace.mu.began = time.Now()
	return w
}

// source is a source of chance of its own for one part of the run of a seed.
func source(seed, part uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, part)) }

// count numbers what needs a source of chance of its own.
func (w *world) count() uint64 { return w.counter.Add(1) + 2 }

// later has the world's goroutine do something. Any goroutine may call it.
func (w *world) later(in time.Duration, do func() error) {
	w.mu.Lock()
	a := action{time.Now().Add(in), do}
	i, _ := slices.BinarySearchFunc(w.mu.queue, a, func(x, y action) int {
		if c := x.at.Compare(y.at); c != 0 {
			return c
		}
		return -1 // behind those of the same time
	})
	w.mu.queue = slices.Insert(w.mu.queue, i, a)
	w.mu.Unlock()
	w.wake()
}

func (w *world) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// fail notes why the run fails. Any goroutine may call it.
func (w *world) fail(err error) {
	w.trace.note("FAILURE: %v", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.err = cmp.Or(w.mu.err, err)
	w.wake()
}

func (w *world) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err
}

// run is the run, within its bubble.
func (w *world) run(ctx context.Context) error {
	w.ctx, w.woken = ctx, make(chan struct{}, 1)
	w.trace.begin()
	w.node = &node{w: w}
	w.node.mu.disk = leatvfs.NewMem()
	w.own = newHost(w.node)
	defer w.node.ghosts.Wait()
	if err := w.node.start(ctx, 0, 0, nil); err != nil {
		return err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers("leat.invalid:9092"), kgo.Dialer(w.own.dial), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	if w.s.Registered != nil {
		err = w.startRegistry()
	}
	if err == nil {
		err = w.live(cl)
	}
	cl.Close()
	w.end()
	return errors.Join(err, w.node.stop())
}

// live runs the cluster until everything is processed, and reads what there is.
func (w *world) live(cl *kgo.Client) error {
	admin := kadm.NewClient(cl)
	for name, n := range w.s.Topics {
		resp, err := admin.CreateTopic(w.ctx, int32(n), 1, nil, name)
		if err = errors.Join(err, resp.Err); err != nil {
			return fmt.Errorf("create topic %s: %w", name, err)
		}
	}
	// With its first record the client (kgo v1.22.2) asks for a producer id without a pause while there is no broker, and virtual time
	// would stand still.
	if _, _, err := cl.ProducerID(w.ctx); err != nil {
		return fmt.Errorf("get a producer id: %w", err)
	}
	rng := source(w.seed, 1)
	w.feed.Rand = source(w.seed, 2)
	if w.schemas != nil {
		w.feed.Registry = w.schemas.own
	}
	w.s.Input(&w.feed)
	if w.feed.err != nil {
		return fmt.Errorf("Scenario.Input: %w", w.feed.err)
	}
	for range w.s.Instances {
		if err := w.newInstance().start(); err != nil {
			return err
		}
	}
	w.plan(cl, rng)
	if err := w.loop(); err != nil {
		return err
	}
	if err := w.quiet(admin); err != nil {
		return err
	}
	for _, i := range w.instances {
		if i.now != nil {
			i.now.end(false)
		}
	}
	w.processesEnd()
	if err := w.failure(); err != nil {
		return err
	}
	if w.schemas != nil {
		if err := w.schemas.remember(); err != nil {
			return err
		}
	}
	return w.readAll(admin)
}

// plan puts input and faults into the queue.
func (w *world) plan(cl *kgo.Client, rng *rand.Rand) {
	records := w.feed.records
	late := len(records) - len(records)/5
	for i := 0; i < late; {
		n := min(1+rng.IntN(20), late-i)
		burst := records[i : i+n]
		w.later(time.Duration(rng.Int64N(int64(w.s.During))), func() error { w.send(cl, burst); return nil })
		i += n
	}
	for _, k := range draw(w.s, rng) {
		w.later(k.at, func() error { return w.strike(k) })
	}
	w.later(w.s.During, func() error {
		w.trace.note("everything heals")
		w.healed.Store(true)
		for _, i := range w.instances {
			if i.now != nil {
				i.now.host.release()
			}
		}
		if w.schemas != nil {
			w.schemas.back()
		}
		if r := w.node.running(); r != nil {
			r.slow.Store(0)
			r.crash.Store(0)
		}
		w.send(cl, records[late:])
		return nil
	})
}

func (w *world) send(cl *kgo.Client, records []input) {
	w.mu.Lock()
	w.mu.open += len(records)
	w.mu.Unlock()
	for _, in := range records {
		cl.Produce(w.ctx, &kgo.Record{Topic: in.topic, Key: in.key, Value: in.value}, func(r *kgo.Record, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.mu.open--
			if err == nil {
				w.mu.acked = append(w.mu.acked, r)
				return
			}
			w.trace.note("input that may be lost, to %s: %v", r.Topic, err)
		})
	}
}

// loop does what is to be done, at its time, until nothing is left.
func (w *world) loop() error {
	for {
		if err := w.failure(); err != nil {
			return err
		}
		w.mu.Lock()
		if len(w.mu.queue) == 0 {
			w.mu.Unlock()
			w.helpers.Wait() // they may ask for more
			w.mu.Lock()
			if len(w.mu.queue) == 0 {
				w.mu.Unlock()
				return w.failure()
			}
		}
		next := w.mu.queue[0]
		wait := time.Until(next.at)
		if wait <= 0 {
			w.mu.queue = w.mu.queue[1:]
		}
		w.mu.Unlock()
		if wait <= 0 {
			if err := next.do(); err != nil {
				return err
			}
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-w.woken:
			t.Stop()
		}
	}
}

func (w *world) newInstance() *instance {
	i := &instance{w: w, name: fmt.Sprintf("instance %c", 'a'+len(w.instances))}
	i.mu.disk = vfs.NewCrashableMem()
	w.instances = append(w.instances, i)
	return i
}

// end stops whatever still runs.
func (w *world) end() {
	w.own.kill()
	for _, p := range w.processes {
		p.host.kill()
		p.stop()
	}
	w.helpers.Wait()
	w.processesEnd()
	if w.schemas != nil {
		if err := w.schemas.end(); err != nil {
			w.trace.note("the registry ends: %v", err)
		}
	}
}

func (w *world) processesEnd() {
	for _, p := range w.processes {
		p.wait()
	}
}

// check looks at what the run has left.
func (w *world) check(t *testing.T) error {
	o := &Outcome{T: t, logs: w.logs}
	if w.schemas != nil {
		o.Registry = w.schemas.own
	}
	if err := w.kept(); err != nil {
		return err
	}
	return w.s.Check(o)
}

// kept reports what the broker has acknowledged and does not have.
func (w *world) kept() error {
	type place struct {
		topic     string
		partition int32
		offset    int64
	}
	have := map[place]*kgo.Record{}
	for _, rs := range w.logs {
		for _, r := range rs {
			have[place{r.Topic, r.Partition, r.Offset}] = r
		}
	}
	for _, r := range w.mu.acked {
		if got := have[place{r.Topic, r.Partition, r.Offset}]; got == nil || string(got.Value) != string(r.Value) {
			return fmt.Errorf("the broker has acknowledged %s/%d at %d, and does not have it", r.Topic, r.Partition, r.Offset)
		}
	}
	return nil
}
