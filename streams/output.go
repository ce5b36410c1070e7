package streams

import (
	"fmt"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/graph"
)

// Output describes a way out of a processor besides its Emit, with types of its own: what Kafka Streams calls forwarding to
// a named child. [KStream.Output] makes a stream of it, and [Task.Output] is how the processor emits to it.
type Output[K, V any] struct {
	// Name tells the outputs of one processor apart.
	Name string
	// Key and Value are needed, as everywhere, only where the records cross a boundary; see [KStream.WithSerdes].
	Key   serde.Serde[K]
	Value serde.Serde[V]
}

// Output is the stream of what the processor that made s (Process, ProcessValues) emits to an output. It is to be taken
// once. Its keys may be any: what groups or joins by them repartitions first.
func (s *KStream[K, V]) Output[K2, V2 any](output Output[K2, V2]) *KStream[K2, V2] {
	b := s.b
	out := &KStream[K2, V2]{b: b, node: s.node, out: &stage[K2, V2]{}, key: output.Key, val: output.Value, rekeyed: true}
	if out.key == nil {
		out.key = carry[K2](s.key)
	}
	if out.val == nil {
		out.val = carry[V2](s.val)
	}
	begin(out)
	ways, ok := b.outputs[s.node]
	switch {
	case !ok:
		b.mistake("output %q of node %q: only processors have outputs; take it from the stream that Process or ProcessValues returns", output.Name, s.node.Name)
		return out
	case ways.of(output.Name) != nil:
		b.mistake("output %q of processor %q is taken twice: keep the handle of the first and use it again", output.Name, s.node.Name)
	case output.Name == "":
		b.mistake("an output of processor %q has no name", s.node.Name)
	}
	ways.all = append(ways.all, way{name: output.Name, open: func(o *opening) any { return emitter(o, out.out.open(o)) }})
	return out
}

// Output is how the processor emits to an output of its own. One that no stream was made of (KStream.Output), or that has
// other types there, is a programmer's error, and panics; open's error then says so.
func (t *Task) Output[K, V any](output Output[K, V]) Emit[K, V] {
	open, ok := t.outputs[output.Name]
	if !ok {
		panic(fmt.Sprintf("processor %q emits to output %q, which no stream was made of: call Output on the stream that Process returns", t.node.Name, output.Name))
	}
	emit, ok := open.(Emit[K, V])
	if !ok {
		panic(fmt.Sprintf("output %q of processor %q is a %T, not an emitter of these types", output.Name, t.node.Name, open))
	}
	return emit
}

// outputs are the ways out of one processor, besides its Emit.
type outputs struct{ all []way }

// way is one output: open gives its Emit.
type way struct {
	name string
	open func(o *opening) any
}

func (w *outputs) of(name string) *way {
	for i := range w.all {
		if w.all[i].name == name {
			return &w.all[i]
		}
	}
	return nil
}

// open opens all outputs, those that the processor will not ask for, too: what lies below them may have punctuators.
func (w *outputs) open(o *opening) map[string]any {
	if len(w.all) == 0 {
		return nil
	}
	open := make(map[string]any, len(w.all))
	for i := range w.all {
		open[w.all[i].name] = w.all[i].open(o)
	}
	return open
}

// outputsOf makes n a processor with outputs.
func (b *Builder) outputsOf(n *graph.Node) *outputs {
	if b.outputs == nil {
		b.outputs = make(map[*graph.Node]*outputs)
	}
	w := new(outputs)
	b.outputs[n] = w
	return w
}

// emitter passes records on with their own time and headers.
func emitter[K, V any](o *opening, next fn[K, V]) Emit[K, V] {
	c := o.task.Cursor()
	return func(r Record[K, V]) error {
		at, headers := c.Time, c.Headers
		c.Time, c.Headers = timeOr(r.Time, at), c.Trace.Carry(toWire(r.Headers))
		err := next(c, r.Key, r.Value)
		c.Time, c.Headers = at, headers
		c.Trace.Forget()
		return err
	}
}
