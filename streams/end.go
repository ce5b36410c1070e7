package streams

import "github.com/leatstream/leat/streams/internal/graph"

// End is the end of a stream or of a table: a sink, ForEach or Print. It may be ignored.
type End struct{ node *graph.Node }

// Named names the node for Describe and for errors.
func (e *End) Named(name string) *End {
	e.node.Name = name
	return e
}
