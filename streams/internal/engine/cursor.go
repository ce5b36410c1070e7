package engine

import "github.com/twmb/franz-go/pkg/kgo"

// Cursor is the task's one mutable context, handed along with every record: what is known of it besides its key and
// value. A node that gives its children another time or other headers puts the old ones back when they return.
type Cursor struct {
	Time    int64 // milliseconds
	Headers []kgo.RecordHeader
	Record  *kgo.Record // the source record in hand; nil in punctuators and while stores are flushed
	Task    *Task
}

func (c *Cursor) reset() { c.Record, c.Headers, c.Time = nil, nil, 0 }
