package txn

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/broker/internal/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a disk and the partitions on it, in memory. Nothing is synced unless synced says so.
type world struct {
	mu      sync.Mutex
	changed *sync.Cond
	entries []journal.Entry
	synced  int64 // of the journal
	hold    bool  // syncs of the journal wait for release
	refuse  bool  // appends to the journal fail

	markers []marker
	held    map[TopicPartition]bool // partitions whose syncs wait for release
	missing map[TopicPartition]bool
	open    []OpenTxn
}

type marker struct {
	TopicPartition
	producerID int64
	epoch      int16
	commit     bool
	after      State // what the journal said, on disk, when the marker was written
}

func newWorld() *world {
	w := &world{held: map[TopicPartition]bool{}, missing: map[TopicPartition]bool{}}
	w.changed = sync.NewCond(&w.mu)
	return w
}

var errDisk = errors.New("the disk is gone")

func (w *world) Append(entries []journal.Entry) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse {
		return 0, errDisk
	}
	w.entries = append(w.entries, entries...)
	return int64(len(w.entries)), nil
}

func (w *world) wait(ctx context.Context, ok func() bool) error {
	stop := context.AfterFunc(ctx, func() { w.mu.Lock(); w.mu.Unlock(); w.changed.Broadcast() }) //nolint:staticcheck // the lock orders the wake-up
	defer stop()
	for !ok() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.changed.Wait()
	}
	return nil
}

func (w *world) WaitSynced(ctx context.Context, end int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.wait(ctx, func() bool { return !w.hold || w.synced >= end }); err != nil {
		return err
	}
	w.synced = max(w.synced, end)
	return nil
}

// last is the state of an id in the first n entries of the journal.
func (w *world) lastLocked(id string, n int64) (record, bool) {
	for i := n - 1; i >= 0; i-- {
		if k, _, _ := decodeKey(w.entries[i].Key); k == id && w.entries[i].Value != nil {
			r, err := decodeValue(w.entries[i].Value)
			return r, err == nil
		}
	}
	return record{}, false
}

func (w *world) last(id string) State {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.lastLocked(id, int64(len(w.entries)))
	if !ok {
		return -1
	}
	return r.state
}

func (w *world) release(f func()) {
	w.mu.Lock()
	f()
	w.mu.Unlock()
	w.changed.Broadcast()
}

func (w *world) written() []marker {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]marker(nil), w.markers...)
}

// disk is world as Partitions.
type disk struct{ *world }

func (d disk) AppendMarker(tp TopicPartition, producerID int64, epoch int16, commit bool) (Written, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.missing[tp] {
		return Written{}, kerr.UnknownTopicOrPartition
	}
	r, _ := d.lastLocked("x", d.synced)
	d.markers = append(d.markers, marker{tp, producerID, epoch, commit, r.state})
	return Written{Hasten: func() {}, Synced: func(ctx context.Context) error { return d.WaitSynced(ctx, tp) }}, nil
}

func (d disk) WaitSynced(ctx context.Context, tp TopicPartition) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wait(ctx, func() bool { return !d.held[tp] })
}

func (d disk) Open() []OpenTxn { return d.open }

func testConfig() Config {
	return Defaults(slog.New(slog.DiscardHandler))
}

// run starts a coordinator on what the world's journal holds.
func run(t *testing.T, w *world) *Coordinator {
	t.Helper()
	c := New(testConfig(), w, disk{w})
	v := c.Visitor()
	for i, e := range w.entries {
		if err := v.Record(-1, int64(i), e.Key, e.Value); err != nil {
			t.Fatal(err)
		}
	}
	c.Start()
	return c
}

// crash is what is left when only the first n entries of the journal are.
func (w *world) crash(n int) *world {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := newWorld()
	out.entries = append(out.entries, w.entries[:n]...)
	return out
}

var (
	a = TopicPartition{"a", 0}
	b = TopicPartition{"b", 1}
)

func initReq(id string, producerID int64, epoch int16) *kmsg.InitProducerIDRequest {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version = 5
	req.TransactionalID, req.TransactionTimeoutMillis = &id, 60_000
	req.ProducerID, req.ProducerEpoch = producerID, epoch
	return req
}

func mustInit(t *testing.T, c *Coordinator, id string) (int64, int16) {
	t.Helper()
	resp := c.InitProducerID(t.Context(), initReq(id, none, none))
	if resp.ErrorCode != 0 {
		t.Fatalf("init: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	return resp.ProducerID, resp.ProducerEpoch
}

func endReq(id string, producerID int64, epoch int16, commit bool, version int16) *kmsg.EndTxnRequest {
	req := kmsg.NewPtrEndTxnRequest()
	req.Version = version
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = id, producerID, epoch, commit
	return req
}

func mustEnd(t *testing.T, c *Coordinator, id string, producerID int64, epoch int16, commit bool) (int64, int16) {
	t.Helper()
	resp := c.EndTxn(t.Context(), endReq(id, producerID, epoch, commit, 5))
	if resp.ErrorCode != 0 {
		t.Fatalf("end: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	return resp.ProducerID, resp.ProducerEpoch
}

func mustJoin(t *testing.T, c *Coordinator, id string, producerID int64, epoch int16, tps ...TopicPartition) {
	t.Helper()
	if err := c.Join(t.Context(), id, producerID, epoch, tps...); err != nil {
		t.Fatalf("join: %v", err)
	}
}

func state(c *Coordinator, id string) State {
	t := c.get(id)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rec.state
}

// await polls in virtual or real time; the limit is for broken code only.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// idempotentInit asks for a producer id without a transactional id.
func idempotentInit() *kmsg.InitProducerIDRequest {
	req := initReq("", none, none)
	req.TransactionalID = nil
	return req
}
