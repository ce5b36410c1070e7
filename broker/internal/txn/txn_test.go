package txn

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/journal"
)

func TestRecordRoundTrip(t *testing.T) {
	for _, r := range []record{
		{state: Ongoing, producerID: 7, prevID: none, nextID: none, epoch: 3, lastEpoch: none, version: 2, timeout: time.Minute, partitions: []TopicPartition{{"a", 0}, {"a", 5}, {"b", 1}}, startMs: 5, updatedMs: 6},
		{state: PrepareCommit, producerID: 7, prevID: 2, nextID: 9, epoch: math.MaxInt16, lastEpoch: math.MaxInt16 - 1, version: 2, timeout: time.Second, startMs: 5, updatedMs: 6},
		{state: Empty, producerID: 7, prevID: none, nextID: none, epoch: 0, lastEpoch: none, timeout: time.Second, startMs: none, updatedMs: 6},
	} {
		got, err := decodeValue(r.encode())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, got, cmp.AllowUnexported(record{})); d != "" {
			t.Errorf("decoded differs:\n%s", d)
		}
	}
	if _, err := decodeValue([]byte{0, 1, 2}); err == nil {
		t.Error("a torn value is accepted")
	}
}

func TestEndVerdict(t *testing.T) {
	at := func(s State) record { return record{state: s, producerID: 7, prevID: none, nextID: none, epoch: 4} }
	for _, c := range []struct {
		name     string
		r        record
		id       int64
		epoch    int16
		commit   bool
		version  int16
		timedOut int16
		want     verdict
		err      *kerr.Error
	}{
		{"v1 ongoing", at(Ongoing), 7, 4, true, 4, none, begins, nil},
		{"v1 wrong id", at(Ongoing), 8, 4, true, 4, none, refused, kerr.InvalidProducerIDMapping},
		{"v1 old epoch", at(Ongoing), 7, 3, true, 4, none, refused, kerr.ProducerFenced},
		{"v1 old epoch, old request", at(Ongoing), 7, 3, true, 1, none, refused, kerr.InvalidProducerEpoch},
		{"v1 empty", at(Empty), 7, 4, false, 4, none, refused, kerr.InvalidTxnState},
		{"v1 repeated", at(CompleteCommit), 7, 4, true, 4, none, repeats, nil},
		{"v1 repeated while preparing", at(PrepareAbort), 7, 4, false, 4, none, repeats, nil},
		{"v1 opposite", at(CompleteCommit), 7, 4, false, 4, none, refused, kerr.InvalidTxnState},
		{"v2 ongoing", at(Ongoing), 7, 4, false, 5, none, begins, nil},
		{"v2 ongoing, delayed end of the one before", at(Ongoing), 7, 3, true, 5, none, refused, kerr.ProducerFenced},
		{"v2 empty commit", at(Empty), 7, 4, true, 5, none, refused, kerr.InvalidTxnState},
		{"v2 empty abort", at(Empty), 7, 4, false, 5, none, begins, nil},
		{"v2 repeated", at(CompleteCommit), 7, 3, true, 5, none, repeats, nil},
		{"v2 repeated while preparing", at(PrepareCommit), 7, 3, true, 5, none, repeats, nil},
		{"v2 opposite", at(CompleteCommit), 7, 3, false, 5, none, refused, kerr.InvalidTxnState},
		{"v2 commit of what took too long", at(CompleteAbort), 7, 3, true, 5, 3, refused, kerr.TransactionAbortable},
		{"v2 abort of what took too long", at(CompleteAbort), 7, 3, false, 5, 3, repeats, nil},
		{"v2 zombie", at(CompleteCommit), 7, 2, true, 5, none, refused, kerr.ProducerFenced},
		{"v2 next, empty, while the one before completes", at(PrepareCommit), 7, 4, false, 5, none, waitFirst, nil},
		{"v2 next, empty abort", at(CompleteCommit), 7, 4, false, 5, none, begins, nil},
		{"v2 next, empty commit", at(CompleteCommit), 7, 4, true, 5, none, refused, kerr.InvalidTxnState},
		{"v2 repeated after the epochs were used up", record{state: CompleteCommit, producerID: 9, prevID: 7, nextID: none, epoch: 0}, 7, math.MaxInt16 - 1, true, 5, none, repeats, nil},
	} {
		got, err := c.r.endVerdict(c.id, c.epoch, c.commit, c.version, c.timedOut)
		if got != c.want || err != c.err {
			t.Errorf("%s: %v %v, want %v %v", c.name, got, err, c.want, c.err)
		}
	}
}

// A decision found at start gets its markers, except where the partition is already in the next transaction.
func TestRestart(t *testing.T) {
	w := newWorld()
	c := run(t, w)
	id, epoch := mustInit(t, c, "x")
	mustJoin(t, c, "x", id, epoch, a, b)
	mustEnd(t, c, "x", id, epoch, true)
	await(t, "complete", func() bool { return w.last("x") == CompleteCommit })
	prepared := 0
	w.mu.Lock()
	for i := range w.entries {
		if r, ok := w.lastLocked("x", int64(i+1)); ok && r.state == PrepareCommit && prepared == 0 {
			prepared = i + 1
		}
	}
	w.mu.Unlock()
	c.Close()
	cases := []struct {
		name    string
		n       int
		open    []OpenTxn
		want    State
		markers int
		commit  bool
		stale   bool
	}{
		{"prepared", prepared, []OpenTxn{{a, id, epoch}, {b, id, epoch}}, CompleteCommit, 2, true, false},
		{"prepared, one marker is there", prepared, []OpenTxn{{b, id, epoch}}, CompleteCommit, 2, true, false},
		{"prepared, the next has begun in a", prepared, []OpenTxn{{a, id, epoch + 1}}, Ongoing, 1, true, false},
		{"ongoing", 2, []OpenTxn{{a, id, epoch}}, Ongoing, 0, false, false},
		{"data of a producer that nobody knows", 2, []OpenTxn{{a, 99, 3}}, Empty, 1, false, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			w := w.crash(tc.n)
			w.open = tc.open
			c := run(t, w)
			defer c.Close()
			await(t, tc.want.String(), func() bool { return state(c, "x") == tc.want })
			m := w.written()
			if len(m) != tc.markers {
				t.Fatalf("markers %+v, want %d", m, tc.markers)
			}
			for _, m := range m {
				if m.commit != tc.commit {
					t.Errorf("marker %+v", m)
				}
			}
			if tc.want != Ongoing {
				return
			}
			next := epoch
			if tc.n == prepared {
				next++
			}
			if err := c.Verify("x", id, next, a, 12); err != nil {
				t.Errorf("the adopted transaction does not go on: %v", err)
			}
			mustEnd(t, c, "x", id, next, false)
		})
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := run(t, w)
		defer c.Close()
		id, epoch := mustInit(t, c, "x")
		mustJoin(t, c, "x", id, epoch, a)
		time.Sleep(59 * time.Second)
		if s := state(c, "x"); s != Ongoing {
			t.Fatalf("%v before its time", s)
		}
		time.Sleep(2 * time.Second)
		if s := state(c, "x"); s != CompleteAbort {
			t.Fatalf("%v after its time", s)
		}
		if m := w.written(); len(m) != 1 || m[0].commit || m[0].epoch != epoch+1 {
			t.Errorf("markers %+v", m)
		}
		if err := c.Join(t.Context(), "x", id, epoch, a); err != kerr.TransactionAbortable {
			t.Errorf("v2 producer goes on: %v", err)
		}
		if err := c.Verify("x", id, epoch, a, 10); err != kerr.InvalidProducerEpoch {
			t.Errorf("v1 producer goes on: %v", err)
		}
		if resp := c.EndTxn(t.Context(), endReq("x", id, epoch, true, 5)); resp.ErrorCode != kerr.TransactionAbortable.Code {
			t.Errorf("commit: %v", kerr.ErrorForCode(resp.ErrorCode))
		}
		if gotID, got := mustEnd(t, c, "x", id, epoch, false); gotID != id || got != epoch+1 {
			t.Errorf("abort gives epoch %d, want %d", got, epoch+1)
		}
		resp := c.InitProducerID(t.Context(), initReq("x", id, epoch))
		if resp.ErrorCode != 0 || resp.ProducerEpoch != epoch+1 {
			t.Errorf("the owner is back: %v, epoch %d", kerr.ErrorForCode(resp.ErrorCode), resp.ProducerEpoch)
		}
	})
}

// The filter by duration is about those that have ended, too.
func TestListsTransactionsByDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := run(t, newWorld())
		defer c.Close()
		id, epoch := mustInit(t, c, "ended")
		mustJoin(t, c, "ended", id, epoch, a)
		mustEnd(t, c, "ended", id, epoch, true)
		open, epoch := mustInit(t, c, "open")
		mustJoin(t, c, "open", open, epoch, b)
		time.Sleep(10 * time.Second)
		for ms, want := range map[int64]int{-1: 2, 9_000: 2, 20_000: 0} {
			req := kmsg.NewPtrListTransactionsRequest()
			req.Version, req.DurationFilterMillis = 1, ms
			if resp := c.List(req); len(resp.TransactionStates) != want {
				t.Errorf("older than %d ms: %+v, want %d", ms, resp.TransactionStates, want)
			}
		}
	})
}

// A timeout found at start counts from the transaction's beginning if the journal has it, else from the start.
func TestTimeoutAfterRestart(t *testing.T) {
	for name, tc := range map[string]struct {
		begin func(ctx context.Context, c *Coordinator, id int64, epoch int16) *kerr.Error
		left  time.Duration
	}{
		"added": {func(ctx context.Context, c *Coordinator, id int64, epoch int16) *kerr.Error {
			return c.AddPartitions(ctx, "x", id, epoch, []TopicPartition{a}, true)
		}, 10 * time.Second},
		"joined": {func(ctx context.Context, c *Coordinator, id int64, epoch int16) *kerr.Error {
			return c.Join(ctx, "x", id, epoch, a)
		}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				c := run(t, w)
				id, epoch := mustInit(t, c, "x")
				if err := tc.begin(t.Context(), c, id, epoch); err != nil {
					t.Fatal(err)
				}
				c.Close()
				time.Sleep(50 * time.Second)
				w2 := w.crash(len(w.entries))
				w2.open = []OpenTxn{{a, id, epoch}}
				c = run(t, w2)
				defer c.Close()
				time.Sleep(tc.left - time.Second)
				if s := state(c, "x"); s != Ongoing {
					t.Fatalf("%v before its time", s)
				}
				time.Sleep(2 * time.Second)
				if s := state(c, "x"); s != CompleteAbort {
					t.Errorf("%v after its time", s)
				}
			})
		})
	}
}

// A clock that was set back while the broker was down does not keep a transaction open for longer than its timeout.
func TestTimeoutAfterTheClockWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := run(t, w)
		id, epoch := mustInit(t, c, "x")
		if err := c.AddPartitions(t.Context(), "x", id, epoch, []TopicPartition{a}, true); err != nil {
			t.Fatal(err)
		}
		x := c.get("x")
		x.mu.Lock()
		ahead := x.rec
		ahead.startMs = time.Now().Add(time.Hour).UnixMilli()
		err := x.storeLocked(ahead)
		x.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		w2 := w.crash(len(w.entries))
		w2.open = []OpenTxn{{a, id, epoch}}
		c = run(t, w2)
		defer c.Close()
		time.Sleep(61 * time.Second)
		if s := state(c, "x"); s != CompleteAbort {
			t.Errorf("%v a minute later", s)
		}
	})
}

func TestInitFences(t *testing.T) {
	w := newWorld()
	c := run(t, w)
	defer c.Close()
	id, epoch := mustInit(t, c, "x")
	mustJoin(t, c, "x", id, epoch, a)
	id2, epoch2 := mustInit(t, c, "x")
	if id2 != id || epoch2 <= epoch {
		t.Fatalf("new producer: %d epoch %d, the old one had %d epoch %d", id2, epoch2, id, epoch)
	}
	if m := w.written(); len(m) != 1 || m[0].commit {
		t.Errorf("markers %+v", m)
	}
	for _, commit := range []bool{true, false} { // an abort must not tell the zombie the new epoch
		if resp := c.EndTxn(t.Context(), endReq("x", id, epoch, commit, 5)); resp.ErrorCode != kerr.ProducerFenced.Code {
			t.Errorf("zombie ends (%v): %v", commit, kerr.ErrorForCode(resp.ErrorCode))
		}
	}
	if resp := c.InitProducerID(t.Context(), initReq("x", id, epoch)); resp.ErrorCode != kerr.ProducerFenced.Code {
		t.Errorf("zombie asks for its next epoch: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	if err := c.Join(t.Context(), "x", id, epoch, a); err != kerr.InvalidProducerEpoch {
		t.Errorf("zombie writes: %v", err)
	}
	// KIP-360: the owner may ask for its next epoch, and again if the answer is lost.
	first := c.InitProducerID(t.Context(), initReq("x", id2, epoch2))
	again := c.InitProducerID(t.Context(), initReq("x", id2, epoch2))
	if first.ErrorCode != 0 || again.ErrorCode != 0 || first.ProducerEpoch != epoch2+1 || again.ProducerEpoch != epoch2+1 {
		t.Errorf("owner: %+v, again %+v", first, again)
	}
	// The owner with a transaction open: aborted, one answer however often it asks.
	mustJoin(t, c, "x", id2, epoch2+1, a)
	first = c.InitProducerID(t.Context(), initReq("x", id2, epoch2+1))
	again = c.InitProducerID(t.Context(), initReq("x", id2, epoch2+1))
	if first.ErrorCode != 0 || first.ProducerEpoch != again.ProducerEpoch || state(c, "x") != CompleteAbort {
		t.Errorf("owner with a transaction open: %+v, again %+v, %v", first, again, state(c, "x"))
	}
}

// atLastEpoch is a producer id of x that has no epoch left, with a transaction open.
func atLastEpoch(t *testing.T, c *Coordinator) int64 {
	t.Helper()
	id, _ := mustInit(t, c, "x")
	x := c.get("x")
	x.mu.Lock()
	x.rec.epoch = math.MaxInt16 - 1
	x.mu.Unlock()
	mustJoin(t, c, "x", id, math.MaxInt16-1, a)
	return id
}

func TestEpochsUsedUp(t *testing.T) {
	w := newWorld()
	c := run(t, w)
	defer c.Close()
	id := atLastEpoch(t, c)
	id2, epoch2 := mustEnd(t, c, "x", id, math.MaxInt16-1, true)
	if id2 == id || epoch2 != 0 {
		t.Fatalf("producer %d epoch %d after the last epoch of %d", id2, epoch2, id)
	}
	await(t, "complete", func() bool { return state(c, "x") == CompleteCommit })
	if m := w.written(); len(m) != 1 || m[0].producerID != id || m[0].epoch != math.MaxInt16 {
		t.Errorf("markers %+v", m)
	}
	if again, epoch := mustEnd(t, c, "x", id, math.MaxInt16-1, true); again != id2 || epoch != 0 {
		t.Errorf("repeated: producer %d epoch %d", again, epoch)
	}
	mustJoin(t, c, "x", id2, 0, a)
	mustEnd(t, c, "x", id2, 0, true)
}

// A transaction at the last epoch that takes too long ends its producer id, too (KAFKA-20090): the owner is told to abort, and the
// abort gives it the next producer id.
func TestTimeoutUsesEpochsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := run(t, w)
		defer c.Close()
		id := atLastEpoch(t, c)
		time.Sleep(61 * time.Second)
		if m := w.written(); len(m) != 1 || m[0].commit || m[0].producerID != id || m[0].epoch != math.MaxInt16 {
			t.Errorf("markers %+v", m)
		}
		if err := c.Join(t.Context(), "x", id, math.MaxInt16-1, b); err != kerr.TransactionAbortable {
			t.Errorf("the owner goes on: %v", err)
		}
		if resp := c.EndTxn(t.Context(), endReq("x", id, math.MaxInt16-1, true, 5)); resp.ErrorCode != kerr.TransactionAbortable.Code {
			t.Errorf("commit: %v", kerr.ErrorForCode(resp.ErrorCode))
		}
		next, epoch := mustEnd(t, c, "x", id, math.MaxInt16-1, false)
		if next == id || epoch != 0 {
			t.Fatalf("the abort gives producer %d epoch %d after the last epoch of %d", next, epoch, id)
		}
		mustJoin(t, c, "x", next, epoch, a)
		if last, epoch := mustInit(t, c, "x"); last != next || epoch <= 0 {
			t.Errorf("the next owner is producer %d epoch %d, want a later one of %d", last, epoch, next)
		}
	})
}

func TestProducerIDsAreNeverReused(t *testing.T) {
	w := newWorld()
	seen := map[int64]bool{}
	for range 3 {
		c := run(t, w)
		for range blockSize + 10 {
			resp := c.InitProducerID(t.Context(), idempotentInit())
			if resp.ErrorCode != 0 || seen[resp.ProducerID] {
				t.Fatalf("producer id %d again (%d)", resp.ProducerID, resp.ErrorCode)
			}
			seen[resp.ProducerID] = true
		}
		c.Close()
		w = w.crash(len(w.entries))
	}
}

func TestDiskRefuses(t *testing.T) {
	w := newWorld()
	c := run(t, w)
	defer c.Close()
	id, epoch := mustInit(t, c, "x")
	mustJoin(t, c, "x", id, epoch, a)
	w.release(func() { w.refuse = true })
	if err := c.AddPartitions(t.Context(), "x", id, epoch, []TopicPartition{b}, true); err != kerr.CoordinatorNotAvailable {
		t.Errorf("add: %v", err)
	}
	if err := c.Verify("x", id, epoch, b, 12); err != kerr.TransactionAbortable {
		t.Errorf("a partition that could not be stored: %v", err)
	}
	if resp := c.EndTxn(t.Context(), endReq("x", id, epoch, true, 5)); resp.ErrorCode != kerr.CoordinatorNotAvailable.Code {
		t.Errorf("end: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	w.release(func() { w.refuse = false })
	mustEnd(t, c, "x", id, epoch, true)
}

func TestExpiredIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := run(t, w)
		defer c.Close()
		id, epoch := mustInit(t, c, "x")
		mustInit(t, c, "y")
		mustJoin(t, c, "x", id, epoch, a)
		mustEnd(t, c, "x", id, epoch, true)
		time.Sleep(3 * 24 * time.Hour)
		mustInit(t, c, "y")
		time.Sleep(5 * 24 * time.Hour)
		if c.get("x") != nil || c.get("y") == nil {
			t.Errorf("x %v, y %v; x has expired, y has not", c.get("x"), c.get("y"))
		}
		if d := c.Describe("x"); d.ErrorCode != kerr.TransactionalIDNotFound.Code {
			t.Errorf("describe: %+v", d)
		}
	})
}

// A transaction that used up the epochs is decided, and of the next one, which has a new producer id, only data reached the disk.
func TestRestartAfterEpochsUsedUp(t *testing.T) {
	w := newWorld()
	r := record{
		state: PrepareCommit, producerID: 7, prevID: none, nextID: 9, epoch: math.MaxInt16, lastEpoch: math.MaxInt16 - 1, version: 2,
		timeout: time.Minute, partitions: []TopicPartition{a}, startMs: time.Now().UnixMilli(), updatedMs: time.Now().UnixMilli(),
	}
	if _, err := w.Append([]journal.Entry{{Key: encodeKey("x"), Value: r.encode()}}); err != nil {
		t.Fatal(err)
	}
	w.open = []OpenTxn{{a, 9, 0}, {b, 9, 0}}
	c := run(t, w)
	defer c.Close()
	await(t, "adopted", func() bool { return state(c, "x") == Ongoing })
	if m := w.written(); len(m) != 1 || m[0].producerID != 7 || !m[0].commit {
		t.Errorf("markers %+v, want that of the transaction that was decided", m)
	}
	for _, tp := range []TopicPartition{a, b} {
		if err := c.Verify("x", 9, 0, tp, 12); err != nil {
			t.Errorf("%v: the adopted transaction does not go on: %v", tp, err)
		}
	}
	mustEnd(t, c, "x", 9, 0, true)
}
