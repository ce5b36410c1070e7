package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/meta"
	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// topicModel is what a client has been told about a topic.
type topicModel struct {
	id         meta.ID
	partitions int32
	retention  string
	records    int64 // in partition 0
}

// admin changes topics and remembers what was acknowledged, and what is under way.
type admin struct {
	b  *Broker
	mu struct {
		sync.Mutex
		acked map[string]topicModel
		doing string
	}
}

func (a *admin) step(r *rand.Rand) error {
	name := fmt.Sprint("t", r.IntN(4))
	a.mu.Lock()
	a.mu.doing = name
	m, exists := a.mu.acked[name]
	a.mu.Unlock()
	var err error
	switch op := r.IntN(8); {
	case !exists:
		m = topicModel{partitions: 1 + r.Int32N(2), retention: fmt.Sprint(1 + r.IntN(1e6))}
		var t *topic
		t, err = a.b.createTopic(meta.Topic{Name: name, Partitions: m.partitions, Configs: map[string]string{"retention.ms": m.retention}})
		if err == nil {
			m.id = t.ID
		}
	case op == 0:
		if err = a.b.deleteTopic(name); err == nil {
			a.done(name, nil)
			return nil
		}
	case op == 1:
		m.partitions++
		err = a.b.growTopic(&kmsg.CreatePartitionsRequestTopic{Topic: name, Count: m.partitions}, false)
	case op == 2:
		m.retention = fmt.Sprint(1 + r.IntN(1e6))
		err = a.b.setConfigs(name, map[string]string{"retention.ms": m.retention})
	default:
		l, _ := a.b.partition(name, 0)
		var at log.Appended
		if at, err = l.Append(batch(name), log.AppendOptions{}); err == nil {
			err = l.WaitSynced(a.b.ctx, at.LastOffset+1)
			m.records = at.LastOffset + 1
		}
	}
	if err == nil {
		a.done(name, &m)
	}
	return err
}

func (a *admin) done(name string, m *topicModel) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.doing = ""; m == nil {
		delete(a.mu.acked, name)
	} else {
		a.mu.acked[name] = *m
	}
}

// snapshot is what must hold at this moment, whatever happens next.
func (a *admin) snapshot() (acked map[string]topicModel, doing string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.mu.acked), a.mu.doing
}

// The power fails at a random operation on the file system. What was acknowledged is there, what was not is there whole or not at
// all, and the broker works.
func TestPowerLossKeepsAcknowledgedTopics(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	first := rand.Uint64N(1 << 40)
	for i := range seeds {
		seed := first + uint64(i)
		powerLossOfTopics(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func powerLossOfTopics(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	mem := vfs.NewMem()
	fsys := &vfs.Faulty{FS: mem}
	b, err := Start(t.Context(), Config{Dir: "/srv/data", FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	a := &admin{b: b}
	a.mu.acked = map[string]topicModel{}
	var crash struct {
		sync.Mutex
		left  int
		disk  *vfs.Mem
		acked map[string]topicModel
		doing string
	}
	crash.left = r.IntN(400)
	keep, crashRand := []int{0, 50, 90, 100}[r.IntN(4)], rand.New(rand.NewPCG(seed, 1))
	fsys.Fail(func(vfs.Op, string) error {
		crash.Lock()
		defer crash.Unlock()
		if crash.left--; crash.left == 0 {
			crash.acked, crash.doing = a.snapshot()
			crash.disk = mem.CrashClone(keep, crashRand)
		}
		return nil
	})
	for range 30 {
		if err := a.step(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if crash.disk == nil {
		crash.acked, crash.doing = a.snapshot()
		crash.disk = mem.CrashClone(keep, crashRand)
	}
	checkTopics(t, crash.disk, crash.acked, crash.doing)
}

func checkTopics(t *testing.T, disk *vfs.Mem, acked map[string]topicModel, doing string) {
	b, err := Start(t.Context(), Config{Dir: "/srv/data", FS: disk})
	if err != nil {
		t.Error("start after the power loss:", err)
		return
	}
	defer b.Close()
	for name, want := range acked {
		got := b.topic(name)
		switch {
		case name == doing:
		case got == nil:
			t.Errorf("topic %s is gone", name)
		case got.ID != want.id || got.Partitions != want.partitions || int32(len(got.parts)) != want.partitions || got.Configs["retention.ms"] != want.retention:
			t.Errorf("topic %s is %+v, want %+v", name, got.Topic, want)
		case got.parts[0].Bounds().HighWatermark < want.records:
			t.Errorf("topic %s has %d records of %d", name, got.parts[0].Bounds().HighWatermark, want.records)
		}
	}
	for name, got := range b.topics.Load().byName {
		if _, ok := acked[name]; !ok && name != doing && !got.Internal {
			t.Errorf("topic %s is there, but was never created or is deleted", name)
		}
	}
	names, err := disk.List("/srv/data")
	for _, n := range names {
		if strings.HasSuffix(n, "-stray") {
			t.Errorf("stray directory %s", n)
		}
	}
	if _, err2 := b.createTopic(meta.Topic{Name: "after", Partitions: 1}); err != nil || err2 != nil {
		t.Error(err, err2)
	}
}

// A deletion that was decided is finished by the next start.
func TestInterruptedDeletionIsFinished(t *testing.T) {
	mem := vfs.NewMem()
	fsys := &vfs.Faulty{FS: mem}
	cfg := Config{Dir: "/data", FS: fsys, Logger: slog.New(slog.DiscardHandler)}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.createTopic(meta.Topic{Name: "t", Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	fsys.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpRemove && strings.Contains(name, "t-1") {
			return errors.New("device is busy")
		}
		return nil
	})
	if err := b.deleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	if b.topic("t") != nil {
		t.Error("clients still see a topic whose deletion was acknowledged")
	}
	if _, err := b.createTopic(meta.Topic{Name: "t", Partitions: 1}); !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Errorf("created again while files of the old one remain: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	fsys.Fail(nil)
	b = startWith(t, cfg)
	names, err := mem.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, "t-") {
			t.Errorf("%s remains", n)
		}
	}
	if _, err := b.createTopic(meta.Topic{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryOfNobodyIsKept(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("/data/t-0"); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(mem, "/data/t-0/precious", []byte("x")); err != nil {
		t.Fatal(err)
	}
	b := startWith(t, Config{Dir: "/data", FS: mem, Logger: slog.New(slog.DiscardHandler)})
	top, err := b.createTopic(meta.Topic{Name: "t", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := vfs.ReadFile(mem, filepath.Join("/data", "t-0."+top.ID.String()+"-stray", "precious"), 10)
	if err != nil || string(kept) != "x" {
		t.Fatalf("%q, %v", kept, err)
	}
}

// What a producer put inside a batch is its own and its consumers' business, unless the topic makes the broker look.
func TestRecordsInsideABatchAreTheProducers(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	broken := batch("x")
	broken[22] |= byte(record.Gzip) // which it is not
	binary.BigEndian.PutUint32(broken[17:], crc32.Checksum(broken[21:], crc32.MakeTable(crc32.Castagnoli)))
	write := func() int16 {
		return do[*kmsg.ProduceResponse](dialRaw(t, b), produceRequest1("t", 0, -1, bytes.Clone(broken)), 9).Topics[0].Partitions[0].ErrorCode
	}
	if got := write(); got != 0 {
		t.Error("on a plain topic:", kerr.ErrorForCode(got))
	}
	for _, configs := range []map[string]string{{"compression.type": "zstd"}, {"cleanup.policy": "compact"}} {
		if err := b.setConfigs("t", configs); err != nil {
			t.Fatal(err)
		}
		if got := write(); got != kerr.CorruptMessage.Code {
			t.Errorf("with %v: %v", configs, kerr.ErrorForCode(got))
		}
	}
}

// A disk that fails to sync refuses what it cannot keep, and what is there can still be read.
func TestSyncFailure(t *testing.T) {
	fsys := &vfs.Faulty{FS: vfs.NewMem()}
	b, err := Start(t.Context(), Config{Dir: "/data", FS: fsys, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	createTopic(t, b, "t", 1)
	id, _ := b.topicID("t")
	r := dialRaw(t, b)
	if p := do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, -1, batch("kept")), 9).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(p.ErrorCode))
	}
	fsys.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpSync {
			return errors.New("input/output error")
		}
		return nil
	})
	for range 2 {
		p := do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, -1, batch("lost")), 9).Topics[0].Partitions[0]
		if p.ErrorCode != kerr.KafkaStorageError.Code {
			t.Fatalf("an unsynced record was answered with %v", kerr.ErrorForCode(p.ErrorCode))
		}
	}
	if _, err := b.createTopic(meta.Topic{Name: "u", Partitions: 1}); err == nil {
		t.Error("a topic was created that a power cut would lose")
	}
	fsys.Fail(nil)
	p := do[*kmsg.FetchResponse](r, fetchOf("t", id, 0, 0), 17).Topics[0].Partitions[0]
	if vs := values(t, p.RecordBatches); len(vs) != 1 || vs[0] != "0=kept" {
		t.Errorf("read %v, error %v", vs, kerr.ErrorForCode(p.ErrorCode))
	}
	latest := kmsg.NewPtrListOffsetsRequest()
	latest.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1, CurrentLeaderEpoch: -1}}}}
	if at := do[*kmsg.ListOffsetsResponse](r, latest, 7).Topics[0].Partitions[0]; at.Offset != 1 || at.ErrorCode != 0 {
		t.Errorf("what can be read ends at %d, error %v", at.Offset, kerr.ErrorForCode(at.ErrorCode))
	}
	done := make(chan struct{})
	go func() { _ = b.Close(); close(done) }() // it may say what failed; it must not hang
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("Close hangs")
	}
}

// TestDeleteRecordsOfAcksOne: what was acknowledged can be deleted although it is not on disk yet; the deletion waits for that.
func TestDeleteRecordsOfAcksOne(t *testing.T) {
	fsys := &vfs.Faulty{FS: vfs.NewMem()}
	b := start(t, func(c *Config) { c.Dir, c.FS, c.Flush = "/data", fsys, FlushAlways })
	createTopic(t, b, "t", 1)
	r := dialRaw(t, b)
	for i, at := range []int64{1, -1} { // -1: all
		slow := make(chan struct{})
		fsys.Fail(func(op vfs.Op, name string) error {
			if op == vfs.OpSync {
				<-slow
			}
			return nil
		})
		if p := do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, 1, batch("v")), 9).Topics[0].Partitions[0]; p.ErrorCode != 0 {
			t.Fatal(kerr.ErrorForCode(p.ErrorCode))
		}
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: at}}}}
		answer := make(chan kmsg.DeleteRecordsResponseTopicPartition, 1)
		go func() { answer <- do[*kmsg.DeleteRecordsResponse](r, req, 2).Topics[0].Partitions[0] }()
		select {
		case p := <-answer:
			t.Errorf("answered before the sync: %v", kerr.ErrorForCode(p.ErrorCode))
			answer <- p
		case <-time.After(20 * time.Millisecond): // it waits, or has not begun
		}
		close(slow)
		if p := <-answer; p.ErrorCode != 0 || p.LowWatermark != int64(i)+1 {
			t.Fatalf("%v, log start %d", kerr.ErrorForCode(p.ErrorCode), p.LowWatermark)
		}
	}
}
