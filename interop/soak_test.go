//go:build interop

package interop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/internal/txnclient"
)

const (
	brokerDirEnv  = "LEAT_SOAK_BROKER_DIR"
	brokerAddrEnv = "LEAT_SOAK_BROKER_ADDR"
	// soakTimeEnv is how long the soak kills, as a duration: 20s unless it is set.
	soakTimeEnv = "LEAT_SOAK"

	soakPartitions = 4
	soakGroups     = 2
	soakKeys       = 2000 // a megabyte on the compacted topic, of which most is in closed segments
)

// serveSoakBroker is the child: a broker that serves until its parent kills it, or is gone.
func serveSoakBroker(dir string) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	_, err := broker.Start(context.Background(), broker.Config{
		Dir: dir, Listen: []string{os.Getenv(brokerAddrEnv)}, CompactionInterval: 200 * time.Millisecond,
		ConsumerHeartbeatInterval: 200 * time.Millisecond, Logger: logger,
	})
	if err != nil {
		logger.Error("start", "error", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// soak is the run: a broker that is killed again and again, and what its clients know.
type soak struct {
	t    *testing.T
	addr string
	dir  string
	cmd  *exec.Cmd
	hold io.Closer // the child's standard input

	stop  chan struct{} // closed when the load is to end
	cuts  chan *cut     // the killer's wish to cut a transaction off, for the next one that ends
	kills int

	mu      sync.Mutex // protects following fields
	events  map[string]*stream
	txns    map[string]outcome
	keys    map[string]int             // last acknowledged number of each key of the compacted topic
	commits map[string]map[int32]int64 // group -> partition -> last acknowledged commit
}

// stream is what one idempotent producer has sent to one partition: numbers from 1 on, in order.
type stream struct {
	sent  int
	acked map[int]bool
}

// outcome of a transaction as its producer knows it.
type outcome string

const (
	unknown   outcome = "unknown"
	cutOff    outcome = "cut off" // unknown too: the broker was killed before its answer to the end of the transaction arrived
	committed outcome = "committed"
	aborted   outcome = "aborted"
)

// TestSoak loads a broker, kills it with SIGKILL every few seconds, and then compares what is there with what was acknowledged: no
// acknowledged record is lost, doubled or out of order, nothing of an aborted transaction is visible, every transaction is whole,
// committed offsets are neither lost nor ahead of the log, and a compacted topic has every key's last value.
func TestSoak(t *testing.T) {
	length := 20 * time.Second
	if text := os.Getenv(soakTimeEnv); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", soakTimeEnv, err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d, %v", seed, length)
	s := &soak{
		t: t, addr: freeAddr(t), dir: filepath.Join(t.TempDir(), "data"), stop: make(chan struct{}), cuts: make(chan *cut),
		events: map[string]*stream{}, txns: map[string]outcome{}, keys: map[string]int{}, commits: map[string]map[int32]int64{},
	}
	s.start()
	t.Cleanup(func() { s.kill() })
	s.createTopics()
	var load sync.WaitGroup
	for i := range 2 {
		load.Go(func() { s.produceEvents(fmt.Sprint("p", i)) })
		patience := []time.Duration{10 * time.Second, 200 * time.Millisecond}[i] // who gives up leaves transactions whose outcome it does not know
		load.Go(func() { s.transact(fmt.Sprint("x", i), patience) })
	}
	load.Go(func() { s.produceKeys() })
	load.Go(func() { s.consume("classic") })
	load.Go(func() { s.consume("kip848", kgo.ServerSideBalancer()) })
	load.Go(func() { s.consume("kip848", kgo.ServerSideBalancer()) })
	s.killAgainAndAgain(length, rand.New(rand.NewPCG(seed, 99)))
	close(s.stop)
	load.Wait()
	s.kill()
	s.start()
	s.check()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
}

func (s *soak) start() {
	s.t.Helper()
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), brokerDirEnv+"="+s.dir, brokerAddrEnv+"="+s.addr)
	s.cmd.Stderr = testWriter{s.t}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if s.hold, err = s.cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		s.t.Fatalf("the broker does not start: %v", err)
	}
	s.t.Logf("the broker started in %v", time.Since(began).Round(time.Millisecond))
}

func (s *soak) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = s.hold.Close()
	s.cmd = nil
}

// killAgainAndAgain kills the broker every few seconds: at any time, when the client has sent a transaction's end, and when the broker
// has just decided it. It goes on until the run has had all it is to have.
func (s *soak) killAgainAndAgain(length time.Duration, rng *rand.Rand) {
	begun := time.Now()
	for ; time.Since(begun) < length || !s.complete(); s.kills++ {
		if time.Since(begun) > length+2*time.Minute {
			s.t.Fatalf("after %v the run has not had what it is to have", time.Since(begun))
		}
		<-time.After(time.Duration(500+rng.IntN(2000)) * time.Millisecond)
		switch s.kills % 3 {
		case 1:
			s.cutOff(cutWhenSent)
		case 2:
			s.cutOff(cutWhenAnswered)
		}
		s.kill()
		s.start()
	}
}

// complete says that there were transactions of all outcomes, commits of all groups, and enough keys for a compaction.
func (s *soak) complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	outcomes, keys := map[outcome]int{}, 0
	for _, o := range s.txns {
		outcomes[o]++
	}
	for _, n := range s.keys {
		keys = max(keys, n)
	}
	return outcomes[committed] > 0 && outcomes[aborted] > 0 && outcomes[cutOff] > 0 && len(s.commits) == soakGroups && keys >= soakKeys
}

func (s *soak) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

func (s *soak) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }), kgo.RequestRetries(1000), kgo.UnknownTopicRetries(-1),
	}, opts...)...)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	return cl
}

func (s *soak) createTopics() {
	adm := kadm.NewClient(s.client())
	defer adm.Close()
	compacted := map[string]*string{
		"cleanup.policy": kadm.StringPtr("compact"), "segment.bytes": kadm.StringPtr("65536"),
		"min.cleanable.dirty.ratio": kadm.StringPtr("0.01"), "delete.retention.ms": kadm.StringPtr("0"),
	}
	for topic, configs := range map[string]map[string]*string{"events": nil, "ledger": nil, "keys": compacted} {
		if _, err := adm.CreateTopic(s.t.Context(), soakPartitions, 1, configs, topic); err != nil {
			s.t.Fatal(err)
		}
	}
}

// produceEvents is an idempotent producer that never gives up.
func (s *soak) produceEvents(name string) {
	cl := s.client()
	defer cl.Close()
	for n := 1; !s.stopped(); n++ {
		for p := range int32(soakPartitions) {
			id := fmt.Sprintf("%s-%d", name, p)
			s.mu.Lock()
			st := s.events[id]
			if st == nil {
				st = &stream{acked: map[int]bool{}}
				s.events[id] = st
			}
			st.sent = n
			s.mu.Unlock()
			cl.Produce(context.Background(), &kgo.Record{Topic: "events", Partition: p, Key: []byte(id), Value: fmt.Append(nil, n)}, func(_ *kgo.Record, err error) {
				if err != nil {
					s.t.Errorf("event %s/%d: %v", id, n, err)
					return
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				st.acked[n] = true
			})
		}
		<-time.After(500 * time.Microsecond)
	}
	s.flush(cl)
}

func (s *soak) flush(cl *kgo.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := cl.Flush(ctx); err != nil {
		s.t.Errorf("flush at the end: %v", err)
	}
}

// transact writes transactions over all partitions, each record the transaction's name. What goes wrong makes the outcome unknown,
// and a new client takes over the id.
func (s *soak) transact(id string, patience time.Duration) {
	for n := 0; !s.stopped(); {
		line := &line{}
		cl := s.client(kgo.TransactionalID(id), kgo.ProducerLinger(0), kgo.TransactionTimeout(5*time.Second), kgo.Dialer(line.dial))
		for !s.stopped() {
			n++
			name, commit := fmt.Sprintf("%s/%d", id, n), n%5 > 0
			s.outcome(name, unknown)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := s.write(ctx, cl, name)
			var c *cut
			if err == nil && commit {
				c = s.wish()
				line.arm(c, cancel)
			}
			if err == nil {
				err = txnclient.End(ctx, cl, kgo.TransactionEndTry(commit))
			}
			cancel()
			if c != nil {
				c.fire() // in case that nothing was sent
				if c.sent.Load() {
					s.outcome(name, cutOff)
				}
				break
			}
			if err != nil {
				break
			}
			if commit {
				s.outcome(name, committed)
			} else {
				s.outcome(name, aborted)
			}
		}
		cl.Close()
	}
}

// write begins a transaction and writes its name to every partition.
func (s *soak) write(ctx context.Context, cl *kgo.Client, name string) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	for p := range int32(soakPartitions) {
		cl.Produce(ctx, &kgo.Record{Topic: "ledger", Partition: p, Value: []byte(name)}, nil)
	}
	return cl.Flush(ctx)
}

func (s *soak) outcome(txn string, o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.txns[txn] = o
}

// produceKeys writes rising numbers to a few keys of the compacted topic.
func (s *soak) produceKeys() {
	cl := s.client(kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(32<<10)) // no batch is larger than a segment
	defer cl.Close()
	for n := 1; !s.stopped(); n++ {
		key := fmt.Sprint("k", n%50)
		r := &kgo.Record{Topic: "keys", Partition: int32(n % 50 % soakPartitions), Key: []byte(key), Value: fmt.Appendf(nil, "%d %0500d", n, 0)}
		cl.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				s.t.Errorf("key %s=%d: %v", key, n, err)
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.keys[key] = max(s.keys[key], n)
		})
		<-time.After(time.Millisecond)
	}
	s.flush(cl)
}

// consume is a member of a group that commits what it has read, and notes which commits were acknowledged.
func (s *soak) consume(group string, opts ...kgo.Opt) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cl := s.client(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
		kgo.HeartbeatInterval(200 * time.Millisecond), kgo.SessionTimeout(6 * time.Second), kgo.FetchMaxWait(100 * time.Millisecond),
	}, opts...)...)
	defer cl.Close()
	for !s.stopped() {
		once, done := context.WithTimeout(ctx, 300*time.Millisecond)
		fs := cl.PollRecords(once, 500)
		done()
		next := map[int32]kgo.EpochOffset{}
		for r := range fs.RecordsAll() {
			if at, ok := next[r.Partition]; ok && r.Offset < at.Offset {
				s.t.Errorf("group %s: offset %d of partition %d after %d", group, r.Offset, r.Partition, at.Offset-1)
			}
			next[r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
		}
		if len(next) > 0 {
			s.commit(ctx, cl, group, next)
		}
	}
}
