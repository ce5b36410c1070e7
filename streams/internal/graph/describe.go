package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Describe gives Kafka's TopologyDescription text.
//
// Kafka keeps nodes in sets that are ordered by the size of the tree below each, then by name. The neighbours of a node
// are put into such sets while those sizes are still growing, in the order of a Java HashMap; so their order is that of
// the sizes at that moment. This is done again here, hash order and all, to give the same text.
func (g *Graph) Describe() string {
	var b strings.Builder
	b.WriteString("Topologies:\n   ")
	for i, nodes := range g.Groups() {
		if i > 0 {
			b.WriteString("  ")
		}
		global := len(nodes) > 0 && nodes[0].Global
		fmt.Fprintf(&b, "Sub-topology: %d", i)
		if global {
			b.WriteString(" for global store (will not generate tasks)")
		}
		b.WriteString("\n")
		neighbours := connect(nodes)
		slices.SortFunc(nodes, compare)
		for _, n := range nodes {
			b.WriteString("    ")
			describeNode(&b, n, neighbours[n])
		}
		if !global {
			b.WriteString("\n")
		}
	}
	return b.String()
}

type around struct{ above, below []*Node }

func compare(a, b *Node) int {
	if c := cmp.Compare(b.size, a.size); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// connect sets the sizes of the nodes and orders their neighbours.
func connect(nodes []*Node) map[*Node]*around {
	at := make(map[*Node]*around, len(nodes))
	for _, n := range nodes {
		n.size = 1
		at[n] = new(around)
	}
	var grow func(n *Node, by int)
	grow = func(n *Node, by int) {
		n.size += by
		for _, p := range at[n].above {
			grow(p, by)
		}
	}
	for _, n := range hashOrder(nodes) {
		for _, p := range n.Parents {
			at[n].above = insert(at[n].above, p)
			at[p].below = insert(at[p].below, n)
			grow(p, n.size)
		}
	}
	return at
}

// insert puts n where a sorted set would, by the sizes of now.
func insert(set []*Node, n *Node) []*Node {
	i, found := slices.BinarySearchFunc(set, n, compare)
	if found {
		return set
	}
	return slices.Insert(set, i, n)
}

func describeNode(b *strings.Builder, n *Node, at *around) {
	switch n.Kind {
	case Source:
		if n.Pattern != "" {
			fmt.Fprintf(b, "Source: %s (topics: %s)\n      --> %s\n", n.Name, n.Pattern, names(at.below))
			return
		}
		fmt.Fprintf(b, "Source: %s (topics: [%s])\n      --> %s\n", n.Name, strings.Join(n.Topics, ", "), names(at.below))
	case Sink:
		topic := "extractor class: ..."
		if len(n.Topics) > 0 {
			topic = "topic: " + n.Topics[0]
		}
		fmt.Fprintf(b, "Sink: %s (%s)\n      <-- %s\n", n.Name, topic, names(at.above))
	default:
		fmt.Fprintf(b, "Processor: %s (stores: [%s])\n      --> %s\n      <-- %s\n",
			n.Name, strings.Join(inSet(n.Stores), ", "), names(at.below), names(at.above))
	}
}

func names(nodes []*Node) string {
	if len(nodes) == 0 {
		return "none"
	}
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return strings.Join(out, ", ")
}

// hashOrder returns the nodes in the order in which a java.util.HashMap keyed by their names iterates, filled from a
// HashSet of those names.
func hashOrder(nodes []*Node) []*Node {
	table := 16
	for len(nodes)*4 > table*3 {
		table *= 2
	}
	out := slices.Clone(nodes)
	slices.SortStableFunc(out, func(a, b *Node) int {
		return cmp.Compare(bucket(a.Name, table), bucket(b.Name, table))
	})
	return out
}

// inSet returns names in the order of a java.util.HashSet.
func inSet(names []string) []string {
	out := slices.Clone(names)
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(bucket(a, 16), bucket(b, 16)) })
	return out
}

func bucket(name string, table int) uint32 {
	var h uint32
	for _, r := range name { // names are ASCII in practice, where UTF-16 units and runes agree
		h = h*31 + uint32(r)
	}
	h ^= h >> 16
	return h & uint32(table-1)
}
