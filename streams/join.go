package streams

import (
	"slices"
	"time"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// TableJoin names a join whose stream is rekeyed: its repartition topic is <app>-<Name>-repartition; and one with Grace.
type TableJoin struct {
	Name string
	// Grace lets each record wait until the stream's time is that much later, so that the version of the table's row that
	// held at the record's time can still arrive. The table keeps versions (Store.Versioned), for as long at least. The
	// records wait in a buffer, whose changelog is <app>-<Name>-Buffer-changelog. A record that is later than that waits no more.
	Grace time.Duration
}

// JoinTable looks up each record's key in a table as it stands at that moment, and passes on what join makes of both;
// records without a row are dropped. Updates of the table cause nothing. Stream and table must be co-partitioned.
func (s *KStream[K, V]) JoinTable[V2, R any](with *KTable[K, V2], join func(K, V, V2) (R, error), how ...TableJoin) *KStream[K, R] {
	node, in := joined(s, with.b, with.node, with.get != nil, "KSTREAM-JOIN-", false, how)
	out := joinOut[K, V, R](in, node)
	nullKey, nullVal, raw := nullTest[K](), nullTest[V](), sameBytes(in.raw, with.keyed)
	in.out.to(node, graceJoin(in, node, how, with.history, func(o *opening) fn[K, V] {
		next, get := out.out.open(o), openStreamLookup(o, with)
		return func(c *cursor, k K, v V) error {
			if nullKey != nil && nullKey(k) || nullVal != nil && nullVal(v) {
				c.Task.Counters.NullDropped++
				return nil
			}
			row, _, ok, err := get(c, rawKey(c, raw), k)
			if err != nil {
				return lookupFailed(c, node, err)
			}
			if !ok {
				return nil
			}
			r, err := call3(join, k, v, row)
			if err != nil {
				if r, ok, err = failed3(c, node, join, k, v, row, err); !ok {
					return err
				}
			}
			return next(c, k, r)
		}
	}))
	return out
}

// LeftJoinTable is JoinTable, but a record without a row is joined with nil. A null key joins nothing, and so has no row.
func (s *KStream[K, V]) LeftJoinTable[V2, R any](with *KTable[K, V2], join func(K, V, *V2) (R, error), how ...TableJoin) *KStream[K, R] {
	node, in := joined(s, with.b, with.node, with.get != nil, "KSTREAM-LEFTJOIN-", true, how)
	out := joinOut[K, V, R](in, node)
	nullKey, nullVal, raw := nullTest[K](), nullTest[V](), sameBytes(in.raw, with.keyed)
	in.out.to(node, graceJoin(in, node, how, with.history, func(o *opening) fn[K, V] {
		next, get := out.out.open(o), openStreamLookup(o, with)
		return func(c *cursor, k K, v V) error {
			if nullVal != nil && nullVal(v) {
				c.Task.Counters.NullDropped++
				return nil
			}
			var row *V2
			if nullKey == nil || !nullKey(k) {
				found, _, ok, err := get(c, rawKey(c, raw), k)
				if err != nil {
					return lookupFailed(c, node, err)
				}
				if ok {
					row = &found
				}
			}
			r, err := call3(join, k, v, row)
			if err != nil {
				var ok bool
				if r, ok, err = failed3(c, node, join, k, v, row, err); !ok {
					return err
				}
			}
			return next(c, k, r)
		}
	}))
	return out
}

// lookupFailed settles an error of a lookup: a derived table's function failed and its record is left alone, or all ends.
func lookupFailed(c *cursor, n *graph.Node, err error) error {
	if err == errSkipped || engine.IsFatal(err) {
		return unlessSkipped(err)
	}
	return storeFailed(c, n, err)
}

func openLookup[K, V any](o *opening, t *KTable[K, V]) lookup[K, V] {
	if t.get == nil {
		return func(*cursor, []byte, K) (v V, at int64, ok bool, err error) { return v, 0, false, nil }
	}
	return t.get(o)
}

func joinOut[K, V, R any](in *KStream[K, V], node *graph.Node) *KStream[K, R] {
	return &KStream[K, R]{b: in.b, node: node, out: &stage[K, R]{}, key: in.key, val: carry[R](in.val), raw: in.raw}
}

// joined wires a join node: the stream is repartitioned if its key may have changed.
func joined[K, V any](s *KStream[K, V], b *Builder, table *graph.Node, kept bool, prefix string, left bool, how []TableJoin) (*graph.Node, *KStream[K, V]) {
	if b != s.b {
		s.b.mistake("join with a table of another Builder")
	}
	if !kept {
		s.b.mistake("a join looks rows up: keep the table in a store (Table(topic, store))")
	}
	var name string
	for _, h := range how {
		name = h.Name
	}
	in := s
	if s.rekeyed {
		if name == "" {
			s.b.mistake("the stream's key may have changed, so this join repartitions it: name the join (streams.TableJoin{Name: …})")
			name = "unnamed"
		}
		key := serdeFor(s.b, s.key, nil, "the key of the repartition before join \""+name+"\""+onTheWay)
		val := serdeFor(s.b, s.val, nil, "the value of the repartition before join \""+name+"\""+onTheWay)
		in = repartition(s, name, key, val, 0, nil)
	}
	node := s.b.g.Add(graph.Processor, s.b.g.Next(prefix), in.node)
	if name != "" {
		node.Name = name
	}
	node.Relaxed = left
	s.b.useAll(node, storesOf(table))
	s.b.joined = append(s.b.joined, []*graph.Node{in.node, table})
	return node, in
}

// storesOf returns the stores from which the rows of a table node are looked up: its own, or those of what it is derived
// from.
func storesOf(n *graph.Node) []string {
	if len(n.Stores) > 0 {
		return slices.Clone(n.Stores)
	}
	var out []string
	for _, p := range n.Parents {
		for _, s := range storesOf(p) {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
