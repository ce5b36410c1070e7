// Package graph is a topology as a picture: its nodes, the sub-topologies that they fall into, and the text that Kafka's
// Topology.describe() would give. Names of nodes, with their counters, are for display only: no topic, store or state
// takes its name from them.
package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Kind is what a node does with topics.
type Kind int

const (
	Processor Kind = iota
	Source
	Sink
)

// Node is one node of the topology.
type Node struct {
	Index   int // order of wiring
	Name    string
	Kind    Kind
	Topics  []string // of a source or a sink; the name of an internal topic stands without the application id
	Pattern string   // of a source by pattern
	Stores  []string
	// Key and Value name the formats of a source's or a sink's records; empty where they are not known.
	Key, Value string
	Parents    []*Node
	Children   []*Node
	// Global marks the nodes of a global table.
	Global bool
	// Relaxed marks a join that lets null keys through repartitions before it.
	Relaxed bool
	// Place is the node right after which this one counts, where sub-topologies are numbered by the order of their sources.
	Place *Node
	// Group is set by Graph.Groups: the number of the sub-topology.
	Group int
	size  int
}

// Graph is a topology under construction. The zero value is empty.
type Graph struct {
	Nodes []*Node
	next  int
}

// Next burns one number of Kafka's counter and returns a name made with it.
func (g *Graph) Next(prefix string) string {
	g.next++
	return fmt.Sprintf("%s%010d", prefix, g.next-1)
}

// Add adds a node below its parents.
func (g *Graph) Add(kind Kind, name string, parents ...*Node) *Node {
	n := &Node{Index: len(g.Nodes), Name: name, Kind: kind, Group: -1}
	g.Nodes = append(g.Nodes, n)
	for _, p := range parents {
		n.Parents = append(n.Parents, p)
		p.Children = append(p.Children, n)
	}
	return n
}

// Duplicates returns the names that several nodes have.
func (g *Graph) Duplicates() []string {
	seen := make(map[string]int)
	var out []string
	for _, n := range g.Nodes {
		seen[n.Name]++
		if seen[n.Name] == 2 {
			out = append(out, n.Name)
		}
	}
	return out
}

// Move makes parent the one parent of n.
func (g *Graph) Move(n, parent *Node) {
	for _, p := range slices.Clone(n.Parents) {
		g.Replace(n, p, parent)
	}
}

// Replace gives n another parent in place of old.
func (g *Graph) Replace(n, old, parent *Node) {
	if old == parent {
		return
	}
	for i, p := range n.Parents {
		if p == old {
			n.Parents[i] = parent
		}
	}
	old.Children = slices.DeleteFunc(old.Children, func(c *Node) bool { return c == n })
	parent.Children = append(parent.Children, n)
}

// Remove takes nodes out, with their edges.
func (g *Graph) Remove(nodes ...*Node) {
	for _, n := range nodes {
		is := func(m *Node) bool { return m == n }
		for _, p := range n.Parents {
			p.Children = slices.DeleteFunc(p.Children, is)
		}
		for _, c := range n.Children {
			c.Parents = slices.DeleteFunc(c.Parents, is)
		}
		g.Nodes = slices.DeleteFunc(g.Nodes, is)
	}
	for i, n := range g.Nodes {
		n.Index = i
	}
}

// placed compares two sources by where they stand.
func placed(a, b *Node) int {
	at := func(n *Node) (int, int) {
		if n.Place != nil {
			return n.Place.Index, n.Index + 1
		}
		return n.Index, 0
	}
	a1, a2 := at(a)
	b1, b2 := at(b)
	return cmp.Or(cmp.Compare(a1, b1), cmp.Compare(a2, b2))
}

// Groups numbers the sub-topologies: nodes that are connected by edges or share a store. They are numbered as Kafka
// does: in the order of their sources' names; where its optimisation has been at work, in the order of the sources.
func (g *Graph) Groups() [][]*Node {
	root := make([]int, len(g.Nodes))
	for i := range root {
		root[i] = i
	}
	find := func(i int) int {
		for root[i] != i {
			i = root[i]
		}
		return i
	}
	byStore := make(map[string]int)
	for _, n := range g.Nodes {
		for _, p := range n.Parents {
			root[find(n.Index)] = find(p.Index)
		}
		for _, s := range n.Stores {
			if first, ok := byStore[s]; ok {
				root[find(n.Index)] = find(first)
			} else {
				byStore[s] = n.Index
			}
		}
	}
	optimized := slices.ContainsFunc(g.Nodes, func(n *Node) bool { return n.Place != nil })
	sources := slices.Clone(g.Nodes)
	slices.SortFunc(sources, func(a, b *Node) int {
		if a.Kind != b.Kind && (a.Kind == Source || b.Kind == Source) {
			if a.Kind == Source {
				return -1
			}
			return 1
		}
		if a.Kind == Source && optimized {
			return placed(a, b)
		}
		return strings.Compare(a.Name, b.Name)
	})
	number := make(map[int]int)
	for _, n := range sources {
		r := find(n.Index)
		if _, ok := number[r]; !ok {
			number[r] = len(number)
		}
	}
	groups := make([][]*Node, len(number))
	for _, n := range g.Nodes {
		n.Group = number[find(n.Index)]
		groups[n.Group] = append(groups[n.Group], n)
	}
	return groups
}

// Upstream returns the sources from which records reach n within its sub-topology.
func (n *Node) Upstream() []*Node {
	var out []*Node
	seen := make(map[*Node]bool)
	var walk func(*Node)
	walk = func(m *Node) {
		if seen[m] {
			return
		}
		seen[m] = true
		if m.Kind == Source {
			out = append(out, m)
		}
		for _, p := range m.Parents {
			walk(p)
		}
	}
	walk(n)
	return out
}

// LeadsToRelaxed reports whether a relaxed join lies below n.
func (n *Node) LeadsToRelaxed() bool {
	if n.Relaxed {
		return true
	}
	return slices.ContainsFunc(n.Children, (*Node).LeadsToRelaxed)
}
