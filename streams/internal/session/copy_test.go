package session_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/broker/brokertest"
	"github.com/leatstream/leat/streams/internal/failpoint"
	"github.com/leatstream/leat/streams/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bootstrapVariable names brokers to run against in place of the ones that the test starts, host:port with commas.
const bootstrapVariable = "LEAT_TEST_BOOTSTRAP"

func logger(t *testing.T) *slog.Logger {
	if os.Getenv("LEAT_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// cluster is something to run against.
type cluster struct {
	opts []kgo.Opt
	fake *kfake.Cluster // nil if it is not kfake
}

func startFake(t *testing.T) cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return cluster{opts: []kgo.Opt{kgo.SeedBrokers(fake.ListenAddrs()...)}, fake: fake}
}

func startBroker(t *testing.T) cluster {
	t.Helper()
	br := brokertest.Start(t, broker.Config{Listen: []string{"127.0.0.1:0"}, Logger: logger(t).With("part", "broker")})
	return cluster{opts: []kgo.Opt{kgo.SeedBrokers(br.Addr())}}
}

func external(t *testing.T) cluster {
	t.Helper()
	addrs := os.Getenv(bootstrapVariable)
	if addrs == "" {
		t.Skipf("%s is not set", bootstrapVariable)
	}
	return cluster{opts: []kgo.Opt{kgo.SeedBrokers(strings.Split(addrs, ",")...)}}
}

// trial is one run: a copy of topic in to topic out by members that come, go, crash and lose connections.
type trial struct {
	t          *testing.T
	c          cluster
	in, out    string
	group      string
	partitions int32
	log        *slog.Logger
	cutEvery   int // one answer in so many is lost; 0: never
	static     bool
	timeout    time.Duration // of transactions; 0: as Config says

	copied  atomic.Int64
	commits atomic.Int64
	reopens atomic.Int64
	crashes atomic.Int64
	cuts    atomic.Int64
}

var trials atomic.Int64

func newTrial(t *testing.T, c cluster) *trial {
	t.Helper()
	id := fmt.Sprintf("%d-%d-%d", os.Getpid(), time.Now().UnixMilli(), trials.Add(1))
	tr := &trial{t: t, c: c, in: "in-" + id, out: "out-" + id, group: "copy-" + id, partitions: 4, log: logger(t), static: true}
	cl, err := kgo.NewClient(c.opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	resps, err := kadm.NewClient(cl).CreateTopics(t.Context(), tr.partitions, 1, nil, tr.in, tr.out)
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// feed writes the numbers 0..n-1 to the input, in bursts, so that the copying is under way while it writes.
func (tr *trial) feed(n int, over time.Duration) { tr.feedFrom(0, n, over) }

func (tr *trial) feedFrom(from, n int, over time.Duration) {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(tr.in)}, tr.c.opts...)...)
	if err != nil {
		tr.t.Error(err)
		return
	}
	defer cl.Close()
	const burst = 100
	tick := time.NewTicker(max(over/time.Duration(max(n/burst, 1)), time.Microsecond))
	defer tick.Stop()
	for i := from; i < n; i++ {
		if i%burst == 0 {
			<-tick.C
		}
		cl.Produce(context.Background(), &kgo.Record{Partition: int32(i) % tr.partitions, Value: binary.BigEndian.AppendUint64(nil, uint64(i))}, func(_ *kgo.Record, err error) {
			if err != nil {
				tr.t.Error(err)
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		tr.t.Error(err)
	}
}

// cutConn loses answers: now and then it breaks when the answer to a request that matters arrives, so that what was asked
// is done and nobody knows.
type cutConn struct {
	net.Conn
	every int
	cut   atomic.Bool
	cuts  *atomic.Int64
}

func (c *cutConn) Write(p []byte) (int, error) {
	if len(p) >= 6 {
		switch kmsg.Key(binary.BigEndian.Uint16(p[4:])) {
		case kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.OffsetCommit, kmsg.Produce, kmsg.AddOffsetsToTxn, kmsg.InitProducerID:
			if rand.IntN(c.every) == 0 {
				c.cut.Store(true)
			}
		}
	}
	return c.Conn.Write(p)
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.cut.Load() {
		c.cuts.Add(1)
		c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func (tr *trial) config(worker string, fp *failpoint.Set) session.Config {
	cfg := session.Config{
		Group: tr.group, Topics: []string{tr.in}, Balancer: kgo.CooperativeStickyBalancer(),
		TransactionalID: tr.group + "-" + worker, HeartbeatInterval: 50 * time.Millisecond, SessionTimeout: time.Minute, // nobody is away for good
		Client: tr.c.opts, Logger: tr.log.With("worker", worker), Failpoints: fp, TransactionTimeout: tr.timeout,
	}
	if tr.static {
		cfg.InstanceID = worker
	}
	if tr.cutEvery > 0 {
		dialer := &net.Dialer{Timeout: 5 * time.Second}
		cfg.Client = append(append([]kgo.Opt{}, tr.c.opts...), kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, host)
			if err != nil {
				return nil, err
			}
			return &cutConn{Conn: conn, every: tr.cutEvery, cuts: &tr.cuts}, nil
		}))
	}
	return cfg
}

var errCrash = errors.New("crash")

// run copies as one worker until ctx is done. armed arms the failpoints of each life; nil never crashes.
func (tr *trial) run(ctx context.Context, worker string, armed func(*failpoint.Set)) {
	for ctx.Err() == nil {
		fp := &failpoint.Set{}
		if armed != nil {
			armed(fp)
		}
		s, err := session.Open(ctx, tr.config(worker, fp))
		if err != nil {
			if ctx.Err() == nil && !session.Recoverable(err) {
				tr.t.Errorf("%s: open: %v", worker, err)
				return
			}
			continue
		}
		err = tr.copy(ctx, s)
		switch {
		case err == nil:
			s.Close()
		case errors.Is(err, errCrash):
			tr.crashes.Add(1)
			s.Kill()
		case session.Recoverable(err):
			tr.reopens.Add(1)
			tr.log.Info("reopen", "worker", worker, "err", err)
			s.Kill()
		default:
			s.Kill()
			tr.t.Errorf("%s: %v", worker, err)
			return
		}
	}
}

// copy is the loop of a worker. Only positions of what it owns and has processed are committed.
func (tr *trial) copy(ctx context.Context, s *session.Session) error {
	at := session.Positions{}
	moved := false
	next := time.Now().Add(20 * time.Millisecond)
	for {
		pollCtx, cancel := context.WithDeadline(ctx, next)
		fetches, err := s.Poll(pollCtx, 500)
		cancel()
		if err != nil {
			return err
		}
		for _, c := range s.Changes() {
			for topic, ps := range c.Revoked {
				for _, p := range ps {
					delete(at[topic], p)
				}
			}
		}
		var sendErr error
		fetches.EachPartition(func(ftp kgo.FetchTopicPartition) {
			for _, r := range ftp.Records {
				at.Set(ftp.Topic, ftp.Partition, session.Position{Offset: r.Offset + 1, Epoch: r.LeaderEpoch})
				moved = true
				if r.Attrs.IsControl() {
					continue
				}
				tr.copied.Add(1)
				if err := s.Send(&kgo.Record{Topic: tr.out, Partition: r.Partition, Value: r.Value}, nil); err != nil && sendErr == nil {
					sendErr = err
				}
			}
		})
		if sendErr != nil {
			return sendErr
		}
		if now := time.Now(); now.Before(next) && !s.RebalanceWanted() && ctx.Err() == nil {
			continue
		}
		if moved {
			for topic := range at {
				if len(at[topic]) == 0 {
					delete(at, topic)
				}
			}
			if err := s.Commit(context.WithoutCancel(ctx), at); err != nil {
				return err
			}
			tr.commits.Add(1)
			moved = false
		}
		if ctx.Err() != nil {
			return nil
		}
		s.AllowRebalance()
		next = time.Now().Add(20 * time.Millisecond)
	}
}

// work copies n records, or more, and returns the positions after them, for the caller to commit.
func (tr *trial) work(ctx context.Context, s *session.Session, n int) (session.Positions, error) {
	at := session.Positions{}
	for read := 0; read < n; {
		fetches, err := s.Poll(ctx, 100)
		if err != nil || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		for r := range fetches.RecordsAll() {
			read++
			at.Set(r.Topic, r.Partition, session.Position{Offset: r.Offset + 1, Epoch: -1})
			if err := s.Send(&kgo.Record{Topic: tr.out, Partition: r.Partition, Value: r.Value}, nil); err != nil {
				return nil, err
			}
		}
	}
	return at, nil
}

// worked is a new session that has copied n records, or more.
func (tr *trial) worked(cfg session.Config, n int) (*session.Session, session.Positions) {
	tr.t.Helper()
	s, err := session.Open(tr.t.Context(), cfg)
	if err != nil {
		tr.t.Fatal(err)
	}
	at, err := tr.work(tr.t.Context(), s, n)
	if err != nil {
		tr.t.Fatal(err)
	}
	return s, at
}

// verify waits until n committed records are in the output and checks that each number is there once, in order.
func (tr *trial) verify(n int, within time.Duration) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.ConsumeTopics(tr.out), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100 * time.Millisecond)}, tr.c.opts...)...)
	if err != nil {
		tr.t.Fatal(err)
	}
	defer cl.Close()
	seen := make([]int, n)
	last := make([]int64, tr.partitions)
	for i := range last {
		last[i] = -1
	}
	var got, dup, disorder int
	read := func(ctx context.Context) {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			i := int64(binary.BigEndian.Uint64(r.Value))
			if seen[i]++; seen[i] == 1 {
				got++
			} else {
				dup++
			}
			if i <= last[r.Partition] {
				disorder++
			}
			last[r.Partition] = i
		})
	}
	for got < n && ctx.Err() == nil {
		read(ctx)
	}
	tail, stop := context.WithTimeout(context.Background(), 300*time.Millisecond) // what comes too much comes late
	for tail.Err() == nil {
		read(tail)
	}
	stop()
	tr.t.Logf("%d records: %d missing, %d twice, %d out of order; copied %d, %d commits, %d reopened, %d crashed, %d answers lost",
		n, n-got, dup, disorder, tr.copied.Load(), tr.commits.Load(), tr.reopens.Load(), tr.crashes.Load(), tr.cuts.Load())
	if got != n || dup > 0 || disorder > 0 {
		tr.t.Errorf("output is not the input: %d missing, %d twice, %d out of order", n-got, dup, disorder)
	}
}

func onEach(t *testing.T, f func(t *testing.T, c cluster)) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) cluster{"kfake": startFake, "leat": startBroker, "external": external} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, start(t))
		})
	}
}

func TestCopyIsExactWithoutFaults(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { tr.run(ctx, "a", nil) })
		tr.feed(5000, 200*time.Millisecond)
		tr.verify(5000, time.Minute)
		stop()
		wg.Wait()
		if tr.reopens.Load() > 0 {
			t.Errorf("%d sessions were reopened, want none", tr.reopens.Load())
		}
	})
}

func TestCopyIsExactWhenMembersAreKilledBetweenAnyTwoSteps(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		points := []string{failpoint.ProducerFlushed, failpoint.OffsetsAdded, failpoint.TxnEnded}
		for _, worker := range []string{"a", "b"} {
			var life int
			wg.Go(func() {
				tr.run(ctx, worker, func(fp *failpoint.Set) {
					fp.Arm(points[life%len(points)], 1+rand.IntN(5), func() error { return errCrash })
					life++
				})
			})
		}
		fed := 0
		for enough := time.Now().Add(time.Minute); fed < 10000 || tr.crashes.Load() < 3; fed += 2000 {
			if time.Now().After(enough) {
				t.Errorf("only %d crashes within a minute of records", tr.crashes.Load())
				break
			}
			tr.feedFrom(fed, fed+2000, 300*time.Millisecond)
		}
		tr.verify(fed, time.Minute)
		stop()
		wg.Wait()
	})
}

func TestCopyIsExactWhenMembersComeAndGo(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		tr.static = false
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { tr.run(ctx, "stays", nil) })
		for _, worker := range []string{"b", "c"} {
			wg.Go(func() {
				for ctx.Err() == nil {
					visit, leave := context.WithTimeout(ctx, time.Duration(200+rand.IntN(400))*time.Millisecond)
					tr.run(visit, worker, nil)
					leave()
				}
			})
		}
		tr.feed(10000, 1500*time.Millisecond)
		tr.verify(10000, time.Minute)
		stop()
		wg.Wait()
	})
}

func TestCopyIsExactWhenAnswersAreLost(t *testing.T) {
	onEach(t, func(t *testing.T, c cluster) {
		tr := newTrial(t, c)
		tr.cutEvery = 10
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, worker := range []string{"a", "b"} {
			wg.Go(func() { tr.run(ctx, worker, nil) })
		}
		tr.feed(5000, 1500*time.Millisecond)
		tr.verify(5000, time.Minute)
		stop()
		wg.Wait()
	})
}
