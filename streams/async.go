package streams

import (
	"context"
	"fmt"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// Async says how MapAsync calls. Name is required.
type Async struct {
	// Name names the node, and the store of the records whose calls have not ended: <app>-<name>-changelog is its topic.
	Name string
	// Parallel is how many calls of a task run at once. 0: 16.
	Parallel int
	// Waiting is how many records of a task may wait for their results, those in calls included, before it takes no
	// more. 0: 8 times Parallel.
	Waiting int
	// Timeout is when the context of a call ends. 0: 30 s.
	Timeout time.Duration
	// Retries is how often a call that has failed is made again before its error goes to Config.OnError.
	Retries int
	// Backoff is the pause before the first retry; it doubles with each, up to MaxBackoff. 0: 100 ms, up to 10 s.
	Backoff, MaxBackoff time.Duration
}

func (a *Async) fill(b *Builder) {
	b.checkName("MapAsync", a.Name)
	if a.Parallel < 0 || a.Waiting < 0 || a.Timeout < 0 || a.Retries < 0 || a.Backoff < 0 || a.MaxBackoff < 0 {
		b.mistake("MapAsync %q: a number below zero in %+v", a.Name, *a)
	}
	or := func(v *time.Duration, by time.Duration) {
		if *v <= 0 {
			*v = by
		}
	}
	or(&a.Timeout, 30*time.Second)
	or(&a.Backoff, 100*time.Millisecond)
	or(&a.MaxBackoff, 10*time.Second)
	if a.Parallel <= 0 {
		a.Parallel = 16
	}
	if a.Waiting <= 0 {
		a.Waiting = 8 * a.Parallel
	}
}

// MapAsync makes another value of each record with a function that may take its time: calls of a task run beside each
// other and beside its processing, those of one key one after the other. Results come in the order of the records of each
// key; across keys, as they come. Nothing waits for a call: a record whose call has not ended at a commit is kept in a
// store, within the same transaction as the offset behind it, so that its result comes out once, whatever crashes. The
// call itself may be made again then, and must bear that. Records with a null key are called in no order.
//
// f runs in a goroutine of its own, and must return when its context ends. When the retries are used up Config.OnError
// decides; its Retry makes the task wait.
func (s *KStream[K, V]) MapAsync[R any](how Async, f func(context.Context, K, V) (R, error)) *KStream[K, R] {
	b := s.b
	how.fill(b)
	key := serdeFor(b, s.key, nil, fmt.Sprintf("the key of MapAsync %q"+onTheWay, how.Name))
	val := serdeFor(b, s.val, nil, fmt.Sprintf("the value of MapAsync %q"+onTheWay, how.Name))
	out := s.values[R]("KSTREAM-MAPASYNC-")
	out.raw = nil
	store := rowStore[int64, *asyncCall[K, V]]{Name: how.Name, Key: serde.Int64, Value: asyncSerde[K, V]{key, val}}
	if b.store(how.Name) != nil {
		b.mistake("MapAsync %q needs a store of its own, but there is one of that name", how.Name)
	}
	d := declareStore(b, store, nil, nil)
	d.use(out.node)
	s.out.to(out.node, func(o *opening) fn[K, V] {
		st := typedStore[*state.KeyValueStore[int64, *asyncCall[K, V]]](o, how.Name)
		if st == nil {
			return nil
		}
		n := &asyncNode[K, V, R]{node: out.node, task: o.task, how: how, f: f, st: st, key: key, val: val,
			topic: d.spec.Changelog.In(o.task.Env().AppID), next: out.out.open(o),
			nullKey: nullTest[K](), lanes: make(map[string][]*asyncCall[K, V])}
		if err := n.resume(); err != nil {
			o.fail(fmt.Errorf("MapAsync %q: read the calls that had not ended: %w", how.Name, err))
		}
		return n.process
	})
	return out
}

// asyncNode is a MapAsync in one task.
type asyncNode[K, V, R any] struct {
	node    *graph.Node
	task    *engine.Task
	how     Async
	f       func(context.Context, K, V) (R, error)
	st      *state.KeyValueStore[int64, *asyncCall[K, V]]
	key     serde.Serde[K]
	val     serde.Serde[V]
	topic   string // the changelog, which the serdes are told
	next    fn[K, R]
	nullKey func(K) bool

	lanes   map[string][]*asyncCall[K, V] // by key: the first is being called, or about to be
	ready   []*asyncCall[K, V]            // about to be called
	free    []int64                       // slots of the store that were given back
	slots   int64                         // slots ever used
	seq     uint64                        // of the next record
	waiting int
	running int
	held    bool
}

// resume takes up the calls that had not ended when the task was given up.
func (n *asyncNode[K, V, R]) resume() error {
	var calls []*asyncCall[K, V]
	taken := make(map[int64]bool)
	for row := range n.st.Rows() {
		c := *row.Value
		c.slot = row.Key
		calls = append(calls, &c)
		taken[c.slot] = true
		n.slots, n.seq = max(n.slots, c.slot+1), max(n.seq, c.seq+1)
	}
	if err := n.st.Err(); err != nil || len(calls) == 0 {
		return err
	}
	for slot := range n.slots {
		if !taken[slot] {
			n.free = append(n.free, slot)
		}
	}
	sortCalls(calls)
	for _, c := range calls {
		if err := c.source(n.key, n.val, n.topic); err != nil {
			return err
		}
		n.enter(c, c.record.Key)
	}
	n.task.Later(func() error { n.start(); return nil })
	return nil
}

func (n *asyncNode[K, V, R]) process(c *cursor, k K, v V) error {
	var lane []byte
	for attempt := 1; n.nullKey == nil || !n.nullKey(k); attempt++ {
		var err error
		if lane, err = appendSafely(n.key, n.topic, k); err == nil {
			break
		}
		if again, err := c.Fail(n.node.Name, engine.Encoding, attempt, err); !again {
			return err
		}
	}
	call := &asyncCall[K, V]{seq: n.seq, key: k, value: v, time: c.Time, headers: c.Headers, record: c.Record}
	if c.Record != nil {
		call.topic, call.partition, call.offset = c.Record.Topic, c.Record.Partition, c.Record.Offset
	}
	n.seq++
	if last := len(n.free) - 1; last >= 0 {
		call.slot, n.free = n.free[last], n.free[:last]
	} else {
		call.slot = n.slots
		n.slots++
	}
	e, err := n.st.Entry(nil, call.slot)
	if err == nil {
		err = n.st.Set(e, call, c.Time)
	}
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	n.enter(call, lane)
	n.start()
	return nil
}

// enter puts a call behind those of its key. lane is the key's bytes; nil is no key.
func (n *asyncNode[K, V, R]) enter(call *asyncCall[K, V], lane []byte) {
	n.waiting++
	if n.waiting >= n.how.Waiting && !n.held {
		n.held = true
		n.task.Hold()
	}
	if call.ordered = lane != nil; !call.ordered {
		n.ready = append(n.ready, call)
		return
	}
	call.lane = string(lane)
	queue := append(n.lanes[call.lane], call)
	n.lanes[call.lane] = queue
	if len(queue) == 1 {
		n.ready = append(n.ready, call)
	}
}

// start makes the calls that there is room for.
func (n *asyncNode[K, V, R]) start() {
	for n.running < n.how.Parallel && len(n.ready) > 0 {
		call := n.ready[0]
		n.ready[0] = nil
		n.ready = n.ready[1:]
		n.running++
		var r R
		var err error
		n.task.Go(n.how.Timeout, func(ctx context.Context) {
			defer engine.Recover(&err)
			r, err = n.f(ctx, call.key, call.value)
		}, func() error { return n.ended(call, r, err) })
	}
}

// ended passes a result on, or has the call made again.
func (n *asyncNode[K, V, R]) ended(call *asyncCall[K, V], r R, cause error) error {
	n.running--
	c := n.task.Cursor()
	c.Record, c.Time, c.Headers = call.record, call.time, call.headers
	if cause != nil && n.task.Env().Context.Err() != nil {
		return nil // the application stops: the call stays in the store, to be made again
	}
	if cause != nil {
		call.attempt++
		if call.attempt <= n.how.Retries {
			n.again(call, min(n.how.Backoff<<min(call.attempt-1, 30), n.how.MaxBackoff))
			n.start()
			return nil
		}
		again, err := c.Fail(n.node.Name, engine.Processing, call.attempt, cause)
		if again {
			n.ready = append(n.ready, call)
			n.start()
			return nil
		}
		if err != nil {
			return err
		}
	} else if err := n.next(c, call.key, r); err != nil {
		return err
	}
	return n.leave(c, call)
}

// again makes a call once more after a while.
func (n *asyncNode[K, V, R]) again(call *asyncCall[K, V], after time.Duration) {
	var p *engine.Punctuator
	p = n.task.Every(n.node.Name, max(after, time.Millisecond), true, func(int64) error {
		p.Stop()
		n.ready = append(n.ready, call)
		n.start()
		return nil
	})
}

// leave forgets a record that is done with, and lets the next one of its key, and the task, go on.
func (n *asyncNode[K, V, R]) leave(c *cursor, call *asyncCall[K, V]) error {
	e, err := n.st.Entry(nil, call.slot)
	if err == nil {
		err = n.st.Remove(e, call.time)
	}
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	n.free = append(n.free, call.slot)
	n.waiting--
	if call.ordered {
		queue := n.lanes[call.lane]
		queue[0] = nil
		if queue = queue[1:]; len(queue) == 0 {
			delete(n.lanes, call.lane)
		} else {
			n.lanes[call.lane] = queue
			n.ready = append(n.ready, queue[0])
		}
	}
	n.start()
	if n.held && n.waiting < n.how.Waiting {
		n.held = false
		n.task.Release()
	}
	return nil
}
