// Package txn is the transaction coordinator: which producer may write for a transactional id, which partitions its
// transaction has touched, and how it ended.
//
// The types: [Coordinator] holds all transactional ids and the journal they are kept in; record (record.go) is the state machine
// of one id, without I/O or clock. An id belongs to the holder of its mutex. Under it the state changes and the
// journal is appended to (a write into the page cache); nobody waits for the disk or a partition under it.
//
// The order on disk is the package's promise:
//
//  1. everything the transaction wrote, then Prepare*, is on disk before the first marker is written;
//  2. every partition's marker is on disk before anything replaces Prepare* in the journal, also when Prepare* was found at start;
//  3. the next transaction of the id writes to a partition after the marker is written there, hence is on disk after it.
//
// Of a transaction of version 2, which has an epoch to itself, its records are all that needs to be on disk before they are
// acknowledged: Ongoing is kept in memory, and Start makes it anew from what the partitions hold (recover.go). So it costs two
// rounds of syncs: its data, and Prepare*, whose end answers EndTxn. The markers wait a moment to be synced together with the
// records of the next transaction, which does not have to wait for them; its own Prepare* does.
//
// Without that epoch (version 0), Ongoing with a partition is on disk before anything is written there, and the next transaction
// begins when the markers are on disk. Its first request waits here instead of being sent away with CONCURRENT_TRANSACTIONS.
//
// Complete* is owed to the journal for a moment, so that it can share a batch, hence a round, with the next record of the id.
// A crash in that moment costs a repetition of the markers.
//
// Locks: a partition's log, then an id's mutex, then the journal's log. So the coordinator touches partitions only without an
// id's mutex.
package txn

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/broker/internal/journal"
)

// Journal is the partition of __transaction_state.
type Journal interface {
	// Append appends the entries as one batch and returns the offset after it. It does not wait for the disk.
	Append(entries []journal.Entry) (end int64, err error)
	// WaitSynced waits until everything below end is as durable as the broker promises.
	WaitSynced(ctx context.Context, end int64) error
}

// OpenTxn is a transaction that a partition has records of but no marker.
type OpenTxn struct {
	TopicPartition
	ProducerID int64
	Epoch      int16
}

// Partitions are the partition logs of the broker.
type Partitions interface {
	// AppendMarker ends a producer's transaction in a partition; what it returns is about the very log it was appended to: later
	// the name may be another topic's. A log that is deleted needs no marker: that is no error.
	// kerr.UnknownTopicOrPartition means that the partition is gone and needs none.
	AppendMarker(tp TopicPartition, producerID int64, epoch int16, commit bool) (Written, error)
	// WaitSynced waits until a partition is on disk up to its present end. A partition that is gone is no error.
	WaitSynced(ctx context.Context, tp TopicPartition) error
	// Open lists all transactions without a marker. It is called once, by Start.
	Open() []OpenTxn
}

// Written is a marker in a partition's log.
type Written struct {
	// Hasten sends it to the disk, where it otherwise goes with the partition's next records. It takes the partition's lock.
	Hasten func()
	// Synced waits until it is there, or cannot be.
	Synced func(ctx context.Context) error
}

// Config holds the coordinator's limits; every field has to be set.
type Config struct {
	// MaxTimeout is the longest transaction timeout a producer may ask for; above is INVALID_TRANSACTION_TIMEOUT.
	MaxTimeout time.Duration
	// MaxIDs is the most transactional ids kept; above is COORDINATOR_NOT_AVAILABLE for new ones.
	MaxIDs int
	// IDExpiration is how long an id without a transaction is remembered.
	IDExpiration time.Duration
	// ExpiryInterval is how often that is looked at.
	ExpiryInterval time.Duration
	// Patience is how long a request waits for the end of the transaction before its own, then it gets
	// CONCURRENT_TRANSACTIONS.
	Patience time.Duration
	// Logger gets what an operator may want to know. It must not be nil.
	Logger *slog.Logger
}

// Defaults are Apache Kafka's where it has them.
func Defaults(logger *slog.Logger) Config {
	return Config{
		MaxTimeout: 15 * time.Minute, MaxIDs: 100_000, IDExpiration: 7 * 24 * time.Hour, ExpiryInterval: time.Hour,
		Patience: 5 * time.Second, Logger: logger,
	}
}

// Coordinator holds all transactional ids. Its methods are safe for concurrent use. Each end of a transaction runs on a
// goroutine of the coordinator's; Close waits for all.
type Coordinator struct {
	cfg        Config
	logger     *slog.Logger
	journal    Journal
	partitions Partitions
	ids        *idBlock

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex // protects following fields; a leaf: nothing is locked under it
		txns       map[string]*transaction
		closed     bool
		expiry     *time.Timer
	}
}

// Used reports whether there is a transactional id. The journal also has the blocks of producer ids, which Apache Kafka keeps elsewhere.
func (c *Coordinator) Used() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.txns) > 0
}

// New makes a coordinator without ids. Play the journal back with Visitor, then Start it.
func New(cfg Config, j Journal, p Partitions) *Coordinator {
	c := &Coordinator{cfg: cfg, logger: cfg.Logger, journal: j, partitions: p}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.ids = &idBlock{journal: j}
	c.mu.txns = map[string]*transaction{}
	return c
}

// Close stops the timers and waits for the ends of transactions under way; what they have not finished, the next start does.
// It is idempotent.
func (c *Coordinator) Close() {
	c.mu.Lock()
	c.mu.closed = true
	if c.mu.expiry != nil {
		c.mu.expiry.Stop()
	}
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
	for _, t := range c.all() {
		t.mu.Lock()
		t.stopTimerLocked()
		t.payLocked()
		t.mu.Unlock()
	}
}

// run starts a goroutine that Close waits for; false if it is too late.
func (c *Coordinator) run(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

func (c *Coordinator) all() []*transaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	ts := make([]*transaction, 0, len(c.mu.txns))
	for _, t := range c.mu.txns {
		ts = append(ts, t)
	}
	return ts
}

// get is the transaction of an id, or nil.
func (c *Coordinator) get(id string) *transaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.txns[id]
}

// getOrCreate is the transaction of an id, a new one without a producer id if need be.
func (c *Coordinator) getOrCreate(id string) (*transaction, *kerr.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.mu.txns[id]; t != nil {
		return t, nil
	}
	if c.mu.closed || len(c.mu.txns) >= c.cfg.MaxIDs {
		return nil, kerr.CoordinatorNotAvailable
	}
	t := newTransaction(c, id)
	c.mu.txns[id] = t
	return t, nil
}

// transaction is one transactional id. Everything below mu belongs to its holder.
type transaction struct {
	c  *Coordinator
	id string

	mu  sync.Mutex
	rec record
	// stored is what the journal has, up to end; answers wait for that. Behind it, rec is what a restart would make of the partitions.
	stored record
	end    int64
	// owed says that stored is a Prepare* whose markers are all on disk. payUp writes Complete* if nothing else comes.
	owed  bool
	payUp *time.Timer
	// Of the latest Prepare*: ended is closed when the next transaction may begin, settled when every marker is on disk and the
	// journal may forget the decision. Both are nil from then on.
	ended, settled chan struct{}
	// hasten is to be called, without the mutex, by whoever waits for settled; nil if there is nothing to hasten.
	hasten   func()
	timer    *time.Timer
	timerSeq int
	timedOut int16 // epoch whose transaction was aborted for its age; none otherwise
	gone     bool  // expired: look the id up again
	lazy     bool  // the transaction has records that were acknowledged before they were on disk
}

func newTransaction(c *Coordinator, id string) *transaction {
	return &transaction{c: c, id: id, timedOut: none,
		rec: record{producerID: none, prevID: none, nextID: none, epoch: none, lastEpoch: none, startMs: none}}
}

// storeLocked makes next the state, if the journal takes it.
func (t *transaction) storeLocked(next record) error {
	key := encodeKey(t.id)
	entries := make([]journal.Entry, 0, 2)
	if t.owed {
		completed := t.stored.completed(time.Now())
		entries = append(entries, journal.Entry{Key: key, Value: completed.encode()})
	}
	end, err := t.c.journal.Append(append(entries, journal.Entry{Key: key, Value: next.encode()}))
	if err != nil {
		return err
	}
	t.rec, t.stored, t.end = next, next, max(t.end, end)
	t.paidLocked()
	return nil
}

// payDelay is how long a Complete* waits for company on its way to the journal.
const payDelay = 10 * time.Millisecond

// oweLocked notes that the journal is to get a Complete*, with the next record, or soon.
func (t *transaction) oweLocked() {
	t.owed = true
	t.payUp = time.AfterFunc(payDelay, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.payLocked()
	})
}

func (t *transaction) paidLocked() {
	t.owed = false
	if t.payUp != nil {
		t.payUp.Stop()
		t.payUp = nil
	}
}

// payLocked writes an owed Complete*. If the journal refuses, the next start of the broker completes the transaction again.
func (t *transaction) payLocked() {
	if !t.owed {
		return
	}
	if err := t.rewriteLocked(); err != nil {
		_ = t.storage(err)
		t.paidLocked()
	}
}

// company is how long the markers of a version 2 transaction wait for records of the next one, to be synced with them, if nobody
// waits for them. Consumers see the transaction so much later at worst.
const company = time.Millisecond

// lockEnded locks the id once the next transaction may begin, waiting for it up to the coordinator's patience. With an error the
// mutex is not held.
func (t *transaction) lockEnded(ctx context.Context) *kerr.Error {
	return t.lockAfter(ctx, &t.ended)
}

// lockSettled is lockEnded, but waits until the journal may forget what it says of earlier transactions.
func (t *transaction) lockSettled(ctx context.Context) *kerr.Error {
	t.mu.Lock()
	hasten := t.hasten
	t.mu.Unlock()
	if hasten != nil {
		hasten()
	}
	return t.lockAfter(ctx, &t.settled) // ended is closed before
}

func (t *transaction) lockAfter(ctx context.Context, what *chan struct{}) *kerr.Error {
	t.mu.Lock()
	if *what == nil && !t.gone {
		return nil
	}
	patience := time.NewTimer(t.c.cfg.Patience)
	defer patience.Stop()
	for *what != nil && !t.gone {
		happens := *what
		t.mu.Unlock()
		select {
		case <-happens:
		case <-patience.C:
			return kerr.ConcurrentTransactions
		case <-ctx.Done():
			return kerr.ConcurrentTransactions
		case <-t.c.ctx.Done():
			return kerr.CoordinatorNotAvailable
		}
		t.mu.Lock()
	}
	if t.gone {
		t.mu.Unlock()
		return kerr.CoordinatorNotAvailable // the client asks again and finds the id anew
	}
	return nil
}

// durable waits for the journal.
func (c *Coordinator) durable(ctx context.Context, end int64) *kerr.Error {
	if end == 0 {
		return nil
	}
	if err := c.journal.WaitSynced(ctx, end); err != nil {
		return kerr.CoordinatorNotAvailable
	}
	return nil
}

// storage is what a client is told when the journal refuses: something it may try again.
func (t *transaction) storage(err error) *kerr.Error {
	t.c.logger.Error("a transaction's state could not be stored", "transactionalId", t.id, "error", err)
	return kerr.CoordinatorNotAvailable
}

func (t *transaction) stopTimerLocked() {
	t.timerSeq++
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// armTimerLocked aborts the transaction when it has lasted longer than its timeout.
func (t *transaction) armTimerLocked(left time.Duration) {
	t.stopTimerLocked()
	seq := t.timerSeq
	t.timer = time.AfterFunc(left, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.timerSeq != seq || t.rec.state != Ongoing || t.gone || t.c.ctx.Err() != nil {
			return
		}
		t.timeoutLocked()
	})
}

// timeoutLocked aborts with a new epoch, so that the producer, if it is only slow, cannot go on in the aborted transaction. The
// old epoch is remembered as the owner's: it may ask for the new one.
func (t *transaction) timeoutLocked() {
	if t.settled != nil { // the disk is slower still; the journal needs the decision before
		t.armTimerLocked(time.Second)
		return
	}
	epoch := t.rec.epoch
	t.c.logger.Info("transaction aborted: it took longer than its timeout", "transactionalId", t.id, "producerId", t.rec.producerID, "epoch", epoch, "timeout", t.rec.timeout)
	if err := t.prepareLocked(false, true, epoch); err != nil {
		t.c.logger.Error("a transaction that took too long could not be aborted; trying again", "transactionalId", t.id, "error", err)
		t.armTimerLocked(time.Second)
		return
	}
	t.timedOut = epoch
}
