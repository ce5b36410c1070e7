package broker

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/leatstream/leat/internal/txnclient"
	"github.com/leatstream/leat/internal/vfs"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run the power-loss test with this seed only")
	seedsFlag = flag.Int("seeds", 3, "how many seeds the power-loss test tries")
)

// outcome of a transaction as its producer knows it.
type outcome int8

const (
	unknown outcome = iota
	committed
	aborted
)

// ledger is what the producers know: the outcome of each transaction, and of each offset commit outside of transactions.
type ledger struct {
	mu      sync.Mutex
	txns    map[string]outcome // "id/round/n"
	offsets map[string]int64   // group -> highest acknowledged plain commit
}

func (l *ledger) set(txn string, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.txns[txn] = o
}

func (l *ledger) snapshot() (map[string]outcome, map[string]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.txns), maps.Clone(l.offsets)
}

const powerPartitions = 3

// slowDisk takes a while for each sync of the files whose name contains slow, so that a crash finds other files ahead of them.
type slowDisk struct {
	vfs.FS
	slow string
}

type slowFile struct {
	vfs.File
	most time.Duration
}

func (d *slowDisk) Create(name string) (vfs.File, error) {
	f, err := d.FS.Create(name)
	return d.wrap(f, name), err
}

func (d *slowDisk) OpenReadWrite(name string) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name)
	return d.wrap(f, name), err
}

func (d *slowDisk) wrap(f vfs.File, name string) vfs.File {
	if f == nil || !strings.Contains(name, d.slow) {
		return f
	}
	return slowFile{f, 3 * time.Millisecond}
}

func (f slowFile) SyncData() error {
	wait := time.NewTimer(rand.N(f.most))
	<-wait.C
	return f.File.SyncData()
}

// transact is one producer: each transaction writes its name to every partition and commits its number as an offset.
func transact(ctx context.Context, b *Broker, l *ledger, id string, round int, rng *rand.Rand, opts []kgo.Opt) {
	cl, err := kgo.NewClient(append(append(inProcessOpts(b), kgo.TransactionalID(id), kgo.ProducerLinger(0), kgo.TransactionTimeout(500*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner())), opts...)...)
	if err != nil {
		return
	}
	defer cl.Close()
	for n := 1; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("%s/%d/%d", id, round, n)
		commit := rng.IntN(4) > 0
		l.set(name, unknown)
		if cl.BeginTransaction() != nil {
			return
		}
		var failed error
		var mu sync.Mutex
		for p := range powerPartitions {
			cl.Produce(ctx, &kgo.Record{Topic: "out", Partition: int32(p), Value: []byte(name)}, func(_ *kgo.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				failed = cmp.Or(failed, err)
			})
		}
		var early error
		if rng.IntN(2) == 0 { // one round for all, or one after the other
			early = cl.Flush(ctx)
		}
		err := commitInTxn(ctx, cl, "g-"+id, int64(round*1_000_000+n))
		flushed := cl.Flush(ctx)
		mu.Lock() // a flush that was cut off has left records that are still promised
		err = cmp.Or(failed, early, err, flushed)
		mu.Unlock()
		if err != nil || txnclient.End(ctx, cl, kgo.TransactionEndTry(commit)) != nil {
			return
		}
		if commit {
			l.set(name, committed)
		} else {
			l.set(name, aborted)
		}
	}
}

// commitInTxn commits an offset inside of the client's transaction, the way of its transaction version.
func commitInTxn(ctx context.Context, cl *kgo.Client, group string, offset int64) error {
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	txnID := cl.OptValue(kgo.TransactionalID).(string)
	if cl.OptValue(kgo.MaxVersions).(*kversion.Versions) != nil {
		add := kmsg.NewPtrAddOffsetsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = txnID, id, epoch, group
		resp, err := add.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return err
		}
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = txnID, group, id, epoch
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset = offset
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "in", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{rp}}}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// commitPlain is one client that commits rising offsets outside of transactions.
func commitPlain(ctx context.Context, b *Broker, l *ledger, round int) {
	cl, err := kgo.NewClient(inProcessOpts(b)...)
	if err != nil {
		return
	}
	defer cl.Close()
	for n := 1; ctx.Err() == nil; n++ {
		offset := int64(round*1_000_000 + n)
		resp, err := newCommit("plain", "in", 0, offset).RequestWith(ctx, cl)
		if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			return
		}
		l.mu.Lock()
		l.offsets["plain"] = offset
		l.mu.Unlock()
	}
}

// rewriteAlways shortens the coordinators' logs all the time.
func rewriteAlways(ctx context.Context, t *testing.T, b *Broker) {
	logs := b.rewriters()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, r := range logs {
			r.live = 0
			if err := r.run(ctx, 20); err != nil && ctx.Err() == nil {
				t.Errorf("shorten %s: %v", r.topic, err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Whatever was acknowledged before the power failed is there after it, transactions are whole, and offsets are committed exactly with
// the transactions they belong to. Each seed goes through several power cuts on the same data, during load.
func TestPowerLoss(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = nil
		for range *seedsFlag {
			seeds = append(seeds, rand.Uint64())
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			t.Logf("run again with -seed=%d", seed)
			powerLoss(t, seed)
		})
	}
}

func powerLoss(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewMem()
	ids := []string{"x", "y", "z"}
	all := map[string]outcome{} // of rounds that are over: what was found, to be found again
	for round := 1; round <= 4; round++ {
		disk := &slowDisk{FS: fs, slow: []string{"nothing", "", transactionsTopic, transactionsTopic, offsetsTopic, "out-1"}[rng.IntN(6)]}
		b, err := Start(t.Context(), Config{Dir: "/data", FS: disk, Flush: FlushAlways})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if round == 1 {
			createTopic(t, b, "out", powerPartitions)
			createTopic(t, b, "in", 1)
		} else {
			settle(t, b, ids, rng.IntN(2) == 0)
		}
		l := &ledger{txns: map[string]outcome{}, offsets: map[string]int64{"plain": -1}}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i, id := range ids {
			var opts []kgo.Opt
			if i == 0 || rng.IntN(4) == 0 {
				opts = append(opts, kgo.MaxVersions(kversion.V3_8_0()))
			}
			r := rand.New(rand.NewPCG(seed, uint64(round*10+i)))
			wg.Go(func() { transact(ctx, b, l, id, round, r, opts) })
		}
		wg.Go(func() { commitPlain(ctx, b, l, round) })
		wg.Go(func() { rewriteAlways(ctx, t, b) })
		load := time.NewTimer(time.Duration(5+rng.IntN(80)) * time.Millisecond)
		<-load.C
		known, offsets := l.snapshot() // what is acknowledged after this moment need not be there
		keep := []int{0, 50, 90, 100}[rng.IntN(4)]
		fs = fs.CrashClone(keep, rng)
		cancel()
		if err := b.Close(); err != nil {
			t.Fatalf("round %d: close: %v", round, err)
		}
		wg.Wait()
		maps.Copy(all, known)
		checkAfterPowerLoss(t, fs, round, ids, all, known, offsets, l, rng)
		if t.Failed() {
			return
		}
		fs = fs.CrashClone(100, rng) // the check itself leaves no trace: only the locks of its broker are gone
	}
}

// settle ends what the crash left open: new producers take over their ids, or nobody does and the timeout has to.
func settle(t *testing.T, b *Broker, ids []string, takeOver bool) {
	t.Helper()
	if takeOver {
		for _, id := range ids {
			cl := txnClient(t, b, id)
			if _, _, err := cl.ProducerID(within(t, time.Minute)); err != nil {
				t.Fatalf("take over %s: %v", id, err)
			}
			cl.Close()
		}
	}
	settledLSO(t, b, "out")
	settledLSO(t, b, offsetsTopic)
}

func checkAfterPowerLoss(t *testing.T, fs *vfs.Mem, round int, ids []string, all, known map[string]outcome, offsets map[string]int64, l *ledger, rng *rand.Rand) {
	t.Helper()
	b, err := Start(t.Context(), Config{Dir: "/data", FS: fs, Flush: FlushAlways, Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatalf("round %d: start after the power loss: %v", round, err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	settle(t, b, ids, rng.IntN(2) == 0)
	found := map[string]int{}
	for _, v := range readAll(t, b, "out", kgo.ReadCommitted()) {
		found[v]++
	}
	for name, o := range all {
		switch n := found[name]; {
		case n != 0 && n != powerPartitions:
			t.Errorf("round %d: transaction %s (%d) is torn: %d of %d records", round, name, o, n, powerPartitions)
		case o == committed && n == 0:
			t.Errorf("round %d: committed transaction %s is lost", round, name)
		case o == aborted && n != 0:
			t.Errorf("round %d: aborted transaction %s is visible", round, name)
		case n == 0:
			all[name] = aborted // whatever it is now, it stays
		default:
			all[name] = committed
		}
	}
	for name := range found {
		if _, ok := all[name]; ok {
			continue
		}
		l.mu.Lock()
		o, ok := l.txns[name] // begun after the snapshot, on disk before the crash
		l.mu.Unlock()
		if !ok || found[name] != powerPartitions || o == aborted {
			t.Errorf("round %d: transaction %s: %d records that nobody knows of (%d)", round, name, found[name], o)
		}
		all[name] = committed
	}
	r := dialRaw(t, b)
	for _, id := range ids {
		want := int64(-1)
		for name, n := range found {
			var round, number int64
			if n > 0 && strings.HasPrefix(name, id+"/") {
				if _, err := fmt.Sscanf(name[len(id):], "/%d/%d", &round, &number); err != nil {
					t.Fatal(err)
				}
				want = max(want, round*1_000_000+number)
			}
		}
		if got := fetchOffset(r, "g-"+id, "in", 0); got != want {
			t.Errorf("round %d: %s: offset %d, but the last committed transaction is %d", round, id, got, want)
		}
	}
	if got := fetchOffset(r, "plain", "in", 0); got < offsets["plain"] {
		t.Errorf("round %d: plain commit: offset %d, but %d was acknowledged", round, got, offsets["plain"])
	}
	t.Logf("round %d: %d transactions known, %d found", round, len(known), len(found))
}
