package streams

import (
	"fmt"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/graph"
)

// JoinWindow says where the right record of a join lies around the left one: from Before before it to After after it,
// both included. Either may be negative, which moves the window. Grace is how long, in stream time, a record is still
// accepted after its window has passed. Times are whole milliseconds.
type JoinWindow struct {
	Before, After, Grace time.Duration
}

// Within is the window of d before and after, without grace.
func Within(d time.Duration) JoinWindow { return JoinWindow{Before: d, After: d} }

// Join passes on what join makes of each pair of a left and a right record with the same key whose times lie within the
// window of each other. Its time is the later one's. The name is that of the stores, <name>-this-join-store and
// <name>-other-join-store, and of the repartitions <name>-left and <name>-right, if a stream's key may have changed. Both
// streams must be co-partitioned. Records with a null key or a null value are dropped.
//
// The join's stream time is the largest timestamp that has reached it from either side. A record's window has passed when
// that is later than the last time that a partner may have, and the grace; a record that comes after that is late, dropped
// and counted.
func (s *KStream[K, V]) Join[V2, R any](name string, with *KStream[K, V2], in JoinWindow, join func(K, V, V2) (R, error)) *KStream[K, R] {
	return joinStreams(s, with, joinShape{name: name, in: in}, func(k K, p sides[V, V2]) (R, error) {
		return join(k, p.left, p.right)
	})
}

// LeftJoin is Join, but a left record that has found no partner when its window has passed is joined with nil, at the next
// record that is not late. A left record with a null key is, at once.
func (s *KStream[K, V]) LeftJoin[V2, R any](name string, with *KStream[K, V2], in JoinWindow, join func(K, V, *V2) (R, error)) *KStream[K, R] {
	return joinStreams(s, with, joinShape{name: name, in: in, left: true}, func(k K, p sides[V, V2]) (R, error) {
		return join(k, p.left, present(p.right, p.hasRight))
	})
}

// OuterJoin is LeftJoin for records of both sides.
func (s *KStream[K, V]) OuterJoin[V2, R any](name string, with *KStream[K, V2], in JoinWindow, join func(K, *V, *V2) (R, error)) *KStream[K, R] {
	return joinStreams(s, with, joinShape{name: name, in: in, left: true, right: true}, func(k K, p sides[V, V2]) (R, error) {
		return join(k, present(p.left, p.hasLeft), present(p.right, p.hasRight))
	})
}

// joinShape is a join of streams: left and right say which sides go out alone.
type joinShape struct {
	name        string
	in          JoinWindow
	left, right bool
}

// names are Kafka's names of the join's parts.
func (j joinShape) names() (this, other, shared string) {
	this, other = "-this-join", "-other-join"
	switch {
	case j.right:
		this, other, shared = "-outer-this-join", "-outer-other-join", j.name+"-outer-shared-join-store"
	case j.left:
		other, shared = "-outer-other-join", j.name+"-left-shared-join-store"
	}
	return j.name + this, j.name + other, shared
}

func (j joinShape) check(b *Builder) {
	b.checkName("a join", j.name)
	if j.in.Before+j.in.After < 0 {
		b.mistake("join %q: the window ends before it begins: Before %v, After %v", j.name, j.in.Before, j.in.After)
	}
	if j.in.Grace < 0 {
		b.mistake("join %q has the negative grace %v", j.name, j.in.Grace)
	}
}

// joinStreams wires a join of two streams as Kafka Streams does: a node for the window of each, one for the records of
// each, and one that merges.
func joinStreams[K, V, V2, R any](s *KStream[K, V], with *KStream[K, V2], j joinShape, f func(K, sides[V, V2]) (R, error)) *KStream[K, R] {
	b := s.b
	j.check(b)
	if with.b != b {
		b.mistake("join with a stream of another Builder")
	}
	left, right := joinInput(s, j.name, "left"), joinInput(with, j.name, "right")
	for range 5 {
		b.g.Next("")
	}
	if b.Optimize && !j.left && any(with) == any(s) && !s.rekeyed {
		thisWindow := b.g.Add(graph.Processor, j.name+"-this-windowed", left.node)
		merge := b.g.Add(graph.Processor, j.name+"-merge", thisWindow)
		store := joinStore(b, left, j.name+"-this-join", j)
		store.use(thisWindow)
		store.use(merge)
		return wireJoin(left, right, j, f, joinParts{merge: merge, thisNode: merge, otherNode: merge, this: store, other: store})
	}
	this, other, shared := j.names()
	thisWindow := b.g.Add(graph.Processor, j.name+"-this-windowed", left.node)
	otherWindow := b.g.Add(graph.Processor, j.name+"-other-windowed", right.node)
	thisNode, otherNode := b.g.Add(graph.Processor, this, thisWindow), b.g.Add(graph.Processor, other, otherWindow)
	thisNode.Relaxed, otherNode.Relaxed = j.left, j.right
	merge := b.g.Add(graph.Processor, j.name+"-merge", thisNode, otherNode)
	thisStore, otherStore := joinStore(b, left, this, j), joinStore(b, right, other, j)
	thisStore.use(thisWindow)
	otherStore.use(otherWindow)
	thisStore.use(otherNode)
	otherStore.use(thisNode)
	if shared != "" { // Kafka's store of what has found no partner yet; here that stands with the records
		thisNode.Stores, otherNode.Stores = append(thisNode.Stores, shared), append(otherNode.Stores, shared)
	}
	b.joined = append(b.joined, []*graph.Node{left.node, right.node})
	return wireJoin(left, right, j, f, joinParts{merge: merge, thisNode: thisNode, otherNode: otherNode, this: thisStore, other: otherStore})
}

// joinParts are the nodes and the stores of a join. A stream that is joined with itself may have one store for both sides.
type joinParts struct {
	merge, thisNode, otherNode *graph.Node
	this, other                *storeDef
}

// wireJoin opens the join's two sides, left first.
func wireJoin[K, V, V2, R any](left *KStream[K, V], right *KStream[K, V2], j joinShape, f func(K, sides[V, V2]) (R, error), p joinParts) *KStream[K, R] {
	b, merge := left.b, p.merge
	out := &KStream[K, R]{b: b, node: merge, out: &stage[K, R]{}, key: left.key, val: carry[R](left.val)}
	if out.val == nil {
		out.val = carry[R](right.val)
	}
	before, after, grace := j.in.Before.Milliseconds(), j.in.After.Milliseconds(), j.in.Grace.Milliseconds()
	open := func(o *opening) *streamJoin[K, V, V2, R] {
		if have, ok := o.memo[out]; ok {
			return have.(*streamJoin[K, V, V2, R])
		}
		n := &streamJoin[K, V, V2, R]{node: merge, f: f, next: out.out.open(o), observed: o.task.Observe(j.name)}
		n.left = newJoinSide(o, left, p.this, p.thisNode, before, after, grace, j.left)
		n.right = newJoinSide(o, right, p.other, p.otherNode, after, before, grace, j.right)
		n.right.kept = p.this == p.other
		n.start(o.task.Cursor())
		o.task.OnAdvance(merge.Index, n.observed, n.advance)
		o.memo[out] = n
		return n
	}
	left.out.to(p.thisNode, func(o *opening) fn[K, V] {
		n := open(o)
		return func(c *cursor, k K, v V) error { return arrive(c, n, &n.left, &n.right, k, v, n.ofLeft) }
	})
	right.out.to(p.otherNode, func(o *opening) fn[K, V2] {
		n := open(o)
		return func(c *cursor, k K, v V2) error { return arrive(c, n, &n.right, &n.left, k, v, n.ofRight) }
	})
	return out
}

// joinInput is a side of a join, repartitioned if its key may have changed.
func joinInput[K, V any](s *KStream[K, V], name, side string) *KStream[K, V] {
	in := *s
	in.key = serdeFor(s.b, s.key, nil, fmt.Sprintf("the key of the %s stream of join %q"+onTheWay, side, name))
	in.val = serdeFor(s.b, s.val, nil, fmt.Sprintf("the value of the %s stream of join %q"+onTheWay, side, name))
	if !s.rekeyed {
		return &in
	}
	return repartition(&in, name+"-"+side, in.key, in.val, 0, nil)
}

// joinStore declares the store of one side's records. They are kept as long as a record that is not late may meet them.
func joinStore[K, V any](b *Builder, s *KStream[K, V], name string, j joinShape) *storeDef {
	if b.store(name+"-store") != nil {
		b.mistake("two joins are named %q", j.name)
	}
	keep := max(j.in.Before+j.in.After, j.in.Before, j.in.After, 0) + j.in.Grace + time.Millisecond
	return declareWindow(b, WindowStore[K, []waiting[V]]{Name: name + "-store", Key: s.key, Value: serde.Serde[[]waiting[V]](waitingSerde[V]{s.val})},
		nil, nil, time.Millisecond, keep)
}
