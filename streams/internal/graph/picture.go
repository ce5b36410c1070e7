package graph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Picture is a graph as it is shown: sub-topologies with their nodes. It does not change with the graph it was made of.
type Picture struct {
	SubTopologies []PictureSub `json:"subTopologies"`
}

// PictureSub is a sub-topology.
type PictureSub struct {
	ID    int           `json:"id"`
	Nodes []PictureNode `json:"nodes"`
}

// PictureNode is a node; To are the names of the nodes that it passes records on to. Internal topics stand without the
// application's id.
type PictureNode struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"` // source, processor or sink
	Topics  []string `json:"topics,omitempty"`
	Pattern string   `json:"pattern,omitempty"`
	Dynamic bool     `json:"dynamic,omitempty"` // a sink that chooses its topic per record
	Key     string   `json:"key,omitempty"`     // of sources and sinks: formats, where they are known
	Value   string   `json:"value,omitempty"`
	Stores  []string `json:"stores,omitempty"`
	To      []string `json:"to,omitempty"`
}

// Picture takes a picture of the graph, in the order of wiring.
func (g *Graph) Picture() Picture {
	var p Picture
	for id, nodes := range g.Groups() {
		sub := PictureSub{ID: id}
		for _, n := range nodes {
			out := PictureNode{Name: n.Name, Type: "processor", Topics: slices.Clone(n.Topics), Pattern: n.Pattern,
				Key: n.Key, Value: n.Value, Stores: slices.Clone(n.Stores)}
			switch n.Kind {
			case Source:
				out.Type = "source"
			case Sink:
				out.Type, out.Dynamic = "sink", len(n.Topics) == 0
			}
			for _, c := range n.Children {
				out.To = append(out.To, c.Name)
			}
			sub.Nodes = append(sub.Nodes, out)
		}
		p.SubTopologies = append(p.SubTopologies, sub)
	}
	return p
}

// JSON is the picture as indented JSON.
func (p Picture) JSON() string {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err.Error() // cannot be: strings and numbers
	}
	return string(b) + "\n"
}

// drawing numbers what is drawn: names may hold what a language of pictures does not take.
type drawing struct {
	strings.Builder
	ids map[string]string
}

// id returns the short name of a thing, and whether it is new.
func (d *drawing) id(kind, name string) (id string, isNew bool) {
	key := kind + "\x00" + name
	if id, ok := d.ids[key]; ok {
		return id, false
	}
	id = fmt.Sprintf("%s%d", kind, len(d.ids))
	d.ids[key] = id
	return id, true
}

func (d *drawing) linef(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

// External lists the topics that a node reads or writes.
func (n *PictureNode) External() []string {
	switch {
	case n.Pattern != "":
		return []string{"/" + n.Pattern + "/"}
	case n.Dynamic:
		return []string{"(chosen per record)"}
	}
	return n.Topics
}

// DOT is the picture in Graphviz's language: `dot -Tsvg` draws it.
func (p Picture) DOT() string {
	d := &drawing{ids: make(map[string]string)}
	d.linef("digraph topology {")
	d.linef("  rankdir=LR;\n  node [fontname=\"sans-serif\", fontsize=10];")
	for _, s := range p.SubTopologies {
		d.linef("  subgraph cluster_%d {\n    label=%q;", s.ID, fmt.Sprintf("sub-topology %d", s.ID))
		for _, n := range s.Nodes {
			id, _ := d.id("n", n.Name)
			d.linef("    %s [label=%q, shape=%s];", id, n.Name, map[string]string{"source": "cds", "sink": "rarrow", "processor": "box"}[n.Type])
			for _, st := range n.Stores {
				if id, isNew := d.id("s", st); isNew {
					d.linef("    %s [label=%q, shape=cylinder];", id, st)
				}
			}
		}
		d.linef("  }")
	}
	p.edges(d, "  %s -> %s;", "  %s -> %s [dir=none, style=dashed];", func(id, name string) {
		d.linef("  %s [label=%q, shape=note];", id, name)
	})
	d.linef("}")
	return d.String()
}

// Mermaid is the picture as a Mermaid flowchart, which many pages draw by themselves.
func (p Picture) Mermaid() string {
	d := &drawing{ids: make(map[string]string)}
	text := func(s string) string {
		return `"` + strings.ReplaceAll(strings.ReplaceAll(s, "#", "#35;"), `"`, "#quot;") + `"`
	}
	d.linef("flowchart LR")
	for _, s := range p.SubTopologies {
		d.linef("  subgraph sub%d [sub-topology %d]", s.ID, s.ID)
		for _, n := range s.Nodes {
			id, _ := d.id("n", n.Name)
			open, shut := "[", "]"
			switch n.Type {
			case "source":
				open, shut = "([", "])"
			case "sink":
				open, shut = "[/", "/]"
			}
			d.linef("    %s%s%s%s", id, open, text(n.Name), shut)
			for _, st := range n.Stores {
				if id, isNew := d.id("s", st); isNew {
					d.linef("    %s[(%s)]", id, text(st))
				}
			}
		}
		d.linef("  end")
	}
	p.edges(d, "  %s --> %s", "  %s -.- %s", func(id, name string) { d.linef("  %s{{%s}}", id, text(name)) })
	return d.String()
}

// edges draws what connects nodes, stores and topics.
func (p Picture) edges(d *drawing, flow, uses string, topic func(id, name string)) {
	for _, s := range p.SubTopologies {
		for _, n := range s.Nodes {
			id, _ := d.id("n", n.Name)
			for _, name := range n.External() {
				t, isNew := d.id("t", name)
				if isNew {
					topic(t, name)
				}
				if n.Type == "source" {
					d.linef(flow, t, id)
				} else {
					d.linef(flow, id, t)
				}
			}
			for _, to := range n.To {
				t, _ := d.id("n", to)
				d.linef(flow, id, t)
			}
			for _, st := range n.Stores {
				t, _ := d.id("s", st)
				d.linef(uses, id, t)
			}
		}
	}
}
