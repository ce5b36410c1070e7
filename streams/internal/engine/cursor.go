package engine

import "github.com/twmb/franz-go/pkg/kgo"

// Cursor is the task's one mutable context, handed along with every record: what is known of it besides its key and
// value. A node that gives its children another time or other headers puts the old ones back when they return.
type Cursor struct {
	Time    int64 // milliseconds
	Headers []kgo.RecordHeader
	Record  *kgo.Record // the source record in hand; nil in punctuators and while stores are flushed
	Task    *Task

	Trace *Trace // nil: nothing is traced

	// Store and Key are the row whose update is on its way, while stores are flushed: its store, and its encoded key, which is
	// valid until the stores are sealed.
	Store string
	Key   []byte
	// Value is what is stored of a row that does not decode.
	Value []byte
}

func (c *Cursor) reset() { c.Record, c.Headers, c.Time, c.Store, c.Key = nil, nil, 0, "", nil }
