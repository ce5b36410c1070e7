package streams

import (
	"fmt"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// Node is a node of one task, as [Config.Wrap] is told of it.
//
//	Name           string   // as Topology.Describe shows it
//	Task           string   // for example 0_3
//	Source, Sink   bool     // it reads or writes topics; neither: it is a processor
//	Topics, Stores []string // which; internal topics without the application's id. Not to be changed
type Node = engine.Node

// Wrapper is a hook around one node of one task: it is called for every record that reaches the node, and calls next, at
// most once, to let the node have it. See [Config.Wrap].
//
//	func(v *Visit, next func() error) error
type Wrapper = engine.Wrapper

// Visit is a record at a node, as a [Wrapper] sees it. It is valid during the call only.
//
//	func (v *Visit) Node() Node
//	func (v *Visit) Key[K any]() (K, bool)   // the key, if it is a K
//	func (v *Visit) Value[V any]() (V, bool) // the value, if it is a V; an update of a table is a Change
//	func (v *Visit) Time() time.Time
//	func (v *Visit) Headers() []Header       // a copy
//	func (v *Visit) Origin() (Origin, bool)  // of the source record; false if there is none
type Visit = engine.Visit

// hooked is f behind the hook that the application has around the node; without one, f itself.
func hooked[K, V any](o *opening, n *graph.Node, f fn[K, V]) fn[K, V] {
	w := o.wrapper(n)
	if w == nil || f == nil {
		return f
	}
	h := &hook[K, V]{f: f, guard: guard{node: n, wrap: w, cursor: o.task.Cursor()}}
	h.next = func() error { return h.f(h.cursor, h.k, h.v) }
	h.once = h.pass
	h.visit = engine.NewVisit(nodeOf(o, n), h.cursor, &h.k, &h.v,
		func() any { return h.k }, func() any { return shown(h.v) })
	return h.process
}

// hook holds the record that is at a wrapped node. A node never lies below itself, so one place is enough.
type hook[K, V any] struct {
	guard
	f fn[K, V]
	k K
	v V
}

func (h *hook[K, V]) process(_ *cursor, k K, v V) error {
	h.k, h.v = k, v
	err := h.run()
	var noKey K
	var noValue V
	h.k, h.v = noKey, noValue // what was dropped is not to stay
	return err
}

// guard is what of a hook does not depend on the types.
type guard struct {
	node   *graph.Node
	wrap   Wrapper
	cursor *cursor
	visit  *Visit
	next   func() error // the node
	once   func() error // pass, made once
	passed bool         // next has been called for the record in hand
	down   error        // what it returned, if that is final
}

// run calls the wrapper until the error policy is content.
func (g *guard) run() error {
	g.passed, g.down = false, nil
	for attempt := 1; ; attempt++ {
		err := g.call()
		switch {
		case g.down != nil:
			return g.down
		case err == nil:
			if !g.passed {
				g.cursor.Task.Counters.Skipped++
			}
			return nil
		}
		if again, err := g.cursor.Fail(g.node.Name, engine.Processing, attempt, err); !again {
			return err
		}
	}
}

func (g *guard) call() (err error) {
	defer engine.Recover(&err)
	return g.wrap(g.visit, g.once)
}

// pass lets the node have the record, the first time that it is called.
func (g *guard) pass() error {
	if g.passed {
		return nil
	}
	g.passed = true
	g.down = g.next()
	return g.down
}

// shown is a value as a wrapper may see it: the update of a table as a Change, no value as nil.
func shown[V any](v V) any {
	switch x := any(v).(type) {
	case interface{ shown() any }:
		return x.shown()
	case struct{}:
		return nil
	default:
		return x
	}
}

func (ch change[V]) shown() any { return ch.public() }

// wrapper asks the application for its hook around a node, once per task.
func (o *opening) wrapper(n *graph.Node) (w Wrapper) {
	wrap := o.task.Env().Wrap
	if wrap == nil {
		return nil
	}
	if have, ok := o.wrappers[n]; ok {
		return have
	}
	defer func() {
		if cause := recover(); cause != nil {
			o.fail(fmt.Errorf("Config.Wrap panics for node %q: %v", n.Name, cause))
		}
	}()
	w = wrap(nodeOf(o, n))
	if o.wrappers == nil {
		o.wrappers = make(map[*graph.Node]Wrapper)
	}
	o.wrappers[n] = w
	return w
}

func nodeOf(o *opening, n *graph.Node) Node {
	return Node{Name: n.Name, Task: o.task.ID().String(), Source: n.Kind == graph.Source, Sink: n.Kind == graph.Sink,
		Topics: n.Topics, Stores: n.Stores}
}
