package streams

import (
	"fmt"

	"github.com/leatstream/leat/streams/internal/graph"
)

// Branches are the parts of a stream that Split makes: each record goes to the first branch whose predicate is true, to
// the default branch if there is one, or nowhere.
type Branches[K, V any] struct {
	from  *KStream[K, V]
	node  *graph.Node
	arms  []arm[K, V]
	other *KStream[K, V]
}

type arm[K, V any] struct {
	pred func(K, V) (bool, error)
	node *graph.Node
	to   *stage[K, V]
}

// Split begins to part the stream.
func (s *KStream[K, V]) Split() *Branches[K, V] {
	b := &Branches[K, V]{from: s, node: s.b.g.Add(graph.Processor, s.b.g.Next("KSTREAM-BRANCH-"), s.node)}
	s.out.to(b.node, b.open)
	return b
}

// Branch is the stream of the records for which pred is true, and no earlier branch's.
func (b *Branches[K, V]) Branch(pred func(K, V) bool) *KStream[K, V] {
	out := b.child(fmt.Sprint(len(b.arms) + 1))
	b.arms = append(b.arms, arm[K, V]{pred: total(pred), node: out.node, to: out.out})
	return out
}

// Default is the stream of the records that no branch takes.
func (b *Branches[K, V]) Default() *KStream[K, V] {
	if b.other != nil {
		b.from.b.mistake("Default is called twice on one Split: keep its handle")
	}
	out := b.child("0")
	b.other = out
	return out
}

func (b *Branches[K, V]) child(name string) *KStream[K, V] {
	g := &b.from.b.g
	g.Next("")
	out := *b.from
	out.node, out.out = g.Add(graph.Processor, b.node.Name+name, b.node), &stage[K, V]{}
	return &out
}

func (b *Branches[K, V]) open(o *opening) fn[K, V] {
	next := make([]fn[K, V], len(b.arms))
	for i, a := range b.arms {
		next[i] = hooked(o, a.node, a.to.open(o))
	}
	other := func(*cursor, K, V) error { return nil }
	if b.other != nil {
		other = hooked(o, b.other.node, b.other.out.open(o))
	}
	arms, node := b.arms, b.node
	return func(c *cursor, k K, v V) error {
		for i := range arms {
			ok, err := call(arms[i].pred, k, v)
			if err != nil {
				var again bool
				if ok, again, err = failed(c, node, arms[i].pred, k, v, err); !again {
					return err
				}
			}
			if ok {
				return next[i](c, k, v)
			}
		}
		return other(c, k, v)
	}
}

// Named names the node for Describe and for errors, and the branches that are made after it.
func (b *Branches[K, V]) Named(name string) *Branches[K, V] {
	b.node.Name = name
	return b
}
