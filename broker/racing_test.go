package broker

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/meta"
	"github.com/leatstream/leat/internal/vfs"
)

// racing has all of steps wait for their turn to change topics before the first of them has it: what they look at without that
// turn is what there was before any of them. Mostly they have it in this order; on a machine that is slow in any.
func racing(b *Broker, steps ...func()) {
	var wg sync.WaitGroup
	b.changes.Lock()
	for _, step := range steps {
		wg.Go(step)
		time.Sleep(50 * time.Millisecond)
	}
	b.changes.Unlock()
	wg.Wait()
}

// A request for fewer partitions that waits for one for more must not take away what that has made.
func TestPartitionsAreAskedForAtOnce(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	codes := make([]int16, 3)
	grow := func(i int, count int32) func() {
		r := dialRaw(t, b)
		return func() {
			req := kmsg.NewPtrCreatePartitionsRequest()
			req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: count}}
			codes[i] = do[*kmsg.CreatePartitionsResponse](r, req, 3).Topics[0].ErrorCode
		}
	}
	racing(b, grow(0, 3), grow(1, 10), grow(2, 5))
	for i, code := range codes {
		if code != 0 && (i == 1 || code != kerr.InvalidPartitions.Code) {
			t.Errorf("request %d: %v", i, kerr.ErrorForCode(code))
		}
	}
	if n := len(b.topic("t").parts); n != 10 {
		t.Errorf("%d partitions, want the 10 that were acknowledged", n)
	}
}

// Of changes of one topic's, the broker's and a group's configurations that come at once, all that are acknowledged are in force.
func TestConfigurationsAreChangedAtOnce(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	set := func(kind kmsg.ConfigResourceType, name, key, value string) func() {
		r := dialRaw(t, b)
		return func() {
			req := kmsg.NewPtrIncrementalAlterConfigsRequest()
			req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{
				{Name: key, Value: &value},
			}}}
			if code := do[*kmsg.IncrementalAlterConfigsResponse](r, req, 1).Resources[0].ErrorCode; code != 0 {
				t.Errorf("%s=%s: %v", key, value, kerr.ErrorForCode(code))
			}
		}
	}
	topic, own, group := kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeGroupConfig
	racing(b,
		set(topic, "t", "retention.ms", "1234"), set(topic, "t", "segment.ms", "5678"),
		set(own, "", "log.retention.ms", "4321"), set(own, "", "log.cleaner.backoff.ms", "8765"),
		set(group, "g", groupSession, "40000"), set(group, "g", groupHeartbeat, "4000"))
	for _, got := range []struct {
		of   string
		have map[string]string
	}{{"the topic", b.topic("t").Configs}, {"the broker", b.meta.BrokerConfigs()}, {"the group", b.groupOverrides("g")}} {
		if len(got.have) != 2 {
			t.Errorf("%s has %v, want both that were set", got.of, got.have)
		}
	}
}

// Whoever deletes a topic by its id means no other topic, whatever its name.
func TestTopicDeletedByIDIsMadeAnewMeanwhile(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	id, _ := b.topicID("t")
	r := dialRaw(t, b)
	var answer kmsg.DeleteTopicsResponseTopic
	racing(b, func() {
		if err := b.deleteTopic("t"); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Error(err)
		}
		if _, err := b.createTopic(meta.Topic{Name: "t", Partitions: 1}); err != nil {
			t.Error(err)
		}
	}, func() {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: id}}
		answer = do[*kmsg.DeleteTopicsResponse](r, req, 6).Topics[0]
	})
	if answer.ErrorCode != kerr.UnknownTopicID.Code && answer.ErrorCode != 0 {
		t.Errorf("answered %v", kerr.ErrorForCode(answer.ErrorCode))
	}
	if b.topic("t") == nil {
		t.Error("the new topic was deleted")
	}
}

// Offsets that are committed for a topic go before its name can be another's, and also where its files cannot.
func TestOffsetsGoWithTheirTopicBeforeItIsMadeAnew(t *testing.T) {
	fsys := &vfs.Faulty{FS: vfs.NewMem()}
	b := startWith(t, Config{Dir: "/data", FS: fsys})
	cl := kadm.NewClient(newClient(t, inProcessOpts(b)))
	for _, topic := range []string{"whole", "stuck"} {
		createTopic(t, b, topic, 1)
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, 7, -1)
		if err := cl.CommitAllOffsets(t.Context(), "g", offsets); err != nil {
			t.Fatal(err)
		}
	}
	var free atomic.Int32
	fsys.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.Contains(name, offsetsTopic) && b.changes.TryLock() {
			b.changes.Unlock()
			free.Add(1)
		}
		return nil
	})
	if err := b.deleteTopic("whole"); err != nil {
		t.Fatal(err)
	}
	if free.Load() > 0 {
		t.Error("its offsets are deleted when another topic of its name may have some")
	}
	fsys.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpSyncDir && name == "/data" {
			return errors.New("device is busy")
		}
		return nil
	})
	if err := b.deleteTopic("stuck"); err == nil {
		t.Error("a topic whose directory could not be synced is deleted without a word")
	}
	fsys.Fail(nil)
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.Topics = "g", []kmsg.OffsetFetchRequestTopic{{Topic: "whole", Partitions: []int32{0}}, {Topic: "stuck", Partitions: []int32{0}}}
	for _, topic := range do[*kmsg.OffsetFetchResponse](dialRaw(t, b), req, 5).Topics {
		if at := topic.Partitions[0].Offset; at != -1 {
			t.Errorf("offset %d of topic %s, which is gone", at, topic.Topic)
		}
	}
}
