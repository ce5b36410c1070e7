package broker

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// damaged makes a topic "t" of two partitions, removes a segment from the middle of t-0, and returns the configuration to start a broker
// with, and a function that puts the segment back.
func damaged(t *testing.T, said *syncBuffer) (cfg Config, mend func()) {
	t.Helper()
	cfg = Config{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(said, nil))}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := dialRaw(t, b)
	segment := "50000"
	topic := kmsg.CreateTopicsRequestTopic{Topic: "t", NumPartitions: 2, ReplicationFactor: 1, Configs: []kmsg.CreateTopicsRequestTopicConfig{{Name: "segment.bytes", Value: &segment}}}
	do[*kmsg.CreateTopicsResponse](r, &kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{topic}}, 7)
	for range 6 {
		for p := range int32(2) {
			if code := do[*kmsg.ProduceResponse](r, produceRequest1("t", p, -1, batch(strings.Repeat("x", 20_000))), 9).Topics[0].Partitions[0].ErrorCode; code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(cfg.Dir, "t-0", "*.log"))
	if err != nil || len(segments) < 3 {
		t.Fatal(segments, err)
	}
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.Rename(segments[1], kept); err != nil {
		t.Fatal(err)
	}
	return cfg, func() {
		if err := os.Rename(kept, segments[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// A partition that lacks a segment is offline, and that alone: whoever asks for it is told, the operator is told what and where, and
// nothing of it is touched. When the segment is back, so is the partition.
func TestADamagedPartitionIsOffline(t *testing.T) {
	var said syncBuffer
	cfg, mend := damaged(t, &said)
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal("one partition keeps the broker from starting:", err)
	}
	if got := said.String(); strings.Count(got, "a partition is offline") != 1 || !strings.Contains(got, ".log at byte") || !strings.Contains(got, "from a copy") {
		t.Errorf("logged: %s", got)
	}
	r := dialRaw(t, b)
	id, _ := b.topicID("t")
	x := "x"
	transactional := produceRequest1("t", 0, -1, txnBatchOf(1, 0))
	transactional.TransactionID = &x
	for name, q := range map[string]struct {
		ask     func(p int32) kmsg.Request
		version int16
		want    *kerr.Error
	}{
		"produce": {func(p int32) kmsg.Request { return produceRequest1("t", p, -1, batch("v")) }, 9, kerr.KafkaStorageError},
		"fetch":   {func(p int32) kmsg.Request { return fetchOf("t", id, 0, p) }, 12, kerr.KafkaStorageError},
		"offsets": {func(p int32) kmsg.Request {
			return &kmsg.ListOffsetsRequest{Topics: []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Partition: p, CurrentLeaderEpoch: -1, Timestamp: -2}}}}}
		}, 7, kerr.KafkaStorageError},
		"epochs": {func(p int32) kmsg.Request {
			return &kmsg.OffsetForLeaderEpochRequest{Topics: []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{Partition: p, CurrentLeaderEpoch: -1}}}}}
		}, 4, kerr.KafkaStorageError},
		"producers": {func(p int32) kmsg.Request {
			return &kmsg.DescribeProducersRequest{Topics: []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: []int32{p}}}}
		}, 0, kerr.KafkaStorageError},
		"delete records": {func(p int32) kmsg.Request {
			return &kmsg.DeleteRecordsRequest{Topics: []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: p}}}}}
		}, 2, kerr.KafkaStorageError},
	} {
		for p := range int32(2) {
			var want int16
			if p == 0 {
				want = q.want.Code
			}
			if got := codes(reflect.ValueOf(do[kmsg.Response](r, q.ask(p), q.version))); slices.Max(got) != want {
				t.Errorf("%s of partition %d: codes %v, want %d", name, p, got, want)
			}
		}
	}
	if got := do[*kmsg.ProduceResponse](r, transactional, 12).Topics[0].Partitions[0].ErrorCode; got != kerr.KafkaStorageError.Code {
		t.Error("a transaction's produce:", kerr.ErrorForCode(got))
	}
	add := &kmsg.AddPartitionsToTxnRequest{TransactionalID: "x", Topics: []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0}}}}
	if got := do[*kmsg.AddPartitionsToTxnResponse](r, add, 3).Topics[0].Partitions[0].ErrorCode; got != kerr.UnknownTopicOrPartition.Code {
		t.Error("it becomes part of a transaction, which could not end:", kerr.ErrorForCode(got))
	}
	topic := "t"
	parts := do[*kmsg.MetadataResponse](r, &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{Topic: &topic}}}, 9).Topics[0].Partitions
	if parts[0].ErrorCode != kerr.LeaderNotAvailable.Code || parts[0].Leader != -1 || len(parts[0].OfflineReplicas) != 1 || parts[1].ErrorCode != 0 || parts[1].Leader != 1 {
		t.Errorf("metadata: %+v", parts)
	}
	if _, err := b.topic("t").parts[0].Retain(time.Now().AddDate(1, 0, 0)); err != nil {
		t.Error("retention:", err)
	}
	if b.topic("t").parts[0].Usable() == nil || b.topic("t").parts[1].Usable() != nil {
		t.Error("partitions.failed would not count partition 0 alone")
	}
	if err := b.Ready(); err != nil {
		t.Error("the broker is not ready:", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	mend()
	b = startWith(t, cfg)
	if got := do[*kmsg.FetchResponse](dialRaw(t, b), fetchOf("t", id, 5, 0), 12).Topics[0].Partitions[0]; got.ErrorCode != 0 || len(values(t, got.RecordBatches)) != 1 {
		t.Error("when the segment is back:", kerr.ErrorForCode(got.ErrorCode))
	}
}

// A topic with a partition that is offline can be deleted, and made anew.
func TestATopicThatIsOfflineCanBeDeleted(t *testing.T) {
	var said syncBuffer
	cfg, _ := damaged(t, &said)
	b := startWith(t, cfg)
	r := dialRaw(t, b)
	if code := do[*kmsg.DeleteTopicsResponse](r, &kmsg.DeleteTopicsRequest{TopicNames: []string{"t"}}, 5).Topics[0].ErrorCode; code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	if left, err := filepath.Glob(filepath.Join(cfg.Dir, "t-*")); len(left) > 0 || err != nil {
		t.Error("left:", left, err)
	}
	createTopic(t, b, "t", 1)
	if code := do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, -1, batch("v")), 9).Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Error(kerr.ErrorForCode(code))
	}
}
