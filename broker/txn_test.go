package broker

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/leatstream/leat/internal/txnclient"
	"github.com/leatstream/leat/internal/vfs"
)

// bothVersions runs a test with clients of transaction version 2 and 1.
func bothVersions(t *testing.T, f func(t *testing.T, opts []kgo.Opt)) {
	t.Run("tv2", func(t *testing.T) { f(t, nil) })
	t.Run("tv1", func(t *testing.T) { f(t, []kgo.Opt{kgo.MaxVersions(kversion.V3_8_0())}) })
}

// readAll reads a topic to its end and returns the values, sorted.
func readAll(t testing.TB, b *Broker, topic string, level kgo.IsolationLevel) []string {
	t.Helper()
	end := int64(0)
	tp := b.topic(topic)
	for _, l := range tp.parts {
		if level == kgo.ReadCommitted() {
			end += l.Bounds().LastStable
		} else {
			end += l.Bounds().HighWatermark
		}
	}
	if end == 0 {
		return nil
	}
	cl := newClient(t, inProcessOpts(b), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	defer cl.Close()
	var values []string
	next := make([]int64, len(tp.parts))
	ctx := within(t, time.Minute)
	for {
		sum := int64(0)
		for _, n := range next {
			sum += n
		}
		if sum >= end {
			break
		}
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("reading %s stands at %v of %d", topic, next, end)
		}
		fs.EachRecord(func(r *kgo.Record) {
			next[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
		})
		if level == kgo.ReadCommitted() { // aborted records at the end are skipped without a word
			if len(fs.Errors()) == 0 && fs.NumRecords() == 0 {
				break
			}
		}
	}
	sort.Strings(values)
	return values
}

func settledLSO(t testing.TB, b *Broker, topic string) {
	t.Helper()
	eventually(t, "no transaction is open", func() bool {
		for _, l := range b.topic(topic).parts {
			if bounds := l.Bounds(); bounds.LastStable != bounds.End {
				return false
			}
		}
		return true
	})
}

func produceTxn(t testing.TB, cl *kgo.Client, topic string, values ...string) {
	t.Helper()
	for i, v := range values {
		cl.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: int32(i), Value: []byte(v)}, nil)
	}
	if err := cl.Flush(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func txnClient(t testing.TB, b *Broker, id string, opts ...kgo.Opt) *kgo.Client {
	return newClient(t, inProcessOpts(b), append([]kgo.Opt{kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
}

func begin(t testing.TB, cl *kgo.Client) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatalf("begin: %v", err)
	}
}

func end(t testing.TB, cl *kgo.Client, commit kgo.TransactionEndTry) {
	t.Helper()
	if err := txnclient.End(within(t, time.Minute), cl, commit); err != nil {
		t.Fatalf("end: %v", err)
	}
}

func TestTransactions(t *testing.T) {
	bothVersions(t, func(t *testing.T, opts []kgo.Opt) {
		b := start(t, func(c *Config) { c.Flush = FlushAlways })
		createTopic(t, b, "out", 3)
		cl := txnClient(t, b, "x", opts...)
		for i := range 6 {
			begin(t, cl)
			produceTxn(t, cl, "out", fmt.Sprintf("%d-a", i), fmt.Sprintf("%d-b", i), fmt.Sprintf("%d-c", i))
			end(t, cl, kgo.TransactionEndTry(i%2 == 0))
		}
		settledLSO(t, b, "out")
		want := "0-a 0-b 0-c 2-a 2-b 2-c 4-a 4-b 4-c"
		if got := strings.Join(readAll(t, b, "out", kgo.ReadCommitted()), " "); got != want {
			t.Errorf("read_committed: %s, want %s", got, want)
		}
		if got := readAll(t, b, "out", kgo.ReadUncommitted()); len(got) != 18 {
			t.Errorf("read_uncommitted: %d records, want 18", len(got))
		}
	})
}

func TestOpenTransactionIsInvisible(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "out", 2)
	cl := txnClient(t, b, "x")
	begin(t, cl)
	produceTxn(t, cl, "out", "a", "b")
	if got := readAll(t, b, "out", kgo.ReadCommitted()); len(got) != 0 {
		t.Errorf("read_committed sees %v of an open transaction", got)
	}
	end(t, cl, kgo.TryCommit)
	settledLSO(t, b, "out")
	if got := readAll(t, b, "out", kgo.ReadCommitted()); len(got) != 2 {
		t.Errorf("read_committed sees %v after the commit", got)
	}
}

func TestNewProducerFencesOldOne(t *testing.T) {
	bothVersions(t, func(t *testing.T, opts []kgo.Opt) {
		b := start(t, nil)
		createTopic(t, b, "out", 2)
		old := txnClient(t, b, "x", opts...)
		begin(t, old)
		produceTxn(t, old, "out", "old")
		fresh := txnClient(t, b, "x", opts...)
		begin(t, fresh) // aborts what the old one had open
		produceTxn(t, fresh, "out", "new")
		err := old.ProduceSync(within(t, time.Minute), &kgo.Record{Topic: "out", Value: []byte("zombie")}).FirstErr()
		if err == nil {
			t.Error("the old producer still writes")
		}
		if err := old.EndTransaction(within(t, time.Minute), kgo.TryCommit); err == nil {
			t.Error("the old producer still commits")
		}
		end(t, fresh, kgo.TryCommit)
		settledLSO(t, b, "out")
		if got := strings.Join(readAll(t, b, "out", kgo.ReadCommitted()), " "); got != "new" {
			t.Errorf("read_committed: %q, want new", got)
		}
	})
}

func TestTransactionTimesOut(t *testing.T) {
	bothVersions(t, func(t *testing.T, opts []kgo.Opt) {
		synctest.Test(t, func(t *testing.T) { // on virtual time: a busy machine is no transaction that takes too long
			b := startWith(t, Config{Dir: "/data", FS: vfs.NewMem()})
			createTopic(t, b, "out", 1)
			cl := txnClient(t, b, "x", append(opts, kgo.TransactionTimeout(200*time.Millisecond))...)
			begin(t, cl)
			produceTxn(t, cl, "out", "late")
			settledLSO(t, b, "out")
			err := cl.ProduceSync(within(t, time.Minute), &kgo.Record{Topic: "out", Value: []byte("too late")}).FirstErr()
			if err == nil {
				t.Error("a producer goes on in a transaction that was aborted")
			}
			end(t, cl, kgo.TryAbort) // it is the owner still: it recovers without a restart
			begin(t, cl)
			produceTxn(t, cl, "out", "again")
			end(t, cl, kgo.TryCommit)
			settledLSO(t, b, "out")
			if got := strings.Join(readAll(t, b, "out", kgo.ReadCommitted()), " "); got != "again" {
				t.Errorf("read_committed: %q, want again", got)
			}
		})
	})
}

func TestTransactionalOffsets(t *testing.T) {
	bothVersions(t, func(t *testing.T, opts []kgo.Opt) {
		b := start(t, nil)
		createTopic(t, b, "in", 1)
		createTopic(t, b, "out", 1)
		produceEach(t, b, "in", 1, 0, 10)
		s, err := kgo.NewGroupTransactSession(append(append(inProcessOpts(b), kgo.TransactionalID("x"), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RequireStableFetchOffsets()), opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ctx := within(t, time.Minute)
		n := 0
		for n < 10 {
			fs := s.PollFetches(ctx)
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
			if err := s.Begin(); err != nil {
				t.Fatal(err)
			}
			fs.EachRecord(func(r *kgo.Record) {
				s.Produce(ctx, &kgo.Record{Topic: "out", Value: r.Value}, nil)
				n++
			})
			committed, err := s.End(ctx, kgo.TryCommit)
			if err != nil || !committed {
				t.Fatalf("end: %v %v", committed, err)
			}
		}
		if o := fetchOffset(dialRaw(t, b), "g", "in", 0); o != 10 {
			t.Errorf("committed offset %d, want 10", o)
		}
		settledLSO(t, b, "out")
		if got := readAll(t, b, "out", kgo.ReadCommitted()); len(got) != 10 {
			t.Errorf("%d records, want 10", len(got))
		}
	})
}

func TestEndTxnMayBeRepeated(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "out", 1)
	cl := txnClient(t, b, "x")
	begin(t, cl)
	produceTxn(t, cl, "out", "a")
	id, epoch, err := cl.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := dialRaw(t, b)
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = "x", id, epoch, true
	for range 3 {
		resp := do[*kmsg.EndTxnResponse](r, req, 5)
		if resp.ErrorCode != 0 || resp.ProducerID != id || resp.ProducerEpoch != epoch+1 {
			t.Fatalf("EndTxn: %v, now %d epoch %d", kerr.ErrorForCode(resp.ErrorCode), resp.ProducerID, resp.ProducerEpoch)
		}
	}
	req.Commit = false
	if resp := do[*kmsg.EndTxnResponse](r, req, 5); resp.ErrorCode != kerr.InvalidTxnState.Code {
		t.Errorf("abort of what was committed: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	_ = cl.EndTransaction(context.Background(), kgo.TryAbort)
}

func TestTransactionErrors(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "out", 1)
	r := dialRaw(t, b)
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis = kmsg.StringPtr("x"), int32(time.Hour.Milliseconds())
	if resp := do[*kmsg.InitProducerIDResponse](r, init, 4); resp.ErrorCode != kerr.InvalidTransactionTimeout.Code {
		t.Errorf("timeout of an hour: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	init.TransactionTimeoutMillis = 10_000
	p := do[*kmsg.InitProducerIDResponse](r, init, 4)
	if p.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(p.ErrorCode))
	}
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = "x", p.ProducerID, p.ProducerEpoch
	add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "out", Partitions: []int32{0, 9}}}
	got := do[*kmsg.AddPartitionsToTxnResponse](r, add, 3).Topics[0].Partitions
	if got[0].ErrorCode != kerr.OperationNotAttempted.Code || got[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("one partition is unknown: %+v", got)
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "x", p.ProducerID, p.ProducerEpoch, true
	for version, want := range map[int16]*kerr.Error{4: kerr.InvalidTxnState, 5: kerr.InvalidTxnState} {
		if resp := do[*kmsg.EndTxnResponse](r, end, version); resp.ErrorCode != want.Code {
			t.Errorf("v%d commit of nothing: %v", version, kerr.ErrorForCode(resp.ErrorCode))
		}
	}
	end.ProducerEpoch++
	if resp := do[*kmsg.EndTxnResponse](r, end, 5); resp.ErrorCode != kerr.ProducerFenced.Code {
		t.Errorf("wrong epoch: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	end.TransactionalID = "nobody"
	if resp := do[*kmsg.EndTxnResponse](r, end, 5); !errors.Is(kerr.ErrorForCode(resp.ErrorCode), kerr.InvalidProducerIDMapping) {
		t.Errorf("unknown id: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
}

// A commit costs two syncs, of the data and of the decision; the marker goes with the next data, or alone if that is late.
func TestCommitCostsTwoSyncs(t *testing.T) {
	for name, tc := range map[string]struct {
		pause time.Duration
		want  int64
	}{"one after the other": {0, 2}, "now and then": {5 * time.Millisecond, 3}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var syncs atomic.Int64
				disk := &vfs.Faulty{FS: vfs.NewMem()}
				disk.Fail(func(op vfs.Op, name string) error {
					if op == vfs.OpSync && (strings.Contains(name, "/out-0/") || strings.Contains(name, transactionsTopic)) {
						syncs.Add(1)
					}
					return nil
				})
				b, err := Start(t.Context(), Config{Dir: "/data", FS: disk, Flush: FlushAlways})
				if err != nil {
					t.Fatal(err)
				}
				createTopic(t, b, "out", 1)
				cl := txnClient(t, b, "x", kgo.ProducerLinger(0))
				const commits = 50
				for i := range commits + 2 { // the first are of version 0
					if i == 2 {
						syncs.Store(0)
					}
					begin(t, cl)
					produceTxn(t, cl, "out", "v")
					end(t, cl, kgo.TryCommit)
					time.Sleep(tc.pause)
				}
				if n := syncs.Load(); n != commits*tc.want {
					t.Errorf("%d syncs for %d commits, want %d", n, commits, commits*tc.want)
				}
				cl.Close()
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
