package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
)

// Env is what a task needs of the runtime. All of its functions are called from the task's goroutine.
type Env struct {
	AppID string
	DB    *state.DB
	// Send gives a record to the producer. It does not wait for acknowledgement. Topic and, unless the key is null or
	// the topic's partition count unknown (then it is -1), Partition are set. The record comes from Records; whoever
	// implements Send puts it back there when the producer is done with it.
	Send    func(*kgo.Record)
	Records *RecordPool
	// Slab holds the bytes of the records that are sent. Its owner calls Reset when a commit is done.
	Slab *Slab
	// Partitions returns the partition count of a topic, or 0 if it is not known. It is asked once per topic and commit, and
	// while it is not known with every record: it should not ask the brokers as often.
	Partitions func(topic string) int32
	// MaxBatchBytes is how large a batch for a topic may be, the least of which holds one record. nil: nobody knows.
	MaxBatchBytes func(topic string) int32
	Now           func() time.Time
	// Yield, once it is set, has Process return after the record in hand. Any goroutine may set it. nil: nobody does.
	Yield *atomic.Bool
	// Sleep waits for a retry. It returns an error if the task is to stop instead.
	Sleep func(time.Duration) error
	// Go runs a call beside the task, with a context that ends after timeout; nil: in a goroutine, by the machine's clock.
	Go func(ctx context.Context, timeout time.Duration, run func(context.Context))
	// Wake says, from any goroutine, that the task has something to settle: time to call Punctuate. nil: nobody waits.
	Wake    func()
	Context context.Context    // given to user code
	OnError ErrorPolicy        // nil: fail
	Wrap    func(Node) Wrapper // hooks around nodes; nil: none
	Logger  *slog.Logger
	// Tracer makes the spans of records that are sampled; nil: there are none. TraceLinks has each record's span begin a trace
	// of its own, with a link to where the record comes from.
	Tracer     trace.TracerProvider
	TraceLinks bool
	// Work is told of the spans of the records that are processed; nil: nobody asks.
	Work *WorkTrace
	// IdleAdvance is how long after the last record, by the wall clock, stream time goes on without one; 0: it does not.
	IdleAdvance time.Duration
	// Globals are the global tables of this instance, which its tasks read; nil if the plan has none.
	Globals *Globals
}

func (e *Env) withDefaults() *Env {
	c := *e
	if c.Records == nil {
		c.Records = new(RecordPool)
	}
	if c.Yield == nil {
		c.Yield = new(atomic.Bool)
	}
	if c.Slab == nil {
		c.Slab = new(Slab)
	}
	if c.Partitions == nil {
		c.Partitions = func(string) int32 { return 0 }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Go == nil {
		c.Go = goWithTimeout
	}
	if c.Wake == nil {
		c.Wake = func() {}
	}
	if c.Context == nil {
		c.Context = context.Background()
	}
	if c.Sleep == nil {
		c.Sleep = func(time.Duration) error { return errors.New("retry is not possible: the environment cannot wait") }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &c
}

// TaskID names a task: the sub-topology's number and the partition.
type TaskID struct {
	Sub       int
	Partition int32
}

// String is Kafka's form, for example 0_3.
func (id TaskID) String() string { return strconv.Itoa(id.Sub) + "_" + strconv.Itoa(int(id.Partition)) }

// Counters are counts of a task since its start.
type Counters struct {
	Processed   int64 // records taken
	NullDropped int64 // records dropped for a null key or value
	Late        int64 // records (for windows: windows of records) dropped as too late
	Duplicates  int64 // records that Deduplicate dropped
	Skipped     int64 // records that OnError skipped, or a hook (Env.Wrap) held back
	DeadLetters int64
	BadTime     int64 // records dropped for the negative time that an extractor gave them
}

// Task is one sub-topology on one partition. See the package comment for the order of calls.
type Task struct {
	Counters Counters

	id       TaskID
	plan     *Plan
	sub      *Sub
	env      *Env
	cur      Cursor
	queues   []*queue
	instance *Instance
	stores   []state.Store
	byName   map[string]state.Store

	streamTime int64 // -1: unknown
	passing    passing
	started    bool
	dead       error // set once the task has failed for good
	commits    uint32
	dirty      bool
	commitAsk  bool
	punct      punctuators
	onTime     []func(now int64) error
	clocks     []observed
	restored   []restoredTimes
	calls      calls
	idle       advances
}

// ErrNotStarted is returned by Process before Start.
var ErrNotStarted = errors.New("task is not started")

// NewTask opens a task's stores. The caller restores them (Stores), then calls Start.
func NewTask(p *Plan, sub *Sub, partition int32, env *Env) (*Task, error) {
	t := &Task{id: TaskID{sub.ID, partition}, plan: p, sub: sub, env: env.withDefaults(), streamTime: -1}
	t.cur.Task = t
	if !sub.Global {
		t.cur.Trace = newTrace(t.env, t.id)
	}
	t.idle.by = time.Duration(1+p.hops(sub.ID)) * env.IdleAdvance
	for i, src := range sub.Sources {
		for _, topic := range src.Topics {
			t.addQueue(i, topic.In(env.AppID), partition)
		}
	}
	if sub.OpenStores != nil {
		stores, err := sub.OpenStores(t)
		if err != nil {
			return nil, fmt.Errorf("open stores of task %s: %w", t.id, err)
		}
		t.stores = stores
	}
	t.byName = make(map[string]state.Store, len(t.stores))
	for _, s := range t.stores {
		t.byName[s.Name()] = s
	}
	return t, nil
}

// Start builds the task's closures and opens its processors. The stores have been restored. metadata is what Metadata
// gave at the last commit, one text per source partition; none for a task that starts afresh.
func (t *Task) Start(metadata ...string) error {
	for _, m := range metadata {
		t.restoreMetadata(m)
	}
	in, err := t.sub.Open(t)
	if err != nil {
		return fmt.Errorf("open task %s: %w", t.id, err)
	}
	if len(in.Sources) != len(t.sub.Sources) {
		return fmt.Errorf("open task %s: %d sources opened, want %d", t.id, len(in.Sources), len(t.sub.Sources))
	}
	t.instance = in
	for _, q := range t.queues {
		q.source = &in.Sources[q.index]
	}
	t.started = true
	t.awake()
	return nil
}

// ID returns the task's name.
func (t *Task) ID() TaskID { return t.id }

// Sub returns the task's sub-topology.
func (t *Task) Sub() *Sub { return t.sub }

// Env returns the task's environment, defaults filled in.
func (t *Task) Env() *Env { return t.env }

// Stores returns the task's stores, in the order in which they are flushed.
func (t *Task) Stores() []state.Store { return t.stores }

// Store returns the store of that name, or nil.
func (t *Task) Store(name string) state.Store { return t.byName[name] }

// Cursor returns the task's one cursor.
func (t *Task) Cursor() *Cursor { return &t.cur }

// StreamTime returns the largest timestamp, in milliseconds, of the records taken so far; -1 if there was none.
func (t *Task) StreamTime() int64 { return t.streamTime }

// Commits counts the flushes so far. What is asked of the runtime once per commit is cached by it.
func (t *Task) Commits() uint32 { return t.commits }

// Dirty reports whether anything was processed, or any punctuator ran, since the last commit.
func (t *Task) Dirty() bool { return t.dirty }

// RequestCommit asks for a commit soon (Task.Commit of the public API); TakeCommitRequest tells the runtime, once.
func (t *Task) RequestCommit() { t.commitAsk = true }

// TakeCommitRequest reports whether a commit was asked for since it was last called.
func (t *Task) TakeCommitRequest() bool {
	asked := t.commitAsk
	t.commitAsk = false
	return asked
}

// Send gives a record to the producer. Its timestamp is in milliseconds.
func (t *Task) Send(topic string, partition int32, key, value []byte, headers []kgo.RecordHeader, millis int64) {
	r := t.env.Records.Get()
	r.Topic, r.Partition, r.Key, r.Value, r.Headers = topic, partition, key, value, headers
	r.Timestamp = time.UnixMilli(millis)
	t.send(r)
}

func (t *Task) send(r *kgo.Record) {
	t.cur.Trace.sending(r)
	t.env.Send(r)
}

// Process takes up to max records, each time the one with the smallest timestamp among the non-empty partitions, and
// returns how many it took. An error is final: the policy has been applied, and the task can only be closed.
func (t *Task) Process(max int) (n int, err error) {
	if t.dead != nil {
		return 0, t.dead
	}
	if !t.started {
		return 0, ErrNotStarted
	}
	for again := true; again && t.dead == nil; {
		again = t.run(max, &n)
	}
	t.Counters.Processed += int64(n)
	if n > 0 {
		t.dirty = true
		t.cur.reset()
		t.awake()
	}
	return n, t.dead
}

// pick returns the queue whose head has the smallest timestamp, or nil. With one partition there is nothing to compare.
func (t *Task) pick() *queue {
	if len(t.queues) == 1 {
		if q := t.queues[0]; q.ready(t) {
			return q
		}
		return nil
	}
	var best *queue
	for _, q := range t.queues {
		if q.ready(t) && (best == nil || q.headTime < best.headTime) {
			best = q
		}
	}
	return best
}

// run takes records until n is max, or there are none, or one of them panics; run is to be called again then. One recovery
// stands around all of them, as for each it would cost more than an operator does.
func (t *Task) run(max int, n *int) (again bool) {
	defer func() {
		if v := recover(); v != nil {
			if t.passing.r == nil {
				panic(v) // not of a record: ours
			}
			t.settle(&PanicError{Value: v, Stack: debug.Stack()})
			again = true
		}
	}()
	for *n < max && t.calls.held == 0 {
		q := t.pick()
		if q == nil || t.dead != nil {
			return false
		}
		*n++
		if t.take(q); t.dead != nil || t.env.Yield.Load() {
			return false
		}
	}
	return false
}

// take passes the head of q through the task.
func (t *Task) take(q *queue) {
	r, at := q.pop()
	if at > t.streamTime {
		if t.advance(at); t.dead != nil {
			return
		}
	}
	c := &t.cur
	c.Record, c.Time, c.Headers = r, at, r.Headers
	t.passing = passing{q, r}
	c.Trace.begin(c, r)
	if err := q.source.Process(c, r); err != nil {
		t.settle(err)
		return
	}
	t.passing = passing{}
	t.taken()
}

// passing is the record on its way through the nodes, and its queue.
type passing struct {
	q *queue
	r *kgo.Record
}

// settle ends the turn of a record that failed. A panic that came by every node that could have settled it (a serde's, in a
// store's key, say) is settled here: no function can be called again, so a Retry is a failure.
func (t *Task) settle(err error) {
	of := t.passing
	t.passing = passing{}
	if p, ok := errors.AsType[*PanicError](err); ok && t.dead == nil {
		t.cur.Record = of.r
		var again bool
		if again, err = t.cur.Fail(t.sub.Sources[of.q.index].Node, Processing, 1, p); again {
			err = p
		}
	}
	if err != nil && t.dead == nil {
		t.die(err)
	}
	t.taken()
}

// taken runs what is due at the time that a record brought.
func (t *Task) taken() {
	t.cur.Trace.end()
	if t.punct.stream.due(t.streamTime) && t.dead == nil {
		t.punctuate(&t.punct.stream, t.streamTime)
	}
}

// Flush is step 1 of a commit: it writes the stores' changes to changelog and passes their updates downstream. value is
// nil for a tombstone; key and value are valid during the call only. An error is final.
func (t *Task) Flush(changelog func(s state.Store, key, value []byte, ts int64) error) error {
	if t.dead != nil {
		return t.dead
	}
	for _, s := range t.stores {
		t.cur.reset()
		t.cur.Store = s.Name()
		err := flush(s, func(key, value []byte, ts int64) error { return changelog(s, key, value, ts) })
		if t.dead != nil {
			return t.dead
		}
		if err != nil {
			return t.die(fmt.Errorf("flush store %q: %w", s.Name(), err))
		}
	}
	t.cur.reset()
	t.commits++
	t.dirty = false
	return nil
}

func flush(s state.Store, log func(key, value []byte, ts int64) error) (err error) {
	defer Recover(&err)
	return s.Flush(log)
}

// Seal puts what the last Flush wrote into b, after the commit, with the positions that the changelogs are at now.
func (t *Task) Seal(b *state.Batch, pos func(store string) state.Position) {
	for _, s := range t.stores {
		s.Seal(b, pos(s.Name()))
	}
}

// Abort drops everything since the last Seal, the queued records included. The task can then only be closed: its
// processors, and the times that its windows have seen, know of what did not happen. The caller replays the stores and
// makes a new task on them.
func (t *Task) Abort() {
	for _, s := range t.stores {
		s.Abort()
	}
	for _, q := range t.queues {
		q.clear()
	}
	t.cur.reset()
	t.dirty = false
}

// Close ends the calls that run beside the task, and closes the processors. The stores belong to their DB.
func (t *Task) Close() error {
	t.endCalls()
	if t.instance == nil || t.instance.Close == nil {
		return nil
	}
	in := t.instance
	t.instance, t.started = nil, false
	return in.Close()
}
