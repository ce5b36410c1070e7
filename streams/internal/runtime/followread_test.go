package runtime

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

var errDisk = errors.New("the disk is gone")

// A copy whose disk fails for a while misses nothing: what was not written is read again.
func TestACopyThatCannotWriteReadsAgain(t *testing.T) {
	t.Parallel()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, changelog))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	client := func() *kgo.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.DefaultProduceTopic(changelog), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(50*time.Millisecond), kgo.MetadataMinAge(10*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	cl := client()
	say := func(from, to int) {
		for i := from; i < to; i++ {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: []byte("v")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var broken atomic.Bool
	db, err := state.Open(state.Options{Dir: "state", MemoryBytes: 16 << 20, FS: errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".sst") {
			return errDisk
		}
		return nil
	}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	// An index: writing reads what was there.
	first := state.ShardIndex{Name: "first", Version: 1, Value: func(dst, key, _ []byte) ([]byte, bool, error) { return append(dst, key[:1]...), true, nil }}
	sh, err := db.Shard("s", 0, state.ShardOptions{Indexes: []state.ShardIndex{first}})
	if err != nil {
		t.Fatal(err)
	}
	st, err := state.OpenKeyValue(sh, serde.String, serde.String, state.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	rt := New(Config{Logger: slog.New(slog.DiscardHandler), DB: db})
	rt.topics = newTopics(cl, nil)
	rt.restorer = newRestorer(&rt.cfg, rt.topics, new(atomic.Int64))
	t.Cleanup(rt.restorer.close)
	s := &followedStore{taskStore: &taskStore{store: st, changelog: changelog}, of: &followed{task: &task{progress: new(progress)}}}
	f := &follower{rt: rt, logs: map[tp]*followedStore{s.at(): s}, cl: client()}
	begin, err := f.locate(t.Context(), []*followedStore{s})
	if err != nil {
		t.Fatal(err)
	}
	f.cl.AddConsumePartitions(begin)
	until := func(what string, is func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for !is() {
			if ctx.Err() != nil {
				t.Fatalf("not within a minute: %s; the copy stands at %d", what, s.next)
			}
			poll, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			f.take(ctx, f.cl.PollRecords(poll, followPoll))
			cancel()
			f.resume(ctx)
		}
	}
	stands := func() int64 {
		pos, _ := sh.Position()
		return pos.Offset
	}

	say(0, 10)
	until("the first ten", func() bool { return s.next == 10 })
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	say(5, 15)
	until("a write that fails", func() bool { return !s.lost.IsZero() })
	if s.next != 10 {
		t.Errorf("a batch that is not written brings the copy to %d, want it to stay at 10", s.next)
	}
	if behind := f.lag(s.of); behind == 0 {
		t.Error("a copy that is not read is not behind")
	}
	broken.Store(false)
	say(15, 20)
	until("everything", func() bool { return s.next == 25 && s.lost.IsZero() })
	if rows, err := sh.ApproximateCount(); err != nil || rows != 20 || stands() != 25 {
		t.Errorf("%d rows (%v) at %d, want all 20 at 25", rows, err, stands())
	}
}

// A row that the store cannot read is for the error policy, and does not take its batch along.
func TestACopyOfWindowsAppliesTheErrorPolicy(t *testing.T) {
	t.Parallel()
	f, s, at := copyBench(t, true)
	good := &kgo.Record{Topic: at.topic, Key: append([]byte("k"), make([]byte, 12)...), Value: []byte("v"), Timestamp: time.UnixMilli(0)}
	bad := &kgo.Record{Topic: at.topic, Key: []byte("short"), Value: []byte("v"), Offset: 1, Timestamp: time.UnixMilli(0)}
	var re *engine.RecordError
	if err := f.write(t.Context(), s, []*kgo.Record{good, bad}); !errors.As(err, &re) || re.Offset != 1 || s.next != 0 {
		t.Errorf("without a policy it ends with %v at %d, want the record's error at 0", err, s.next)
	}
	f.rt.cfg.OnError = func(context.Context, *engine.RecordError) engine.Decision { return engine.Skip() }
	if err := f.write(t.Context(), s, []*kgo.Record{good, bad}); err != nil || s.next != 2 {
		t.Errorf("with Skip it ends with %v at %d, want it at 2", err, s.next)
	}
	if rows, err := s.store.Shard().ApproximateCount(); err != nil || rows != 1 {
		t.Errorf("%d rows (%v), want the good one", rows, err)
	}
}
