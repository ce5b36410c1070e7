package faulttest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/broker/brokertest"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/failpoint"
)

// childVariable makes the test binary run as an application, to be killed.
const childVariable = "LEAT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

const (
	appID      = "counting"
	partitions = 2
	changelog  = appID + "-counts-changelog"
	patience   = time.Minute // for what comes, on a machine that stands still for a while
)

var (
	words  = streams.Topic[string, string]{Name: "words"}
	totals = streams.Topic[string, int64]{Name: "totals"}
	counts = streams.Store[string, int64]{Name: "counts"}
)

// counting counts words.
func counting() (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(words).GroupByKey().Count(counts).ToStream().To(totals)
	return b.Build()
}

func config(addr, dir string) streams.Config {
	return streams.Config{AppID: appID, InstanceID: "one", Brokers: []string{addr}, StateDir: dir, MemoryBytes: 16 << 20, CommitInterval: 20 * time.Millisecond, Listen: "127.0.0.1:0"}
}

// child is an instance that its parent kills.
func child() int {
	topology, err := counting()
	if err == nil {
		var app *streams.App
		if app, err = streams.New(topology, config(os.Getenv("ADDR"), os.Getenv("DIR"))); err == nil {
			ctx, stop := context.WithCancel(context.Background())
			go func() { // the parent is gone
				_, _ = io.Copy(io.Discard, os.Stdin)
				stop()
			}()
			err = app.Run(ctx)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// world is a broker with the topics of counting.
type world struct {
	t    *testing.T
	addr string
	dir  string
	cl   *kgo.Client
	said map[string]int64 // words, how often each was said
	log  *said
}

func newWorld(t *testing.T) *world {
	t.Helper()
	br := brokertest.Start(t, broker.Config{Listen: []string{"127.0.0.1:0"}})
	w := &world{t: t, addr: br.Addr(), dir: filepath.Join(t.TempDir(), "state"), said: map[string]int64{}, log: &said{}}
	w.cl = w.client()
	w.create(words.Name, totals.Name)
	return w
}

func (w *world) client(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.addr)}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(cl.Close)
	return cl
}

func (w *world) admin() *kadm.Client { return kadm.NewClient(w.cl) }

func (w *world) create(topics ...string) {
	w.t.Helper()
	resps, err := w.admin().CreateTopics(w.t.Context(), partitions, 1, nil, topics...)
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(topic string) {
	w.t.Helper()
	resps, err := w.admin().DeleteTopics(w.t.Context(), topic)
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// say writes words.
func (w *world) say(all ...string) {
	w.t.Helper()
	recs := make([]*kgo.Record, len(all))
	for i, word := range all {
		recs[i] = &kgo.Record{Topic: words.Name, Key: []byte(word), Value: []byte("x")}
		w.said[word]++
	}
	if err := w.cl.ProduceSync(w.t.Context(), recs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// some are n words.
func some(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = "w" + strconv.Itoa(i)
	}
	return all
}

// history are the counts of each word in the order in which they were committed.
type history map[string][]int64

// last are the latest counts.
func (h history) last() map[string]int64 {
	out := map[string]int64{}
	for k, all := range h {
		out[k] = all[len(all)-1]
	}
	return out
}

// committed reads totals from the beginning until the counts are those of what was said, each one more often than the one
// before it: nothing lost, nothing doubled.
func (w *world) committed() history {
	w.t.Helper()
	cl := w.client(kgo.ConsumeTopics(totals.Name), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	h := history{}
	for !maps.Equal(h.last(), w.said) && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			n, err := serde.Int64.Decode(serde.Place{Topic: r.Topic}, r.Value)
			if all := h[string(r.Key)]; err != nil || len(all) > 0 && n <= all[len(all)-1] {
				w.t.Errorf("count of %q goes from %v to %d (%v)", r.Key, all, n, err)
			}
			h[string(r.Key)] = append(h[string(r.Key)], n)
		})
	}
	if !maps.Equal(h.last(), w.said) {
		w.t.Fatalf("counts are %v, want %v", h.last(), w.said)
	}
	return h
}

// running is an application.
type running struct {
	*streams.App
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}
	err  error
}

func (w *world) config() streams.Config {
	cfg := config(w.addr, w.dir)
	cfg.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	return cfg
}

func (w *world) run(topology *streams.Topology, cfg streams.Config, before ...func(*streams.App)) *running {
	w.t.Helper()
	app, err := streams.New(topology, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range before {
		f(app)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{App: app, t: w.t, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = app.Run(ctx)
	}()
	w.t.Cleanup(func() { stop(); <-r.done })
	return r
}

// start runs counting.
func (w *world) start(before ...func(*streams.App)) *running {
	w.t.Helper()
	topology, err := counting()
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(topology, w.config(), before...)
}

// ended waits for the application's end.
func (r *running) ended() error {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatal("the application does not end")
	}
	return r.err
}

// end stops it, which is no error.
func (r *running) end() {
	r.t.Helper()
	r.stop()
	if err := r.ended(); err != nil {
		r.t.Fatal(err)
	}
}

// process is an instance in a process of its own.
type process struct {
	cmd  *exec.Cmd
	done atomic.Bool
	wait func()
}

// spawn starts one, which kills itself at a failpoint; "" for none.
func (w *world) spawn(point string) *process {
	w.t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), childVariable+"=1", "ADDR="+w.addr, "DIR="+w.dir)
	if point != "" {
		p.cmd.Env = append(p.cmd.Env, failpoint.Variable+"="+point)
	}
	p.cmd.Stderr = w.t.Output()
	in, err := p.cmd.StdinPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = p.cmd.Wait()
		p.done.Store(true)
	}()
	p.wait = func() { <-gone }
	w.t.Cleanup(func() {
		_ = in.Close()
		_ = p.cmd.Process.Kill()
		p.wait()
	})
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.wait()
}

// until waits for something.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
