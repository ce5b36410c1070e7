package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// Processor gets the records of one task, one at a time, in order. ctx ends when the application stops.
type Processor[K, V any] func(ctx context.Context, r Record[K, V]) error

// Emit passes a record on: called by a processor or its punctuators, on the task's goroutine, and at no other time. A zero
// Time is that of the record in hand, or the punctuator's now. An error is final, and to be returned.
type Emit[K, V any] func(Record[K, V]) error

// Clock is a clock that punctuators run on.
type Clock int

const (
	// StreamTime advances with the records' timestamps. Its punctuators are aligned to the Unix epoch: the first record
	// fires them, then the first at or after each multiple of the interval.
	StreamTime Clock = iota
	// WallClock is the machine's clock; in a test streamstest's.
	WallClock
)

// Origin says where the record in hand lies.
//
//	Topic     string
//	Partition int32
//	Offset    int64
type Origin = engine.Origin

// Task is what a processor knows of the task it runs in: one sub-topology on one partition. It is for that task's
// goroutine: for open, the processor and its punctuators.
type Task struct {
	t    *engine.Task
	o    *opening
	node *graph.Node
	// outputs are those of the processor, each an Emit.
	outputs map[string]any
}

// ID is the task's name, for example 0_3.
func (t *Task) ID() string { return t.t.ID().String() }

// StreamTime is the largest timestamp of the task's records so far; the zero time if there was none.
func (t *Task) StreamTime() time.Time {
	if at := t.t.StreamTime(); at >= 0 {
		return fromMillis(at)
	}
	return time.Time{}
}

// Now is the wall clock's time; in a test streamstest's.
func (t *Task) Now() time.Time { return t.t.Env().Now() }

// Commit asks for a commit soon. It does not wait for it.
func (t *Task) Commit() { t.t.RequestCommit() }

// Origin says where the record in hand lies; false in a punctuator.
func (t *Task) Origin() (Origin, bool) { return t.t.Cursor().Origin() }

// OnClose has f called when the task ends.
func (t *Task) OnClose(f func() error) { t.o.closes = append(t.o.closes, f) }

// Every calls f each interval of a clock, until stop is called. A late call happens once, with the time of then, and
// those missed are left out. now is the clock's time. A record that f emits has the time that it says.
func (t *Task) Every(interval time.Duration, on Clock, f func(ctx context.Context, now time.Time) error) (stop func()) {
	e := t.t
	p := e.Every(t.node.Name, interval, on == WallClock, func(now int64) error {
		return f(e.Env().Context, fromMillis(now))
	})
	return p.Stop
}

// Store is the task's part of a store that the processor was given (uses). One that it was not given is a programmer's
// error, and panics; open's error then says so. A global table's store may be read by every processor; its writes return
// [ErrReadOnly].
func (t *Task) Store[K, V any](s Store[K, V]) state.KeyValue[K, V] {
	if d := t.o.globals[s.Name]; d != nil && t.o.typed[s.Name] == nil {
		return storeGlobal[K, V](t.o, d)
	}
	st := storeAs[*state.KeyValueStore[K, V]](t, s.Name, "key-value")
	return tracing(t.o, s.Name, st, keySerde[K](t.t.Sub(), s.Name))
}

// keySerde is the serde of a store's keys, as it was declared.
func keySerde[K any](sub *engine.Sub, store string) serde.Serde[K] {
	for _, spec := range sub.Stores {
		if spec.Name == store {
			s, _ := spec.Key.(serde.Serde[K])
			return s
		}
	}
	return nil
}

// storeAs is the task's part of a store as the type that it was declared with.
func storeAs[S any](t *Task, name, kind string) S {
	t.mayUse(name)
	st, ok := t.o.typed[name].(S)
	if !ok {
		panic(fmt.Sprintf("store %q is a %T, not a %s store of these types", name, t.o.typed[name], kind))
	}
	return st
}

// WindowStore is Store for a window store.
func (t *Task) WindowStore[K, V any](s WindowStore[K, V]) state.Window[K, V] {
	return storeAs[*state.WindowStore[K, V]](t, s.Name, "window")
}

// SessionStore is Store for a session store.
func (t *Task) SessionStore[K, V any](s SessionStore[K, V]) state.Session[K, V] {
	return storeAs[*state.SessionStore[K, V]](t, s.Name, "session")
}

func (t *Task) mayUse(name string) {
	for _, s := range t.node.Stores {
		if s == name {
			return
		}
	}
	panic(fmt.Sprintf("processor %q asks for store %q, which it does not list: add it to the stores that it uses", t.node.Name, name))
}

// Process gives the records to a processor of the user's own, with stores and punctuators. open runs once per task. The
// key may change, so what groups or joins after it repartitions first. name is the node's.
func (s *KStream[K, V]) Process[K2, V2 any](name string, open func(*Task, Emit[K2, V2]) (Processor[K, V], error), uses ...StoreRef) *KStream[K2, V2] {
	out := s.pairs[K2, V2](processorName(name, "KSTREAM-PROCESSOR-"))
	ways := connect(s.b, out.node, name, uses)
	node, to := out.node, out.out
	s.out.to(node, func(o *opening) fn[K, V] {
		return openProcessor(o, node, emitter(o, to.open(o)), open, ways)
	})
	return out
}

// ProcessValues is Process for a processor that leaves the key as it is: what it emits has its input's key, whatever the
// record says, and nothing needs to be repartitioned after it. Outside of a record, that is in a punctuator, the emitted
// record's own key is taken: it must be one of this partition.
func (s *KStream[K, V]) ProcessValues[V2 any](name string, open func(*Task, Emit[K, V2]) (Processor[K, V], error), uses ...StoreRef) *KStream[K, V2] {
	out := s.values[V2](processorName(name, "KSTREAM-PROCESSVALUES-"))
	out.raw = nil
	ways := connect(s.b, out.node, name, uses)
	node, to := out.node, out.out
	s.out.to(node, func(o *opening) fn[K, V] {
		next, c := to.open(o), o.task.Cursor()
		var key K
		emit := func(r Record[K, V2]) error {
			k := r.Key
			if c.Record != nil {
				k = key
			}
			at, headers := c.Time, c.Headers
			c.Time, c.Headers = timeOr(r.Time, at), c.Trace.Carry(toWire(r.Headers))
			err := next(c, k, r.Value)
			c.Time, c.Headers = at, headers
			c.Trace.Forget()
			return err
		}
		process := openProcessor(o, node, emit, open, ways)
		return func(c *cursor, k K, v V) error {
			key = k
			return process(c, k, v)
		}
	})
	return out
}

// timeOr is t in milliseconds, or else for the zero time.
func timeOr(t time.Time, or int64) int64 {
	if t.IsZero() {
		return or
	}
	return t.UnixMilli()
}

// processorName is the prefix of a processor's name in Describe: a name of its own takes no number.
func processorName(name, prefix string) string {
	if name != "" {
		return ""
	}
	return prefix
}

func connect(b *Builder, n *graph.Node, name string, uses []StoreRef) *outputs {
	if name != "" {
		n.Name = name
	}
	for _, u := range uses {
		u.declare(b).use(n)
	}
	return b.outputsOf(n)
}

func openProcessor[K, V, K2, V2 any](o *opening, node *graph.Node, emit Emit[K2, V2], open func(*Task, Emit[K2, V2]) (Processor[K, V], error), ways *outputs) fn[K, V] {
	task := &Task{t: o.task, o: o, node: node, outputs: ways.open(o)}
	p, err := call(open, task, emit)
	if err == nil && p == nil {
		err = errors.New("no processor, and no error")
	}
	if err != nil {
		o.fail(fmt.Errorf("open processor %q: %w", node.Name, err))
		return func(*cursor, K, V) error { return err }
	}
	ctx, cur := o.task.Env().Context, o.task.Cursor()
	f := func(r Record[K, V], _ struct{}) (struct{}, error) { return struct{}{}, p(cur.Trace.Context(ctx), r) }
	return func(c *cursor, k K, v V) error {
		r := Record[K, V]{Key: k, Value: v, Time: fromMillis(c.Time), Headers: fromWire(c.Headers)}
		if _, err := call(f, r, struct{}{}); err != nil {
			_, _, err = failed(c, node, f, r, struct{}{}, err)
			return err
		}
		return nil
	}
}
