package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/internal/txnclient"
	"github.com/leatstream/leat/streams/internal/failpoint"
)

// Position is where a partition goes on: the offset of the first record that is not processed.
type Position struct {
	Offset   int64
	Epoch    int32 // leader epoch of the record before, -1 if unknown
	Metadata string
}

// Positions are positions by topic and partition.
type Positions map[string]map[int32]Position

// Set notes one position.
func (p Positions) Set(topic string, partition int32, at Position) {
	m := p[topic]
	if m == nil {
		m = map[int32]Position{}
		p[topic] = m
	}
	m[partition] = at
}

// Send writes r in the transaction, beginning one if need be. ack is called when the log has the record, or never will, in
// order per partition; it must hand its error to Acked, and r is its own from then on. A nil ack is Acked. r and what it
// points to must stay unchanged until then. Send blocks only while the client's buffer is full.
func (s *Session) Send(r *kgo.Record, ack func(*kgo.Record, error)) error {
	if !s.inTxn && s.txnal {
		if err := s.cl.BeginTransaction(); err != nil {
			return Wrap("begin a transaction", err)
		}
	}
	s.inTxn = true
	if ack == nil {
		ack = s.Acked
	}
	s.cl.Produce(context.Background(), r, ack)
	return nil
}

// Acked notes the outcome of one record: an error spoils the transaction.
func (s *Session) Acked(r *kgo.Record, err error) {
	if err == nil {
		return
	}
	op := fmt.Sprintf("write to %s/%d", r.Topic, r.Partition)
	if errors.Is(err, kerr.MessageTooLarge) {
		op = fmt.Sprintf("write %d bytes with key %.64q to %s/%d", len(r.Key)+len(r.Value), r.Key, r.Topic, r.Partition)
	}
	wrapped := Wrap(op, err)
	s.failed.CompareAndSwap(nil, &wrapped)
}

// Dirty reports whether something was sent since the last commit.
func (s *Session) Dirty() bool { return s.inTxn }

// Commit makes what was sent visible together with the positions, all or nothing. With no error it has happened; with an
// error it may have, and opening the session again settles which.
func (s *Session) Commit(ctx context.Context, at Positions) error {
	commit := s.commitOffsets
	if s.inTxn && s.txnal {
		commit = s.commitTransaction
	}
	if err := commit(ctx, at); err != nil {
		return err
	}
	s.inTxn = false
	return s.cfg.Failpoints.Hit(failpoint.TxnEnded)
}

// Flush waits until every record sent is acknowledged. It does not wait for longer than the transaction may take: then there is
// none any more that they could belong to. Without transactions it ends with the lease.
func (s *Session) Flush(ctx context.Context) error {
	defer s.endLease()
	if s.inTxn {
		defer s.slow("acknowledgement of what was written")()
		ctx, cancel := s.bounded(ctx)
		defer cancel()
		err := Wrap("flush", s.cl.Flush(ctx))
		if failed := s.failed.Load(); failed != nil {
			err = *failed
		}
		if err != nil {
			return err
		}
	}
	return s.cfg.Failpoints.Hit(failpoint.ProducerFlushed)
}

// slow says in the log what is waited for if it takes long; the result stops it.
func (s *Session) slow(what string) (stop func()) {
	since := time.Now()
	t := time.AfterFunc(2*time.Second, func() {
		s.cfg.Logger.Warn("waiting for "+what, "group", s.cfg.Group, "for", time.Since(since).Round(time.Second))
	})
	return func() { t.Stop() }
}

// commitTransaction adds the offsets while the last records are on their way: they belong to the same transaction, and
// only its end has to come after both. So exactly once waits no more often for the brokers than at least once.
func (s *Session) commitTransaction(ctx context.Context, at Positions) error {
	added := make(chan error, 1)
	adding, cancel := s.bounded(ctx)
	defer cancel()
	go func() { added <- s.addOffsets(adding, at) }()
	err := s.Flush(ctx)
	if err != nil {
		cancel()
	}
	if err := cmp.Or(err, <-added); err != nil {
		return err
	}
	if err := s.cfg.Failpoints.Hit(failpoint.OffsetsAdded); err != nil {
		return err
	}
	defer s.slow("the transaction coordinator")()
	ctx, cancel = s.bounded(ctx)
	defer cancel()
	// Past this point the outcome is the coordinator's. Any error, even a definite one, takes the one path.
	if err := txnclient.End(ctx, s.cl, kgo.TryCommit); err != nil {
		return Wrap("end the transaction of "+s.cfg.TransactionalID, err)
	}
	return nil
}

// bounded bounds what is waited for in a commit.
func (s *Session) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.most())
}

// most is how long a commit waits: after the transaction's timeout the coordinator aborts it anyway. Without transactions see Lease.
func (s *Session) most() time.Duration {
	if s.txnal {
		return s.cfg.TransactionTimeout
	}
	return s.cfg.SessionTimeout / 2
}

func (s *Session) addOffsets(ctx context.Context, at Positions) error {
	if len(at) == 0 {
		return nil
	}
	defer s.slow("the group and transaction coordinators")()
	id, epoch, err := s.cl.ProducerID(ctx)
	if err != nil {
		return Wrap("get the producer id of "+s.cfg.TransactionalID, err)
	}
	if !s.v2 {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = s.cfg.TransactionalID, id, epoch, s.cfg.Group
		err := s.insist(ctx, func(string, int32) error {
			resp, err := req.RequestWith(ctx, s.cl)
			if err != nil {
				return err
			}
			return kerr.ErrorForCode(resp.ErrorCode)
		})
		if err != nil {
			return Wrap("add group "+s.cfg.Group+" to the transaction", err)
		}
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = s.cfg.TransactionalID, id, epoch, s.cfg.Group
	if s.cfg.InstanceID != "" {
		req.InstanceID = &s.cfg.InstanceID
	}
	type partition = kmsg.TxnOffsetCommitRequestTopicPartition
	req.Topics = offsets(at, func(name string, ps []partition) kmsg.TxnOffsetCommitRequestTopic {
		return kmsg.TxnOffsetCommitRequestTopic{Topic: name, Partitions: ps}
	}, func(p int32, pos Position) partition {
		return partition{Partition: p, Offset: pos.Offset, LeaderEpoch: pos.Epoch, Metadata: &pos.Metadata}
	})
	err = s.insist(ctx, func(member string, generation int32) error {
		req.MemberID, req.Generation = member, generation
		resp, err := req.RequestWith(ctx, s.cl)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := refused(t.Topic, p.Partition, p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return Wrap("commit offsets of group "+s.cfg.Group+" in the transaction", err)
}

func (s *Session) commitOffsets(ctx context.Context, at Positions) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if err := s.cfg.Failpoints.Hit(failpoint.OffsetsAdded); err != nil {
		return err
	}
	if len(at) == 0 {
		return nil
	}
	defer s.slow("the group coordinator")()
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = s.cfg.Group
	if s.cfg.InstanceID != "" {
		req.InstanceID = &s.cfg.InstanceID
	}
	type partition = kmsg.OffsetCommitRequestTopicPartition
	req.Topics = offsets(at, func(name string, ps []partition) kmsg.OffsetCommitRequestTopic {
		return kmsg.OffsetCommitRequestTopic{Topic: name, Partitions: ps}
	}, func(p int32, pos Position) partition {
		return partition{Partition: p, Offset: pos.Offset, LeaderEpoch: pos.Epoch, Metadata: &pos.Metadata}
	})
	err := s.insist(ctx, func(member string, generation int32) error {
		req.MemberID, req.Generation = member, generation
		resp, err := req.RequestWith(ctx, s.cl)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := refused(t.Topic, p.Partition, p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return Wrap("commit offsets of group "+s.cfg.Group, err)
}

// offsets makes the topics of a request that commits positions.
func offsets[T, P any](at Positions, topic func(string, []P) T, partition func(int32, Position) P) []T {
	topics := make([]T, 0, len(at))
	for name, ps := range at {
		all := make([]P, 0, len(ps))
		for p, pos := range ps {
			all = append(all, partition(p, pos))
		}
		topics = append(topics, topic(name, all))
	}
	return topics
}

// refused is the error that the answer to a commit has for a partition, if any.
func refused(topic string, partition int32, code int16) error {
	if err := kerr.ErrorForCode(code); err != nil {
		return fmt.Errorf("%s/%d: %w", topic, partition, err)
	}
	return nil
}

// insist calls f, as the member that the assignment was given to, until it succeeds or fails for good.
//
// A rebalance may be under way while we commit: the join that AllowRebalance let through. The coordinator then moves to
// the next generation before the client has heard of it, and refuses the old one. Trying again with the new one is safe
// while the member id is the same: it was a member without a break, claimed its partitions in that join, and a
// cooperative leader gives nobody a partition that another member claims. A changed member id is a break.
func (s *Session) insist(ctx context.Context, f func(member string, generation int32) error) error {
	wait := 2 * time.Millisecond
	for {
		assigned := s.Member()
		member, generation := s.cl.GroupMetadata()
		if member != assigned {
			return errForgotten
		}
		err := f(member, generation)
		if err == nil || !worthAnother(err) {
			return err
		}
		if !pause(ctx, wait) {
			return errors.Join(ctx.Err(), err)
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

func worthAnother(err error) bool {
	for _, e := range []error{kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.ConcurrentTransactions} {
		if errors.Is(err, e) {
			return true
		}
	}
	return kerr.IsRetriable(err) && !errors.Is(err, kerr.UnknownTopicOrPartition)
}
