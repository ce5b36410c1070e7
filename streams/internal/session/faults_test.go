package session_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

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

// A worker that stalls past its transaction's timeout comes back as a zombie: its transaction is gone, and it must notice.
func TestStalledTransactionIsDoneAgain(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		tr.feed(100, time.Millisecond)
		cfg := tr.config("a", nil)
		cfg.TransactionTimeout = 300 * time.Millisecond
		stalled := false
		for attempt := 0; ; attempt++ {
			s, err := session.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			at := session.Positions{}
			for n := 0; n < 100; {
				fetches, err := s.Poll(t.Context(), 100)
				if err != nil {
					t.Fatal(err)
				}
				fetches.EachRecord(func(r *kgo.Record) {
					n++
					at.Set(r.Topic, r.Partition, session.Position{Offset: r.Offset + 1, Epoch: -1})
					if err := s.Send(&kgo.Record{Topic: tr.out, Partition: r.Partition, Value: r.Value}, nil); err != nil {
						t.Fatal(err)
					}
				})
			}
			if !stalled {
				stalled = true
				if err := s.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				wait(t, func() bool { return !openTransaction(t, c, cfg.TransactionalID) })
				err := s.Commit(t.Context(), at)
				if !session.Recoverable(err) {
					t.Fatalf("commit of a transaction that timed out: %v, want a recoverable error", err)
				}
				s.Kill()
				continue
			}
			if err := s.Commit(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			s.Close()
			break
		}
		tr.verify(100, time.Minute)
	})
}

// Two processes with one identity: the older one is told so and must not commit.
func TestSecondProcessWithTheSameIdentityFencesTheFirst(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		tr.feed(100, time.Millisecond)
		work := func() (*session.Session, session.Positions) {
			s, err := session.Open(t.Context(), tr.config("a", nil))
			if err != nil {
				t.Fatal(err)
			}
			at := session.Positions{}
			for n := 0; n < 100; {
				fetches, err := s.Poll(t.Context(), 100)
				if err != nil {
					t.Fatal(err)
				}
				fetches.EachRecord(func(r *kgo.Record) {
					n++
					at.Set(r.Topic, r.Partition, session.Position{Offset: r.Offset + 1, Epoch: -1})
					if err := s.Send(&kgo.Record{Topic: tr.out, Partition: r.Partition, Value: r.Value}, nil); err != nil {
						t.Fatal(err)
					}
				})
			}
			return s, at
		}
		first, firstAt := work()
		defer first.Kill()
		second, secondAt := work()
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
			s, err := session.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			at, n := session.Positions{}, 0
			for n < 300 {
				fetches, err := s.Poll(t.Context(), 100)
				if err != nil {
					t.Fatal(err)
				}
				fetches.EachRecord(func(r *kgo.Record) {
					n++
					at.Set(r.Topic, r.Partition, session.Position{Offset: r.Offset + 1, Epoch: -1})
					if err := s.Send(&kgo.Record{Topic: tr.out, Partition: r.Partition, Value: r.Value}, nil); err != nil {
						t.Fatal(err)
					}
				})
			}
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
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			s, err := session.Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			at := session.Positions{}
			for n := 0; n < 100; {
				fetches, err := s.Poll(ctx, 100)
				if err != nil || ctx.Err() != nil {
					t.Fatalf("%d records were read (%v, %v): the positions are not known", n, err, ctx.Err())
				}
				fetches.EachRecord(func(r *kgo.Record) {
					n++
					at.Set(r.Topic, r.Partition, session.Position{Offset: r.Offset + 1, Epoch: -1})
					if err := s.Send(&kgo.Record{Topic: tr.out, Partition: r.Partition, Value: r.Value}, nil); err != nil {
						t.Fatal(err)
					}
				})
			}
			if err := s.Commit(ctx, at); points == nil && err != nil || points != nil && !errors.Is(err, crash) {
				t.Fatal(err)
			}
			s.Kill()
		}
		tr.verify(100, 10*time.Second)
	})
}
