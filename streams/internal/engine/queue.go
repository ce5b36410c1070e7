package engine

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// queue holds the records of one source partition that wait to be processed: the slices as they were polled.
type queue struct {
	index     int // of the source in Sub.Sources
	topic     string
	partition int32
	source    *Source

	recs     []*kgo.Record // the slice in hand
	head     int
	more     [][]*kgo.Record
	buffered int
	bytes    int64 // of what is buffered, roughly
	known    bool  // headTime is that of recs[head]
	headTime int64 // milliseconds
	latest   int64 // the largest time taken from this partition; -1 at first
	next     int64 // what is to be committed: all below is processed; -1 at first
	position int64 // the consumer's position, everything below it has been enqueued; -1 at first
	epoch    int32

	end   int64         // the log's end as far as known: while position is below, records are on their way
	sure  int64         // times up to this are not too far ahead, as of when the clock was last read
	ahead time.Duration // SourceSpec.MaxAhead
	idle  time.Duration // SourceSpec.Idle
	lacks time.Time     // since when the task waits for records that are on their way; zero: it does not
	idles time.Time     // since when it waits for records that may come
}

func newQueue(index int, topic string, partition int32) *queue {
	return &queue{index: index, topic: topic, partition: partition, latest: -1, next: -1, position: -1, end: -1, epoch: -1}
}

// ready makes the head's time known, and reports whether there is a head.
func (q *queue) ready(t *Task) bool {
	for {
		if q.known {
			return true
		}
		if q.head == len(q.recs) {
			if len(q.more) == 0 {
				return false
			}
			q.recs, q.head = q.more[0], 0
			q.more[0] = nil
			q.more = q.more[1:]
			continue
		}
		r := q.recs[q.head]
		if q.source.Time == nil {
			if at := r.Timestamp.UnixMilli(); at >= 0 && at <= q.sure {
				q.headTime, q.known = at, true
				return true
			}
		}
		if q.odd(t, r) {
			return true
		}
		if t.dead != nil {
			return false
		}
	}
}

// ErrFutureTime is wrapped by the error of a record whose time lies further ahead than its source allows.
var ErrFutureTime = errors.New("timestamp too far ahead")

// ErrNegativeTime is wrapped by the error of a record whose timestamp lies before 1970.
var ErrNegativeTime = errors.New("negative timestamp")

// odd makes the time of a head known that has an extractor, or a timestamp of its own that may be bad. A head that is dropped is
// popped, and odd is false.
func (q *queue) odd(t *Task, r *kgo.Record) bool {
	c := &t.cur
	c.Record, c.Time, c.Headers = r, max(q.latest, 0), r.Headers
	for attempt := 1; ; attempt++ {
		at, err := r.Timestamp.UnixMilli(), error(nil)
		if q.source.Time != nil {
			at, err = q.source.Time(r, q.latest)
			if err == nil && at < 0 {
				t.Counters.BadTime++
				q.pop()
				return false
			}
		} else if at < 0 {
			err = fmt.Errorf("%w %d: the producer set none, or the topic is older than timestamps; "+
				"give the source a time of its own (Topic.Time)", ErrNegativeTime, at)
		}
		if err == nil && at > q.sure {
			now := t.env.Now()
			if q.sure = now.Add(q.ahead).UnixMilli(); at > q.sure {
				err = fmt.Errorf("%w: %s is %v after now, more than the %v that the source allows (Source.MaxAhead)", ErrFutureTime,
					time.UnixMilli(at).UTC().Format(time.RFC3339), time.UnixMilli(at).Sub(now).Round(time.Millisecond), q.ahead)
			}
		}
		if err == nil {
			q.headTime, q.known = at, true
			return true
		}
		again, ferr := c.Fail(t.sub.Sources[q.index].Node, Timing, attempt, err)
		if ferr != nil {
			return false
		}
		if !again {
			q.headTime = q.latest
			q.pop()
			return false
		}
	}
}

// pop takes the head.
func (q *queue) pop() (*kgo.Record, int64) {
	r, at := q.recs[q.head], q.headTime
	q.bytes -= sizeOf(r)
	q.recs[q.head] = nil
	q.head++
	q.buffered--
	q.next, q.epoch = r.Offset+1, r.LeaderEpoch
	if q.known && at > q.latest {
		q.latest = at
	}
	q.known = false
	return r, at
}

func (q *queue) clear() {
	q.recs, q.head, q.more, q.buffered, q.bytes, q.known = nil, 0, nil, 0, 0, false
	q.next, q.position = -1, -1
}

// Enqueue gives the task polled records of one source partition, in offset order, control records left out. The task
// keeps the slice; the records must stay valid until the commit after their processing is done, since results may share
// their bytes.
func (t *Task) Enqueue(topic string, partition int32, recs []*kgo.Record) {
	if len(recs) == 0 {
		return
	}
	q := t.queue(topic, partition)
	if q == nil {
		return
	}
	q.buffered += len(recs)
	for _, r := range recs {
		q.bytes += sizeOf(r)
	}
	q.position = recs[len(recs)-1].Offset + 1 // which is less than it was where the log has lost its end and goes on from there
	if q.head == len(q.recs) && len(q.more) == 0 {
		q.recs, q.head = recs, 0
		return
	}
	q.more = append(q.more, recs)
}

// NotePosition tells the task how far the consumer has come on a partition: everything below next was enqueued, or was a
// control record, or is gone.
func (t *Task) NotePosition(topic string, partition int32, next int64, leaderEpoch int32) {
	if q := t.queue(topic, partition); q != nil && next > q.position {
		q.position = next
		if q.buffered == 0 {
			q.epoch = leaderEpoch
		}
	}
}

// Buffered returns how many records of a source partition wait, and about how many bytes they hold, so that it can be paused.
func (t *Task) Buffered(topic string, partition int32) (records int, bytes int64) {
	if q := t.queue(topic, partition); q != nil {
		return q.buffered, q.bytes
	}
	return 0, 0
}

// recordOverhead is what a record holds beside its key and its value.
const recordOverhead = 200

func sizeOf(r *kgo.Record) int64 { return int64(len(r.Key) + len(r.Value) + recordOverhead) }

// BufferedAll returns how many records wait in all.
func (t *Task) BufferedAll() int {
	n := 0
	for _, q := range t.queues {
		n += q.buffered
	}
	return n
}

// Waiting calls f for every record that waits, of one partition after the other, in the order of offsets.
func (t *Task) Waiting(f func(r *kgo.Record)) {
	for _, q := range t.queues {
		for _, r := range q.recs[q.head:] {
			f(r)
		}
		for _, recs := range q.more {
			for _, r := range recs {
				f(r)
			}
		}
	}
}

// Positions calls f with the offset to commit for every source partition that has moved since the task began: that of the
// next record that waits, else the consumer's position.
func (t *Task) Positions(f func(topic string, partition int32, next int64, leaderEpoch int32)) {
	for _, q := range t.queues {
		next := q.next
		if q.buffered == 0 {
			next = max(next, q.position)
		} else if h := q.peek(); h != nil {
			next = h.Offset
		}
		if next >= 0 {
			f(q.topic, q.partition, next, q.epoch)
		}
	}
}

func (q *queue) peek() *kgo.Record {
	if q.head < len(q.recs) {
		return q.recs[q.head]
	}
	if len(q.more) > 0 && len(q.more[0]) > 0 {
		return q.more[0][0]
	}
	return nil
}

// queue finds the queue of a partition. A topic that a pattern source has found is added on the way, and so is a partition
// of a global table's topic.
func (t *Task) queue(topic string, partition int32) *queue {
	for _, q := range t.queues {
		if q.partition == partition && q.topic == topic {
			return q
		}
	}
	if t.sub.Global && len(t.queues) > 0 && t.queues[0].topic == topic {
		return t.addQueue(0, topic, partition)
	}
	return t.found(topic, partition)
}

func (t *Task) addQueue(source int, topic string, partition int32) *queue {
	q := newQueue(source, topic, partition)
	q.idle, q.ahead = t.sub.Sources[source].Idle, t.sub.Sources[source].MaxAhead
	if q.ahead == 0 {
		q.sure = math.MaxInt64
	}
	if t.instance != nil {
		q.source = &t.instance.Sources[source]
	}
	t.queues = append(t.queues, q)
	return q
}
