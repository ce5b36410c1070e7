package streams_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/broker/brokertest"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/failpoint"
)

// byCount finds words by how often they have come.
var byCount = streams.Index[string, int64, int64]{Name: "by-count", Of: func(_ string, n int64) (int64, bool) { return n, true }}

// wordCount reads lines, and keeps and writes how often each word has come.
func wordCount(in, out string) (*streams.Topology, streams.Store[string, int64], error) {
	counts := streams.Store[string, int64]{Name: "counts", Indexes: []streams.StoreIndex[string, int64]{byCount}}
	var b streams.Builder
	b.Stream(streams.Topic[string, string]{Name: in}).
		FlatMapValues(func(_, line string) ([]string, error) {
			if line == "poison" {
				return nil, errors.New("poisoned")
			}
			return strings.Fields(line), nil
		}).
		GroupBy(func(_, word string) string { return word }).
		Count(counts).
		ToStream().
		To(streams.Topic[string, int64]{Name: out})
	t, err := b.Build()
	return t, counts, err
}

type bench struct {
	t       testing.TB
	brokers []string
	opts    []kgo.Opt
	app     string
	in, out string
	dir     string
	child   string // what child processes run, if not wordCount
}

var benches atomic.Int64

func logger(t testing.TB) *slog.Logger {
	if os.Getenv("LEAT_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newBench(t testing.TB, brokers []string, opts ...kgo.Opt) *bench {
	t.Helper()
	id := fmt.Sprintf("%d-%d-%d", os.Getpid(), time.Now().UnixMilli(), benches.Add(1))
	b := &bench{t: t, brokers: brokers, opts: opts, app: "wc-" + id, in: "lines-" + id, out: "words-" + id, dir: t.TempDir()}
	cl := b.client()
	resps, err := kadm.NewClient(cl).CreateTopics(t.Context(), 3, 1, nil, b.in, b.out)
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	base := append([]kgo.Opt{kgo.SeedBrokers(b.brokers...)}, b.opts...)
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(cl.Close)
	return cl
}

// say writes lines and counts their words into want.
func (b *bench) say(want map[string]int64, lines ...string) {
	b.t.Helper()
	cl := b.client(kgo.DefaultProduceTopic(b.in))
	for i, l := range lines {
		cl.Produce(b.t.Context(), &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: []byte(l)}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.t.Error(err)
			}
		})
		for _, w := range strings.Fields(l) {
			want[w]++
		}
	}
	if err := cl.Flush(b.t.Context()); err != nil {
		b.t.Error(err)
	}
}

// lines makes n lines of words out of a vocabulary.
func lines(n, vocabulary int) []string {
	out := make([]string, n)
	for i := range out {
		words := make([]string, 1+rand.IntN(4))
		for j := range words {
			words[j] = "w" + strconv.Itoa(rand.IntN(vocabulary))
		}
		out[i] = strings.Join(words, " ")
	}
	return out
}

func (b *bench) config(dir string) streams.Config {
	return streams.Config{AppID: b.app, Brokers: b.brokers, Client: b.opts, StateDir: filepath.Join(b.dir, dir), MemoryBytes: 32 << 20,
		CommitInterval: 30 * time.Millisecond, Logger: logger(b.t).With("dir", dir)}
}

// running is an application under test.
type running struct {
	*streams.App
	stop context.CancelFunc
	done chan struct{}
	err  error
}

func (b *bench) start(cfg streams.Config, points *failpoint.Set) *running {
	b.t.Helper()
	topology, _, err := wordCount(b.in, b.out)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.run(topology, cfg, points)
}

func (b *bench) run(topology *streams.Topology, cfg streams.Config, points *failpoint.Set, before ...func(*streams.App)) *running {
	b.t.Helper()
	app, err := streams.New(topology, cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	app.Tune(points)
	for _, f := range before {
		f(app)
	}
	return b.drive(app)
}

// drive runs an application until the test ends.
func (b *bench) drive(app *streams.App) *running {
	ctx, stop := context.WithCancel(context.Background())
	r := &running{App: app, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = app.Run(ctx)
	}()
	b.t.Cleanup(func() { stop(); <-r.done })
	return r
}

func (r *running) wait(t testing.TB) error {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(2 * time.Minute):
		t.Fatal("the application does not end")
	}
	return r.err
}

// ready waits until the application runs.
func (r *running) ready(t testing.TB) {
	t.Helper()
	select {
	case <-r.Ready():
	case <-r.done:
		t.Fatalf("the application ended: %v", r.err)
	case <-time.After(2 * time.Minute):
		t.Fatal("the application does not get ready")
	}
}

// results reads the committed output as a table, from the beginning. The counts of a word must never fall or repeat:
// exactly once, each update is there once.
type results struct {
	b      *bench
	cl     *kgo.Client
	counts map[string]int64
	strict bool
}

func (b *bench) results() *results {
	return &results{b: b, strict: true, counts: map[string]int64{}, cl: b.client(kgo.ConsumeTopics(b.out), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))}
}

func (r *results) read(ctx context.Context) {
	r.cl.PollFetches(ctx).EachRecord(func(rec *kgo.Record) {
		n, err := serde.Int64.Decode(serde.Place{Topic: rec.Topic}, rec.Value)
		if err != nil {
			r.b.t.Error(err)
			return
		}
		word := string(rec.Key)
		if r.strict && n <= r.counts[word] {
			r.b.t.Errorf("count of %q goes from %d to %d", word, r.counts[word], n)
		}
		r.counts[word] = n
	})
}

// expect waits until the output equals want, and then a little for what should not come.
func (r *results) expect(want map[string]int64) {
	r.b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for r.difference(want) != "" && ctx.Err() == nil {
		r.read(ctx)
	}
	tail, stop := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer stop()
	for tail.Err() == nil {
		r.read(tail)
	}
	if d := r.difference(want); d != "" {
		r.b.t.Error(d)
	}
}

func (r *results) difference(want map[string]int64) string {
	for w, n := range want {
		if r.counts[w] != n {
			return fmt.Sprintf("count of %q is %d, want %d", w, r.counts[w], n)
		}
	}
	if len(r.counts) > len(want) {
		return fmt.Sprintf("%d words, want %d", len(r.counts), len(want))
	}
	return ""
}

func startFake(t testing.TB) *kfake.Cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return fake
}

// startBroker starts ours, reached in process by this test, and over TCP by its child processes.
func startBroker(t testing.TB) *broker.Broker {
	t.Helper()
	return brokertest.Start(t, broker.Config{Listen: []string{"127.0.0.1:0"}, Logger: logger(t).With("part", "broker")})
}

// onOurs runs a test on our broker, in process.
func onOurs(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Run("leat", func(t *testing.T) {
		t.Parallel()
		br := startBroker(t)
		f(t, newBench(t, []string{br.Addr()}, kgo.Dialer(br.Dialer())))
	})
}

// onEach runs a test on every log there is: kfake, our broker, and the brokers that LEAT_TEST_BOOTSTRAP names.
func onEach(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Parallel()
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		f(t, newBench(t, startFake(t).ListenAddrs()))
	})
	onOurs(t, f)
	t.Run("external", func(t *testing.T) {
		t.Parallel()
		addrs := os.Getenv("LEAT_TEST_BOOTSTRAP")
		if addrs == "" {
			t.Skip("LEAT_TEST_BOOTSTRAP is not set")
		}
		f(t, newBench(t, strings.Split(addrs, ",")))
	})
}

func TestWordCountGoesOnWhereItStopped(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		for round := range 3 {
			app := b.start(b.config("a"), nil)
			b.say(want, lines(500, 100)...)
			out.expect(want)
			app.ready(t)
			if n := app.RestoredRecords(); n != 0 {
				t.Errorf("round %d: %d records were restored after a clean stop, want 0", round, n)
			}
			app.stop()
			if err := app.wait(t); err != nil {
				t.Fatal(err)
			}
		}
	})
}

var errCrash = errors.New("crash")

// child is the application of a test that kills it.
func child() int {
	topology, _, err := wordCount(os.Getenv("IN"), os.Getenv("OUT"))
	if os.Getenv(childVariable) == asyncChild {
		topology, err = asyncWordCount(os.Getenv("IN"), os.Getenv("OUT"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	app, err := streams.New(topology, streams.Config{AppID: os.Getenv("APP"), Brokers: strings.Split(os.Getenv("BROKERS"), ","),
		StateDir: os.Getenv("DIR"), MemoryBytes: 32 << 20, CommitInterval: 30 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	app.Tune(nil)
	ctx, stop := context.WithCancel(context.Background())
	go func() { // the parent closes our input: stop
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := app.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// life runs the application in a process of its own, which arms the failpoint, and waits for its end.
func (b *bench) life(point string) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+cmp.Or(b.child, "1"), "IN="+b.in, "OUT="+b.out, "APP="+b.app, "BROKERS="+strings.Join(b.brokers, ","),
		"DIR="+filepath.Join(b.dir, "a"), failpoint.Variable+"="+point)
	cmd.Stderr = b.t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-time.After(2 * time.Minute):
		in.Close()
		<-done
		return errors.New("the process was not killed")
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	return fmt.Errorf("the process ended by itself: %v", err)
}

func TestKilledBetweenAnyTwoStepsOfACommitTheCountsAreExactAndOnlyTheDifferenceIsRestored(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		// A large state that is flushed to disk by a clean stop.
		app := b.start(b.config("a"), nil)
		all := make([]string, 5000)
		for i := range all {
			all[i] = "w" + strconv.Itoa(i)
		}
		b.say(want, all...)
		out.expect(want)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		for _, point := range failpoint.Points() {
			b.say(want, lines(50, 20)...)
			if err := b.life(point + ":2"); err != nil {
				t.Fatalf("%s: %v", point, err)
			}
			app := b.start(b.config("a"), nil)
			b.say(want, lines(50, 20)...)
			out.expect(want)
			app.ready(t)
			t.Logf("%s: %d records restored", point, app.RestoredRecords())
			if n := app.RestoredRecords(); n > 500 {
				t.Errorf("%s: %d records were restored, want only the difference", point, n)
			}
			app.stop()
			if err := app.wait(t); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestInstancesComeAndGo(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		first := b.start(b.config("first"), nil)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			for ctx.Err() == nil {
				cfg := b.config("second")
				cfg.LeaveOnStop = true
				cfg.Workers = 2
				second := b.start(cfg, nil)
				select {
				case <-second.Ready():
				case <-second.done:
					t.Errorf("second instance: %v", second.err)
					return
				case <-ctx.Done():
				}
				timer := time.NewTimer(200 * time.Millisecond)
				select {
				case <-timer.C:
				case <-ctx.Done():
				}
				second.stop()
				if err := second.wait(t); err != nil {
					t.Errorf("second instance: %v", err)
				}
			}
		})
		for range 15 {
			b.say(want, lines(100, 50)...)
			timer := time.NewTimer(150 * time.Millisecond)
			<-timer.C
		}
		cancel()
		wg.Wait()
		out.expect(want)
		first.stop()
		if err := first.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAtLeastOnceLosesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		out.strict = false
		cfg := b.config("a")
		cfg.Guarantee = streams.AtLeastOnce
		b.say(want, lines(300, 50)...)
		points := &failpoint.Set{}
		points.Arm(failpoint.ProducerFlushed, 1, func() error { return errCrash })
		app := b.start(cfg, points)
		if err := app.wait(t); !errors.Is(err, errCrash) {
			t.Fatalf("Run returned %v, want the crash", err)
		}
		app = b.start(cfg, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		enough := func() bool {
			for w, n := range want {
				if out.counts[w] < n {
					return false
				}
			}
			return true
		}
		for !enough() && ctx.Err() == nil {
			out.read(ctx)
		}
		if !enough() {
			t.Error(out.difference(want))
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDeadLettersLeaveInTheSameTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		letters := b.in + "-dead"
		cl := b.client(kgo.ConsumeTopics(letters), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if _, err := kadm.NewClient(b.client()).CreateTopics(t.Context(), 1, 1, nil, letters); err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{}
		out := b.results()
		cfg := b.config("a")
		var asked atomic.Int64
		cfg.OnError = func(_ context.Context, e *streams.RecordError) streams.Decision {
			asked.Add(1)
			return streams.DeadLetter(letters)
		}
		app := b.start(cfg, nil)
		b.say(want, lines(50, 10)...)
		b.say(map[string]int64{}, "poison")
		b.say(want, lines(50, 10)...)
		out.expect(want)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var recs []*kgo.Record
		for len(recs) == 0 && ctx.Err() == nil {
			recs = cl.PollFetches(ctx).Records()
		}
		if len(recs) != 1 || string(recs[0].Value) != "poison" {
			t.Fatalf("dead letters: %v, want the poisoned line", recs)
		}
		headers := map[string]string{}
		for _, h := range recs[0].Headers {
			headers[h.Key] = string(h.Value)
		}
		if headers["__streams.errors.topic"] != b.in || headers["__streams.errors.message"] != "poisoned" {
			t.Errorf("headers %v", headers)
		}
		if asked.Load() != 1 {
			t.Errorf("OnError was asked %d times, want 1", asked.Load())
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFailStopsWithTheRecordAndNothingOfItIsCommitted(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		b.say(map[string]int64{}, "poison")
		app := b.start(b.config("a"), nil)
		err := app.wait(t)
		var re *streams.RecordError
		if !errors.As(err, &re) || re.Topic != b.in || string(re.Value) != "poison" {
			t.Fatalf("Run returned %v, want the record's error", err)
		}
		again := b.start(b.config("a"), nil)
		if err := again.wait(t); !errors.As(err, &re) {
			t.Fatalf("Run returned %v the second time, want the record's error again", err)
		}
	})
}

func TestViewReadsWhatIsCommitted(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		b.say(want, lines(200, 30)...)
		app := b.start(b.config("a"), nil)
		_, counts, _ := wordCount(b.in, b.out)
		v, err := app.View(counts)
		if err != nil {
			t.Fatal(err)
		}
		app.ready(t)
		b.results().expect(want)
		deadline := time.Now().Add(time.Minute)
		for {
			got := map[string]int64{}
			for e, err := range v.All() {
				if err != nil {
					t.Fatal(err)
				}
				got[e.Key] = e.Value
			}
			same := len(got) == len(want)
			for w, n := range want {
				same = same && got[w] == n
			}
			if same {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("view has %v, want %v", got, want)
			}
			<-time.After(10 * time.Millisecond)
		}
		for w, n := range want {
			e, ok, err := v.Get(w)
			if err != nil || !ok || e.Value != n {
				t.Errorf("Get(%q) = %v, %v, %v; want %d", w, e, ok, err, n)
			}
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		if _, _, err := v.Get("w1"); !errors.Is(err, streams.ErrNotReady) {
			t.Errorf("after the end: %v, want ErrNotReady", err)
		}
	})
}

func TestMissingSourceTopicIsAnError(t *testing.T) {
	t.Parallel()
	b := newBench(t, startFake(t).ListenAddrs())
	b.in = "nowhere"
	app := b.start(b.config("a"), nil)
	if err := app.wait(t); !errors.Is(err, streams.ErrMissingTopic) {
		t.Errorf("Run returned %v, want ErrMissingTopic", err)
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	good := streams.Config{AppID: "a", Brokers: []string{"localhost:1"}}
	for field, spoil := range map[string]func(*streams.Config){
		"AppID":              func(c *streams.Config) { c.AppID = "a/b" },
		"Brokers":            func(c *streams.Config) { c.Brokers = nil },
		"Guarantee":          func(c *streams.Config) { c.Guarantee = 7 },
		"CommitInterval":     func(c *streams.Config) { c.CommitInterval = 6 * time.Second },
		"TransactionTimeout": func(c *streams.Config) { c.TransactionTimeout = time.Millisecond },
		"Workers":            func(c *streams.Config) { c.Workers = -1 },
		"Standbys":           func(c *streams.Config) { c.Standbys = -1 },
		"AcceptableLag":      func(c *streams.Config) { c.AcceptableLag = -1 },
		"Warmups":            func(c *streams.Config) { c.Warmups = -1 },
		"MemoryBytes":        func(c *streams.Config) { c.MemoryBytes = -1 },
		"InstanceID":         func(c *streams.Config) { c.InstanceID = "pod/7" },
		"SessionTimeout":     func(c *streams.Config) { c.SessionTimeout = time.Millisecond },
		"Listen":             func(c *streams.Config) { c.Listen = ":80" },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, spoil := range map[string]func(*streams.Config){ // too much of it
		"Workers":            func(c *streams.Config) { c.Workers = 1_000_000 },
		"TransactionTimeout": func(c *streams.Config) { c.TransactionTimeout = 1000 * time.Hour },
		"SessionTimeout":     func(c *streams.Config) { c.SessionTimeout = 1000 * time.Hour },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
