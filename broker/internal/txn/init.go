package txn

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerID serves InitProducerId: a producer id for an idempotent producer, or for a transactional id its next epoch, which
// fences whoever had the one before. An unfinished transaction is aborted first and the answer waits for that.
func (c *Coordinator) InitProducerID(ctx context.Context, req *kmsg.InitProducerIDRequest) *kmsg.InitProducerIDResponse {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = none, none
	id, epoch, err := c.initProducerID(ctx, req)
	if err != nil {
		resp.ErrorCode = err.Code
		return resp
	}
	resp.ProducerID, resp.ProducerEpoch = id, epoch
	return resp
}

func (c *Coordinator) initProducerID(ctx context.Context, req *kmsg.InitProducerIDRequest) (int64, int16, *kerr.Error) {
	expectID, expectEpoch := req.ProducerID, req.ProducerEpoch
	if req.Version < 3 {
		expectID, expectEpoch = none, none
	}
	if (expectID < 0) != (expectEpoch < 0) {
		return 0, 0, kerr.InvalidRequest
	}
	if req.TransactionalID == nil {
		id, end, err := c.ids.take()
		if err != nil {
			c.logger.Error("no producer id", "error", err)
			return 0, 0, kerr.CoordinatorNotAvailable
		}
		return id, 0, c.durable(ctx, end)
	}
	if *req.TransactionalID == "" {
		return 0, 0, kerr.InvalidRequest
	}
	timeout := time.Duration(req.TransactionTimeoutMillis) * time.Millisecond
	if timeout <= 0 || timeout > c.cfg.MaxTimeout {
		return 0, 0, kerr.InvalidTransactionTimeout
	}
	for {
		t, err := c.getOrCreate(*req.TransactionalID)
		if err != nil {
			return 0, 0, err
		}
		again, id, epoch, err := t.init(ctx, expectID, expectEpoch, timeout, req.Version >= 4)
		if !again {
			return id, epoch, err
		}
	}
}

// init is one try; again says that it had to abort a transaction first, whose end the next try waits for.
func (t *transaction) init(ctx context.Context, expectID int64, expectEpoch int16, timeout time.Duration, knowsFenced bool) (again bool, id int64, epoch int16, err *kerr.Error) {
	if err := t.lockSettled(ctx); err != nil {
		return false, 0, 0, err
	}
	again, err = t.initLocked(expectID, expectEpoch, timeout, knowsFenced)
	id, epoch = t.rec.owner()
	end := t.end
	t.mu.Unlock()
	if again || err != nil {
		return again, 0, 0, err
	}
	return false, id, epoch, t.c.durable(ctx, end)
}

func (t *transaction) initLocked(expectID int64, expectEpoch int16, timeout time.Duration, knowsFenced bool) (again bool, err *kerr.Error) {
	r := &t.rec
	if r.producerID == none { // a new id; whatever epoch the client expects, it is from another life
		return false, t.firstLocked(timeout)
	}
	expected := expectID != none
	repeated := false
	if expected {
		switch {
		case expectID == r.producerID && expectEpoch == r.epoch:
		case expectID == r.producerID && expectEpoch == r.lastEpoch && r.lastEpoch != none && r.state != Ongoing:
			repeated = true
		case expectID == r.prevID && exhausted(expectEpoch) && r.epoch == 0 && r.state != Ongoing:
			repeated = true
		default:
			return false, fenced(knowsFenced)
		}
	}
	if r.state == Ongoing {
		owner := int16(none)
		if expected {
			owner = expectEpoch // who asks is the owner: when it is done, the new epoch is its
		}
		if err := t.prepareLocked(false, true, owner); err != nil {
			return false, t.storage(err)
		}
		return true, nil
	}
	if repeated && r.epoch < lastEpoch {
		return false, nil
	}
	spare, kerror := t.spareLocked()
	if kerror != nil {
		return false, kerror
	}
	if err := t.storeLocked(r.bumped(expected, timeout, spare, time.Now())); err != nil {
		return false, t.storage(err)
	}
	t.timedOut = none
	return false, nil
}

// firstLocked gives a new id its producer.
func (t *transaction) firstLocked(timeout time.Duration) *kerr.Error {
	id, _, err := t.c.ids.take() // reserved earlier in the same journal than the record that follows
	if err != nil {
		return t.storage(err)
	}
	next := t.rec
	next.producerID, next.epoch, next.timeout = id, 0, timeout
	next.updatedMs = time.Now().UnixMilli()
	if err := t.storeLocked(next); err != nil {
		return t.storage(err)
	}
	return nil
}

// spareLocked is a new producer id if the next bump needs one, else none.
func (t *transaction) spareLocked() (int64, *kerr.Error) {
	if !exhausted(t.rec.epoch) {
		return none, nil
	}
	id, _, err := t.c.ids.take()
	if err != nil {
		return 0, t.storage(err)
	}
	return id, nil
}
