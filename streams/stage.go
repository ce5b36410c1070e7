package streams

import (
	"errors"
	"fmt"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

type cursor = engine.Cursor

// fn is what a record goes through: the typed entry of a node of one task. An error is final (engine.IsFatal); errors of
// one record are settled by the node where they happen, so that siblings still get the record.
type fn[K, V any] = func(c *cursor, k K, v V) error

// stage is where records of one type leave a node: the children that were wired to it, in order. It belongs to the
// builder; open makes the closures of one task of it.
type stage[K, V any] struct {
	outs []func(o *opening) fn[K, V]
}

// opening is a task that is being opened.
type opening struct {
	task  *engine.Task
	memo  map[any]any // stage -> its closure, so that a stage with several parents is opened once
	typed map[string]any
	// globals are the stores of global tables, which are not of this task.
	globals  map[string]*storeDef
	wrappers map[*graph.Node]Wrapper // those that were asked for
	closes   []func() error
	errs     []error
}

func (o *opening) fail(err error) { o.errs = append(o.errs, err) }

// to adds the node n as a child.
func (s *stage[K, V]) to(n *graph.Node, open func(o *opening) fn[K, V]) {
	s.outs = append(s.outs, func(o *opening) fn[K, V] { return hooked(o, n, open(o)) })
}

// open returns the closure that passes a record to all children, in the order of wiring, depth first.
func (s *stage[K, V]) open(o *opening) fn[K, V] {
	if f, ok := o.memo[s]; ok {
		return f.(fn[K, V])
	}
	fns := make([]fn[K, V], len(s.outs))
	for i, out := range s.outs {
		fns[i] = out(o)
	}
	f := fanOut(fns)
	o.memo[s] = f
	return f
}

func fanOut[K, V any](fns []fn[K, V]) fn[K, V] {
	switch len(fns) {
	case 0:
		return func(*cursor, K, V) error { return nil }
	case 1:
		return fns[0]
	case 2:
		a, b := fns[0], fns[1]
		return func(c *cursor, k K, v V) error {
			if err := a(c, k, v); err != nil {
				return err
			}
			return b(c, k, v)
		}
	}
	return func(c *cursor, k K, v V) error {
		for _, f := range fns {
			if err := f(c, k, v); err != nil {
				return err
			}
		}
		return nil
	}
}

// typedStore returns a store that this task has opened, as what it is.
func typedStore[S any](o *opening, name string) S {
	s, ok := o.typed[name].(S)
	if !ok {
		o.fail(fmt.Errorf("store %q is a %T here, want %T: one descriptor, declared once, serves everywhere", name, o.typed[name], s))
	}
	return s
}

// instance opens all sources of a sub-topology.
func (b *built) instance(t *engine.Task, sources []*sourceDef) (*engine.Instance, error) {
	o := &opening{task: t, memo: make(map[any]any), typed: make(map[string]any), globals: b.globals}
	for _, s := range t.Stores() {
		o.typed[s.Name()] = s
	}
	in := new(engine.Instance)
	for _, s := range sources {
		in.Sources = append(in.Sources, s.open(o))
	}
	in.Close = func() error {
		var errs []error
		for i := len(o.closes) - 1; i >= 0; i-- {
			errs = append(errs, o.closes[i]())
		}
		return errors.Join(errs...)
	}
	if len(o.errs) > 0 {
		return nil, errors.Join(append(o.errs, in.Close())...)
	}
	return in, nil
}

// call calls a function of the user; a panic is an error with its stack.
func call[K, V, R any](f func(K, V) (R, error), k K, v V) (r R, err error) {
	defer engine.Recover(&err)
	return f(k, v)
}

func call3[A, B, C, R any](f func(A, B, C) (R, error), a A, b B, c C) (r R, err error) {
	defer engine.Recover(&err)
	return f(a, b, c)
}

// failed applies the error policy to an error of f, and calls f again as long as it says so. ok is false if the record
// is to be left alone; then err, if there is one, is final. It is apart from the operators so that nothing of theirs
// escapes to the heap for its sake.
func failed[K, V, R any](c *cursor, n *graph.Node, f func(K, V) (R, error), k K, v V, cause error) (r R, ok bool, err error) {
	for attempt := 1; ; attempt++ {
		again, err := c.Fail(n.Name, engine.Processing, attempt, cause)
		if !again {
			return r, false, err
		}
		if r, cause = call(f, k, v); cause == nil {
			return r, true, nil
		}
	}
}

func failed3[A, B, C, R any](c *cursor, n *graph.Node, f func(A, B, C) (R, error), x A, y B, z C, cause error) (r R, ok bool, err error) {
	for attempt := 1; ; attempt++ {
		again, err := c.Fail(n.Name, engine.Processing, attempt, cause)
		if !again {
			return r, false, err
		}
		if r, cause = call3(f, x, y, z); cause == nil {
			return r, true, nil
		}
	}
}

// final is for errors of the house's own making (a store that cannot be read): no policy can help.
func final(c *cursor, n *graph.Node, err error) error {
	if engine.IsFatal(err) {
		return err
	}
	return c.Task.Die(fmt.Errorf("%s: %w", n.Name, err))
}

// total lifts a function that cannot fail, but may panic.
func total[K, V, R any](f func(K, V) R) func(K, V) (R, error) {
	return func(k K, v V) (R, error) { return f(k, v), nil }
}
