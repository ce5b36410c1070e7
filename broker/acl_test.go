package broker

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/auth"
	"github.com/leatstream/leat/broker/internal/record"
)

// may makes an allowance of alice's.
func may(op kmsg.ACLOperation, t kmsg.ACLResourceType, name string) auth.Binding {
	return auth.Binding{Type: t, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Principal: "User:alice", Host: "*", Operation: op, Permission: kmsg.ACLPermissionTypeAllow}
}

func onTopic(op kmsg.ACLOperation) auth.Binding { return may(op, kmsg.ACLResourceTypeTopic, "t") }
func onGroup(op kmsg.ACLOperation) auth.Binding { return may(op, kmsg.ACLResourceTypeGroup, "g") }
func onTxn(op kmsg.ACLOperation) auth.Binding {
	return may(op, kmsg.ACLResourceTypeTransactionalId, "x")
}
func onKafka(op kmsg.ACLOperation) auth.Binding {
	return may(op, kmsg.ACLResourceTypeCluster, "kafka-cluster")
}

// authorized is a broker with an authorizer, and a connection of alice's who may do what a test gives her.
func authorized(t testing.TB) (*Broker, *raw) {
	t.Helper()
	b := start(t, func(c *Config) {
		c.Security = Security{Authorize: true, Users: map[string]Secret{"alice": "a", "root": "r"}, SuperUsers: []string{"User:root"}}
	})
	return b, login(t, b, "alice", "a")
}

// login is an in-process connection of a user.
func login(t testing.TB, b *Broker, user, password string) *raw {
	t.Helper()
	r := dialRaw(t, b)
	hand := kmsg.NewPtrSASLHandshakeRequest()
	hand.Mechanism = "PLAIN"
	do[*kmsg.SASLHandshakeResponse](r, hand, 1)
	authenticate := kmsg.NewPtrSASLAuthenticateRequest()
	authenticate.SASLAuthBytes = []byte("\x00" + user + "\x00" + password)
	if resp := do[*kmsg.SASLAuthenticateResponse](r, authenticate, 2); resp.ErrorCode != 0 {
		t.Fatal(*resp.ErrorMessage)
	}
	return r
}

// codes are the error codes in a response, wherever they are.
func codes(v reflect.Value) (all []int16) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return codes(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, codes(v.Index(i))...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "ErrorCode" {
				all = append(all, int16(v.Field(i).Int()))
			} else if v.Type().Field(i).IsExported() && v.Type().Field(i).Name != "UnknownTags" {
				all = append(all, codes(v.Field(i))...)
			}
		}
	}
	return all
}

var denials = []int16{topicDenied, groupDenied, txnDenied, clusterDenied}

// needs is what an API needs: with all of these it is served, without any one of them it is not.
type needs struct {
	req     kmsg.Request
	version int16
	acls    []auth.Binding
}

func apiNeeds() map[string]needs {
	x, txnBatch := "x", txnBatchOf(1, 0)
	resource := func(t kmsg.ConfigResourceType, name string) []kmsg.DescribeConfigsRequestResource {
		return []kmsg.DescribeConfigsRequestResource{{ResourceType: t, ResourceName: name}}
	}
	produceTxn := produceRequest1("t", 0, -1, txnBatch)
	produceTxn.TransactionID = &x
	topics := func(name string) []kmsg.MetadataRequestTopic {
		return []kmsg.MetadataRequestTopic{{Topic: &name}}
	}
	return map[string]needs{
		"produce":               {produceRequest1("t", 0, -1, batch("v")), 9, []auth.Binding{onTopic(opWrite)}},
		"produce transactional": {produceTxn, 9, []auth.Binding{onTopic(opWrite), onTxn(opWrite)}},
		"fetch":                 {fetchOf("t", [16]byte{}, 0, 0), 11, []auth.Binding{onTopic(opRead)}},
		"list offsets": {&kmsg.ListOffsetsRequest{Topics: []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1}}}}}, 7,
			[]auth.Binding{onTopic(opDescribe)}},
		"metadata":             {&kmsg.MetadataRequest{Topics: topics("t")}, 9, []auth.Binding{onTopic(opDescribe)}},
		"metadata that makes":  {&kmsg.MetadataRequest{Topics: topics("made"), AllowAutoTopicCreation: true}, 9, []auth.Binding{may(opDescribe, kmsg.ACLResourceTypeTopic, "made"), onKafka(opCreate)}},
		"metadata that makes ": {&kmsg.MetadataRequest{Topics: topics("made2"), AllowAutoTopicCreation: true}, 1, []auth.Binding{may(opDescribe, kmsg.ACLResourceTypeTopic, "made2"), may(opCreate, kmsg.ACLResourceTypeTopic, "made2")}},
		"commit": {&kmsg.OffsetCommitRequest{Group: "g", Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}}, 8,
			[]auth.Binding{onGroup(opRead), onTopic(opRead)}},
		"offset fetch": {&kmsg.OffsetFetchRequest{Groups: []kmsg.OffsetFetchRequestGroup{{Group: "g", MemberEpoch: -1, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}}}}, 8,
			[]auth.Binding{onGroup(opDescribe), onTopic(opDescribe)}},
		"offset fetch, old": {&kmsg.OffsetFetchRequest{Group: "g", Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}}, 1, []auth.Binding{onGroup(opDescribe), onTopic(opDescribe)}},
		"coordinator":       {&kmsg.FindCoordinatorRequest{CoordinatorKey: "g"}, 3, []auth.Binding{onGroup(opDescribe)}},
		"coordinators":      {&kmsg.FindCoordinatorRequest{CoordinatorType: 1, CoordinatorKeys: []string{"x"}}, 4, []auth.Binding{onTxn(opDescribe)}},
		"join":              {&kmsg.JoinGroupRequest{Group: "g", SessionTimeoutMillis: 10_000, RebalanceTimeoutMillis: 1000, ProtocolType: "p", Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "p"}}}, 5, []auth.Binding{onGroup(opRead)}},
		"heartbeat":         {&kmsg.HeartbeatRequest{Group: "g"}, 4, []auth.Binding{onGroup(opRead)}},
		"leave":             {&kmsg.LeaveGroupRequest{Group: "g"}, 5, []auth.Binding{onGroup(opRead)}},
		"sync":              {&kmsg.SyncGroupRequest{Group: "g"}, 5, []auth.Binding{onGroup(opRead)}},
		"describe groups":   {&kmsg.DescribeGroupsRequest{Groups: []string{"g"}}, 5, []auth.Binding{onGroup(opDescribe)}},
		"delete groups":     {&kmsg.DeleteGroupsRequest{Groups: []string{"g"}}, 2, []auth.Binding{onGroup(opDelete)}},
		"offset delete": {&kmsg.OffsetDeleteRequest{Group: "g", Topics: []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}}, 0,
			[]auth.Binding{onGroup(opDelete), onTopic(opRead)}},
		"create topics":  {&kmsg.CreateTopicsRequest{ValidateOnly: true, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "t", NumPartitions: 1, ReplicationFactor: 1}}}, 7, []auth.Binding{onTopic(opCreate)}},
		"create topics ": {&kmsg.CreateTopicsRequest{ValidateOnly: true, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "t", NumPartitions: 1, ReplicationFactor: 1}}}, 4, []auth.Binding{onKafka(opCreate)}},
		"delete topics":  {&kmsg.DeleteTopicsRequest{TopicNames: []string{"gone"}}, 5, []auth.Binding{may(opDelete, kmsg.ACLResourceTypeTopic, "gone")}},
		"delete records": {&kmsg.DeleteRecordsRequest{Topics: []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{}}}}}, 2, []auth.Binding{onTopic(opDelete)}},
		"producer id":    {&kmsg.InitProducerIDRequest{TransactionTimeoutMillis: 1000, ProducerID: -1, ProducerEpoch: -1}, 4, []auth.Binding{onKafka(opIdempotentWrite)}},
		"producer id ":   {&kmsg.InitProducerIDRequest{TransactionTimeoutMillis: 1000, ProducerID: -1, ProducerEpoch: -1}, 3, []auth.Binding{may(opWrite, kmsg.ACLResourceTypeTopic, "any")}},
		"producer txn":   {&kmsg.InitProducerIDRequest{TransactionalID: &x, TransactionTimeoutMillis: 1000, ProducerID: -1, ProducerEpoch: -1}, 4, []auth.Binding{onTxn(opWrite)}},
		"leader epoch": {&kmsg.OffsetForLeaderEpochRequest{Topics: []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: -1}}}}}, 4,
			[]auth.Binding{onTopic(opDescribe)}},
		"add partitions": {&kmsg.AddPartitionsToTxnRequest{TransactionalID: "x", Topics: []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0}}}}, 3, []auth.Binding{onTxn(opWrite), onTopic(opWrite)}},
		"add partitions, as a broker": {&kmsg.AddPartitionsToTxnRequest{Transactions: []kmsg.AddPartitionsToTxnRequestTransaction{{TransactionalID: "x", VerifyOnly: true, Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: "t", Partitions: []int32{0}}}}}}, 4,
			[]auth.Binding{onKafka(opClusterAction)}},
		"add offsets": {&kmsg.AddOffsetsToTxnRequest{TransactionalID: "x", Group: "g"}, 3, []auth.Binding{onTxn(opWrite), onGroup(opRead)}},
		"end":         {&kmsg.EndTxnRequest{TransactionalID: "x"}, 4, []auth.Binding{onTxn(opWrite)}},
		"markers": {&kmsg.WriteTxnMarkersRequest{Markers: []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: 999, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "none", Partitions: []int32{0}}}}}}, 1,
			[]auth.Binding{onKafka(opAlter)}},
		"txn commit": {&kmsg.TxnOffsetCommitRequest{TransactionalID: "x", Group: "g", Generation: -1, Topics: []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{}}}}}, 3,
			[]auth.Binding{onTxn(opWrite), onGroup(opRead), onTopic(opRead)}},
		"describe acls": {&kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1}, 2, []auth.Binding{onKafka(opDescribe)}},
		"create acls": {&kmsg.CreateACLsRequest{Creations: []kmsg.CreateACLsRequestCreation{{ResourceType: 2, ResourceName: "z", ResourcePatternType: 3, Principal: "User:z", Host: "*", Operation: 3, PermissionType: 3}}}, 2,
			[]auth.Binding{onKafka(opAlter)}},
		"delete acls":     {&kmsg.DeleteACLsRequest{Filters: []kmsg.DeleteACLsRequestFilter{{ResourceType: 7, ResourcePatternType: 1, Operation: 1, PermissionType: 1}}}, 2, []auth.Binding{onKafka(opAlter)}},
		"topic configs":   {&kmsg.DescribeConfigsRequest{Resources: resource(2, "t")}, 4, []auth.Binding{onTopic(opDescribeConfigs)}},
		"broker configs":  {&kmsg.DescribeConfigsRequest{Resources: resource(4, "1")}, 4, []auth.Binding{onKafka(opDescribeConfigs)}},
		"group configs":   {&kmsg.DescribeConfigsRequest{Resources: resource(32, "g")}, 4, []auth.Binding{onGroup(opDescribeConfigs)}},
		"alter topic":     {&kmsg.AlterConfigsRequest{Resources: []kmsg.AlterConfigsRequestResource{{ResourceType: 2, ResourceName: "t"}}}, 2, []auth.Binding{onTopic(opAlterConfigs)}},
		"alter broker":    {&kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: 4, ResourceName: ""}}}, 1, []auth.Binding{onKafka(opAlterConfigs)}},
		"log dirs":        {&kmsg.DescribeLogDirsRequest{}, 4, []auth.Binding{onKafka(opDescribe)}},
		"grow":            {&kmsg.CreatePartitionsRequest{ValidateOnly: true, Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 5}}}, 3, []auth.Binding{onTopic(opAlter)}},
		"elect":           {&kmsg.ElectLeadersRequest{}, 2, []auth.Binding{onKafka(opAlter)}},
		"reassignments":   {&kmsg.ListPartitionReassignmentsRequest{}, 0, []auth.Binding{onKafka(opDescribe)}},
		"reassign":        {&kmsg.AlterPartitionAssignmentsRequest{}, 1, []auth.Binding{onKafka(opAlter)}},
		"features":        {&kmsg.UpdateFeaturesRequest{}, 2, []auth.Binding{onKafka(opAlter)}},
		"move":            {&kmsg.AlterReplicaLogDirsRequest{Dirs: []kmsg.AlterReplicaLogDirsRequestDir{{Dir: "/nowhere", Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "none", Partitions: []int32{0}}}}}}, 2, []auth.Binding{onKafka(opAlter)}},
		"quorum":          {&kmsg.DescribeQuorumRequest{}, 2, []auth.Binding{onKafka(opDescribe)}},
		"scram":           {&kmsg.DescribeUserSCRAMCredentialsRequest{}, 0, []auth.Binding{onKafka(opDescribe)}},
		"alter scram":     {&kmsg.AlterUserSCRAMCredentialsRequest{Deletions: []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "n", Mechanism: 1}}}, 0, []auth.Binding{onKafka(opAlter)}},
		"quotas":          {&kmsg.DescribeClientQuotasRequest{}, 1, []auth.Binding{onKafka(opDescribeConfigs)}},
		"alter quotas":    {&kmsg.AlterClientQuotasRequest{ValidateOnly: true, Entries: []kmsg.AlterClientQuotasRequestEntry{{}}}, 1, []auth.Binding{onKafka(opAlterConfigs)}},
		"producers":       {&kmsg.DescribeProducersRequest{Topics: []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: []int32{0}}}}, 0, []auth.Binding{onTopic(opRead)}},
		"transactions":    {&kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{"x"}}, 0, []auth.Binding{onTxn(opDescribe)}},
		"group heartbeat": {&kmsg.ConsumerGroupHeartbeatRequest{Group: "g", SubscribedTopicNames: []string{"t"}}, 0, []auth.Binding{onGroup(opRead), onTopic(opDescribe)}},
		"group describe":  {&kmsg.ConsumerGroupDescribeRequest{Groups: []string{"g"}}, 0, []auth.Binding{onGroup(opDescribe)}},
		"resources":       {&kmsg.ListConfigResourcesRequest{}, 1, []auth.Binding{onKafka(opDescribeConfigs)}},
		"partitions":      {&kmsg.DescribeTopicPartitionsRequest{Topics: []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "t"}}, ResponsePartitionLimit: 10}, 0, []auth.Binding{onTopic(opDescribe)}},
	}
}

func TestEveryAPIAsksForWhatItNeeds(t *testing.T) {
	b, r := authorized(t)
	do[*kmsg.CreateTopicsResponse](login(t, b, "root", "r"), &kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "t", NumPartitions: 1, ReplicationFactor: 1}}}, 7)
	asked := map[int16]bool{}
	for name, n := range apiNeeds() {
		if b.routes.find(n.req.Key()) == nil {
			continue
		}
		asked[n.req.Key()] = true
		again := func(acls []auth.Binding) []int16 {
			b.authorizer.Change(acls, nil)
			defer b.authorizer.Change(nil, acls)
			return codes(reflect.ValueOf(do[kmsg.Response](r, n.req, n.version)))
		}
		denied := func(cs []int16) bool {
			return slices.ContainsFunc(cs, func(c int16) bool { return slices.Contains(denials, c) })
		}
		for i := range n.acls {
			if got := again(slices.Delete(slices.Clone(n.acls), i, i+1)); !denied(got) {
				t.Errorf("%s without %s on %s: codes %v", name, n.acls[i].Operation, n.acls[i].Type, got)
			}
		}
		if got := again(n.acls); denied(got) {
			t.Errorf("%s with everything: codes %v", name, got)
		}
	}
	// Those that leave out what one may not see, or are open to all.
	for _, key := range []int16{16, 17, 18, 36, 60, 66} {
		asked[key] = true
	}
	for _, row := range b.routes {
		if row != nil && !asked[row.key] {
			t.Errorf("API %d: no row in apiNeeds", row.key)
		}
		if row != nil && !row.raw && row.guard == nil {
			t.Errorf("API %d has no guard", row.key)
		}
	}
}

// What one may not see is left out of lists.
func TestListsShowWhatOneMaySee(t *testing.T) {
	b, r := authorized(t)
	root := login(t, b, "root", "r")
	for _, name := range []string{"t", "hidden"} {
		do[*kmsg.CreateTopicsResponse](root, &kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: name, NumPartitions: 1, ReplicationFactor: 1}}}, 7)
		for _, g := range []string{"g", "other"} {
			req := &kmsg.OffsetCommitRequest{Group: g, Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{Topic: name, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}}
			do[*kmsg.OffsetCommitResponse](root, req, 8)
		}
	}
	b.authorizer.Change([]auth.Binding{onTopic(opDescribe), onGroup(opDescribe)}, nil)
	for _, v := range []int16{0, 1, 9, 12} {
		req := kmsg.NewPtrMetadataRequest()
		if v == 0 {
			req.Topics = []kmsg.MetadataRequestTopic{}
		}
		if resp := do[*kmsg.MetadataResponse](r, req, v); len(resp.Topics) != 1 || *resp.Topics[0].Topic != "t" {
			t.Errorf("metadata v%d: %+v", v, resp.Topics)
		}
	}
	hidden, _ := b.topicID("hidden")
	resp := do[*kmsg.MetadataResponse](r, &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{TopicID: hidden}}}, 12)
	if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != kerr.UnknownTopicID.Code || resp.Topics[0].Topic != nil {
		t.Errorf("a hidden topic by id: %+v", resp.Topics)
	}
	hiddenName := "hidden"
	resp = do[*kmsg.MetadataResponse](r, &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{Topic: &hiddenName}}}, 0)
	if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != topicDenied {
		t.Errorf("all denied in version 0: %+v", resp.Topics)
	}
	if resp := do[*kmsg.DescribeTopicPartitionsResponse](r, &kmsg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 100}, 0); len(resp.Topics) != 1 {
		t.Errorf("partitions: %+v", resp.Topics)
	}
	if resp := do[*kmsg.ListGroupsResponse](r, kmsg.NewPtrListGroupsRequest(), 4); len(resp.Groups) != 1 || resp.Groups[0].Group != "g" {
		t.Errorf("groups: %+v", resp.Groups)
	}
	of := do[*kmsg.OffsetFetchResponse](r, &kmsg.OffsetFetchRequest{Groups: []kmsg.OffsetFetchRequestGroup{{Group: "g", MemberEpoch: -1}}}, 8)
	if len(of.Groups) != 1 || len(of.Groups[0].Topics) != 1 || of.Groups[0].Topics[0].Topic != "t" {
		t.Errorf("offsets of all topics: %+v", of.Groups)
	}
	named := []kmsg.OffsetFetchRequestGroupTopic{{Topic: "hidden", Partitions: []int32{0}}}
	of = do[*kmsg.OffsetFetchResponse](r, &kmsg.OffsetFetchRequest{Groups: []kmsg.OffsetFetchRequestGroup{{Group: "g", MemberEpoch: -1, Topics: named}}}, 8)
	if p := of.Groups[0].Topics[0].Partitions[0]; p.ErrorCode != topicDenied || p.Metadata == nil || *p.Metadata != "" {
		t.Errorf("offsets of a hidden topic: %+v, want metadata that is empty, not null", p)
	}
	b.authorizer.Change([]auth.Binding{onTopic(opCreate), onTopic(opWrite)}, nil)
	md := do[*kmsg.MetadataResponse](r, &kmsg.MetadataRequest{IncludeTopicAuthorizedOperations: true, IncludeClusterAuthorizedOperations: true}, 9)
	if want := int32(1<<opDescribe | 1<<opCreate | 1<<opWrite); md.Topics[0].AuthorizedOperations != want || md.AuthorizedOperations != 0 {
		t.Errorf("operations %b and %b, want %b and none", md.Topics[0].AuthorizedOperations, md.AuthorizedOperations, want)
	}
}

// A pattern of topics matches those that one may see, as rights come and go.
func TestPatternsMatchWhatOneMaySee(t *testing.T) {
	b, r := authorized(t)
	root := login(t, b, "root", "r")
	for _, name := range []string{"t", "hidden"} {
		do[*kmsg.CreateTopicsResponse](root, &kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: name, NumPartitions: 1, ReplicationFactor: 1}}}, 7)
	}
	b.authorizer.Change([]auth.Binding{onGroup(opRead)}, nil)
	epoch, regex := int32(0), "t|hidden"
	beat := func() (names []string) {
		t.Helper()
		resp := do[*kmsg.ConsumerGroupHeartbeatResponse](r, &kmsg.ConsumerGroupHeartbeatRequest{Group: "g", MemberID: "m", MemberEpoch: epoch, RebalanceTimeoutMillis: 1000,
			SubscribedTopicRegex: &regex, Topics: []kmsg.ConsumerGroupHeartbeatRequestTopic{}}, 1)
		if resp.ErrorCode != 0 || resp.Assignment == nil {
			t.Fatalf("%+v", resp)
		}
		epoch = resp.MemberEpoch
		for _, a := range resp.Assignment.Topics {
			name, _ := b.topicName(a.TopicID)
			names = append(names, name)
		}
		return names
	}
	if got := beat(); len(got) != 0 {
		t.Errorf("without a right to see one, %v", got)
	}
	b.authorizer.Change([]auth.Binding{onTopic(opDescribe)}, nil)
	if got := beat(); !slices.Equal(got, []string{"t"}) {
		t.Errorf("with the right to see t, %v", got)
	}
	b.authorizer.Change(nil, []auth.Binding{onTopic(opDescribe)})
	if got := beat(); len(got) != 0 {
		t.Errorf("without that right again, %v", got)
	}
}

// Old versions are told of a denial where they have a place for it.
func TestDenialsInOldVersions(t *testing.T) {
	b, r := authorized(t)
	elect := &kmsg.ElectLeadersRequest{Topics: []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0}}}}
	if got := do[*kmsg.ElectLeadersResponse](r, elect, 0).Topics; len(got) != 1 || got[0].Partitions[0].ErrorCode != clusterDenied {
		t.Errorf("elect v0: %+v", got)
	}
	offsets := &kmsg.OffsetFetchRequest{Group: "g", Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}}
	if got := do[*kmsg.OffsetFetchResponse](r, offsets, 1).Topics; len(got) != 1 || got[0].Partitions[0].ErrorCode != groupDenied || got[0].Partitions[0].Metadata == nil {
		t.Errorf("offsets v1: %+v", got)
	}
	fetch := &kmsg.FetchRequest{Topics: []kmsg.FetchRequestTopic{{Partitions: []kmsg.FetchRequestTopicPartition{{}}}}}
	for v, want := range map[int16]int16{12: topicDenied, 13: kerr.UnknownTopicID.Code} { // the empty name is one that is denied, too
		if got := do[*kmsg.FetchResponse](r, fetch, v).Topics; len(got) != 1 || got[0].Partitions[0].ErrorCode != want {
			t.Errorf("fetch of no name, v%d: %+v", v, got)
		}
	}
	b.authorizer.Change([]auth.Binding{onKafka(opClusterAction)}, nil)
	epochs := &kmsg.OffsetForLeaderEpochRequest{ReplicaID: -1, Topics: []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{}}}}}
	if got := do[*kmsg.OffsetForLeaderEpochResponse](r, epochs, 4).Topics; len(got) != 1 || got[0].Partitions[0].ErrorCode == topicDenied {
		t.Errorf("epochs with ClusterAction: %+v", got)
	}
	if got := do[*kmsg.OffsetFetchResponse](r, offsets, 7); got.ErrorCode != groupDenied || len(got.Topics) != 0 {
		t.Errorf("offsets v7: %+v", got)
	}
}

// ACLs are managed by Kafka's API, are kept, and hold for real clients, for transactions and groups as well.
func TestACLsHoldForClients(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Listeners: []Listener{{Addr: "127.0.0.1:0", SASL: mechanisms}},
		Security: Security{Authorize: true, Users: map[string]Secret{"alice": "a", "root": "r"}, SuperUsers: []string{"User:root"}}}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	as := func(user, password string) []kgo.Opt {
		return []kgo.Opt{kgo.SeedBrokers(b.Addr()), mechanism("SCRAM-SHA-512", user, password)}
	}
	adm := kadm.NewClient(newClient(t, as("root", "r")))
	if _, err := adm.CreateTopics(ctx, 1, 1, nil, "app-in", "app-out", "secret"); err != nil {
		t.Fatal(err)
	}
	builder := func() *kadm.ACLBuilder {
		return kadm.NewACLs().Allow("User:alice").AllowHosts().ResourcePatternType(kadm.ACLPatternPrefixed).
			Topics("app-").Groups("app").TransactionalIDs("app").Operations(kadm.OpRead, kadm.OpWrite)
	}
	// Read does not exist for transactional ids: that one of the six is refused, the others are made.
	res, err := adm.CreateACLs(ctx, builder())
	bad := 0
	for _, r := range res {
		if r.Err != nil {
			bad++
		}
	}
	if err != nil || len(res) != 6 || bad != 2 {
		t.Errorf("%d of %d refused, %v: %+v", bad, len(res), err, res)
	}
	for range 2 {
		if err := works(t, b.Addr(), "app-in", mechanism("PLAIN", "alice", "a")); err != nil {
			t.Error(err)
		}
		if err := works(t, b.Addr(), "secret", mechanism("PLAIN", "alice", "a")); err == nil {
			t.Error("alice may use what is secret")
		}
		session, err := kgo.NewGroupTransactSession(append(as("alice", "a"), kgo.TransactionalID("app-1"), kgo.ConsumerGroup("app"), kgo.ConsumeTopics("app-in"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
		if err != nil {
			t.Fatal(err)
		}
		if fs := session.PollFetches(ctx); fs.Err() != nil {
			t.Error(fs.Err())
		}
		if err := session.Begin(); err != nil {
			t.Fatal(err)
		}
		session.Produce(ctx, &kgo.Record{Topic: "app-out", Value: []byte("v")}, nil)
		if ok, err := session.End(ctx, kgo.TryCommit); !ok || err != nil {
			t.Error("transaction:", ok, err)
		}
		session.Close()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if b, err = Start(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		produceWith(t, as("alice", "a"), "app-in")
	}
	defer b.Close()
	adm = kadm.NewClient(newClient(t, as("root", "r")))
	deny := kadm.NewACLs().Deny("User:alice").DenyHosts().ResourcePatternType(kadm.ACLPatternLiteral).Topics("app-in").Operations(kadm.OpWrite)
	if _, err := adm.CreateACLs(ctx, deny); err != nil {
		t.Fatal(err)
	}
	if err := works(t, b.Addr(), "app-in", mechanism("PLAIN", "alice", "a")); err == nil {
		t.Error("a denial does not win")
	}
	if res, err := adm.DeleteACLs(ctx, deny); err != nil || len(res) != 1 || len(res[0].Deleted) != 1 {
		t.Error(err, res)
	}
	if err := works(t, b.Addr(), "app-in", mechanism("PLAIN", "alice", "a")); err != nil {
		t.Error(err)
	}
	if res, err := adm.DescribeACLs(ctx, builder()); err != nil || len(res) == 0 || len(res[0].Described) == 0 {
		t.Error(err, res)
	}
}

// produceWith sends one record.
func produceWith(t testing.TB, opts []kgo.Opt, topic string) {
	t.Helper()
	cl := newClient(t, opts)
	if err := cl.ProduceSync(within(t, time.Minute), &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr(); err != nil {
		t.Error(err)
	}
	cl.Close()
}

func TestWithoutAuthorizerACLsAreDisabled(t *testing.T) {
	r := dialRaw(t, start(t, nil))
	for _, key := range []string{"describe acls", "create acls", "delete acls"} {
		n := apiNeeds()[key]
		if got := codes(reflect.ValueOf(do[kmsg.Response](r, n.req, n.version))); !slices.Contains(got, kerr.SecurityDisabled.Code) {
			t.Errorf("%s: %v", key, got)
		}
	}
	md := do[*kmsg.MetadataResponse](r, &kmsg.MetadataRequest{IncludeClusterAuthorizedOperations: true}, 9)
	if md.AuthorizedOperations == 0 || md.AuthorizedOperations == noOperations {
		t.Errorf("operations on the cluster: %b", md.AuthorizedOperations)
	}
}

// txnBatchOf is a transactional batch of one record.
func txnBatchOf(producer int64, epoch int16) []byte {
	info := record.NoProducer()
	info.Transactional, info.ProducerID, info.ProducerEpoch, info.BaseSequence = true, producer, epoch, 0
	return record.Build(info, []record.Record{{Value: []byte("v")}})
}
