package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/record"
)

// The tests of this file hold what the broker answers otherwise than Apache Kafka on purpose, as docs/broker.md says.

// A producer that has been replaced does not abort the transaction of the one that replaced it.
func TestStaleInitLeavesTheTransactionOpen(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	init := newInit("x")
	old := do[*kmsg.InitProducerIDResponse](r, init, 4)
	p := do[*kmsg.InitProducerIDResponse](r, init, 4)
	add := newAdd("x", p, "t")
	wantCode(t, "add", do[*kmsg.AddPartitionsToTxnResponse](r, add, 3).Topics[0].Partitions[0].ErrorCode, nil)
	init.ProducerID, init.ProducerEpoch = old.ProducerID, old.ProducerEpoch
	wantCode(t, "the one before", do[*kmsg.InitProducerIDResponse](r, init, 4).ErrorCode, kerr.ProducerFenced)
	end := newEnd("x", p)
	wantCode(t, "commit", do[*kmsg.EndTxnResponse](r, end, 4).ErrorCode, nil)
}

// A batch that comes again after its transaction has ended was acknowledged, and is again.
func TestRepeatedBatchOfAnEndedTransaction(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	init := newInit("x")
	p := do[*kmsg.InitProducerIDResponse](r, init, 4)
	add := newAdd("x", p, "t")
	do[*kmsg.AddPartitionsToTxnResponse](r, add, 3)
	send := func() kmsg.ProduceResponseTopicPartition {
		info := record.BatchInfo{Transactional: true, ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch}
		req := produceRequest1("t", 0, -1, record.Build(info, []record.Record{{Value: []byte("v")}}))
		req.TransactionID = kmsg.StringPtr("x")
		return do[*kmsg.ProduceResponse](r, req, 9).Topics[0].Partitions[0]
	}
	first := send()
	wantCode(t, "first", first.ErrorCode, nil)
	end := newEnd("x", p)
	wantCode(t, "commit", do[*kmsg.EndTxnResponse](r, end, 4).ErrorCode, nil)
	settledLSO(t, b, "t")
	if again := send(); again.ErrorCode != 0 || again.BaseOffset != first.BaseOffset {
		t.Errorf("again: %+v, first %+v", again, first)
	}
}

// Partitions that a request names twice are served twice; a level of isolation that there is not is the lowest.
func TestPartitionsNamedTwiceAreServedTwice(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	id := mustTopic(t, r, "t", 1)
	req := produceRequest1("t", 0, -1, batch("a"))
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, kmsg.ProduceRequestTopicPartition{Records: batch("b")})
	got := do[*kmsg.ProduceResponse](r, req, 9).Topics[0].Partitions
	if len(got) != 2 || got[0].ErrorCode != 0 || got[1].ErrorCode != 0 || got[1].BaseOffset != 1 {
		t.Fatalf("produce: %+v", got)
	}
	fetch := fetchOf("t", id, 0, 0, 0)
	fetch.IsolationLevel = 7
	parts := do[*kmsg.FetchResponse](r, fetch, 12).Topics[0].Partitions
	if len(parts) != 2 || len(values(t, parts[0].RecordBatches)) != 2 || len(values(t, parts[1].RecordBatches)) != 2 {
		t.Fatalf("fetch: %+v", parts)
	}
	list := kmsg.NewPtrListOffsetsRequest()
	list.ReplicaID = -1
	at := func(time int64) kmsg.ListOffsetsRequestTopicPartition {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp = time
		return p
	}
	list.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{at(-2), at(-1)}}}
	offsets := do[*kmsg.ListOffsetsResponse](r, list, 7).Topics[0].Partitions
	if len(offsets) != 2 || offsets[0].Offset != 0 || offsets[1].Offset != 2 {
		t.Fatalf("offsets: %+v", offsets)
	}
}

func TestDeleteRecordsOfACompactedTopic(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	create := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "t", 1, 1
	rt.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "cleanup.policy", Value: kmsg.StringPtr("compact")}}
	create.Topics = append(create.Topics, rt)
	wantCode(t, "create", do[*kmsg.CreateTopicsResponse](r, create, 7).Topics[0].ErrorCode, nil)
	for range 3 {
		keyed := record.Build(record.NoProducer(), []record.Record{{Key: []byte("k"), Value: []byte("v")}})
		wantCode(t, "produce", do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, -1, keyed), 9).Topics[0].Partitions[0].ErrorCode, nil)
	}
	del := kmsg.NewPtrDeleteRecordsRequest()
	del.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 2}}}}
	p := do[*kmsg.DeleteRecordsResponse](r, del, 2).Topics[0].Partitions[0]
	wantCode(t, "delete", p.ErrorCode, nil)
	if p.LowWatermark != 2 {
		t.Errorf("the log begins at %d", p.LowWatermark)
	}
}
