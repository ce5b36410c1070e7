package session_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/streams/internal/failpoint"
	"github.com/leatstream/leat/streams/internal/session"
)

func TestCopyIsExactWhenRequestsFail(t *testing.T) {
	t.Parallel()
	c := startFake(t)
	tr := newTrial(t, c)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, worker := range []string{"a", "b"} {
		wg.Go(func() { tr.run(ctx, worker, nil) })
	}
	faults := []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.RequestTimedOut},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ProducerFenced},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.InvalidProducerEpoch},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.NotCoordinator, Count: 2},
		{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.IllegalGeneration, Count: 3},
		{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.UnknownMemberID},
		{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.UnknownServerError},
		{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.CoordinatorLoadInProgress, Count: 3},
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: tr.out, Err: kerr.NotLeaderForPartition},
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: tr.out, Err: kerr.OutOfOrderSequenceNumber},
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: tr.out, Err: kerr.UnknownServerError},
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: tr.out, Err: kerr.TransactionAbortable},
		{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ConcurrentTransactions, Count: 2},
		{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.RebalanceInProgress},
		{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID},
	}
	fed := make(chan struct{})
	tr.feed(100, time.Millisecond)
	wait(t, func() bool { return tr.commits.Load() > 0 })
	wg.Go(func() {
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for i := rand.IntN(len(faults)); ; i++ {
			h := c.fake.Fault(faults[i%len(faults)])
			select {
			case <-tick.C: // the fault has had its chance
				h.Remove()
			case <-fed:
				h.Remove()
				return
			}
		}
	})
	n := 100
	for enough := time.Now().Add(time.Minute); n < 10_000 || tr.reopens.Load() == 0; n += 1100 {
		if time.Now().After(enough) {
			t.Error("no session was reopened within a minute of faults")
			break
		}
		tr.feedFrom(n, n+1100, 350*time.Millisecond)
	}
	close(fed)
	tr.verify(n, time.Minute)
	stop()
	wg.Wait()
}

// A worker that stalls past its transaction's timeout comes back as a zombie: its transaction is gone, and it must notice. On a busy
// machine the time can be over before it has written all; then it learns it there.
func TestStalledTransactionIsDoneAgain(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		tr.feed(100, time.Millisecond)
		cfg := tr.config("a", nil)
		cfg.TransactionTimeout = 300 * time.Millisecond
		s, err := session.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		at, err := tr.work(t.Context(), s, 100)
		if err == nil {
			err = s.Flush(t.Context())
		}
		if err == nil {
			wait(t, func() bool { return !openTransaction(t, c, cfg.TransactionalID) })
			err = s.Commit(t.Context(), at)
		}
		if !session.Recoverable(err) {
			t.Fatalf("a transaction that timed out: %v, want a recoverable error", err)
		}
		s.Kill()
		s, at = tr.worked(tr.config("a", nil), 100)
		if err := s.Commit(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		s.Close()
		tr.verify(100, time.Minute)
	})
}

// Two processes with one identity: the older one is told so and must not commit.
func TestSecondProcessWithTheSameIdentityFencesTheFirst(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		tr.feed(100, time.Millisecond)
		first, firstAt := tr.worked(tr.config("a", nil), 100)
		defer first.Kill()
		second, secondAt := tr.worked(tr.config("a", nil), 100)
		defer second.Kill()
		if err := first.Commit(t.Context(), firstAt); err == nil {
			t.Error("the first one committed after the second had taken over")
		} else {
			var e *session.Error
			if !errors.As(err, &e) {
				t.Errorf("commit of the first: %v, want a session error", err)
			}
			t.Log(err)
		}
		if err := second.Commit(t.Context(), secondAt); err != nil {
			t.Errorf("the second one: %v", err)
		}
		tr.verify(100, time.Minute)
	})
}

func TestAtLeastOnceLosesNothingWhenMembersAreKilled(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		cl, err := kgo.NewClient(append([]kgo.Opt{kgo.ConsumeTopics(tr.out)}, c.opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		tr.feed(2000, time.Millisecond)
		cfg := tr.config("a", nil)
		cfg.TransactionalID = ""
		for crash := range 3 {
			s, at := tr.worked(cfg, 300)
			if crash == 2 {
				if err := s.Commit(t.Context(), at); err != nil {
					t.Fatal(err)
				}
			}
			s.Kill()
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			s, err := session.Open(ctx, cfg)
			if err != nil {
				t.Error(err)
				return
			}
			if err := tr.copy(ctx, s); err != nil {
				t.Error(err)
			}
			s.Close()
		})
		seen := map[uint64]bool{}
		deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for len(seen) < 2000 && deadline.Err() == nil {
			cl.PollFetches(deadline).EachRecord(func(r *kgo.Record) { seen[binary.BigEndian.Uint64(r.Value)] = true })
		}
		stop()
		wg.Wait()
		if len(seen) != 2000 {
			t.Errorf("%d of 2000 records arrived", len(seen))
		}
	})
}

func openTransaction(t *testing.T, c cluster, id string) bool {
	t.Helper()
	cl, err := kgo.NewClient(c.opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	return resp.TransactionStates[0].State == "Ongoing"
}

// wait polls until f is true.
func wait(t *testing.T, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		<-tick.C
	}
}

// A session that dies after its positions have joined a transaction leaves that open, and the positions unknown, for as long as
// the transaction may take. The next one of its name settles it before it joins, and does not wait.
func TestAnOpenTransactionIsSettledAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		tr.feed(100, time.Millisecond)
		crash := errors.New("crash")
		points := new(failpoint.Set)
		points.Arm(failpoint.OffsetsAdded, 1, func() error { return crash })
		for _, points := range []*failpoint.Set{points, nil} {
			cfg := tr.config("a", points)
			cfg.TransactionTimeout = 10 * time.Minute
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			s, err := session.Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			at, err := tr.work(ctx, s, 100)
			if err != nil {
				t.Fatalf("%v: the positions are not known", err)
			}
			if err := s.Commit(ctx, at); points == nil && err != nil || points != nil && !errors.Is(err, crash) {
				t.Fatal(err)
			}
			s.Kill()
		}
		tr.verify(100, 10*time.Second)
	})
}

// Records that nobody acknowledges hold the session for as long as their transaction lasts, and no longer. Without transactions they
// are not to arrive later either: by then the partitions may be somebody else's.
func TestRecordsThatAreNeverAcknowledgedEndTheSession(t *testing.T) {
	for _, transactions := range []bool{true, false} {
		t.Run(fmt.Sprintf("transactions=%v", transactions), func(t *testing.T) {
			t.Parallel()
			c := startFake(t)
			tr := newTrial(t, c)
			cfg := tr.config("a", nil)
			if cfg.TransactionTimeout = 300 * time.Millisecond; !transactions {
				cfg.TransactionalID, cfg.TransactionTimeout = "", 0
			}
			s, err := session.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Kill()
			var away atomic.Bool
			away.Store(true)
			c.fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				c.fake.KeepControl()
				return nil, errors.New("cut"), away.Load()
			})
			if err := s.Send(&kgo.Record{Topic: tr.out, Value: []byte("v")}, nil); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer time.AfterFunc(time.Minute, cancel).Stop()
			err = s.Commit(ctx, nil)
			if !session.Recoverable(err) || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("the commit returned %v, want a recoverable error when the time is over", err)
			}
			s.Kill()
			away.Store(false)
			cl, err := kgo.NewClient(c.opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), tr.out)
			if err := errors.Join(err, ends.Error()); err != nil {
				t.Fatal(err)
			}
			ends.Each(func(o kadm.ListedOffset) {
				if o.Offset != 0 {
					t.Errorf("%d records arrived on partition %d after the session was over", o.Offset, o.Partition)
				}
			})
		})
	}
}

// Without transactions the producer id is there before the first record, too: a client that has none keeps a processor busy with asking
// while the brokers are away.
func TestTheProducerIDIsThereBeforeTheFirstRecord(t *testing.T) {
	t.Parallel()
	c := startFake(t)
	var asked atomic.Int64
	c.fake.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		asked.Add(1)
		return nil, nil, false
	})
	cfg := newTrial(t, c).config("a", nil)
	cfg.TransactionalID = ""
	s, err := session.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if asked.Load() == 0 {
		t.Error("it was not asked for")
	}
}

// An application that may only read, and only reads, is not asked for the right to write.
func TestWhoOnlyReadsNeedsNoProducerID(t *testing.T) {
	t.Parallel()
	c := startFake(t)
	tr := newTrial(t, c)
	c.fake.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return resp, nil, true
	})
	cfg := tr.config("a", nil)
	cfg.TransactionalID = ""
	s, err := session.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
}

// A member that does not hear from its coordinator writes no changelogs, so that none is written by two when the group gives its
// partitions away.
func TestAMemberWithoutACoordinatorHasNoLease(t *testing.T) {
	t.Parallel()
	c := startFake(t)
	tr := newTrial(t, c)
	tr.feed(100, time.Millisecond)
	member := func(name, transactionalID string, timeout time.Duration) *session.Session {
		cfg := tr.config(name, nil)
		cfg.Group, cfg.TransactionalID, cfg.SessionTimeout = tr.group+name, transactionalID, timeout
		s, err := session.Open(t.Context(), cfg)
		if err == nil {
			_, err = tr.work(t.Context(), s, 100)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Kill)
		return s
	}
	long, short, fenced := member("long", "", 5*time.Minute), member("short", "", 6*time.Second), member("fenced", tr.group+"fenced", 6*time.Second)
	if err := long.Lease(t.Context()); err != nil {
		t.Errorf("a member that has a coordinator: %v", err)
	}
	c.fake.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		return nil, errors.New("cut"), true
	})
	wait(t, func() bool { return short.Lease(t.Context()) != nil })
	if err := short.Lease(t.Context()); !session.Recoverable(err) {
		t.Errorf("%v is not recoverable", err)
	}
	if err := fenced.Lease(t.Context()); err != nil {
		t.Errorf("a member whose transaction would be aborted: %v", err)
	}
}

// Where to read on when the log no longer has the position is not for the client to guess: the session ends, and the next one
// decides before it reads.
func TestAPositionThatTheLogDoesNotHaveEndsTheSession(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		tr.feed(100, time.Millisecond)
		s, err := session.Open(t.Context(), tr.config("a", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Kill()
		all := session.Partitions{tr.in: {0, 1, 2, 3}}
		for n := 0; n < 100; {
			fetches, err := s.Poll(t.Context(), 100)
			if err != nil {
				t.Fatal(err)
			}
			n += fetches.NumRecords()
		}
		for fed := 100; ; fed += 200 {
			s.Pause(all)
			tr.feedFrom(fed, fed+200, time.Millisecond)
			cut := kadm.Offsets{}
			for p := range tr.partitions {
				cut.AddOffset(tr.in, p, -1, -1)
			}
			if _, err := kadm.NewClient(s.Client()).DeleteRecords(t.Context(), cut); err != nil {
				t.Fatal(err)
			}
			s.Resume(all)
			came := 0
			for came == 0 {
				fetches, err := s.Poll(t.Context(), 1000)
				if errors.Is(err, kerr.OffsetOutOfRange) && session.Recoverable(err) {
					return
				}
				if err != nil {
					t.Fatalf("%v, want the error of a position that is gone", err)
				}
				came = fetches.NumRecords()
			}
			t.Logf("%d records came: their answer was on its way when the log was cut", came) // the positions behind them are there
		}
	})
}
