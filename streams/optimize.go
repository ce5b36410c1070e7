package streams

import (
	"reflect"
	"slices"

	"github.com/leatstream/leat/streams/internal/graph"
)

// rekeying is an operator that may have changed the key, as the optimisation sees it: with the repartitions that were made
// for its new key before anything else changed the records. They carry the same records, so one topic serves all. Kafka
// Streams calls this merge.repartition.topics and does it in the same way: the first repartition stays, right after the
// operator, and what stood in between (filters, Peek) comes after it.
type rekeying struct {
	node  *graph.Node
	stage any // *stage[K, V] of the operator
	needs []*automatic
	merge func(needs []*automatic) // does the typed part
}

// automatic is a repartition that the builder made for a group or a join.
type automatic struct {
	of     *rekeying
	def    *repartitionDef
	filter *graph.Node
	parent *graph.Node
	branch *graph.Node // the operator's child that leads here; filter if nothing stands in between
	serdes [2]any
	stage  any // *stage[K, V] of parent; in is the repartition's place in it
	in     int
	via    int // branch's place in the operator's stage
	reads  any // **stage[K, V]: what comes after the topic
}

// lineage says through which child of which rekeying operator a stream comes, if nothing has changed its records since. via
// is -1 for the operator's own stream.
type lineage struct {
	of     *rekeying
	branch *graph.Node
	via    int
}

// begin makes s the origin of what may be merged.
func begin[K, V any](s *KStream[K, V]) {
	s.from = lineage{of: &rekeying{node: s.node, stage: s.out, merge: mergeRepartitions[K, V]}, via: -1}
	s.b.rekeyings = append(s.b.rekeyings, s.from.of)
}

// pass notes that out, which leaves records as they are, is about to be wired as the next child of s.
func (s *KStream[K, V]) pass(out *KStream[K, V]) {
	if s.from.of != nil && s.from.via < 0 && s.from.of.stage == any(s.out) {
		out.from.branch, out.from.via = out.node, len(s.out.outs)
	}
}

// noteRepartition notes that s was repartitioned by the closure that its stage got last. reads is where the stage behind
// the topic is kept.
func noteRepartition[K, V any](s *KStream[K, V], def *repartitionDef, filter *graph.Node, key, val any, reads **stage[K, V]) {
	of := s.from.of
	if of == nil || s.from.via < 0 && of.stage != any(s.out) {
		return
	}
	a := &automatic{of: of, def: def, filter: filter, parent: s.node, branch: s.from.branch, serdes: [2]any{key, val},
		stage: s.out, in: len(s.out.outs) - 1, via: s.from.via, reads: reads}
	if a.via < 0 {
		a.branch, a.via = filter, a.in
	}
	of.needs = append(of.needs, a)
}

// sameBytesAs reports whether both repartitions write the same bytes.
func (a *automatic) sameBytesAs(b *automatic) bool {
	for i, s := range a.serdes {
		if !reflect.TypeOf(s).Comparable() || !reflect.TypeOf(b.serdes[i]).Comparable() || s != b.serdes[i] {
			return false
		}
	}
	return true
}

// mergeRepartitions merges repartition topics that carry the same records.
func (b *Builder) mergeRepartitions() {
	if !b.Optimize {
		return
	}
	for _, of := range b.rekeyings {
		if len(of.needs) == 0 {
			continue
		}
		first := of.needs[0]
		// Kafka makes the one that stays anew, next to the operator, which shows in the numbers of sub-topologies.
		first.def.source.node.Place = of.node
		same := slices.DeleteFunc(slices.Clone(of.needs), func(a *automatic) bool { return !a.sameBytesAs(first) })
		if len(same) < 2 {
			continue
		}
		of.merge(same)
		for _, a := range same {
			b.unlink(a, first)
		}
		b.g.Move(first.filter, of.node)
		for _, a := range same {
			if a.branch != a.filter {
				b.g.Move(a.branch, first.def.source.node)
			}
		}
		of.needs = nil // Build may be called again
	}
}

// unlink puts what came after a repartition after its parent, or after the one topic that stays.
func (b *Builder) unlink(a, stays *automatic) {
	source, to := a.def.source.node, a.parent
	if a.branch == a.filter {
		to = stays.def.source.node
	}
	for _, n := range slices.Clone(source.Children) {
		b.g.Replace(n, source, to)
	}
	for _, nodes := range b.joined {
		for i, n := range nodes {
			if n == source {
				nodes[i] = to
			}
		}
	}
	if a == stays {
		return
	}
	b.g.Remove(a.filter, a.def.sink, source)
	b.repartitions = slices.DeleteFunc(b.repartitions, func(d *repartitionDef) bool { return d == a.def })
	b.sources = slices.DeleteFunc(b.sources, func(d *sourceDef) bool { return d == a.def.source })
}

// mergeRepartitions rewires the stages: the operator's stage writes the first topic, and what is read from that goes into
// the branches, in which the stages behind the other topics follow at once.
func mergeRepartitions[K, V any](needs []*automatic) {
	first, top := needs[0], needs[0].of.stage.(*stage[K, V])
	write := first.stage.(*stage[K, V]).outs[first.in]
	var branches []int
	for _, a := range needs {
		a.stage.(*stage[K, V]).outs[a.in] = (*a.reads.(**stage[K, V])).open
		if !slices.Contains(branches, a.via) {
			branches = append(branches, a.via)
		}
	}
	slices.Sort(branches)
	behind := &stage[K, V]{}
	for _, i := range branches {
		behind.outs = append(behind.outs, top.outs[i])
	}
	top.outs[branches[0]] = write
	for _, i := range slices.Backward(branches[1:]) {
		top.outs = slices.Delete(top.outs, i, i+1)
	}
	*first.reads.(**stage[K, V]) = behind
}
