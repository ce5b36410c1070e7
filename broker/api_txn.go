package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group"
	"github.com/leatstream/leat/broker/internal/txn"
)

// InitProducerId (key 22), versions 0–5. Aborts the id's unfinished transaction first and waits for it.
// Errors: INVALID_REQUEST, INVALID_TRANSACTION_TIMEOUT, PRODUCER_FENCED (v4+; before: INVALID_PRODUCER_EPOCH),
// CONCURRENT_TRANSACTIONS (only if the end of the transaction before takes very long), COORDINATOR_NOT_AVAILABLE.
func serveInitProducerID(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.InitProducerIDRequest)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		return b.txns.InitProducerID(ctx, req), nil
	}), nil
}

// offsetsPartition is where the offsets of every group are.
var offsetsPartition = txn.TopicPartition{Topic: offsetsTopic}

// AddPartitionsToTxn (key 24), versions 0–5; from v4 on several ids, and verification only, as brokers ask each other.
// Answered when it is on disk. Errors: INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED (v2+), CONCURRENT_TRANSACTIONS,
// UNKNOWN_TOPIC_OR_PARTITION and TOPIC_AUTHORIZATION_FAILED (internal topics) with OPERATION_NOT_ATTEMPTED for the other partitions,
// TRANSACTION_ABORTABLE (verification).
func serveAddPartitionsToTxn(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.AddPartitionsToTxnRequest)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := kmsg.NewPtrAddPartitionsToTxnResponse()
		if req.Version < 4 {
			var topics []kmsg.AddPartitionsToTxnRequestTransactionTopic
			for _, t := range req.Topics {
				topics = append(topics, kmsg.AddPartitionsToTxnRequestTransactionTopic{Topic: t.Topic, Partitions: t.Partitions})
			}
			for _, t := range b.addPartitions(ctx, req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, false, topics) {
				old := kmsg.NewAddPartitionsToTxnResponseTopic()
				old.Topic = t.Topic
				for _, p := range t.Partitions {
					old.Partitions = append(old.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition{Partition: p.Partition, ErrorCode: p.ErrorCode})
				}
				resp.Topics = append(resp.Topics, old)
			}
			return resp, nil
		}
		for _, t := range req.Transactions {
			rt := kmsg.NewAddPartitionsToTxnResponseTransaction()
			rt.TransactionalID = t.TransactionalID
			rt.Topics = b.addPartitions(ctx, req.Version, t.TransactionalID, t.ProducerID, t.ProducerEpoch, t.VerifyOnly, t.Topics)
			resp.Transactions = append(resp.Transactions, rt)
		}
		return resp, nil
	}), nil
}

func (b *Broker) addPartitions(ctx context.Context, version int16, id string, producerID int64, epoch int16, verify bool,
	topics []kmsg.AddPartitionsToTxnRequestTransactionTopic,
) []kmsg.AddPartitionsToTxnResponseTransactionTopic {
	var tps []txn.TopicPartition
	refused := func(topic string, p int32) *kerr.Error {
		switch t := b.topic(topic); {
		case !b.partitionTakes(topic, p):
			return kerr.UnknownTopicOrPartition
		case t != nil && t.Internal && !verify: // AddOffsetsToTxn is for that
			return kerr.TopicAuthorizationFailed
		}
		return nil
	}
	some := false
	for _, t := range topics {
		for _, p := range t.Partitions {
			tps = append(tps, txn.TopicPartition{Topic: t.Topic, Partition: p})
			some = some || refused(t.Topic, p) != nil
		}
	}
	var all *kerr.Error
	if !some && !verify {
		all = b.txns.AddPartitions(ctx, id, producerID, epoch, tps, version >= 2)
	}
	code := func(topic string, p int32) int16 {
		switch why := refused(topic, p); {
		case some && why != nil:
			return why.Code
		case some:
			return kerr.OperationNotAttempted.Code
		case verify:
			return errorCode(orNil(b.txns.Verify(id, producerID, epoch, txn.TopicPartition{Topic: topic, Partition: p}, 11)))
		default:
			return errorCode(orNil(all))
		}
	}
	var out []kmsg.AddPartitionsToTxnResponseTransactionTopic
	for _, t := range topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, kmsg.AddPartitionsToTxnResponseTransactionTopicPartition{Partition: p, ErrorCode: code(t.Topic, p)})
		}
		out = append(out, rt)
	}
	return out
}

// AddOffsetsToTxn (key 25), versions 0–4: adds the partition that holds the group's offsets. Answered when it is on disk.
// Errors: those of AddPartitionsToTxn, INVALID_GROUP_ID.
func serveAddOffsetsToTxn(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.AddOffsetsToTxnRequest)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := kmsg.NewPtrAddOffsetsToTxnResponse()
		if req.Group == "" {
			resp.ErrorCode = kerr.InvalidGroupID.Code
			return resp, nil
		}
		resp.ErrorCode = errorCode(orNil(b.txns.AddPartitions(ctx, req.TransactionalID, req.ProducerID, req.ProducerEpoch,
			[]txn.TopicPartition{offsetsPartition}, req.Version >= 2)))
		return resp, nil
	}), nil
}

// TxnOffsetCommit (key 28), versions 0–6; topics by id from v6 on. The offsets are pending until the transaction ends; from v5 on it adds their partition to
// the transaction itself. Answered when it is on disk. Errors: those of OffsetCommit but REBALANCE_IN_PROGRESS,
// INVALID_PRODUCER_ID_MAPPING, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, TRANSACTION_ABORTABLE (v4).
func serveTxnOffsetCommit(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.TxnOffsetCommitRequest)
	if req.Version >= 6 {
		for i := range req.Topics {
			req.Topics[i].Topic, _ = b.topicName(req.Topics[i].TopicID)
		}
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		produceVersion := int16(3) // the errors that a client of this version knows are those of a produce version
		if req.Version >= 4 {
			produceVersion = 11
		}
		if req.ProducerID < 0 || req.ProducerEpoch < 0 { // nobody's: never to be found in a batch
			return group.TxnCommitResponse(req, b.txns.Verify(req.TransactionalID, req.ProducerID, req.ProducerEpoch, offsetsPartition, produceVersion)), nil
		}
		if req.Version >= 5 {
			if err := b.txns.Join(ctx, req.TransactionalID, req.ProducerID, req.ProducerEpoch, offsetsPartition); err != nil {
				return group.TxnCommitResponse(req, err), nil
			}
		}
		wait := b.groups.CommitTxn(req, b.partitionExists, func() error {
			return orNil(b.txns.Verify(req.TransactionalID, req.ProducerID, req.ProducerEpoch, offsetsPartition, produceVersion))
		})
		return wait(ctx)
	}), nil
}

// EndTxn (key 26), versions 0–5; v5 is transaction version 2: each end bumps the epoch and returns it. Answered when the decision is
// on disk; the markers follow, the id's next transaction waits for them to be written.
// Errors: INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED (v2+; before: INVALID_PRODUCER_EPOCH), INVALID_TXN_STATE,
// TRANSACTION_ABORTABLE (v5: it took too long and was aborted), CONCURRENT_TRANSACTIONS, COORDINATOR_NOT_AVAILABLE.
func serveEndTxn(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.EndTxnRequest)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		return b.txns.EndTxn(ctx, req), nil
	}), nil
}

// WriteTxnMarkers (key 27), versions 0–1: an administrator ends a transaction in some partitions. Answered when it is on disk.
// Errors per partition: UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST (a negative producer id or epoch), INVALID_PRODUCER_EPOCH,
// TRANSACTION_COORDINATOR_FENCED, KAFKA_STORAGE_ERROR.
func serveWriteTxnMarkers(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.WriteTxnMarkersRequest)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := kmsg.NewPtrWriteTxnMarkersResponse()
		for i := range req.Markers {
			m := &req.Markers[i]
			rm := kmsg.NewWriteTxnMarkersResponseMarker()
			rm.ProducerID = m.ProducerID
			for _, t := range m.Topics {
				rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
					rp.Partition = p
					tp := txn.TopicPartition{Topic: t.Topic, Partition: p}
					w, err := b.appendMarker(tp, m.ProducerID, m.ProducerEpoch, m.Committed, m.CoordinatorEpoch)
					if err == nil {
						w.Hasten()
						err = w.Synced(ctx)
					}
					rp.ErrorCode = errorCode(err)
					rt.Partitions = append(rt.Partitions, rp)
				}
				rm.Topics = append(rm.Topics, rt)
			}
			resp.Markers = append(resp.Markers, rm)
		}
		return resp, nil
	}), nil
}

// DescribeTransactions (key 65), version 0. Errors per id: TRANSACTIONAL_ID_NOT_FOUND, INVALID_REQUEST (an empty one).
func serveDescribeTransactions(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeTransactionsRequest)
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	for _, id := range req.TransactionalIDs {
		resp.TransactionStates = append(resp.TransactionStates, b.txns.Describe(id))
	}
	return answer(resp), nil
}

// ListTransactions (key 66), versions 0–2; filters by state, producer id, duration (v1) and a pattern of the id (v2).
// Errors: INVALID_REGULAR_EXPRESSION.
func serveListTransactions(b *Broker, _ *conn, r *request) (response, error) {
	return answer(b.txns.List(r.body.(*kmsg.ListTransactionsRequest))), nil
}
