package streamstest

import (
	"slices"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Crash runs f, and lets the application crash before it commits: what f sent is processed, and the commit begun, but not
// ended. Then the application starts again from its last commit, and processes what f sent anew. What it had written is
// gone, as it is for readers of committed records. f sends records, and does nothing else.
func (d *Driver) Crash(f func()) {
	d.t.Helper()
	d.start()
	d.commit()
	metadata := make(map[engine.TaskID]string)
	for _, task := range d.tasks {
		metadata[task.ID()] = task.Metadata()
	}
	before := make(map[string]int)
	for name, t := range d.topics {
		before[name] = len(t.all)
	}
	waiting := d.waiting()
	d.sent, d.retained = make(map[*kgo.Record]bool), true
	f()
	for _, task := range d.tasks {
		if d.err == nil {
			d.check(task.Flush(func(state.Store, []byte, []byte, int64) error { return nil }))
		}
	}
	d.retained = false
	sent := d.sent
	d.sent = nil
	if d.err != nil {
		return
	}
	for _, task := range d.tasks {
		task.Abort()
		d.check(d.closeTask(task))
	}
	d.slab.Reset()
	again := d.forget(before, sent)
	d.open(metadata)
	for _, r := range append(waiting, again...) {
		d.deliver(r)
	}
	d.run()
}

// forget takes what was written since before out of the topics, but for what the test sent, which it returns in order.
func (d *Driver) forget(before map[string]int, sent map[*kgo.Record]bool) (again []*kgo.Record) {
	for name, t := range d.topics {
		n := before[name]
		for _, r := range t.all[n:] {
			if sent[r] {
				again = append(again, r)
			}
		}
		t.all = slices.DeleteFunc(t.all[:len(t.all):len(t.all)], func(r *kgo.Record) bool {
			n--
			return n < 0 && !sent[r]
		})
		t.read = min(t.read, len(t.all))
		clear(t.next)
		for _, r := range t.all {
			t.next[r.Partition] = max(t.next[r.Partition], r.Offset+1)
		}
	}
	slices.SortStableFunc(again, func(a, b *kgo.Record) int { return a.Timestamp.Compare(b.Timestamp) })
	return again
}
