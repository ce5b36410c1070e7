package txnclient_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/broker/brokertest"
	"github.com/leatstream/leat/internal/txnclient"
)

// bootstrapVariable names brokers of a cluster that is there, for this test to be tried on Apache Kafka.
const bootstrapVariable = "LEAT_TEST_BOOTSTRAP"

func seeds(t *testing.T) []string {
	t.Helper()
	if addrs := os.Getenv(bootstrapVariable); addrs != "" {
		return strings.Split(addrs, ",")
	}
	br := brokertest.Start(t, broker.Config{Listen: []string{"127.0.0.1:0"}})
	return []string{br.Addr()}
}

// A partition whose very first commit is pending is not one that nobody has read.
func TestOffsetsThatAreBeingCommittedAreNotStable(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	name := fmt.Sprintf("stable-%d-", time.Now().UnixNano())
	in, other, group, id := name+"in", name+"other", name+"group", name+"id"
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds(t)...), kgo.TransactionalID(id))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	made, err := kadm.NewClient(cl).CreateTopics(ctx, 2, 1, nil, in, other)
	if err := errors.Join(err, made.Error()); err != nil {
		t.Fatal(err)
	}
	pid, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}

	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group, commit.Generation = id, pid, epoch, group, -1
	topic, partition, text := kmsg.NewTxnOffsetCommitRequestTopic(), kmsg.NewTxnOffsetCommitRequestTopicPartition(), "text"
	partition.Partition, partition.Offset, partition.LeaderEpoch, partition.Metadata = 1, 7, 3, &text
	topic.Topic, topic.TopicID, topic.Partitions = in, made[in].ID, append(topic.Partitions, partition)
	commit.Topics = append(commit.Topics, topic)
	ask(t, func() (int16, error) {
		add := kmsg.NewPtrAddOffsetsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = id, pid, epoch, group
		resp, err := add.RequestWith(ctx, cl)
		return resp.ErrorCode, err
	})
	ask(t, func() (int16, error) {
		resp, err := commit.RequestWith(ctx, cl)
		return resp.Topics[0].Partitions[0].ErrorCode, err
	})

	if at, err := txnclient.StableOffsets(ctx, cl, group, in, other); !errors.Is(err, kerr.UnstableOffsetCommit) {
		t.Errorf("%v, %v while the first commit is pending, want %v", at, err, kerr.UnstableOffsetCommit)
	}
	if at, err := txnclient.StableOffsets(ctx, cl, group, other); err != nil || len(at[other]) != 2 || at[other][1].At != -1 {
		t.Errorf("%v, %v of a topic that the transaction has nothing to do with", at, err)
	}

	ask(t, func() (int16, error) {
		end := kmsg.NewPtrEndTxnRequest()
		end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = id, pid, epoch, true
		resp, err := end.RequestWith(ctx, cl)
		return resp.ErrorCode, err
	})
	at, err := txnclient.StableOffsets(ctx, cl, group, in, other)
	for errors.Is(err, kerr.UnstableOffsetCommit) && ctx.Err() == nil { // its marker is on its way
		at, err = txnclient.StableOffsets(ctx, cl, group, in, other)
	}
	if err != nil || len(at[in]) != 2 || at[in][0].At != -1 {
		t.Fatalf("%v, %v", at, err)
	}
	if got := at[in][1]; got.At != 7 || got.LeaderEpoch != 3 || got.Metadata != "text" {
		t.Errorf("committed was %+v, want offset 7 of epoch 3 with its text", got)
	}
	if _, err := txnclient.StableOffsets(ctx, cl, group, name+"absent"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("%v of a topic that is not there", err)
	}
}

// ask fails the test unless f is answered with code 0.
func ask(t *testing.T, f func() (code int16, err error)) {
	t.Helper()
	if code, err := f(); err != nil || code != 0 {
		t.Fatal(err, kerr.ErrorForCode(code))
	}
}
