package broker

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group"
	"github.com/leatstream/leat/broker/internal/group/consumer"
	"github.com/leatstream/leat/broker/internal/journal"
	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/txn"
)

// The coordinators' topics. One partition each: what they hold is small, and one file for all groups, or all transactional ids,
// lets them share their syncs.
const (
	offsetsTopic      = "__consumer_offsets"
	transactionsTopic = "__transaction_state"
)

// coordinators holds the group and transaction coordinators.
type coordinators struct {
	groups *group.Coordinator
	txns   *txn.Coordinator
	txnLog *log.Log
}

// startCoordinators replays the coordinators' topics and starts their timers. The partition logs are open by then.
func startCoordinators(b *Broker) error {
	offsets, err := coordinatorJournal(b, offsetsTopic)
	if err != nil {
		return err
	}
	states, err := coordinatorJournal(b, transactionsTopic)
	if err != nil {
		return err
	}
	b.txnLog, _ = b.partition(transactionsTopic, 0)
	gc := group.Defaults(b.logger, func() consumer.Cluster { return b.topics.Load() })
	gc.InitialRebalanceDelay, gc.MinSessionTimeout, gc.MaxSessionTimeout = b.cfg.InitialRebalanceDelay, b.cfg.MinSessionTimeout, b.cfg.MaxSessionTimeout
	gc.OffsetsRetention, gc.ExpiryInterval = b.cfg.OffsetsRetention, b.cfg.OffsetsCheckInterval
	gc.ConsumerTimes = b.groupTimes
	l := &b.cfg.Limits
	gc.KeepClassic, gc.KeepConsumer = b.cfg.KeepClassicGroups, b.cfg.KeepConsumerGroups
	gc.MaxGroupSize, gc.MaxGroups, gc.MaxMetadataBytes = l.GroupMembers, l.Groups, l.OffsetMetadataBytes
	tc := txn.Defaults(b.logger)
	tc.MaxIDs, tc.MaxTimeout = l.TransactionalIDs, b.cfg.MaxTransactionTimeout
	tc.IDExpiration, tc.ExpiryInterval = b.cfg.TransactionalIDExpiration, b.cfg.TransactionalIDCheckInterval
	b.groups = group.New(gc, offsets)
	b.txns = txn.New(tc, states, txnPartitions{b})
	if err := offsets.Replay(b.groups.Visitor()); err != nil {
		return b.advise(fmt.Errorf("replay %s: %w", offsetsTopic, err), offsetsTopic, 0)
	}
	if err := states.Replay(b.txns.Visitor()); err != nil {
		return b.advise(fmt.Errorf("replay %s: %w", transactionsTopic, err), transactionsTopic, 0)
	}
	b.groups.Start()
	b.txns.Start() // after the groups are loaded: it ends transactions with offsets in them
	b.housework.Go(b.rewriteLogs)
	return nil
}

func coordinatorJournal(b *Broker, name string) (*journal.Journal, error) {
	configs := map[string]string{"cleanup.policy": "compact", "segment.bytes": "16777216", "preallocate": "true"}
	if err := b.ensureInternal(name, 1, configs); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	l, ok := b.partition(name, 0)
	if !ok {
		return nil, fmt.Errorf("%s has no partition 0", name)
	}
	return journal.New(l), nil
}

// stopCoordinators ends the timers and goroutines of the coordinators and waits for them; the logs close afterwards.
func stopCoordinators(b *Broker) {
	b.txns.Close()
	b.groups.Close()
}

// coordinatorRoutes are the rows of the APIs that coordinators serve.
func coordinatorRoutes() []route {
	return []route{
		{key: 8, min: 0, max: 10, serve: serveOffsetCommit},
		{key: 9, min: 0, max: 10, serve: serveOffsetFetch},
		{key: 10, min: 0, max: 6, serve: serveFindCoordinator},
		{key: 11, min: 0, max: 9, serve: serveJoinGroup},
		{key: 12, min: 0, max: 4, serve: serveHeartbeat},
		{key: 13, min: 0, max: 5, serve: serveLeaveGroup},
		{key: 14, min: 0, max: 5, serve: serveSyncGroup},
		{key: 15, min: 0, max: 6, serve: serveDescribeGroups},
		{key: 16, min: 0, max: 5, serve: serveListGroups},
		{key: 22, min: 0, max: 5, serve: serveInitProducerID},
		{key: 24, min: 0, max: 5, serve: serveAddPartitionsToTxn},
		{key: 25, min: 0, max: 4, serve: serveAddOffsetsToTxn},
		{key: 26, min: 0, max: 5, serve: serveEndTxn},
		{key: 27, min: 0, max: 1, serve: serveWriteTxnMarkers},
		{key: 28, min: 0, max: 6, serve: serveTxnOffsetCommit},
		{key: 42, min: 0, max: 2, serve: serveDeleteGroups},
		{key: 47, min: 0, max: 0, serve: serveOffsetDelete},
		{key: 68, min: 0, max: 1, serve: serveConsumerGroupHeartbeat},
		{key: 69, min: 0, max: 1, serve: serveConsumerGroupDescribe},
		{key: 65, min: 0, max: 0, serve: serveDescribeTransactions},
		{key: 66, min: 0, max: 2, serve: serveListTransactions},
	}
}

// topicDeleted tells the coordinators that a topic is gone: its committed offsets go with it.
func (b *Broker) topicDeleted(topic string) { b.groups.TopicDeleted(topic) }

// joinTransaction is called for a transactional batch before it is appended, without the partition's lock; acks are the produce
// request's. From Produce v12 on
// it adds the partition to the producer's transaction, waiting for the end of the one before. It returns a kerr error.
func (b *Broker) joinTransaction(ctx context.Context, transactionalID string, producerID int64, producerEpoch int16, topic string, partition int32, produceVersion, acks int16) error {
	if acks != -1 {
		b.txns.Lazy(transactionalID)
	}
	if produceVersion < 12 {
		return nil // AddPartitionsToTxn has done it
	}
	return orNil(b.txns.Join(ctx, transactionalID, producerID, producerEpoch, txn.TopicPartition{Topic: topic, Partition: partition}))
}

// verifyTransaction checks, under the partition's lock, that a transactional batch belongs to an ongoing transaction of its
// producer. It returns a kerr error.
func (b *Broker) verifyTransaction(transactionalID string, producerID int64, producerEpoch int16, topic string, partition int32, produceVersion int16) error {
	return orNil(b.txns.Verify(transactionalID, producerID, producerEpoch, txn.TopicPartition{Topic: topic, Partition: partition}, produceVersion))
}

// orNil keeps a nil *kerr.Error from becoming an error that is not nil.
func orNil(err *kerr.Error) error {
	if err == nil {
		return nil
	}
	return err
}

// txnPartitions is the broker's logs as the transaction coordinator sees them.
type txnPartitions struct{ b *Broker }

// AppendMarker implements txn.Partitions. A marker in the offsets topic also ends the group coordinator's pending offsets.
func (p txnPartitions) AppendMarker(tp txn.TopicPartition, producerID int64, epoch int16, commit bool) (txn.Written, error) {
	return p.b.appendMarker(tp, producerID, epoch, commit, 0)
}

// appendMarker writes a marker, which goes to the disk with the partition's next records, or when somebody waits for it.
func (b *Broker) appendMarker(tp txn.TopicPartition, producerID int64, epoch int16, commit bool, coordinatorEpoch int32) (w txn.Written, err error) {
	l, ok := b.partition(tp.Topic, tp.Partition)
	if !ok {
		return w, kerr.UnknownTopicOrPartition
	}
	if producerID < 0 || epoch < 0 {
		return w, kerr.InvalidRequest
	}
	at, err := l.AppendMarkerLazily(producerID, epoch, commit, coordinatorEpoch)
	if errors.Is(err, log.ErrDeleted) {
		return w, kerr.UnknownTopicOrPartition
	}
	if err != nil {
		return w, err
	}
	if tp.Topic == offsetsTopic {
		b.groups.ApplyMarker(producerID, commit)
	}
	return txn.Written{
		Hasten: func() { l.Hasten(at + 1) },
		Synced: func(ctx context.Context) error { return waitUnlessDeleted(ctx, l, at+1) },
	}, nil
}

// WaitSynced implements txn.Partitions.
func (p txnPartitions) WaitSynced(ctx context.Context, tp txn.TopicPartition) error {
	l, ok := p.b.partition(tp.Topic, tp.Partition)
	if !ok {
		return nil
	}
	return waitUnlessDeleted(ctx, l, l.Bounds().End)
}

func waitUnlessDeleted(ctx context.Context, l *log.Log, end int64) error {
	if err := l.WaitSynced(ctx, end); err != nil && !errors.Is(err, log.ErrDeleted) {
		return err
	}
	return nil
}

// Open implements txn.Partitions.
func (p txnPartitions) Open() []txn.OpenTxn {
	var open []txn.OpenTxn
	for name, t := range p.b.topics.Load().byName {
		for i, l := range t.parts {
			for _, o := range l.OpenTxns() {
				tp := txn.TopicPartition{Topic: name, Partition: int32(i)}
				open = append(open, txn.OpenTxn{TopicPartition: tp, ProducerID: o.ProducerID, Epoch: o.Epoch})
			}
		}
	}
	return open
}

// partitionExists implements group.Exists.
func (b *Broker) partitionExists(topic string, partition int32) bool {
	_, ok := b.partition(topic, partition)
	return ok
}

// partitionTakes reports whether a transaction may write to a partition. One that is offline would keep it from ending; producers take it
// for one that is not there yet, and ask again.
func (b *Broker) partitionTakes(topic string, partition int32) bool {
	l, ok := b.partition(topic, partition)
	return ok && l.Online() == nil
}

// groupClient says who sends a request, for the group coordinator.
func groupClient(c *conn, r *request) group.Client {
	host := c.nc.RemoteAddr().String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return group.Client{ID: r.clientID, Host: "/" + host}
}

// pending makes a response of what a coordinator will answer.
func pending[R kmsg.Response](wait group.Pending[R]) response {
	return later(func(ctx context.Context) (kmsg.Response, error) { return wait(ctx) })
}
