package streamstest

import (
	"strconv"
	"strings"

	"github.com/leatstream/leat/streams"
)

// Letter is a record on a dead letter topic: the record as it came, where it came from, and what was wrong with it.
type Letter struct {
	Key, Value []byte
	Headers    []streams.Header // those that the record came with
	From       string           // its topic
	Partition  int32
	Offset     int64
	Store      string // whose row it was, where there was no record at hand: then Key is the row's and From the changelog
	Exception  string // the cause's type
	Message    string
}

// Letters returns the dead letters that were written to a topic since it was last read.
func (d *Driver) Letters(topicName string) []Letter {
	d.t.Helper()
	var out []Letter
	for _, r := range d.ReadRaw(topicName) {
		l := Letter{Key: r.Key, Value: r.Value, Partition: -1, Offset: -1}
		for _, h := range r.Headers {
			name, ours := strings.CutPrefix(h.Key, "__streams.errors.")
			if !ours {
				l.Headers = append(l.Headers, streams.Header(h))
				continue
			}
			value := string(h.Value)
			switch name {
			case "exception":
				l.Exception = value
			case "message":
				l.Message = value
			case "store":
				l.Store = value
			case "topic":
				l.From = value
			case "partition":
				n, err := strconv.ParseInt(value, 10, 32)
				d.check(err)
				l.Partition = int32(n)
			case "offset":
				n, err := strconv.ParseInt(value, 10, 64)
				d.check(err)
				l.Offset = n
			}
		}
		out = append(out, l)
	}
	return out
}
