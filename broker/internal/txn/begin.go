package txn

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// AddPartitions serves AddPartitionsToTxn (v0-3) and AddOffsetsToTxn: the partitions belong to the transaction from now on. It
// waits for the disk, so data that follows can never be there without: without an epoch of its own, it would look like data of the
// transaction before.
func (c *Coordinator) AddPartitions(ctx context.Context, id string, producerID int64, epoch int16, tps []TopicPartition, knowsFenced bool) *kerr.Error {
	end, err := c.begin(ctx, id, producerID, epoch, tps, 0)
	if err != nil {
		if err == kerr.InvalidProducerEpoch && knowsFenced {
			return kerr.ProducerFenced
		}
		return err
	}
	return c.durable(ctx, end)
}

// Join adds partitions as a side effect of writing to them, as clients of transaction version 2 do (Produce v12, TxnOffsetCommit
// v5). It waits for the markers of the transaction before to be written, so that what follows in a partition follows them, and
// keeps the rest in memory: after a crash the records themselves tell, by their epoch, that they are of this transaction. Call it
// before Verify, without any partition's lock.
func (c *Coordinator) Join(ctx context.Context, id string, producerID int64, epoch int16, tps ...TopicPartition) *kerr.Error {
	t, err := c.lockOwned(ctx, id, producerID, epoch, (*transaction).lockEnded, true)
	if err != nil {
		return err
	}
	if before := &t.stored; before.state <= Ongoing || before.version >= 2 {
		t.ongoingLocked(tps, 2)
		t.mu.Unlock()
		return nil
	}
	// The transaction before may have had the same epoch.
	t.mu.Unlock()
	end, err := c.begin(ctx, id, producerID, epoch, tps, 2)
	if err != nil {
		return err
	}
	return c.durable(ctx, end)
}

// Lazy notes that the id's producer does not wait for the disk (acks other than all): the end of its transaction will.
func (c *Coordinator) Lazy(id string) {
	if t := c.get(id); t != nil {
		t.mu.Lock()
		t.lazy = true
		t.mu.Unlock()
	}
}

// lockOwned locks the transaction of an id for its producer, once lock lets it. With an error nothing is locked.
func (c *Coordinator) lockOwned(ctx context.Context, id string, producerID int64, epoch int16, lock func(*transaction, context.Context) *kerr.Error, knowsAbortable bool) (*transaction, *kerr.Error) {
	if id == "" {
		return nil, kerr.InvalidRequest
	}
	t := c.get(id)
	if t == nil {
		return nil, kerr.InvalidProducerIDMapping
	}
	if err := lock(t, ctx); err != nil {
		return nil, err
	}
	if err := t.ownedLocked(producerID, epoch, knowsAbortable); err != nil {
		t.mu.Unlock()
		return nil, err
	}
	return t, nil
}

// begin is AddPartitions without the wait for the disk; the journal has the partitions up to end.
func (c *Coordinator) begin(ctx context.Context, id string, producerID int64, epoch int16, tps []TopicPartition, version int16) (end int64, err *kerr.Error) {
	t, err := c.lockOwned(ctx, id, producerID, epoch, (*transaction).lockSettled, version >= 2)
	if err != nil {
		return 0, err
	}
	defer t.mu.Unlock()
	began := t.rec.state != Ongoing
	next, changed := t.rec.begun(tps, version, time.Now())
	if !changed {
		return t.end, nil
	}
	if err := t.storeLocked(next); err != nil {
		return 0, t.storage(err)
	}
	if began {
		t.armTimerLocked(t.rec.timeout)
	}
	return t.end, nil
}

// ongoingLocked adds partitions to the transaction, or begins one with them, in memory: see Join.
func (t *transaction) ongoingLocked(tps []TopicPartition, version int16) {
	began := t.rec.state != Ongoing
	t.rec, _ = t.rec.begun(tps, version, time.Now())
	if began {
		t.armTimerLocked(t.rec.timeout)
	}
}

// ownedLocked checks that a producer is the id's. The owner of a transaction that took too long is told to abort, if it knows
// that word: it can go on after that.
func (t *transaction) ownedLocked(producerID int64, epoch int16, knowsAbortable bool) *kerr.Error {
	late := epoch == t.timedOut && epoch >= 0 && knowsAbortable
	switch {
	case late && exhausted(epoch) && producerID == t.rec.prevID: // the abort used up its producer id
		return kerr.TransactionAbortable
	case producerID != t.rec.producerID || producerID < 0:
		return kerr.InvalidProducerIDMapping
	case epoch == t.rec.epoch:
		return nil
	case late:
		return kerr.TransactionAbortable
	default:
		return kerr.InvalidProducerEpoch
	}
}

// Verify checks that a transactional batch belongs to an ongoing transaction that knows the partition. It is to be called with
// the partition's lock held, so that no marker can come between it and the append. produceVersion says which errors the client
// knows: 11 and later TRANSACTION_ABORTABLE.
func (c *Coordinator) Verify(id string, producerID int64, epoch int16, tp TopicPartition, produceVersion int16) *kerr.Error {
	wrong := kerr.InvalidTxnState
	if produceVersion >= 11 {
		wrong = kerr.TransactionAbortable
	}
	t := c.get(id)
	if t == nil {
		return kerr.InvalidTxnState
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ownedLocked(producerID, epoch, produceVersion >= 11); err != nil {
		return err
	}
	if t.rec.state != Ongoing || !t.rec.has(tp) {
		return wrong
	}
	return nil
}
