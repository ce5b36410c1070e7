package streams

import "github.com/leatstream/leat/streams/internal/graph"

// lateRecords is the stream of late records of some windows, if anybody asks for it: before the aggregates that refuse
// them, or after.
type lateRecords[K, V any] struct {
	g     *KGroupedStream[K, V]
	s     *KStream[K, V]
	nodes []*graph.Node
}

func (l *lateRecords[K, V]) stream() *KStream[K, V] {
	if l.s == nil {
		b := l.g.s.b
		l.s = &KStream[K, V]{b: b, node: b.g.Add(graph.Processor, b.g.Next("KSTREAM-LATE-"), l.nodes...), out: &stage[K, V]{}, key: l.g.s.key, val: l.g.s.val}
		b.checks = append(b.checks, func() {
			if len(l.nodes) == 0 {
				b.mistake("Late: nothing aggregates these windows, so nothing is late for them")
			}
		})
	}
	return l.s
}

// from makes an aggregating node one that late records come from.
func (l *lateRecords[K, V]) from(n *graph.Node) {
	if l == nil {
		return
	}
	l.nodes = append(l.nodes, n)
	if l.s != nil {
		l.s.node.Parents = append(l.s.node.Parents, n)
		n.Children = append(n.Children, l.s.node)
	}
}

func (l *lateRecords[K, V]) open(o *opening) fn[K, V] {
	if l == nil || l.s == nil {
		return nil
	}
	return hooked(o, l.s.node, l.s.out.open(o))
}

// lateInputs are the late records of a cogroup's streams, by their *KGroupedStream: each is a *lateRecords of its type.
type lateInputs map[any]any

func lateOf[K, V any](all lateInputs, g *KGroupedStream[K, V]) *lateRecords[K, V] {
	l, ok := all[g].(*lateRecords[K, V])
	if !ok {
		l = &lateRecords[K, V]{g: g}
		all[g] = l
	}
	return l
}

func lateInput[K, A, V any](c *CogroupedKStream[K, A], all lateInputs, of *KGroupedStream[K, V]) *KStream[K, V] {
	for _, p := range c.parts {
		if in, ok := p.(*cogroupInput[K, V, A]); ok && in.g == of {
			return lateOf(all, of).stream()
		}
	}
	c.b.mistake("Late: that stream is none of the cogroup's")
	return lateOf(all, of).stream()
}
