package topic

import (
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// tally counts the records that were written. The client calls it from its own goroutines.
type tally struct {
	mu struct {
		sync.Mutex
		partitions map[int32]*span
		err        error
	}
}

// span is what was written to a partition.
type span struct {
	first, last, records int64
}

func newTally() *tally {
	t := new(tally)
	t.mu.partitions = map[int32]*span{}
	return t
}

func (t *tally) written(r *kgo.Record, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if t.mu.err == nil {
			t.mu.err = err
		}
		return
	}
	s := t.mu.partitions[r.Partition]
	if s == nil {
		s = &span{first: r.Offset, last: r.Offset}
		t.mu.partitions[r.Partition] = s
	}
	s.first, s.last = min(s.first, r.Offset), max(s.last, r.Offset)
	s.records++
}

func (t *tally) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.err
}

func (t *tally) result(topic string) *cli.Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	res := new(cli.Result)
	table := res.Table("partitions", "TOPIC", "PARTITION", "RECORDS", "FIRST-OFFSET", "LAST-OFFSET")
	for _, p := range slices.Sorted(maps.Keys(t.mu.partitions)) {
		s := t.mu.partitions[p]
		table.Row(topic, p, s.records, s.first, s.last)
	}
	return res
}
