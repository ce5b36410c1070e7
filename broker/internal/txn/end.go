package txn

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// EndTxn serves EndTxn. It answers when the decision is on disk; markers and Complete* follow.
func (c *Coordinator) EndTxn(ctx context.Context, req *kmsg.EndTxnRequest) *kmsg.EndTxnResponse {
	resp := kmsg.NewPtrEndTxnResponse()
	resp.ProducerID, resp.ProducerEpoch = none, none
	id, epoch, err := c.endTxn(ctx, req)
	if err != nil {
		resp.ErrorCode = err.Code
		return resp
	}
	if req.Version >= 5 {
		resp.ProducerID, resp.ProducerEpoch = id, epoch
	}
	return resp
}

func (c *Coordinator) endTxn(ctx context.Context, req *kmsg.EndTxnRequest) (id int64, epoch int16, err *kerr.Error) {
	if req.TransactionalID == "" {
		return 0, 0, kerr.InvalidRequest
	}
	t := c.get(req.TransactionalID)
	if t == nil || req.ProducerID < 0 {
		return 0, 0, kerr.InvalidProducerIDMapping
	}
	for {
		t.mu.Lock()
		if t.gone {
			t.mu.Unlock()
			return 0, 0, kerr.InvalidProducerIDMapping
		}
		v, err := t.rec.endVerdict(req.ProducerID, req.ProducerEpoch, req.Commit, req.Version, t.timedOut)
		if v == begins {
			synced, err := t.yieldUntilSynced(ctx)
			if err != nil {
				return 0, 0, err // yieldUntilSynced has let go of the mutex
			}
			if !synced {
				continue
			}
			t.rec.version = 0
			if req.Version >= 5 {
				t.rec.version = 2
			}
			if err := t.prepareLocked(req.Commit, req.Version >= 5, t.rec.epoch); err != nil {
				t.mu.Unlock()
				return 0, 0, t.storage(err)
			}
		}
		id, epoch = t.rec.owner()
		end := t.end
		t.mu.Unlock()
		switch v {
		case refused:
			return 0, 0, err
		case waitFirst:
			if err := t.lockEnded(ctx); err != nil {
				return 0, 0, err
			}
			t.mu.Unlock()
		default:
			return id, epoch, c.durable(ctx, end)
		}
	}
}

// yieldUntilSynced makes sure that what the transaction has written is on disk before it is decided, and so are the markers of the
// one before, whose decision the journal is about to replace. With acks=all the data is, since the
// producer waits for that; one that has asked for less (acks=1) must not lose half of a transaction either. It lets go of the
// mutex while it waits, and holds it again only if it returns true: false without an error means that the state changed meanwhile.
func (t *transaction) yieldUntilSynced(ctx context.Context) (bool, *kerr.Error) {
	if !t.lazy && t.settled == nil {
		return true, nil
	}
	before, lazy := t.rec, t.lazy
	t.mu.Unlock()
	if lazy {
		for _, tp := range before.partitions {
			if err := t.c.partitions.WaitSynced(ctx, tp); err != nil {
				return false, kerr.CoordinatorNotAvailable
			}
		}
	}
	if err := t.lockSettled(ctx); err != nil {
		return false, err
	}
	if t.gone || t.rec.state != before.state || t.rec.epoch != before.epoch || len(t.rec.partitions) != len(before.partitions) {
		t.mu.Unlock()
		return false, nil
	}
	return true, nil
}

// prepareLocked decides the transaction and starts its completion. bump and owner: see record; owner is the epoch that a
// repeated request may expect, none if the present owner is being fenced.
func (t *transaction) prepareLocked(commit, bump bool, owner int16) error {
	spare := int64(none)
	if bump && exhausted(t.rec.epoch) {
		id, _, err := t.c.ids.take()
		if err != nil {
			return err
		}
		spare = id
	}
	next := t.rec.prepared(commit, bump, spare, time.Now())
	if bump {
		next.lastEpoch = owner
	}
	if err := t.storeLocked(next); err != nil {
		return err
	}
	t.timedOut, t.lazy = none, false
	t.stopTimerLocked()
	t.completeLocked(nil, nil)
	return nil
}

// completeLocked starts writing the markers of a Prepare*. skip names partitions that have theirs already; adopt, of the next
// transaction, are what a crash has left of it.
func (t *transaction) completeLocked(skip map[TopicPartition]bool, adopt []TopicPartition) {
	t.ended, t.settled = make(chan struct{}), make(chan struct{})
	r, end := t.rec, t.end
	t.c.run(func() {
		if err := t.complete(t.c.ctx, r, end, skip, adopt); err != nil && t.c.ctx.Err() == nil {
			t.c.logger.Error("a decided transaction could not be completed; the next start of the broker will", "transactionalId", t.id, "error", err)
		}
	})
}

// complete brings r, a Prepare*, to its end: the markers are written, then they are on disk. In between, the next transaction of a
// version 2 client may begin, for by its epoch it can be told from this one whatever a crash leaves of either.
func (t *transaction) complete(ctx context.Context, r record, end int64, skip map[TopicPartition]bool, adopt []TopicPartition) error {
	markers, err := t.writeMarkers(ctx, r, end, skip)
	if err != nil {
		return err
	}
	hasten := func() {
		for _, m := range markers {
			m.Hasten()
		}
	}
	next := r.completed(time.Now())
	endLocked := func() {
		t.rec = next
		close(t.ended)
		t.ended = nil
		t.adoptLocked(adopt)
	}
	early := r.version >= 2
	if early {
		t.mu.Lock()
		endLocked()
		t.hasten = hasten
		t.mu.Unlock()
		alone := time.AfterFunc(company, hasten)
		defer alone.Stop()
	} else {
		hasten()
	}
	for _, m := range markers {
		if err := m.Synced(ctx); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !early {
		endLocked()
	}
	t.oweLocked()
	close(t.settled)
	t.settled, t.hasten = nil, nil
	return nil
}

// writeMarkers waits for the decision to be on disk and writes a marker to each partition.
func (t *transaction) writeMarkers(ctx context.Context, r record, end int64, skip map[TopicPartition]bool) ([]Written, error) {
	if err := t.c.journal.WaitSynced(ctx, end); err != nil {
		return nil, err
	}
	markers := make([]Written, 0, len(r.partitions))
	for _, tp := range r.partitions {
		if skip[tp] {
			continue
		}
		m, ok, err := t.marker(ctx, tp, &r)
		if err != nil {
			return nil, err
		}
		if ok {
			markers = append(markers, m)
		}
	}
	return markers, nil
}

// marker appends one marker, again and again until it is in or the coordinator closes: a decided transaction has no other way.
// It returns false if the partition is gone.
func (t *transaction) marker(ctx context.Context, tp TopicPartition, r *record) (m Written, ok bool, err error) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		m, err := t.c.partitions.AppendMarker(tp, r.producerID, r.epoch, r.state.committing())
		if err == nil {
			return m, true, nil
		}
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return m, false, nil
		}
		t.c.logger.Error("a transaction's marker could not be written; trying again", "transactionalId", t.id, "topic", tp.Topic, "partition", tp.Partition, "error", err)
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return m, false, ctx.Err()
		}
	}
}
