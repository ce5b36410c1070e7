package runtime

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/internal/txnclient"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// copyBench is a follower with a copy of one store, without brokers.
func copyBench(t *testing.T, windowed bool) (*follower, *followedStore, tp) {
	t.Helper()
	db, err := state.Open(state.Options{Dir: t.TempDir(), MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	sh, err := db.Shard("s", 0, state.ShardOptions{Windowed: windowed})
	if err != nil {
		t.Fatal(err)
	}
	var st state.Store
	if windowed {
		st, err = state.OpenWindow(sh, serde.String, serde.String, state.StoreOptions{Size: time.Second, Retention: time.Second})
	} else {
		st, err = state.OpenKeyValue(sh, serde.String, serde.String, state.StoreOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	rt := New(Config{Logger: slog.New(slog.DiscardHandler), DB: db})
	rt.restorer = newRestorer(&rt.cfg, nil, new(atomic.Int64))
	t.Cleanup(rt.restorer.close)
	at := tp{"rows", 0}
	task := &task{id: engine.TaskID{}, progress: new(progress)}
	s := &followedStore{taskStore: &taskStore{store: st, changelog: at.topic, fromSource: !windowed}, of: &followed{task: task}}
	return &follower{rt: rt, logs: map[tp]*followedStore{at: s}}, s, at
}

// wantRows wants the store of a copy to have so many rows, and the copy to be at an offset.
func wantRows(t *testing.T, s *followedStore, rows, next int64) {
	t.Helper()
	got, err := s.store.Shard().ApproximateCount()
	pos, _ := s.store.Shard().Position()
	if err != nil || got != rows || s.next != next || pos.Offset != next {
		t.Errorf("%d rows (%v) at %d, in the store at %d; want %d at %d", got, err, s.next, pos.Offset, rows, next)
	}
}

func row(at tp, offset int64, key string) *kgo.Record {
	return &kgo.Record{Topic: at.topic, Key: []byte(key), Value: []byte("v"), Offset: offset, Timestamp: time.UnixMilli(offset)}
}

// What waits for its owner is all that came, and the owner is asked for while something does.
func TestACopyHoldsAllThatCame(t *testing.T) {
	f, s, at := copyBench(t, false)
	if got := f.waiting(); len(got) != 0 {
		t.Errorf("it waits for the owners of %v, though nothing came", got)
	}
	f.hold(s, []*kgo.Record{row(at, 0, "a"), row(at, 1, "b")})
	f.hold(s, []*kgo.Record{row(at, 2, "c")})
	if got := f.waiting(); !slices.Equal(got, []string{at.topic}) {
		t.Errorf("it waits for the owners of %v, want %s", got, at.topic)
	}
	f.learn(map[tp]int64{at: 2, {"other", 0}: 7})
	f.learn(map[tp]int64{at: 1}) // said by somebody who did not know yet
	f.release(t.Context())
	wantRows(t, s, 2, 2)
	f.learn(map[tp]int64{at: 5})
	f.release(t.Context())
	wantRows(t, s, 3, 3)
	if got := s.of.remaining.Load(); got != 2 {
		t.Errorf("the copy lacks %d offsets, want 2: its owner is further", got)
	}
	if got := f.waiting(); !slices.Equal(got, []string{at.topic}) {
		t.Errorf("it waits for the owners of %v, want %s: it is behind", got, at.topic)
	}
}

// A partition is read no further while much of it waits, and is read on when half of that is gone.
func TestACopyThatHoldsMuchIsNotReadOn(t *testing.T) {
	f, s, at := copyBench(t, false)
	var err error
	if f.cl, err = kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1")); err != nil { // it asks nobody for anything
		t.Fatal(err)
	}
	t.Cleanup(f.cl.Close)
	paused := func() bool { return len(f.cl.PauseFetchPartitions(nil)) > 0 }
	recs := make([]*kgo.Record, heldMost+1)
	for i := range recs {
		recs[i] = row(at, int64(i), "k")
	}
	f.hold(s, recs[:heldMost])
	if paused() || s.paused {
		t.Error("it is paused before there is too much")
	}
	f.hold(s, recs[heldMost:])
	if !paused() || !s.paused {
		t.Error("it is read on although too much waits")
	}
	for _, step := range []struct {
		owner  int64
		paused bool
	}{{heldMost / 2, true}, {heldMost/2 + 2, false}} {
		f.learn(map[tp]int64{at: step.owner})
		f.release(t.Context())
		if paused() != step.paused || s.paused != step.paused {
			t.Errorf("the owner is at %d, %d wait: paused is %t and %t, want %t", step.owner, len(s.held), paused(), s.paused, step.paused)
		}
	}
}

// transaction is what a reader gets of two rows that were written in a transaction: the rows, and its marker.
func transaction(t *testing.T, at tp) []*kgo.Record {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, at.topic))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.TransactionalID("x"), kgo.ConsumeTopics(at.topic), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	err = cl.BeginTransaction()
	if err == nil {
		err = cl.ProduceSync(t.Context(), row(at, 0, "a"), row(at, 0, "b")).FirstErr()
	}
	if err = cmp.Or(err, txnclient.End(t.Context(), cl, kgo.TryCommit)); err != nil {
		t.Fatal(err)
	}
	var all []*kgo.Record
	for len(all) < 3 && t.Context().Err() == nil {
		all = append(all, cl.PollFetches(t.Context()).Records()...)
	}
	if len(all) != 3 || !all[2].Attrs.IsControl() {
		t.Fatalf("%d records, want two and a marker", len(all))
	}
	return all
}

// Markers, records without a key, and what the copy has already, are no rows.
func TestACopyTakesRowsAlone(t *testing.T) {
	all := transaction(t, tp{"rows", 0})
	for name, source := range map[string]bool{"of a source topic": true, "of a changelog": false} {
		t.Run(name, func(t *testing.T) {
			f, s, at := copyBench(t, false)
			s.fromSource = source
			if err := f.write(t.Context(), s, all); err != nil {
				t.Fatal(err)
			}
			wantRows(t, s, 2, 3)
			none := row(at, 3, "")
			none.Key = nil
			if err := f.write(t.Context(), s, []*kgo.Record{row(at, 1, "old"), none, row(at, 4, "c")}); err != nil {
				t.Fatal(err)
			}
			wantRows(t, s, 3, 5)
		})
	}
}

// What the table cannot read is for the error policy, as it is at the owner; until that lets it pass the copy stays where it is.
func TestACopyAppliesTheErrorPolicy(t *testing.T) {
	f, s, at := copyBench(t, false)
	s.check = func(r *kgo.Record) error {
		if string(r.Key) == "bad" {
			return errors.New("bad")
		}
		return nil
	}
	f.hold(s, []*kgo.Record{row(at, 0, "a"), row(at, 1, "bad"), row(at, 2, "c")})
	f.learn(map[tp]int64{at: 3})
	f.release(t.Context())
	wantRows(t, s, 0, 0)
	if len(s.held) != 3 {
		t.Errorf("%d records wait, want all 3", len(s.held))
	}
	f.rt.cfg.OnError = func(context.Context, *engine.RecordError) engine.Decision { return engine.Skip() }
	f.release(t.Context())
	wantRows(t, s, 2, 3)
}

// fetched is an answer with records of one partition, of a log that is stable up to an offset.
func fetched(at tp, stable int64, err error, recs ...*kgo.Record) kgo.Fetches {
	p := kgo.FetchPartition{Partition: at.p, LastStableOffset: stable, HighWatermark: stable, Err: err, Records: recs}
	return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: at.topic, Partitions: []kgo.FetchPartition{p}}}}}
}

// A changelog is followed as it comes, and says how far there is to go. Of a source topic nothing is taken that the owner has
// not processed, however far the log goes.
func TestWhatComesOfALog(t *testing.T) {
	f, s, at := copyBench(t, false)
	s.fromSource = false
	f.take(t.Context(), fetched(at, 5, nil, row(at, 0, "a"), row(at, 1, "b")))
	wantRows(t, s, 2, 2)
	if got := s.of.remaining.Load(); got != 3 {
		t.Errorf("a changelog that ends at 5 lacks %d offsets, want 3", got)
	}
	f.take(t.Context(), fetched(tp{"of a copy that was dropped", 0}, 5, nil, row(at, 2, "c")))
	wantRows(t, s, 2, 2)

	f, s, at = copyBench(t, false)
	f.take(t.Context(), fetched(at, 5, nil, row(at, 0, "a"), row(at, 1, "b")))
	if got := s.of.remaining.Load(); len(s.held) != 2 || s.next != 0 || got != 0 {
		t.Errorf("%d records wait, the copy is at %d and lacks %d; want both to wait, and nothing to lack of what is processed", len(s.held), s.next, got)
	}
}

// cutLog is a client of a cluster whose log has n records, of which the first ones are deleted.
func cutLog(t *testing.T, at tp, n int, first int64) *kgo.Client {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, at.topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	for i := range int64(n) {
		if err := cl.ProduceSync(t.Context(), row(at, i, "k")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var cut kadm.Offsets
	cut.Add(kadm.Offset{Topic: at.topic, Partition: at.p, At: first})
	if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	var done kadm.Offsets // of the owner
	done.AddOffset(at.topic, at.p, int64(n), -1)
	if _, err := kadm.NewClient(cl).CommitOffsets(t.Context(), "app", done); err != nil {
		t.Fatal(err)
	}
	return cl
}

// A copy behind which the log was cut begins anew where the log does now.
func TestACopyBehindTheLogBeginsAnew(t *testing.T) {
	for name, source := range map[string]bool{"changelog": false, "source": true} {
		t.Run(name, func(t *testing.T) {
			f, s, at := copyBench(t, false)
			s.fromSource = source
			f.cl = cutLog(t, at, 9, 7)
			f.rt.cfg.AppID, f.rt.topics = "app", newTopics(f.cl, nil)
			f.rt.restorer.topics = f.rt.topics
			if err := f.write(t.Context(), s, []*kgo.Record{row(at, 0, "a"), row(at, 1, "b")}); err != nil {
				t.Fatal(err)
			}
			s.held = []*kgo.Record{row(at, 2, "c")}
			cut := fetched(at, 9, kerr.OffsetOutOfRange)
			cut[0].Topics[0].Partitions[0].LogStartOffset = 7
			f.take(t.Context(), cut)
			if s.lost.IsZero() {
				t.Fatal("it is read on")
			}
			s.lost = s.lost.Add(-2 * followRetry)
			f.resume(t.Context())
			if n, err := s.store.Shard().ApproximateCount(); err != nil || n != 0 || s.next != 7 || len(s.held) != 0 {
				t.Errorf("%d rows (%v), at %d, and %d wait; want an empty copy at 7", n, err, s.next, len(s.held))
			}
		})
	}
}

// A warm-up says once that the task can move: when it lacks no more than is acceptable.
func TestAWarmUpSaysOnceThatItIsThere(t *testing.T) {
	f, s, at := copyBench(t, false)
	s.fromSource = false
	f.rt.cfg.AcceptableLag = 2
	s.of.kind, s.of.worker = warmup, new(worker)
	for i, step := range []struct {
		stable int64
		says   bool
	}{{9, false}, {4, true}, {4, false}, {9, false}} {
		f.take(t.Context(), fetched(at, step.stable, nil, row(at, int64(i), "k")))
		if says := s.of.worker.warm.Swap(false); says != step.says {
			t.Errorf("at %d of %d: it says so: %t, want %t", s.next, step.stable, says, step.says)
		}
	}
	f, s, at = copyBench(t, false)
	s.fromSource, s.of.worker = false, new(worker)
	if f.take(t.Context(), fetched(at, 1, nil, row(at, 0, "k"))); s.of.worker.warm.Load() {
		t.Error("a standby says that its task can move")
	}
}

// The latest of several records says what the owner has let go of, whichever comes last; what does not look like that is let be.
func TestACopyGoesByTheLatestWord(t *testing.T) {
	say := func(to ...byte) *kgo.Record {
		return &kgo.Record{Headers: []kgo.RecordHeader{{Key: "other", Value: make([]byte, 8)}, {Key: expiredHeader, Value: to}}}
	}
	if got := expiredBy(say(0, 0, 0, 0, 0, 0, 1, 2)); got != 258 {
		t.Errorf("the record says %d, want 258", got)
	}
	for _, r := range []*kgo.Record{say(), say(1), say(0, 0, 0, 0, 0, 0, 0, 0, 1), {}} {
		if got := expiredBy(r); got != -1 {
			t.Errorf("headers %v say %d, want nothing", r.Headers, got)
		}
	}
	f, s, at := copyBench(t, true)
	window := func(offset int64, start byte, headers ...kgo.RecordHeader) *kgo.Record {
		r := row(at, offset, "k\x00\x00\x00\x00\x00\x00\x00"+string(rune(start))+"\x00\x00\x00\x00")
		r.Headers = headers
		return r
	}
	err := f.write(t.Context(), s, []*kgo.Record{window(0, 1), window(1, 2), window(2, 3, say(0, 0, 0, 0, 0, 0, 0, 2).Headers...), window(3, 4)})
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, s, 2, 4)
}

// What the owner has not processed a copy holds back: ahead of its owner it would be wiped when it takes over.
func TestACopyIsNeverAheadOfItsOwner(t *testing.T) {
	f, s, at := copyBench(t, false)
	var recs []*kgo.Record
	for i := range int64(10) {
		recs = append(recs, &kgo.Record{Topic: at.topic, Key: []byte{'a' + byte(i)}, Value: []byte("v"), Offset: i, Timestamp: time.UnixMilli(i)})
	}
	f.hold(s, recs)
	for _, step := range []struct{ owner, next, held int64 }{{-1, 0, 10}, {0, 0, 10}, {4, 4, 6}, {4, 4, 6}, {10, 10, 0}, {12, 10, 0}} {
		s.stable = step.owner
		f.release(t.Context())
		rows, err := s.store.Shard().ApproximateCount()
		pos, _ := s.store.Shard().Position()
		if err != nil || s.next != step.next || rows != step.next || pos.Offset != step.next || int64(len(s.held)) != step.held {
			t.Errorf("the owner is at %d: the copy is at %d (%d in the store) with %d rows (%v), and holds %d; want %d, and %d held",
				step.owner, s.next, pos.Offset, rows, err, len(s.held), step.next, step.held)
		}
	}
}

// A copy of windows lets go of what its owner says that it has let go of, and of nothing else.
func TestACopyLetsGoOfWhatItsOwnerHas(t *testing.T) {
	f, s, at := copyBench(t, true)
	owner := &taskStore{store: expiring{s.store, 0}}
	window := func(offset, start int64) *kgo.Record {
		key := append([]byte("k"), 0, 0, 0, 0, 0, 0, byte(start>>8), byte(start), 0, 0, 0, 0)
		r := &kgo.Record{Topic: at.topic, Key: key, Value: []byte("v"), Offset: offset, Timestamp: time.UnixMilli(start)}
		if h, ok := owner.expires(); ok {
			r.Headers = append(r.Headers, h)
		}
		return r
	}
	rows := func() int64 {
		n, err := s.store.Shard().ApproximateCount()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := f.write(t.Context(), s, []*kgo.Record{window(0, 1000), window(1, 2000), window(2, 3000)}); err != nil || rows() != 3 {
		t.Errorf("%d rows (%v), want 3: the owner has all of them", rows(), err)
	}
	owner.store = expiring{s.store, 2000}
	if err := f.write(t.Context(), s, []*kgo.Record{window(3, 4000), window(4, 5000)}); err != nil || rows() != 3 {
		t.Errorf("%d rows (%v), want the last 3 of 5", rows(), err)
	}
	if r := window(5, 6000); len(r.Headers) != 0 {
		t.Errorf("headers %v: what has been said is not said again", r.Headers)
	}
}

// expiring is a store that has removed windows.
type expiring struct {
	state.Store
	to int64
}

func (e expiring) Expired() int64 { return e.to }
