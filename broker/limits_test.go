package broker

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestLimitsAreChecked(t *testing.T) {
	for want, l := range map[string]Limits{
		"Limits.GroupMembers is negative":       {GroupMembers: -1},
		"Limits.PartitionProducers is negative": {PartitionProducers: -1},
	} {
		if _, err := Start(t.Context(), Config{Dir: t.TempDir(), Limits: l}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want …%s…", l, err, want)
		}
	}
}

// Each limit of groups and transactions refuses what is beyond it, and takes what is within.
func TestLimitsOfCoordinators(t *testing.T) {
	b := start(t, func(c *Config) {
		c.Limits = Limits{GroupMembers: 1, Groups: 2, OffsetMetadataBytes: 3, TransactionalIDs: 1}
		c.MinSessionTimeout, c.MaxSessionTimeout, c.MaxTransactionTimeout = time.Second, 2*time.Second, time.Minute
	})
	createTopic(t, b, "t", 1)
	r := dialRaw(t, b)
	heartbeat := func(group, member string) int16 {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = group, member, 1000, []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		return do[*kmsg.ConsumerGroupHeartbeatResponse](r, req, 1).ErrorCode
	}
	session := func(ms int32) int16 {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.SessionTimeoutMillis, req.ProtocolType, req.Protocols = "classic", ms, "consumer", []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		return do[*kmsg.JoinGroupResponse](r, req, 4).ErrorCode
	}
	commit := func(group, metadata string) int16 {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = group, -1
		req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Metadata: &metadata}}}}
		return do[*kmsg.OffsetCommitResponse](r, req, 8).Topics[0].Partitions[0].ErrorCode
	}
	initialize := func(id string, ms int32) int16 {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = &id, ms
		return do[*kmsg.InitProducerIDResponse](r, req, 4).ErrorCode
	}
	for _, c := range []struct {
		what string
		got  int16
		want int16
	}{
		{"the first member", heartbeat("g", "AAAAAAAAAAAAAAAAAAAAAA"), 0},
		{"the second member", heartbeat("g", "BBBBBBBBBBBBBBBBBBBBBB"), kerr.GroupMaxSizeReached.Code},
		{"a session of half a second", session(500), kerr.InvalidSessionTimeout.Code},
		{"a session of three seconds", session(3000), kerr.InvalidSessionTimeout.Code},
		{"long metadata", commit("h", "four"), kerr.OffsetMetadataTooLarge.Code},
		{"short metadata", commit("h", "abc"), 0},
		{"the third group", commit("i", ""), kerr.CoordinatorNotAvailable.Code},
		{"a transaction of two minutes", initialize("x", 120_000), kerr.InvalidTransactionTimeout.Code},
		{"the first transactional id", initialize("x", 60_000), 0},
		{"the second transactional id", initialize("y", 60_000), kerr.CoordinatorNotAvailable.Code},
	} {
		if c.got != c.want {
			t.Errorf("%s: error %d, want %d", c.what, c.got, c.want)
		}
	}
}

// A batch that becomes larger than the limit is refused where its records are looked at.
func TestLimitOfDecompressedBytes(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.DecompressedBytes = 10_000 })
	cl := newClient(t, inProcessOpts(b), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	ctx := within(t, time.Minute)
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, "t"); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]error{9_000: nil, 11_000: kerr.MessageTooLarge} {
		r := &kgo.Record{Key: []byte("k"), Value: make([]byte, size)} // zeros: a few bytes when compressed
		if err := cl.ProduceSync(ctx, r).FirstErr(); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
	}
}
