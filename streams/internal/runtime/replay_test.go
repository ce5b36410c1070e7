package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

const changelog = "app-s-changelog"

// replayBench restores one store from a changelog of one partition.
type replayBench struct {
	t     *testing.T
	fake  *kfake.Cluster
	cl    *kgo.Client
	r     *restorer
	store *state.KeyValueStore[string, int64]
	sh    *state.Shard
}

func newReplayBench(t *testing.T) *replayBench {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, changelog))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	b := &replayBench{t: t, fake: fake}
	b.cl = b.client()
	topics := newTopics(b.cl, nil)
	if err := topics.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.r = newRestorer(&Config{Logger: slog.New(slog.DiscardHandler)}, topics, new(atomic.Int64))
	t.Cleanup(b.r.close)
	db, err := state.Open(state.Options{Dir: t.TempDir(), MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if b.sh, err = db.Shard("s", 0, state.ShardOptions{}); err != nil {
		t.Fatal(err)
	}
	if b.store, err = state.OpenKeyValue(b.sh, serde.String, serde.Int64, state.StoreOptions{}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *replayBench) client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.fake.ListenAddrs()...), kgo.DefaultProduceTopic(changelog), kgo.MetadataMinAge(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(cl.Close)
	return cl
}

// write writes keys from..to-1, each with its number.
func (b *replayBench) write(cl *kgo.Client, from, to int) {
	b.t.Helper()
	for i := from; i < to; i++ {
		r := &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: binary.BigEndian.AppendUint64(nil, uint64(i))}
		if err := cl.ProduceSync(b.t.Context(), r).FirstErr(); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *replayBench) replay(ctx context.Context, from, end int64) error {
	info, _ := b.r.topics.get(changelog)
	s := &taskStore{store: b.store, changelog: changelog, topicID: info.id}
	return b.r.replay(ctx, &replay{of: new(progress), store: s, task: "0_0", at: tp{changelog, 0}, next: from, end: end})
}

// holds checks that the store has the keys 0..n-1 and stands at end.
func (b *replayBench) holds(n int, end int64) {
	b.t.Helper()
	for i := range n + 1 {
		v, ok, err := b.store.Get(strconv.Itoa(i))
		if err != nil || ok != (i < n) || ok && v != int64(i) {
			b.t.Errorf("key %d: %d, %t, %v; want the keys below %d", i, v, ok, err, n)
		}
	}
	if pos, ok := b.sh.Position(); !ok || pos.Offset != end {
		b.t.Errorf("the store stands at %d (%t), want %d", pos.Offset, ok, end)
	}
}

// answer makes the broker give the next fetches other answers, one for each function, before it works again.
func (b *replayBench) answer(fs ...func(*kmsg.FetchResponseTopicPartition) bool) {
	for _, f := range fs {
		b.fake.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
			req := kreq.(*kmsg.FetchRequest)
			resp := req.ResponseKind().(*kmsg.FetchResponse)
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.LastStableOffset, p.HighWatermark = 0, -1, -1
			if f(&p) {
				t := kmsg.NewFetchResponseTopic()
				t.Topic, t.TopicID = changelog, req.Topics[0].TopicID
				t.Partitions = append(t.Partitions, p)
				resp.Topics = append(resp.Topics, t)
			}
			return resp, nil, true
		})
	}
}

func code(e *kerr.Error) func(*kmsg.FetchResponseTopicPartition) bool {
	return func(p *kmsg.FetchResponseTopicPartition) bool { p.ErrorCode = e.Code; return true }
}

// However slow or broken the way to the log is, a replay is over only when it has read everything.
func TestReplayEndsOnlyWhenEverythingWasRead(t *testing.T) {
	t.Parallel()
	b := newReplayBench(t)
	b.write(b.cl, 0, 50)
	throttled := func(*kmsg.FetchResponseTopicPartition) bool { return false }
	below := func(p *kmsg.FetchResponseTopicPartition) bool { p.LastStableOffset = 0; return true } // held by a transaction
	b.answer(throttled, code(kerr.NotLeaderForPartition), code(kerr.FencedLeaderEpoch), below, throttled, code(kerr.UnknownTopicID), below)
	if err := b.replay(t.Context(), 0, 50); err != nil {
		t.Fatal(err)
	}
	b.holds(50, 50)
}

// The cleaner may take what lies before the end; the log then has nothing to give there.
func TestReplayEndsWhereTheCleanerTookTheRest(t *testing.T) {
	t.Parallel()
	b := newReplayBench(t)
	b.write(b.cl, 0, 50)
	b.answer(func(p *kmsg.FetchResponseTopicPartition) bool {
		p.LastStableOffset, p.HighWatermark = 20, 20
		return true
	})
	if err := b.replay(t.Context(), 0, 20); err != nil {
		t.Fatal(err)
	}
	b.holds(0, 20)
}

func TestReplayWaitsForAnOpenTransactionAndLeavesOutWhatItAborts(t *testing.T) {
	t.Parallel()
	b := newReplayBench(t)
	b.write(b.cl, 0, 10)
	txn := b.client(kgo.TransactionalID("zombie"))
	if err := txn.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	b.write(txn, 10, 20)
	asked := make(chan struct{}, 1)
	b.fake.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		if req.(*kmsg.FetchRequest).Topics[0].Partitions[0].FetchOffset == 10 {
			select {
			case asked <- struct{}{}:
			default:
			}
		}
		return nil, nil, false
	})
	done := make(chan error, 1)
	go func() { done <- b.replay(t.Context(), 0, 20) }()
	for range 3 { // it asks again and again
		select {
		case <-asked:
		case err := <-done:
			t.Fatalf("the replay ended with %v while a transaction was open", err)
		}
	}
	if err := txn.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.holds(10, 20)
}

func TestReplayOfALogThatWasCutEmptiesTheStore(t *testing.T) {
	t.Parallel()
	b := newReplayBench(t)
	b.write(b.cl, 0, 50)
	if err := b.replay(t.Context(), 0, 20); err != nil {
		t.Fatal(err)
	}
	b.holds(20, 20)
	var cut kadm.Offsets
	cut.Add(kadm.Offset{Topic: changelog, Partition: 0, At: 40})
	if _, err := kadm.NewClient(b.cl).DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	if err := b.replay(t.Context(), 20, 50); !errors.Is(err, kerr.OffsetOutOfRange) || !session.Recoverable(err) {
		t.Errorf("replay returned %v, want a recoverable OFFSET_OUT_OF_RANGE", err)
	}
	if pos, ok := b.sh.Position(); ok {
		t.Errorf("the store stands at %d, want it emptied", pos.Offset)
	}
}

// A task that is dropped and taken again while its records are on their way gets each of them once, from its position.
func TestReplayThatWasCanceledLeavesNothingToTheNext(t *testing.T) {
	t.Parallel()
	b := newReplayBench(t)
	b.write(b.cl, 0, 50)
	ctx, cancel := context.WithCancel(t.Context())
	b.fake.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		cancel() // with the answer in hand
		return nil, nil, false
	})
	if err := b.replay(ctx, 0, 50); err == nil {
		t.Log("the answer was faster than the cancellation")
	} else if pos, ok := b.sh.Position(); ok {
		t.Errorf("a canceled replay moved the store to %d", pos.Offset)
	}
	if err := b.replay(t.Context(), 0, 50); err != nil {
		t.Fatal(err)
	}
	b.holds(50, 50)
}

// A record that the store cannot read is for the error policy, in a restore as in processing: left out, tried again, or the
// end.
func TestReplayAppliesTheErrorPolicy(t *testing.T) {
	t.Parallel()
	b := newReplayBench(t)
	b.write(b.cl, 0, 3)
	if err := b.cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("3"), Value: []byte("short")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	info, _ := b.r.topics.get(changelog)
	restore := func() error {
		s := &taskStore{store: b.store, changelog: changelog, topicID: info.id, check: func(r *kgo.Record) error {
			_, err := serde.Int64.Decode(serde.Place{}, r.Value)
			return err
		}}
		return b.r.replay(t.Context(), &replay{of: new(progress), store: s, task: "0_0", at: tp{changelog, 0}, end: 4})
	}
	var asked *engine.RecordError
	if err := restore(); !errors.As(err, &asked) || asked.Store != "s" || asked.Topic != changelog || asked.Offset != 3 {
		t.Errorf("without a policy the restore ends with %v, want the record's error", err)
	}
	b.r.cfg.OnError = func(_ context.Context, e *engine.RecordError) engine.Decision {
		asked = e
		if e.Attempt == 1 {
			return engine.Retry(time.Millisecond)
		}
		return engine.Skip()
	}
	if err := restore(); err != nil || asked.Attempt != 2 || string(asked.Key) != "3" {
		t.Errorf("the restore ends with %v after %+v, want it to leave the record out", err, asked)
	}
	b.holds(3, 4)
}
