package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// txnGuards are those of the APIs about producers and transactions.
func txnGuards() map[int16]guard {
	return map[int16]guard{
		22: guardInitProducerID,
		24: guardAddPartitions,
		25: everyGuard(whole(func(a access, q *kmsg.AddOffsetsToTxnRequest) bool { return a.txn(opWrite, q.TransactionalID) },
			func(*kmsg.AddOffsetsToTxnRequest) kmsg.Response {
				return &kmsg.AddOffsetsToTxnResponse{ErrorCode: txnDenied}
			}),
			whole(func(a access, q *kmsg.AddOffsetsToTxnRequest) bool { return a.group(opRead, q.Group) },
				func(*kmsg.AddOffsetsToTxnRequest) kmsg.Response {
					return &kmsg.AddOffsetsToTxnResponse{ErrorCode: groupDenied}
				})),
		26: whole(func(a access, q *kmsg.EndTxnRequest) bool { return a.txn(opWrite, q.TransactionalID) }, func(*kmsg.EndTxnRequest) kmsg.Response {
			return &kmsg.EndTxnResponse{ErrorCode: txnDenied, ProducerID: -1, ProducerEpoch: -1}
		}),
		27: whole(func(a access, _ *kmsg.WriteTxnMarkersRequest) bool {
			return a.cluster(opAlter) || a.cluster(opClusterAction)
		}, denyMarkers),
		28: everyGuard(
			whole(func(a access, q *kmsg.TxnOffsetCommitRequest) bool { return a.txn(opWrite, q.TransactionalID) },
				func(q *kmsg.TxnOffsetCommitRequest) kmsg.Response { return denyTxnCommit(q, txnDenied) }),
			whole(func(a access, q *kmsg.TxnOffsetCommitRequest) bool { return a.group(opRead, q.Group) },
				func(q *kmsg.TxnOffsetCommitRequest) kmsg.Response { return denyTxnCommit(q, groupDenied) }),
			each(func(q *kmsg.TxnOffsetCommitRequest) *[]kmsg.TxnOffsetCommitRequestTopic { return &q.Topics },
				func(a access, t *kmsg.TxnOffsetCommitRequestTopic) bool {
					if t.Topic == "" {
						return a.topicByID(opRead, t.TopicID)
					}
					return a.topic(opRead, t.Topic)
				},
				func(r *kmsg.TxnOffsetCommitResponse, t kmsg.TxnOffsetCommitRequestTopic) {
					refuseTxnCommit(r, t, topicDenied)
				})),
		65: everyGuard(each(func(q *kmsg.DescribeTransactionsRequest) *[]string { return &q.TransactionalIDs },
			func(a access, id *string) bool { return a.txn(opDescribe, *id) },
			func(r *kmsg.DescribeTransactionsResponse, id string) {
				s := kmsg.NewDescribeTransactionsResponseTransactionState()
				s.TransactionalID, s.ErrorCode = id, txnDenied
				r.TransactionStates = append(r.TransactionStates, s)
			}), hideTxnTopics),
		66: only[*kmsg.ListTransactionsRequest](func(r *kmsg.ListTransactionsResponse) *[]kmsg.ListTransactionsResponseTransactionState {
			return &r.TransactionStates
		},
			func(a access, s *kmsg.ListTransactionsResponseTransactionState) bool {
				return a.txn(opDescribe, s.TransactionalID)
			}),
	}
}

// guardInitProducerID: Write on the transactional id; for merely idempotent producers IdempotentWrite on the cluster, or Write on any
// topic.
func guardInitProducerID(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	q := req.(*kmsg.InitProducerIDRequest)
	code := int16(0)
	w := &a.c.who
	switch {
	case q.TransactionalID != nil && !a.txn(opWrite, *q.TransactionalID):
		code = txnDenied
	case q.TransactionalID == nil && !a.cluster(opIdempotentWrite) && !a.b.authorizer.AllowedSomewhere(w.principal, w.host, opWrite, kmsg.ACLResourceTypeTopic):
		code = clusterDenied
	default:
		return nil, nil
	}
	r := kmsg.NewPtrInitProducerIDResponse()
	r.ErrorCode, r.ProducerID, r.ProducerEpoch = code, -1, -1
	return r, nil
}

// guardAddPartitions: Write on the transactional id and on the topics; one that is denied keeps the others from being added. From
// version 4 on it is brokers that ask: ClusterAction.
func guardAddPartitions(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	q := req.(*kmsg.AddPartitionsToTxnRequest)
	r := kmsg.NewPtrAddPartitionsToTxnResponse()
	if q.Version >= 4 {
		if a.cluster(opClusterAction) {
			return nil, nil
		}
		r.ErrorCode = clusterDenied
		return r, nil
	}
	denied := false
	code := func(topic string) int16 {
		switch {
		case !a.txn(opWrite, q.TransactionalID):
			return txnDenied
		case !a.topic(opWrite, topic):
			return topicDenied
		}
		return kerr.OperationNotAttempted.Code
	}
	for _, t := range q.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		why := code(t.Topic)
		denied = denied || why != kerr.OperationNotAttempted.Code
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition{Partition: p, ErrorCode: why})
		}
		r.Topics = append(r.Topics, rt)
	}
	if denied {
		return r, nil
	}
	return nil, nil
}

func denyMarkers(q *kmsg.WriteTxnMarkersRequest) kmsg.Response {
	r := kmsg.NewPtrWriteTxnMarkersResponse()
	for _, m := range q.Markers {
		rm := kmsg.NewWriteTxnMarkersResponseMarker()
		rm.ProducerID = m.ProducerID
		for _, t := range m.Topics {
			rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rt.Partitions = append(rt.Partitions, kmsg.WriteTxnMarkersResponseMarkerTopicPartition{Partition: p, ErrorCode: clusterDenied})
			}
			rm.Topics = append(rm.Topics, rt)
		}
		r.Markers = append(r.Markers, rm)
	}
	return r
}

func denyTxnCommit(q *kmsg.TxnOffsetCommitRequest, code int16) kmsg.Response {
	r := kmsg.NewPtrTxnOffsetCommitResponse()
	for _, t := range q.Topics {
		refuseTxnCommit(r, t, code)
	}
	return r
}

func refuseTxnCommit(r *kmsg.TxnOffsetCommitResponse, t kmsg.TxnOffsetCommitRequestTopic, code int16) {
	rt := kmsg.NewTxnOffsetCommitResponseTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	for _, p := range t.Partitions {
		rt.Partitions = append(rt.Partitions, kmsg.TxnOffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: code})
	}
	r.Topics = append(r.Topics, rt)
}

// hideTxnTopics: of a transaction's topics those are told that the client may Describe.
func hideTxnTopics(a access, _ kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	return nil, func(resp kmsg.Response) {
		r := resp.(*kmsg.DescribeTransactionsResponse)
		for i := range r.TransactionStates {
			s := &r.TransactionStates[i]
			s.Topics, _ = split(s.Topics, func(t *kmsg.DescribeTransactionsResponseTransactionStateTopic) bool {
				return a.topic(opDescribe, t.Topic)
			})
		}
	}
}
