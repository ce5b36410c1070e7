package txn

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// notYet reports what came although it must not come yet.
func notYet[T any](t *testing.T, c <-chan T, what string) {
	t.Helper()
	select {
	case v := <-c:
		t.Errorf("%s: %v", what, v)
	case <-time.After(20 * time.Millisecond):
	}
}

func endLater(t *testing.T, c *Coordinator, id int64, epoch int16, version int16) <-chan *kerr.Error {
	ended := make(chan *kerr.Error, 1)
	go func() {
		resp := c.EndTxn(t.Context(), endReq("x", id, epoch, true, version))
		code, _ := kerr.ErrorForCode(resp.ErrorCode).(*kerr.Error)
		ended <- code
	}()
	return ended
}

// Prepare* is on disk before the first marker, and every marker before anything takes its place in the journal. A transaction of
// version 2 does not wait for that, its end does.
func TestOrderOnDisk(t *testing.T) {
	w := newWorld()
	c := run(t, w)
	defer c.Close()
	id, epoch := mustInit(t, c, "x")
	mustJoin(t, c, "x", id, epoch, a, b)
	if err := c.Verify("x", id, epoch, a, 12); err != nil {
		t.Fatalf("verify: %v", err)
	}
	c.Lazy("x") // acks=1: the end waits for the data, too
	w.release(func() { w.hold = true; w.held[b] = true })
	ended := endLater(t, c, id, epoch, 5)
	notYet(t, ended, "answered before the data is on disk")
	if s := w.last("x"); s.preparing() {
		t.Errorf("the journal says %v before the data is on disk", s)
	}
	w.release(func() { w.held[b] = false })
	await(t, "the decision is in the journal", func() bool { return w.last("x") == PrepareCommit })
	if m := w.written(); len(m) != 0 {
		t.Errorf("markers %v before the decision is on disk", m)
	}
	notYet(t, ended, "answered before the decision is on disk")
	w.release(func() { w.hold = false; w.held[b] = true })
	if err := <-ended; err != nil {
		t.Fatalf("end: %v", err)
	}
	await(t, "two markers", func() bool { return len(w.written()) == 2 })
	for _, m := range w.written() {
		if m.after != PrepareCommit || !m.commit || m.epoch != epoch+1 {
			t.Errorf("marker %+v", m)
		}
	}
	if d := c.Describe("x"); d.State != "PrepareCommit" {
		t.Errorf("administrators see %s before the markers are on disk", d.State)
	}
	mustJoin(t, c, "x", id, epoch+1, a)
	if d := c.Describe("x"); d.State != "Ongoing" || len(d.Topics) != 1 {
		t.Errorf("administrators see %+v of the next transaction", d)
	}
	next := endLater(t, c, id, epoch+1, 5)
	notYet(t, next, "the next transaction ends before the markers of this one are on disk")
	if _, err := c.Rewrite(); err != nil {
		t.Fatal(err)
	}
	if r := lastRecord(w); r.state != PrepareCommit || r.epoch != epoch+1 || !r.has(a) || !r.has(b) {
		t.Errorf("the journal says %+v before the markers are on disk", r)
	}
	w.release(func() { w.held[b] = false })
	if err := <-next; err != nil {
		t.Errorf("end of the next transaction: %v", err)
	}
	if r := lastRecord(w); r.epoch != epoch+2 {
		t.Errorf("the journal says %+v", r)
	}
}

func lastRecord(w *world) record {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, _ := w.lastLocked("x", int64(len(w.entries)))
	return r
}

// Without an epoch of its own a transaction begins after the markers of the one before are on disk, and is in the journal itself
// before its first record: whoever adds the partition, and whoever takes over the id.
func TestOrderOnDiskWithoutEpochs(t *testing.T) {
	for name, begin := range map[string]func(c *Coordinator, id int64, epoch int16) *kerr.Error{
		"added": func(c *Coordinator, id int64, epoch int16) *kerr.Error {
			return c.AddPartitions(t.Context(), "x", id, epoch, []TopicPartition{a}, true)
		},
		"joined": func(c *Coordinator, id int64, epoch int16) *kerr.Error { return c.Join(t.Context(), "x", id, epoch, a) },
		"taken": func(c *Coordinator, id int64, epoch int16) *kerr.Error {
			resp := c.InitProducerID(t.Context(), initReq("x", id, epoch))
			err, _ := kerr.ErrorForCode(resp.ErrorCode).(*kerr.Error)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			c := run(t, w)
			defer c.Close()
			id, epoch := mustInit(t, c, "x")
			if err := c.AddPartitions(t.Context(), "x", id, epoch, []TopicPartition{a, b}, true); err != nil {
				t.Fatal(err)
			}
			w.release(func() { w.held[b] = true })
			if err := <-endLater(t, c, id, epoch, 4); err != nil {
				t.Fatal(err)
			}
			begun := make(chan *kerr.Error, 1)
			go func() { begun <- begin(c, id, epoch) }()
			notYet(t, begun, "begun before the markers are on disk")
			if s := w.last("x"); s != PrepareCommit {
				t.Errorf("the journal says %v before the markers are on disk", s)
			}
			w.release(func() { w.held[b] = false; w.hold = true })
			notYet(t, begun, "answered before it is on disk")
			w.release(func() { w.hold = false })
			if err := <-begun; err != nil {
				t.Errorf("begin: %v", err)
			}
			if s := w.last("x"); s.preparing() {
				t.Errorf("the journal says %v", s)
			}
		})
	}
}

// A transaction that takes too long does not take the place of a decision whose markers are not on disk.
func TestTimeoutWaitsForMarkers(t *testing.T) {
	w := newWorld()
	c := run(t, w)
	defer c.Close()
	id, epoch := mustInit(t, c, "x")
	mustJoin(t, c, "x", id, epoch, a, b)
	w.release(func() { w.held[b] = true })
	mustEnd(t, c, "x", id, epoch, true)
	mustJoin(t, c, "x", id, epoch+1, a)
	x := c.get("x")
	x.mu.Lock()
	x.timeoutLocked()
	x.mu.Unlock()
	if r := lastRecord(w); r.state != PrepareCommit || r.epoch != epoch+1 {
		t.Errorf("the journal says %+v before the markers are on disk", r)
	}
	w.release(func() { w.held[b] = false })
	await(t, "aborted", func() bool { r := lastRecord(w); return r.state == CompleteAbort && r.epoch == epoch+2 })
}
