// Package engine runs one task of a topology: one sub-topology on one partition number.
//
// A [Plan] is what streams.Builder.Build makes of a topology. Nothing typed is left in it: each [Sub] carries functions
// that open its stores and build its typed closures for one [Task]. The runtime (or a test driver) owns the goroutine:
// it makes a task with [NewTask], restores its stores, calls [Task.Start], then feeds it with [Task.Enqueue],
// [Task.Process] and [Task.Punctuate], and commits with [Task.Flush], [Task.Positions] and [Task.Seal].
//
// A task and everything in it belongs to the one goroutine that calls it. Nothing is locked, because nothing is shared;
// [RecordPool] alone may be used by several goroutines at once.
package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Topic is the name of a topic in a plan. The full name of an internal topic is known only with the application id.
type Topic struct {
	Name     string // without the application id
	Internal bool
}

// In returns the topic's name on the log for application appID.
func (t Topic) In(appID string) string {
	if t.Internal {
		return appID + "-" + t.Name
	}
	return t.Name
}

// String names the topic without its application.
func (t Topic) String() string {
	if t.Internal {
		return "<app>-" + t.Name
	}
	return t.Name
}

// Plan is a built topology. It is immutable and may be used by any number of goroutines.
type Plan struct {
	Subs         []*Sub         // Subs[i].ID == i
	Repartitions []*Repartition // every repartition topic
	Create       []NewTopic     // topics of the user's to be created if they are missing
	Starters     []Starter      // serdes to be started once, before the first record
	Describe     string         // Kafka's TopologyDescription text
}

// NewTopic is a topic whose descriptor gives its partition count.
type NewTopic struct {
	Name       string
	Partitions int32
}

// Starter is serde.Starter; see there.
type Starter interface {
	Start(ctx context.Context) error
}

// Store finds the store of that name, or nil.
func (p *Plan) Store(name string) (*Sub, *StoreSpec) {
	for _, s := range p.Subs {
		for _, st := range s.Stores {
			if st.Name == name {
				return s, st
			}
		}
	}
	return nil, nil
}

// Sub is a sub-topology: the nodes that are connected by anything but topics.
type Sub struct {
	ID int
	// Global says that this is a table of which every instance keeps the whole: it has one source, whose partitions all go
	// to one task, one store, and no commit with the group.
	Global  bool
	Sources []*SourceSpec
	Stores  []*StoreSpec
	// OpenStores opens the task's stores, so that they can be restored, in the order in which they are to be flushed.
	OpenStores func(t *Task) ([]state.Store, error)
	// Open builds the closures of this task, after its stores have been restored. It runs user code (Process).
	Open func(t *Task) (*Instance, error)
}

// Reset says where a source begins that has no committed offset.
type Reset int

const (
	ResetDefault  Reset = iota // the application's default
	ResetEarliest              // the log's start
	ResetLatest                // the log's end
	ResetNone                  // refuse to start
)

// SourceSpec is one source node.
type SourceSpec struct {
	Node   string
	Topics []Topic
	// Pattern is a regular expression that a topic's whole name has to match; Topics is empty then.
	Pattern string
	Reset   Reset
	// ResetBy begins at the first record that is no older than this, instead of Reset; 0: Reset counts.
	ResetBy time.Duration
	// Idle is how long the task waits for one of the source's partitions that has nothing, while another has records; 0: as
	// long as the log has more of it, negative: not even that.
	Idle time.Duration
	// MaxAhead is how far ahead of the wall clock a record's time may be; 0: any.
	MaxAhead time.Duration
	// Group numbers the co-partition group within the sub-topology: the topics of one group must have equal partition
	// counts. Negative: in none.
	Group int
	// Table names the store that a table source fills, if any.
	Table string
}

// Repartition is one repartition topic: written by the sub-topologies in From, read by To.
type Repartition struct {
	Topic      Topic
	Partitions int32 // pinned by the user; 0: derived
	From       []int
	To         int
}

// Config is what the topic is to be created with.
func (r *Repartition) Config() map[string]string {
	return map[string]string{
		"cleanup.policy": "delete", "segment.bytes": "52428800", "retention.ms": "-1",
		"message.timestamp.type": "CreateTime",
	}
}

// StoreSpec describes one store of a sub-topology.
type StoreSpec struct {
	Name string
	Kind StoreKind
	// Changelog is the topic the store is restored from; its Name is empty for a store that has none. With FromSource it
	// is a source topic of the topology: nothing is written to it, and it is restored to the committed offset only.
	Changelog  Topic
	FromSource bool
	// RetentionMillis is for window and session stores (their changelog keeps a day longer), and versioned history.
	RetentionMillis int64
	SizeMillis      int64                   // of a window store's windows; 0: not one size
	End             func(start int64) int64 // of a window store whose windows differ in size: where one ends; nil: they do not
	Overrides       map[string]string       // topic configs of the user
	// Aside says that nothing depends on the store's rows: it may go, and begin empty.
	Aside bool
	// Traced says of the store of a global table that the contexts of its rows' records are kept (Slots.Mark).
	Traced bool
	// Headers go with every record of the changelog. They must not be changed.
	Headers []kgo.RecordHeader
	// Check finds fault with a record of Changelog that is replayed into the store, as its source would; nil: there is nothing
	// to find. Any goroutine calls it.
	Check func(r *kgo.Record) error
	// Key and Value are the serdes, as declared; streams.View uses them.
	Key, Value any
}

// WindowEnd is where the window ends that starts at start, in milliseconds. It is start if nobody knows.
func (s *StoreSpec) WindowEnd(start int64) int64 {
	if s.End != nil {
		return s.End(start)
	}
	return start + s.SizeMillis
}

// StoreKind is the kind of a store.
type StoreKind int

const (
	KeyValue StoreKind = iota
	Window
	Session
	Versioned
)

// String names the kind.
func (k StoreKind) String() string {
	return [...]string{KeyValue: "key-value", Window: "window", Session: "session", Versioned: "versioned"}[k]
}

// Config is what the changelog topic is to be created with, as Kafka Streams creates it.
func (s *StoreSpec) Config() map[string]string {
	const day = 24 * 60 * 60 * 1000
	c := map[string]string{"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}
	switch s.Kind {
	case Window, Session:
		c["cleanup.policy"] = "compact,delete"
		c["retention.ms"] = fmt.Sprint(s.RetentionMillis + day)
	case Versioned:
		c["min.compaction.lag.ms"] = fmt.Sprint(s.RetentionMillis + day)
	}
	for k, v := range s.Overrides {
		c[k] = v
	}
	return c
}

// Instance is what Sub.Open makes for one task.
type Instance struct {
	Sources []Source // in the order of Sub.Sources
	Close   func() error
}

// Source is the typed entry of one source node.
type Source struct {
	// Time returns the record's event time in milliseconds; partition is the latest of the records before it, -1 if
	// there was none. nil: the record's own timestamp. A negative time drops the record.
	Time func(r *kgo.Record, partition int64) (int64, error)
	// Process decodes the cursor's record and passes it on.
	Process func(c *Cursor, r *kgo.Record) error
}
