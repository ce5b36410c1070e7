package broker

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/auth"
	"github.com/leatstream/leat/broker/internal/meta"
	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// adminStep is a change that an administrator makes, and how to tell whether a broker has it: has says so when at least from steps, and
// fewer than to, have been acknowledged; 0 means no such bound.
type adminStep struct {
	name     string
	ask      kmsg.Request
	version  int16
	has      func(b *Broker) bool
	from, to int
}

func adminSteps() []adminStep {
	ten, group := "1234567", "55555"
	newTopic := func(name string, partitions int32) kmsg.Request {
		return &kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: name, NumPartitions: partitions, ReplicationFactor: 1}}}
	}
	config := func(t kmsg.ConfigResourceType, resource, name, value string) kmsg.Request {
		return &kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: t, ResourceName: resource,
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: name, Value: &value}}}}}
	}
	partitions := func(name string, n int) func(b *Broker) bool {
		return func(b *Broker) bool { t := b.topic(name); return t != nil && len(t.parts) >= n }
	}
	client := "c"
	return []adminStep{
		{"create a topic", newTopic("kept", 2), 7, partitions("kept", 2), 0, 0},
		{"create another one", newTopic("gone", 3), 7, partitions("gone", 3), 0, 4},
		{"produce", produceRequest1("kept", 0, -1, record.Build(record.NoProducer(), []record.Record{{Value: []byte("1")}, {Value: []byte("2")}, {Value: []byte("3")}})), 9, func(b *Broker) bool { l, ok := b.partition("kept", 0); return ok && l.Bounds().HighWatermark == 3 }, 0, 0},
		{"add partitions", &kmsg.CreatePartitionsRequest{Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: "kept", Count: 4}}}, 3, partitions("kept", 4), 0, 0},
		{"delete a topic", &kmsg.DeleteTopicsRequest{TopicNames: []string{"gone"}}, 5, func(b *Broker) bool { return b.topic("gone") == nil }, 2, 0},
		{"change a topic", config(kmsg.ConfigResourceTypeTopic, "kept", "retention.ms", ten), 1, func(b *Broker) bool { t := b.topic("kept"); return t != nil && t.Configs["retention.ms"] == ten }, 0, 0},
		{"change a group", config(kmsg.ConfigResourceTypeGroupConfig, "g", groupSession, group), 1, func(b *Broker) bool { return b.meta.CountRecords(meta.Group) == 1 }, 0, 0},
		{"change the broker", config(kmsg.ConfigResourceTypeBroker, "", "log.retention.ms", ten), 1, func(b *Broker) bool { return b.meta.BrokerConfigs()["log.retention.ms"] == ten }, 0, 0},
		{"add a list entry", &kmsg.CreateACLsRequest{Creations: []kmsg.CreateACLsRequestCreation{{ResourceType: 2, ResourceName: "z", ResourcePatternType: 3, Principal: "User:z", Host: "*", Operation: 3, PermissionType: 3}}}, 2,
			func(b *Broker) bool { return b.meta.CountRecords(meta.ACL) == 1 }, 0, 0},
		{"add a quota", &kmsg.AlterClientQuotasRequest{Entries: []kmsg.AlterClientQuotasRequestEntry{{Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "client-id", Name: &client}},
			Ops: []kmsg.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1e9}}}}}, 1, func(b *Broker) bool { return b.meta.CountRecords(meta.Quota) == 1 }, 0, 0},
		{"add a user", &kmsg.AlterUserSCRAMCredentialsRequest{Upsertions: []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{Name: "u", Mechanism: 1, Iterations: 4096, Salt: []byte("salt"), SaltedPassword: []byte("salted")}}}, 0,
			func(b *Broker) bool { _, ok := b.credential(auth.ScramSHA256, "u"); return ok }, 0, 0},
		{"commit an offset", &kmsg.OffsetCommitRequest{Group: "g", Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{Topic: "kept", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 2}}}}}, 8,
			func(b *Broker) bool { return len(b.groups.List(nil, nil)) == 1 }, 0, 0},
		{"delete records", &kmsg.DeleteRecordsRequest{Topics: []kmsg.DeleteRecordsRequestTopic{{Topic: "kept", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 2}}}}}, 2,
			func(b *Broker) bool { l, ok := b.partition("kept", 0); return ok && l.Bounds().LogStart == 2 }, 0, 0},
		{"create a last topic", newTopic("last", 1), 7, partitions("last", 1), 0, 0},
	}
}

// adminCut is what a power cut left, and how many steps had been acknowledged by then.
type adminCut struct {
	disk  *vfs.Mem
	keep  int
	acked int
	at    int // operation on files
}

// cutAll makes the steps, has the internal topics rewritten, and cuts the power at every operation on files.
func cutAll(t *testing.T, steps []adminStep) (cuts []adminCut) {
	t.Helper()
	mem := vfs.NewMem()
	fs := &vfs.Faulty{FS: mem}
	b, err := Start(t.Context(), Config{Dir: "/data", FS: fs, Security: Security{Authorize: true}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // guards what follows: files are worked on by several goroutines
	acked, n := 0, 0
	rng := rand.New(rand.NewPCG(1, 2))
	fs.Fail(func(vfs.Op, string) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		keep := []int{0, 50, 100}[n%3]
		cuts = append(cuts, adminCut{mem.CrashClone(keep, rng), keep, acked, n})
		return nil
	})
	r := dialRaw(t, b)
	for _, s := range steps {
		for _, code := range codes(reflect.ValueOf(do[kmsg.Response](r, s.ask, s.version))) {
			if code != 0 {
				t.Fatalf("%s: %v", s.name, kerr.ErrorForCode(code))
			}
		}
		mu.Lock()
		acked++
		mu.Unlock()
	}
	for _, r := range b.rewriters() {
		if err := r.run(t.Context(), 1); err != nil {
			t.Fatal(r.topic, err)
		}
	}
	fs.Fail(nil)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return cuts
}

// TestAdministratorsChangesSurvivePowerCuts cuts the power in the midst of everything that an administrator does: what was acknowledged is
// there, what was not asked for yet is not, what was under way is there whole or not at all, and the broker goes on.
func TestAdministratorsChangesSurvivePowerCuts(t *testing.T) {
	steps := adminSteps()
	for _, cut := range cutAll(t, steps) {
		var said syncBuffer
		cfg := Config{Dir: "/data", FS: cut.disk, Security: Security{Authorize: true}, Logger: slog.New(slog.NewTextHandler(&said, nil))}
		b, err := Start(t.Context(), cfg)
		if err != nil {
			t.Fatalf("cut at operation %d, %d%% kept, within %q: %v", cut.at, cut.keep, steps[min(cut.acked, len(steps)-1)].name, err)
		}
		for i, s := range steps {
			if cut.acked < s.from || s.to > 0 && cut.acked >= s.to {
				continue
			}
			if i != cut.acked && s.has(b) != (i < cut.acked) {
				t.Errorf("cut at operation %d, %d%% kept, %d steps acknowledged: %q is there: %v", cut.at, cut.keep, cut.acked, s.name, s.has(b))
			}
		}
		if got := said.String(); strings.Contains(got, "level=ERROR") {
			t.Errorf("cut at operation %d, %d%% kept, within %q: %s", cut.at, cut.keep, steps[min(cut.acked, len(steps)-1)].name, got)
		}
		r := dialRaw(t, b)
		for name, topic := range b.topics.Load().byName {
			for p := range topic.parts {
				if topic.Internal {
					continue
				}
				if code := do[*kmsg.ProduceResponse](r, produceRequest1(name, int32(p), -1, batch("on")), 9).Topics[0].Partitions[0].ErrorCode; code != 0 {
					t.Errorf("cut at operation %d: produce to %s-%d: %v", cut.at, name, p, kerr.ErrorForCode(code))
				}
			}
		}
		if err := b.Close(); err != nil {
			t.Errorf("cut at operation %d: close: %v", cut.at, err)
		}
	}
}

// TestAdministratorsChangesSurviveAFailingDisk lets each operation on files fail in turn, once: what was acknowledged all the same is there
// at the next start, on a disk that works, after a kill and after a power cut.
func TestAdministratorsChangesSurviveAFailingDisk(t *testing.T) {
	steps := adminSteps()
	for n, done := 0, false; !done; n += 5 {
		mem := vfs.NewMem()
		fs := &vfs.Faulty{FS: mem}
		b, err := Start(t.Context(), Config{Dir: "/data", FS: fs, Security: Security{Authorize: true}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		var count atomic.Int32
		var what atomic.Value
		fs.Fail(func(op vfs.Op, name string) error {
			if int(count.Add(1)) != n+1 {
				return nil
			}
			what.Store(fmt.Sprint(op, " ", name))
			if op == vfs.OpSync {
				return vfs.LostSync{Err: syscall.EIO}
			}
			return syscall.EIO
		})
		acked := make([]bool, len(steps))
		r := dialRaw(t, b)
		for i, s := range steps {
			acked[i] = slices.Max(append(codes(reflect.ValueOf(do[kmsg.Response](r, s.ask, s.version))), 0)) == 0
		}
		done = int(count.Load()) <= n
		fs.Fail(nil)
		_ = b.Close()
		for _, keep := range []int{0, 100} {
			disk := mem
			if keep == 0 {
				disk = mem.CrashClone(0, nil)
			}
			b, err := Start(t.Context(), Config{Dir: "/data", FS: disk, Security: Security{Authorize: true}, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Errorf("operation %d (%v) failed, %d%% kept: %v", n, what.Load(), keep, err)
				continue
			}
			for i, s := range steps {
				if acked[i] && s.to == 0 && !s.has(b) {
					t.Errorf("operation %d (%v) failed, %d%% kept: %q is not there", n, what.Load(), keep, s.name)
				}
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
