package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/record"
)

// The tests of this file hold answers to odd requests that a run beside Apache Kafka 4.3.1 has shown to differ.

func wantCode(t testing.TB, what string, got int16, want *kerr.Error) {
	t.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		t.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got), want)
	}
}

// What is asked for twice in one request is not done.
func TestTopicsNamedTwice(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	id := mustTopic(t, r, "t", 1)
	mustTopic(t, r, "u", 1)

	grow := kmsg.NewPtrCreatePartitionsRequest()
	for _, name := range []string{"t", "u", "t"} {
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = name, 2
		grow.Topics = append(grow.Topics, rt)
	}
	grown := do[*kmsg.CreatePartitionsResponse](r, grow, 3).Topics
	if len(grown) != 2 || len(b.topic("t").parts) != 1 || len(b.topic("u").parts) != 2 {
		t.Fatalf("partitions: %+v", grown)
	}
	wantCode(t, "t twice", grown[0].ErrorCode, kerr.InvalidRequest)
	wantCode(t, "u once", grown[1].ErrorCode, nil)

	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: kmsg.StringPtr("t")}, {Topic: kmsg.StringPtr("u")}, {TopicID: id}}
	gone := do[*kmsg.DeleteTopicsResponse](r, del, 6).Topics
	if len(gone) != 2 || b.topic("t") == nil || b.topic("u") != nil {
		t.Fatalf("deletion: %+v", gone)
	}
	wantCode(t, "by name and by id", gone[0].ErrorCode, kerr.InvalidRequest)
	wantCode(t, "u once", gone[1].ErrorCode, nil)
}

func TestConfigsOfOddRequests(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	type config = kmsg.IncrementalAlterConfigsRequestResourceConfig
	for what, tc := range map[string]struct {
		configs []config
		times   int
		want    *kerr.Error
	}{
		"a name twice":   {[]config{{Name: "retention.ms", Value: kmsg.StringPtr("1")}, {Name: "retention.ms", Value: kmsg.StringPtr("2")}}, 1, kerr.InvalidRequest},
		"a topic twice":  {[]config{{Name: "retention.ms", Value: kmsg.StringPtr("1")}}, 2, kerr.InvalidRequest},
		"no value":       {[]config{{Name: "retention.ms"}}, 1, kerr.InvalidRequest},
		"crossed lags":   {[]config{{Name: "min.compaction.lag.ms", Value: kmsg.StringPtr("2")}, {Name: "max.compaction.lag.ms", Value: kmsg.StringPtr("1")}}, 1, kerr.InvalidConfig},
		"lags that meet": {[]config{{Name: "min.compaction.lag.ms", Value: kmsg.StringPtr("2")}, {Name: "max.compaction.lag.ms", Value: kmsg.StringPtr("2")}}, 1, nil},
	} {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		for range tc.times {
			req.Resources = append(req.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t", Configs: tc.configs})
		}
		got := do[*kmsg.IncrementalAlterConfigsResponse](r, req, 1).Resources
		if len(got) != 1 {
			t.Fatalf("%s: %+v", what, got)
		}
		wantCode(t, what, got[0].ErrorCode, tc.want)
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "lags", 1, 1
	rt.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "max.compaction.lag.ms", Value: kmsg.StringPtr("1")}, {Name: "min.compaction.lag.ms", Value: kmsg.StringPtr("2")}}
	create.Topics = append(create.Topics, rt)
	wantCode(t, "a new topic with crossed lags", do[*kmsg.CreateTopicsResponse](r, create, 7).Topics[0].ErrorCode, kerr.InvalidConfig)

	// No names are all names, however a client says it.
	desc := kmsg.NewPtrDescribeConfigsRequest()
	desc.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t", ConfigNames: []string{}}}
	if got := do[*kmsg.DescribeConfigsResponse](r, desc, 4).Resources[0].Configs; len(got) < 20 {
		t.Errorf("an empty list of names describes %d configurations", len(got))
	}
}

func TestTransactionsOfOddRequests(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	init := newInit("x")
	p := do[*kmsg.InitProducerIDResponse](r, init, 4)
	wantCode(t, "init", p.ErrorCode, nil)

	add := newAdd("x", p, offsetsTopic, "t")
	added := do[*kmsg.AddPartitionsToTxnResponse](r, add, 3).Topics
	wantCode(t, "an internal topic", added[0].Partitions[0].ErrorCode, kerr.TopicAuthorizationFailed)
	wantCode(t, "beside an internal topic", added[1].Partitions[0].ErrorCode, kerr.OperationNotAttempted)

	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.Group, commit.ProducerID, commit.ProducerEpoch, commit.Generation = "x", "g", p.ProducerID, p.ProducerEpoch, -1
	commit.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{}}}}
	outcome := func(version int16) int16 {
		return do[*kmsg.TxnOffsetCommitResponse](r, commit, version).Topics[0].Partitions[0].ErrorCode
	}
	wantCode(t, "v3 outside of a transaction", outcome(3), kerr.InvalidTxnState)
	wantCode(t, "v4 outside of a transaction", outcome(4), kerr.TransactionAbortable)
	commit.ProducerEpoch = -1
	for _, v := range []int16{3, 5} {
		wantCode(t, "no epoch", outcome(v), kerr.InvalidProducerEpoch)
	}

	produce := kmsg.NewPtrProduceRequest()
	produce.Acks, produce.TimeoutMillis = -1, 1000
	batch := record.Build(record.BatchInfo{Transactional: true, ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch}, []record.Record{{Value: []byte("v")}})
	produce.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batch}}}}
	wantCode(t, "a transactional batch without a transactional id",
		do[*kmsg.ProduceResponse](r, produce, 9).Topics[0].Partitions[0].ErrorCode, kerr.TransactionalIDAuthorizationFailed)

	markers := kmsg.NewPtrWriteTxnMarkersRequest()
	markers.Markers = []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: -1, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "t", Partitions: []int32{0}}}}}
	wantCode(t, "a marker of nobody", do[*kmsg.WriteTxnMarkersResponse](r, markers, 1).Markers[0].Topics[0].Partitions[0].ErrorCode, kerr.InvalidRequest)

	desc := kmsg.NewPtrDescribeTransactionsRequest()
	desc.TransactionalIDs = []string{""}
	wantCode(t, "describe no id", do[*kmsg.DescribeTransactionsResponse](r, desc, 0).TransactionStates[0].ErrorCode, kerr.InvalidRequest)

	list := kmsg.NewPtrListTransactionsRequest()
	list.StateFilters = []string{"empty"}
	if got := do[*kmsg.ListTransactionsResponse](r, list, 0); len(got.TransactionStates) != 0 || len(got.UnknownStateFilters) != 1 {
		t.Errorf("states are written as they are named: %+v", got)
	}
}

// A producer that another one has replaced is told so when it commits offsets: told to try again, it would for ever.
func TestOffsetsOfAFencedProducer(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	init := newInit("x")
	do[*kmsg.InitProducerIDResponse](r, init, 4)
	p := do[*kmsg.InitProducerIDResponse](r, init, 4)
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.Group, add.ProducerID, add.ProducerEpoch = "x", "g", p.ProducerID, p.ProducerEpoch
	wantCode(t, "add", do[*kmsg.AddOffsetsToTxnResponse](r, add, 3).ErrorCode, nil)
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.Group, commit.ProducerID, commit.Generation = "x", "g", p.ProducerID, -1
	commit.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{}}}}
	commit.ProducerEpoch = p.ProducerEpoch
	wantCode(t, "the owner", do[*kmsg.TxnOffsetCommitResponse](r, commit, 3).Topics[0].Partitions[0].ErrorCode, nil)
	commit.ProducerEpoch--
	wantCode(t, "the one before", do[*kmsg.TxnOffsetCommitResponse](r, commit, 3).Topics[0].Partitions[0].ErrorCode, kerr.InvalidProducerEpoch)
}

// Offsets of an open transaction are not among all that a group has committed. Who asks for what is stable learns that there are some.
func TestPendingOffsetsAreNotListed(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 2)
	do[*kmsg.OffsetCommitResponse](r, newCommit("g", "t", 0, 7), 8)
	init := newInit("x")
	p := do[*kmsg.InitProducerIDResponse](r, init, 4)
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.Group, commit.ProducerID, commit.ProducerEpoch, commit.Generation = "x", "g", p.ProducerID, p.ProducerEpoch, -1
	commit.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Partition: 1, Offset: 9}}}}
	wantCode(t, "pending", do[*kmsg.TxnOffsetCommitResponse](r, commit, 5).Topics[0].Partitions[0].ErrorCode, nil)
	all := kmsg.NewPtrOffsetFetchRequest()
	all.Group = "g"
	got := do[*kmsg.OffsetFetchResponse](r, all, 7).Topics
	if len(got) != 1 || len(got[0].Partitions) != 1 || got[0].Partitions[0].Partition != 0 || got[0].Partitions[0].Offset != 7 {
		t.Errorf("%+v", got)
	}
	all.RequireStable = true
	got = do[*kmsg.OffsetFetchResponse](r, all, 7).Topics
	if len(got) != 1 || len(got[0].Partitions) != 2 || got[0].Partitions[1].ErrorCode != kerr.UnstableOffsetCommit.Code {
		t.Errorf("stable: %+v", got)
	}
}

func TestGroupsOfOddRequests(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	do[*kmsg.OffsetCommitResponse](r, newCommit("g", "t", 0, 7), 8)
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Groups = []string{"g", "g"}
	if got := do[*kmsg.DeleteGroupsResponse](r, del, 2).Groups; len(got) != 1 || got[0].ErrorCode != 0 {
		t.Errorf("a group that is to be deleted twice: %+v", got)
	}
	do[*kmsg.OffsetCommitResponse](r, newCommit("", "t", 0, 7), 8) // there may be such a group: simple consumers use it
	desc := kmsg.NewPtrConsumerGroupDescribeRequest()
	desc.Groups = []string{""}
	for range 2 {
		wantCode(t, "describe no group", do[*kmsg.ConsumerGroupDescribeResponse](r, desc, 1).Groups[0].ErrorCode, kerr.InvalidGroupID)
	}
	do[*kmsg.ListGroupsResponse](r, kmsg.NewPtrListGroupsRequest(), 4) // nobody holds its lock

	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.MemberID, beat.InstanceID, beat.RebalanceTimeoutMillis = "c", "m", kmsg.StringPtr("one"), 10_000
	beat.SubscribedTopicNames, beat.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	wantCode(t, "join", do[*kmsg.ConsumerGroupHeartbeatResponse](r, beat, 1).ErrorCode, nil)
	leave := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	leave.Group, leave.MemberID, leave.InstanceID, leave.MemberEpoch = "c", "m", kmsg.StringPtr("two"), -1
	wantCode(t, "a member that leaves as somebody else", do[*kmsg.ConsumerGroupHeartbeatResponse](r, leave, 1).ErrorCode, kerr.UnknownMemberID)
	leave.InstanceID = kmsg.StringPtr("one")
	wantCode(t, "a member that leaves", do[*kmsg.ConsumerGroupHeartbeatResponse](r, leave, 1).ErrorCode, nil)

	cluster := kmsg.NewPtrDescribeClusterRequest()
	cluster.EndpointType = 2
	wantCode(t, "controllers", do[*kmsg.DescribeClusterResponse](r, cluster, 1).ErrorCode, kerr.MismatchedEndpointType)
}

// An answer without records knows no bounds that a client could take for true.
func TestFetchInAnUnknownEpochTellsNoBounds(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	id := mustTopic(t, r, "t", 1)
	produceEach(t, b, "t", 1, 0, 3)
	req := fetchOf("t", id, 0, 0)
	req.Topics[0].Partitions[0].CurrentLeaderEpoch = 7
	p := do[*kmsg.FetchResponse](r, req, 12).Topics[0].Partitions[0]
	wantCode(t, "epoch 7", p.ErrorCode, kerr.UnknownLeaderEpoch)
	if p.HighWatermark != -1 || p.LastStableOffset != -1 || p.LogStartOffset != -1 {
		t.Errorf("%+v", p)
	}
}

// newInit asks for the producer of a transactional id.
func newInit(id string) *kmsg.InitProducerIDRequest {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr(id), 10_000
	return req
}

// newAdd adds the first partition of topics to the transaction of a producer.
func newAdd(id string, p *kmsg.InitProducerIDResponse, topics ...string) *kmsg.AddPartitionsToTxnRequest {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = id, p.ProducerID, p.ProducerEpoch
	for _, t := range topics {
		req.Topics = append(req.Topics, kmsg.AddPartitionsToTxnRequestTopic{Topic: t, Partitions: []int32{0}})
	}
	return req
}

// newEnd commits the transaction of a producer.
func newEnd(id string, p *kmsg.InitProducerIDResponse) *kmsg.EndTxnRequest {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = id, p.ProducerID, p.ProducerEpoch, true
	return req
}
