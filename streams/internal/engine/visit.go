package engine

import (
	"time"

	"github.com/leatstream/leat/serde"
)

// Node is a node of one task, as a hook around it is told of it (Config.Wrap).
type Node struct {
	// Name is the node's, as Describe shows it.
	Name string
	// Task is the task's name, for example 0_3.
	Task string
	// Source and Sink say that the node reads or writes topics; neither: it is a processor.
	Source, Sink bool
	// Topics are a source's or a sink's, internal ones without the application's id. Stores are those it is connected to.
	// Neither may be changed.
	Topics, Stores []string
}

// Wrapper is a hook around one node of one task: it is called for every record that reaches the node, on the task's
// goroutine, and calls next, at most once, to let the node have it. What it does not pass on is dropped, and counted as
// skipped. next returns when the node and all that lies below it in the task have done their work; a store passes its
// updates on later, at the commit, unless it is not buffered.
//
// An error of next is final and is to be returned as it is. An error of the wrapper's own, or a panic, is that record's
// error at that node; when it is tried again the node does not get the record a second time.
type Wrapper func(v *Visit, next func() error) error

// Origin says where the record in hand lies.
type Origin struct {
	Topic     string
	Partition int32
	Offset    int64
}

// Visit is a record at a node. It is valid during the call of the wrapper only.
type Visit struct {
	node       Node
	cursor     *Cursor
	key, value any // pointers to the key and the value
	anyKey     func() any
	anyValue   func() any
}

// NewVisit makes the one Visit of a node in a task. key and value point to where the record in hand is put; the functions
// give its key and value as they are shown where another type is asked for.
func NewVisit(n Node, c *Cursor, key, value any, anyKey, anyValue func() any) *Visit {
	return &Visit{node: n, cursor: c, key: key, value: value, anyKey: anyKey, anyValue: anyValue}
}

// Node is where the record is.
func (v *Visit) Node() Node { return v.node }

// Key is the record's key, if it is a K. Of its own type it costs nothing; as any it may be copied to the heap.
func (v *Visit) Key[K any]() (K, bool) { return held[K](v.key, v.anyKey) }

// Value is the record's value, if it is a V; see Key. An update of a table is a Change of the table's values. A delete on
// its way into a table of plain values has none.
func (v *Visit) Value[V any]() (V, bool) { return held[V](v.value, v.anyValue) }

func held[T any](p any, boxed func() any) (T, bool) {
	if typed, ok := p.(*T); ok {
		return *typed, true
	}
	t, ok := boxed().(T)
	return t, ok
}

// Time is the record's event time, in UTC.
func (v *Visit) Time() time.Time { return time.UnixMilli(v.cursor.Time).UTC() }

// Headers are a copy of the record's headers; nil if there are none. Their values must not be changed.
func (v *Visit) Headers() []serde.Header {
	if len(v.cursor.Headers) == 0 {
		return nil
	}
	out := make([]serde.Header, len(v.cursor.Headers))
	for i, h := range v.cursor.Headers {
		out[i] = serde.Header(h)
	}
	return out
}

// Origin says where the source record lies that is being processed; false in a punctuator, and for a table's update at the
// commit.
func (v *Visit) Origin() (Origin, bool) { return v.cursor.Origin() }

// Origin says where the record in hand lies; false if there is none.
func (c *Cursor) Origin() (Origin, bool) {
	if c.Record == nil {
		return Origin{}, false
	}
	return Origin{Topic: c.Record.Topic, Partition: c.Record.Partition, Offset: c.Record.Offset}, true
}
