package broker

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mustTopic creates a topic.
func mustTopic(t testing.TB, r *raw, name string, partitions int32) [16]byte {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	req.Topics = append(req.Topics, rt)
	resp := do[*kmsg.CreateTopicsResponse](r, req, 7)
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].TopicID
}

func TestDescribeLogDirs(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 2)
	produceEach(t, b, "t", 2, 0, 10)
	for v := int16(0); v <= 4; v++ {
		all := do[*kmsg.DescribeLogDirsResponse](r, kmsg.NewPtrDescribeLogDirsRequest(), v)
		if len(all.Dirs) != 1 || all.Dirs[0].Dir != b.cfg.Dir || len(all.Dirs[0].Topics) != len(b.topics.Load().byName) {
			t.Fatalf("v%d: %+v", v, all)
		}
		if d := all.Dirs[0]; v >= 4 && (d.TotalBytes < d.UsableBytes || d.UsableBytes <= 0) {
			t.Fatalf("a volume of %d bytes with %d to spare", d.TotalBytes, d.UsableBytes)
		}
		req := kmsg.NewPtrDescribeLogDirsRequest()
		req.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: "t", Partitions: []int32{1, 7}}, {Topic: "nosuch", Partitions: []int32{0}}}
		some := do[*kmsg.DescribeLogDirsResponse](r, req, v).Dirs[0].Topics
		if len(some) != 1 || len(some[0].Partitions) != 1 || some[0].Partitions[0].Size <= 0 {
			t.Fatalf("v%d: %+v", v, some)
		}
	}
}

func TestAlterReplicaLogDirs(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	for v := int16(1); v <= 2; v++ {
		for dir, want := range map[string]int16{b.cfg.Dir: 0, "/elsewhere": kerr.LogDirNotFound.Code} {
			req := kmsg.NewPtrAlterReplicaLogDirsRequest()
			req.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{{Dir: dir, Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "t", Partitions: []int32{0, 1}}}}}
			ps := do[*kmsg.AlterReplicaLogDirsResponse](r, req, v).Topics[0].Partitions
			if ps[0].ErrorCode != want || ps[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
				t.Errorf("v%d: to %s: %+v", v, dir, ps)
			}
		}
	}
}

func TestDescribeQuorum(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	for v := int16(0); v <= 2; v++ {
		req := kmsg.NewPtrDescribeQuorumRequest()
		req.Topics = []kmsg.DescribeQuorumRequestTopic{{Topic: clusterMetadata, Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{Partition: 0}, {Partition: 1}}}}
		ps := do[*kmsg.DescribeQuorumResponse](r, req, v).Topics[0].Partitions
		if p := ps[0]; p.ErrorCode != 0 || p.LeaderID != 1 || p.HighWatermark <= 0 || len(p.CurrentVoters) != 1 || p.CurrentVoters[0].ReplicaID != 1 {
			t.Errorf("v%d: %+v", v, p)
		}
		if ps[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("v%d: %+v", v, ps[1])
		}
	}
}

func TestThereIsNothingToElectOrReassign(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	for v := int16(0); v <= 2; v++ {
		req := kmsg.NewPtrElectLeadersRequest()
		req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}
		ps := do[*kmsg.ElectLeadersResponse](r, req, v).Topics[0].Partitions
		if ps[0].ErrorCode != kerr.ElectionNotNeeded.Code || ps[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Fatalf("v%d: %+v", v, ps)
		}
		req.Topics = nil
		if all := do[*kmsg.ElectLeadersResponse](r, req, v); len(all.Topics) != 0 || all.ErrorCode != 0 {
			t.Fatalf("v%d: %+v", v, all)
		}
	}
	for v := int16(0); v <= 1; v++ {
		req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		req.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{
			{Partition: 0, Replicas: []int32{1}}, {Partition: 0, Replicas: []int32{1, 2}}, {Partition: 0}, {Partition: 9, Replicas: []int32{1}}}}}
		var codes []int16
		for _, p := range do[*kmsg.AlterPartitionAssignmentsResponse](r, req, v).Topics[0].Partitions {
			codes = append(codes, p.ErrorCode)
		}
		if want := []int16{0, kerr.InvalidReplicaAssignment.Code, kerr.NoReassignmentInProgress.Code, kerr.UnknownTopicOrPartition.Code}; !slices.Equal(codes, want) {
			t.Fatalf("v%d: %v, want %v", v, codes, want)
		}
	}
	if resp := do[*kmsg.ListPartitionReassignmentsResponse](r, kmsg.NewPtrListPartitionReassignmentsRequest(), 0); resp.ErrorCode != 0 || len(resp.Topics) != 0 {
		t.Fatalf("%+v", resp)
	}
}

func TestFeaturesStayAtTheirLevels(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	update := func(version int16, updates ...kmsg.UpdateFeaturesRequestFeatureUpdate) *kmsg.UpdateFeaturesResponse {
		req := kmsg.NewPtrUpdateFeaturesRequest()
		req.FeatureUpdates = updates
		return do[*kmsg.UpdateFeaturesResponse](r, req, version)
	}
	same, lower := kmsg.UpdateFeaturesRequestFeatureUpdate{Feature: "transaction.version", MaxVersionLevel: 2}, kmsg.UpdateFeaturesRequestFeatureUpdate{Feature: "transaction.version", MaxVersionLevel: 1}
	for v := int16(0); v <= 2; v++ {
		if resp := update(v, same); resp.ErrorCode != 0 {
			t.Errorf("v%d: the same level: %+v", v, resp)
		}
		for _, u := range []kmsg.UpdateFeaturesRequestFeatureUpdate{lower, {Feature: "no.such.feature", MaxVersionLevel: 1}} {
			resp := update(v, same, u)
			if resp.ErrorCode != kerr.InvalidUpdateVersion.Code || resp.ErrorMessage == nil {
				t.Errorf("v%d: %s: %+v", v, u.Feature, resp)
			}
			if v < 2 && (len(resp.Results) != 2 || resp.Results[1].ErrorCode != kerr.InvalidUpdateVersion.Code) {
				t.Errorf("v%d: %s: results %+v", v, u.Feature, resp.Results)
			}
		}
	}
}

func TestListConfigResources(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	list := func(version int16, types ...int8) (names map[string]int8, code int16) {
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.ResourceTypes = types
		resp := do[*kmsg.ListConfigResourcesResponse](r, req, version)
		names = map[string]int8{}
		for _, cr := range resp.ConfigResources {
			names[cr.Name] = cr.Type
		}
		return names, resp.ErrorCode
	}
	if names, code := list(0); len(names) != 0 || code != 0 {
		t.Fatalf("v0: %v %d", names, code)
	}
	if names, _ := list(1); names["t"] != 2 || names["1"] != 4 {
		t.Fatalf("v1: %v", names)
	}
	if names, _ := list(1, 4); len(names) != 1 || names["1"] != 4 {
		t.Fatalf("brokers: %v", names)
	}
	if _, code := list(1, 3); code != kerr.UnsupportedVersion.Code {
		t.Fatalf("type 3: %d", code)
	}
}

func TestMetadataOfTopicsByIDHasTheirNames(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	id, empty := mustTopic(t, r, "t", 1), ""
	for _, name := range []*string{nil, &empty} { // franz-go's way to ask, and that of Java's client
		resp := do[*kmsg.MetadataResponse](r, &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{Topic: name, TopicID: id}}}, 12)
		if got := resp.Topics; len(got) != 1 || got[0].ErrorCode != 0 || got[0].Topic == nil || *got[0].Topic != "t" {
			t.Errorf("name %v: got %+v", name, got)
		}
		resp = do[*kmsg.MetadataResponse](r, &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{Topic: name, TopicID: [16]byte{9}}}}, 12)
		if got := resp.Topics; len(got) != 1 || got[0].ErrorCode != kerr.UnknownTopicID.Code || got[0].Topic != nil {
			t.Errorf("unknown id, name %v: got %+v", name, got)
		}
	}
}

func TestOffsetsOfTopicsByID(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	id, nobody := mustTopic(t, r, "t", 1), [16]byte{9}

	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation = "g", -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = 7
	for _, id := range [][16]byte{id, nobody} {
		commit.Topics = append(commit.Topics, kmsg.OffsetCommitRequestTopic{TopicID: id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}})
	}
	ts := do[*kmsg.OffsetCommitResponse](r, commit, 10).Topics
	if ts[0].TopicID != id || ts[0].Partitions[0].ErrorCode != 0 || ts[1].TopicID != nobody || ts[1].Partitions[0].ErrorCode != kerr.UnknownTopicID.Code {
		t.Fatalf("%+v", ts)
	}

	fetch := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = "g"
	fetch.Groups = append(fetch.Groups, g)
	all := do[*kmsg.OffsetFetchResponse](r, fetch, 10).Groups[0]
	if len(all.Topics) != 1 || all.Topics[0].TopicID != id || all.Topics[0].Partitions[0].Offset != 7 {
		t.Fatalf("%+v", all)
	}
	fetch.Groups[0].Topics = []kmsg.OffsetFetchRequestGroupTopic{{TopicID: nobody, Partitions: []int32{0}}, {TopicID: id, Partitions: []int32{0}}}
	some := do[*kmsg.OffsetFetchResponse](r, fetch, 10).Groups[0].Topics
	if some[1].TopicID != nobody || some[1].Partitions[0].ErrorCode != kerr.UnknownTopicID.Code || some[0].Partitions[0].Offset != 7 {
		t.Fatalf("%+v", some)
	}

	txn := kmsg.NewPtrTxnOffsetCommitRequest()
	txn.Group, txn.TransactionalID, txn.Generation = "g", "x", -1
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis = kmsg.StringPtr("x"), 10_000
	producer := do[*kmsg.InitProducerIDResponse](r, init, 5)
	txn.ProducerID, txn.ProducerEpoch = producer.ProducerID, producer.ProducerEpoch
	for _, id := range [][16]byte{id, nobody} {
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Offset = 9
		txn.Topics = append(txn.Topics, kmsg.TxnOffsetCommitRequestTopic{TopicID: id, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}})
	}
	tts := do[*kmsg.TxnOffsetCommitResponse](r, txn, 6).Topics
	if tts[0].TopicID != id || tts[0].Partitions[0].ErrorCode != 0 || tts[1].Partitions[0].ErrorCode != kerr.UnknownTopicID.Code {
		t.Fatalf("%+v", tts)
	}
}

func TestListTransactionsByPattern(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	for _, id := range []string{"orders-1", "orders-2", "mail-1"} {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr(id), 10_000
		do[*kmsg.InitProducerIDResponse](r, req, 5)
	}
	for pattern, want := range map[string]int{"orders-.*": 2, "orders": 0, ".*-1": 2, "": 3} {
		req := kmsg.NewPtrListTransactionsRequest()
		req.TransactionalIDPattern = kmsg.StringPtr(pattern)
		if got := do[*kmsg.ListTransactionsResponse](r, req, 2).TransactionStates; len(got) != want {
			t.Errorf("%q: %d ids, want %d", pattern, len(got), want)
		}
	}
	req := kmsg.NewPtrListTransactionsRequest()
	req.TransactionalIDPattern = kmsg.StringPtr("(")
	if resp := do[*kmsg.ListTransactionsResponse](r, req, 2); resp.ErrorCode != kerr.InvalidRegularExpression.Code {
		t.Fatalf("%+v", resp)
	}
}
