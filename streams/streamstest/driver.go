// Package streamstest runs a topology in a test, without a broker and without waiting: on virtual time, with topics in
// memory, any number of partitions, and the engine and stores that run in production.
//
//	d := streamstest.New(t, topology)
//	d.Send(Orders, "o1", Order{Cents: 5}, streamstest.At(noon))
//	got := d.Read(Revenue)
//
// Each Send is processed to its end before it returns, records that go through repartition topics included, and the
// application commits after every record, so that tables pass on every update. [Driver.Together] commits once for several
// records, as an application does that is busy.
package streamstest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Start is the time at which the virtual clock of a Driver begins, unless SetClock says otherwise.
var Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Driver is a topology under test. It is for the test's goroutine. Everything that goes wrong ends the test, but for
// what happens within [Driver.Fails].
type Driver struct {
	t      testing.TB
	plan   *engine.Plan
	cfg    streams.Config
	counts map[string]int32
	now    time.Time

	db       *state.DB
	env      engine.Env
	calls    *calls
	slab     engine.Slab
	layout   *engine.Layout
	tasks    []*engine.Task
	topics   map[string]*topic
	retained bool                 // Together: no commit yet
	catching bool                 // Fails
	sent     map[*kgo.Record]bool // Crash: by the test
	err      error
}

// topic is a topic in memory.
type topic struct {
	all  []*kgo.Record // in the order of writing
	next []int64       // by partition: the next offset
	read int           // how much of all Read has given
}

// New returns a driver for the topology. Of a Config, AppID (default: the test's name), OnError, IdleAdvance, Wrap,
// TracerProvider, TraceLinks and Logger are used. The driver ends with the test.
func New(t testing.TB, topology *streams.Topology, cfg ...streams.Config) *Driver {
	t.Helper()
	d := &Driver{t: t, plan: topology.Engine(), counts: make(map[string]int32), now: Start, calls: newCalls(), topics: make(map[string]*topic)}
	if len(cfg) > 0 {
		d.cfg = cfg[0]
	}
	if d.cfg.AppID == "" {
		d.cfg.AppID = "test"
	}
	t.Cleanup(d.close)
	return d
}

// SetPartitions gives a topic a partition count; every other topic has one. It is to be called before the first record.
func (d *Driver) SetPartitions(topicName string, n int) {
	d.t.Helper()
	if d.tasks != nil {
		d.t.Fatalf("streamstest: SetPartitions(%q) after the first record", topicName)
	}
	d.counts[topicName] = int32(n)
}

// SetClock sets the virtual clock. It is to be called before the first record.
func (d *Driver) SetClock(now time.Time) {
	d.t.Helper()
	if d.tasks != nil {
		d.t.Fatal("streamstest: SetClock after the first record")
	}
	d.now = now
}

// Now returns the virtual clock's time.
func (d *Driver) Now() time.Time { return d.now }

func (d *Driver) count(name string) int32 {
	if d.layout != nil {
		for _, it := range d.layout.Internal {
			if it.Name == name {
				return it.Partitions
			}
		}
	}
	if n, ok := d.counts[name]; ok {
		return n
	}
	return 1
}

// start opens the tasks, at the first use.
func (d *Driver) start() {
	d.t.Helper()
	if d.tasks != nil {
		return
	}
	known := func(name string) (int32, bool) { return d.count(name), true }
	found, err := d.plan.Matching(d.cfg.AppID, slices.Sorted(maps.Keys(d.counts)))
	if err != nil {
		d.t.Fatalf("streamstest: %v", err)
	}
	if d.layout, err = d.plan.Layout(d.cfg.AppID, known, found); err != nil {
		d.t.Fatalf("streamstest: %v", err)
	}
	for _, s := range d.plan.Starters {
		if err := s.Start(context.Background()); err != nil {
			d.t.Fatalf("streamstest: start a serde: %v", err)
		}
	}
	if d.db, err = state.Open(state.Options{Dir: "state", FS: vfs.NewMem(), MemoryBytes: 16 << 20}); err != nil {
		d.t.Fatalf("streamstest: %v", err)
	}
	d.env = engine.Env{AppID: d.cfg.AppID, DB: d.db, Send: d.capture, Slab: &d.slab, Records: new(engine.RecordPool),
		Partitions: d.count, Now: func() time.Time { return d.now }, Context: d.t.Context(), OnError: d.cfg.OnError, Wrap: d.cfg.Wrap, Tracer: d.cfg.TracerProvider, TraceLinks: d.cfg.TraceLinks, IdleAdvance: d.cfg.IdleAdvance,
		Sleep:  func(by time.Duration) error { d.now = d.now.Add(by); d.calls.set(d.now); return nil },
		Go:     d.calls.begin,
		Logger: slog.New(slog.DiscardHandler)}
	if d.cfg.Logger != nil {
		d.env.Logger = d.cfg.Logger
	}
	d.env.Globals = new(engine.Globals)
	d.calls.set(d.now)
	d.open(nil)
}

// open makes the tasks; metadata is that of the last commit, by task.
func (d *Driver) open(metadata map[engine.TaskID]string) {
	d.t.Helper()
	d.tasks = []*engine.Task{}
	subs := slices.Clone(d.plan.Subs)
	slices.SortStableFunc(subs, func(a, b *engine.Sub) int { // global tables come before what reads them
		switch {
		case a.Global == b.Global:
			return 0
		case a.Global:
			return -1
		}
		return 1
	})
	for _, sub := range subs {
		for p := range max(1, d.layout.Tasks[sub.ID]) {
			task, err := engine.NewTask(d.plan, sub, p, &d.env)
			if err == nil {
				err = task.Start(metadata[task.ID()])
			}
			if err != nil {
				d.t.Fatalf("streamstest: %v", err)
			}
			d.tasks = append(d.tasks, task)
		}
	}
}

// Restart ends all tasks and opens them again on what they have committed, as a restart of the application does.
func (d *Driver) Restart() {
	d.t.Helper()
	d.start()
	d.commit()
	waiting := d.waiting()
	metadata := make(map[engine.TaskID]string)
	for _, task := range d.tasks {
		metadata[task.ID()] = task.Metadata()
		d.check(d.closeTask(task))
	}
	d.open(metadata)
	for _, r := range waiting {
		d.deliver(r)
	}
	d.run() // calls that had not ended are made again
}

// waiting are the records that no task has taken yet, by task and partition in the order of their offsets.
func (d *Driver) waiting() (all []*kgo.Record) {
	for _, task := range d.tasks {
		task.Waiting(func(r *kgo.Record) { all = append(all, r) })
	}
	return all
}

func (d *Driver) closeTask(task *engine.Task) error {
	d.calls.wait()
	errs := []error{task.Close()}
	for _, s := range task.Stores() {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (d *Driver) close() {
	for _, task := range d.tasks {
		if err := d.closeTask(task); err != nil && d.err == nil {
			d.t.Errorf("streamstest: close task %s: %v", task.ID(), err)
		}
	}
	if d.db != nil {
		if err := d.db.Close(); err != nil {
			d.t.Errorf("streamstest: %v", err)
		}
	}
}

// check ends the test with err, or keeps it for Fails.
func (d *Driver) check(err error) {
	d.t.Helper()
	if err == nil {
		return
	}
	if d.err == nil {
		d.err = err
	}
	if !d.catching {
		d.t.Fatalf("streamstest: the application has stopped: %v", err)
	}
}

// Fails runs f and returns the error that stopped the application in it, nil if none did. A stopped application takes
// no more records.
func (d *Driver) Fails(f func()) error {
	d.catching = true
	f()
	d.catching = false
	return d.err
}

// Together runs f, and commits once, after all that f has sent: tables then pass on the last update of each key.
func (d *Driver) Together(f func()) {
	d.t.Helper()
	d.start()
	d.retained = true
	f()
	d.retained = false
	d.run()
}

// Advance moves the virtual clock and runs the wall-clock punctuators that are due, once each.
func (d *Driver) Advance(by time.Duration) {
	d.t.Helper()
	d.start()
	d.now = d.now.Add(by)
	for more := true; more; more = d.calls.wakeNext(d.now) {
		d.run()
	}
	for _, task := range d.tasks {
		if d.err != nil {
			return
		}
		d.check(task.Punctuate(d.now))
	}
	d.run()
}

// Describe returns the topology's description.
func (d *Driver) Describe() string { return d.plan.Describe }

// run processes everything that waits, one record after the other, committing after each unless Together holds it back.
func (d *Driver) run() {
	d.t.Helper()
	for d.err == nil {
		progress := d.settle()
		for _, task := range d.tasks {
			for d.err == nil {
				if task.Ready(1, d.Now) == 0 {
					break // a partition is waited for, or calls are
				}
				n, err := task.Process(1)
				d.check(err)
				if n == 0 || d.err != nil {
					break
				}
				progress = true
				if !d.retained || task.Sub().Global {
					d.commitTask(task)
				}
			}
		}
		if d.err != nil || d.retained && !progress {
			return
		}
		if !progress && !d.commit() {
			return
		}
	}
}

// commit commits every task that has something to commit, and reports whether there was one.
func (d *Driver) commit() (any bool) {
	d.t.Helper()
	for _, task := range d.tasks {
		if task.Dirty() && d.err == nil {
			any = true
			d.commitTask(task)
		}
	}
	return any
}

func (d *Driver) commitTask(task *engine.Task) {
	d.t.Helper()
	var changed []func()
	err := task.Flush(func(s state.Store, key, value []byte, ts int64) error {
		if task.Sub().Global {
			slots := d.env.Globals.Of(s.Name())
			slot := slots.Slot(key)
			changed = append(changed, func() { slots.Changed(slot) })
		}
		if topic := d.changelog(task, s.Name()); topic != "" {
			_, spec := d.plan.Store(s.Name())
			d.append(&kgo.Record{Topic: topic, Partition: task.ID().Partition, Key: slices.Clone(key), Value: slices.Clone(value),
				Headers: spec.Headers, Timestamp: time.UnixMilli(ts)})
		}
		return nil
	})
	if err != nil {
		d.check(err)
		return
	}
	b := d.db.NewBatch()
	task.Seal(b, func(store string) state.Position {
		pos := state.Position{At: d.now}
		if t := d.topics[d.changelog(task, store)]; t != nil {
			pos.Offset = t.next[task.ID().Partition]
		}
		return pos
	})
	b.Apply()
	d.slab.Reset()
	if task.Sub().Global {
		d.check(d.db.Drain())
		for _, f := range changed {
			f()
		}
	}
}

func (d *Driver) changelog(task *engine.Task, store string) string {
	for _, s := range task.Sub().Stores {
		if s.Name == store && s.Changelog.Name != "" && !s.FromSource {
			return s.Changelog.In(d.cfg.AppID)
		}
	}
	return ""
}

// capture is the producer: it keeps a copy of the record, and hands it to the tasks that read its topic.
func (d *Driver) capture(r *kgo.Record) {
	c := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: slices.Clone(r.Key), Value: slices.Clone(r.Value), Timestamp: r.Timestamp}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, kgo.RecordHeader{Key: h.Key, Value: slices.Clone(h.Value)})
	}
	d.append(c)
	r.Partition, r.Offset = c.Partition, c.Offset
	engine.Sent(r, nil)
	d.env.Records.Put(r)
	d.deliver(c)
}

// append gives a record its place in its topic.
func (d *Driver) append(r *kgo.Record) {
	t := d.topics[r.Topic]
	if t == nil {
		t = &topic{next: make([]int64, max(1, d.count(r.Topic)))}
		d.topics[r.Topic] = t
	}
	if r.Partition < 0 || int(r.Partition) >= len(t.next) {
		r.Partition = int32(len(t.all) % len(t.next))
	}
	r.Offset = t.next[r.Partition]
	t.next[r.Partition]++
	t.all = append(t.all, r)
}

// deliver hands a record to the tasks that read its partition, and reports whether there was one.
func (d *Driver) deliver(r *kgo.Record) bool {
	found := false
	for _, task := range d.tasks {
		if task.ID().Partition != r.Partition && !task.Sub().Global {
			continue
		}
		before := task.BufferedAll()
		task.Enqueue(r.Topic, r.Partition, []*kgo.Record{r})
		found = found || task.BufferedAll() > before
	}
	return found
}

func (d *Driver) counters() engine.Counters {
	var sum engine.Counters
	for _, task := range d.tasks {
		c := task.Counters
		sum.Processed += c.Processed
		sum.NullDropped += c.NullDropped
		sum.Late += c.Late
		sum.Skipped += c.Skipped
		sum.DeadLetters += c.DeadLetters
		sum.BadTime += c.BadTime
		sum.Duplicates += c.Duplicates
	}
	return sum
}

// Dropped is how many records the application has dropped so far, by reason.
type Dropped struct {
	Null       int64 // null key or null value
	Late       int64 // too late for a window; a record counts once per window
	BadTime    int64 // a negative time
	Duplicates int64 // Deduplicate knew their id
	Skipped    int64 // OnError said so, or a hook (Config.Wrap) held them back
	Letters    int64 // OnError sent them to a dead letter topic
}

// Dropped returns the counts.
func (d *Driver) Dropped() Dropped {
	c := d.counters()
	return Dropped{Null: c.NullDropped, Late: c.Late, BadTime: c.BadTime, Duplicates: c.Duplicates, Skipped: c.Skipped, Letters: c.DeadLetters}
}

// String says where the driver stands, for failure messages.
func (d *Driver) String() string {
	return fmt.Sprintf("streamstest: %d tasks, now %s, %+v", len(d.tasks), d.now.Format(time.RFC3339Nano), d.counters())
}
