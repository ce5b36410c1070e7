package txn

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// AddPartitions serves AddPartitionsToTxn (v0-3) and AddOffsetsToTxn: the partitions belong to the transaction from now on. It
// waits for the disk, so data that follows can never be there without.
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
// v5). It waits for the end of the transaction before, but not for the disk: what is written may be acknowledged once
// WaitSynced(end) has returned too. Call it before Verify, without any partition's lock.
func (c *Coordinator) Join(ctx context.Context, id string, producerID int64, epoch int16, tps ...TopicPartition) (end int64, err *kerr.Error) {
	return c.begin(ctx, id, producerID, epoch, tps, 2)
}

// Lazy notes that the id's producer does not wait for the disk (acks other than all): the end of its transaction will.
func (c *Coordinator) Lazy(id string) {
	if t := c.get(id); t != nil {
		t.mu.Lock()
		t.lazy = true
		t.mu.Unlock()
	}
}

// WaitSynced waits until the journal is on disk up to end, as Join returned it.
func (c *Coordinator) WaitSynced(ctx context.Context, end int64) error {
	return c.journal.WaitSynced(ctx, end)
}

func (c *Coordinator) begin(ctx context.Context, id string, producerID int64, epoch int16, tps []TopicPartition, version int16) (int64, *kerr.Error) {
	if id == "" {
		return 0, kerr.InvalidRequest
	}
	t := c.get(id)
	if t == nil {
		return 0, kerr.InvalidProducerIDMapping
	}
	if err := t.lockSettled(ctx); err != nil {
		return 0, err
	}
	defer t.mu.Unlock()
	if err := t.ownedLocked(producerID, epoch, version >= 2); err != nil {
		return 0, err
	}
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

// ownedLocked checks that a producer is the id's. The owner of a transaction that took too long is told to abort, if it knows
// that word: it can go on after that.
func (t *transaction) ownedLocked(producerID int64, epoch int16, knowsAbortable bool) *kerr.Error {
	switch {
	case producerID != t.rec.producerID || producerID < 0:
		return kerr.InvalidProducerIDMapping
	case epoch == t.rec.epoch:
		return nil
	case epoch == t.timedOut && epoch >= 0 && knowsAbortable:
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
