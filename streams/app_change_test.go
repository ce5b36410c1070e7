package streams_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/failpoint"
)

// A developer adds a source and starts again at once, while the group still knows the old member: the new source has to be
// read nevertheless.
func TestRestartWithAnotherTopologyIsGivenItsTasks(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		app := b.start(b.config("a"), nil)
		b.say(want, "one two")
		out.expect(want)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		more := b.in + "-more"
		if _, err := kadm.NewClient(b.client()).CreateTopics(t.Context(), 2, 1, nil, more); err != nil {
			t.Fatal(err)
		}
		var bl streams.Builder
		counts := streams.Store[string, int64]{Name: "counts"}
		bl.Stream(streams.Topic[string, string]{Name: b.in}).
			Merge(bl.Stream(streams.Topic[string, string]{Name: more})).
			FlatMapValues(func(_, line string) ([]string, error) { return strings.Fields(line), nil }).
			GroupBy(func(_, word string) string { return word }).
			Count(counts).ToStream().To(streams.Topic[string, int64]{Name: b.out})
		topology, err := bl.Build()
		if err != nil {
			t.Fatal(err)
		}
		again, err := streams.New(topology, b.config("a"))
		if err != nil {
			t.Fatal(err)
		}
		again.Tune(nil)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- again.Run(ctx) }()
		b.in = more
		b.say(want, "two three")
		out.expect(want)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestUnreachableBrokersAreWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	b := &bench{t: t, brokers: []string{addr}, app: "away", in: "lines", out: "words", dir: t.TempDir()}
	app := b.start(b.config("a"), nil)
	select {
	case <-app.done:
		t.Fatalf("Run returned %v while the broker was away, want it to wait", app.err)
	case <-time.After(300 * time.Millisecond):
	}
	br, err := broker.Start(t.Context(), broker.Config{Dir: t.TempDir(), Listen: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer br.Close()
	for _, topic := range []string{b.in, b.out} {
		// The application ends if it finds the broker before its source: then it says so.
		if _, err := kadm.NewClient(b.client()).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-app.Ready():
	case <-app.done:
		if !errors.Is(app.err, streams.ErrMissingTopic) {
			t.Fatal(app.err)
		}
		app = b.start(b.config("a"), nil)
		app.ready(t)
	case <-time.After(time.Minute):
		t.Fatal("the application does not get ready")
	}
	app.stop()
	if err := app.wait(t); err != nil {
		t.Fatal(err)
	}
}

func TestBrokerRestartsUnderLoad(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	open := func() *broker.Broker {
		br, err := broker.Start(t.Context(), broker.Config{Dir: dir, Listen: []string{addr}})
		if err != nil {
			t.Fatal(err)
		}
		return br
	}
	br := open()
	defer func() { br.Close() }()
	b := newBench(t, []string{addr})
	want := map[string]int64{}
	out := b.results()
	app := b.start(b.config("a"), nil)
	for range 3 {
		b.say(want, lines(300, 50)...)
		if err := br.Close(); err != nil {
			t.Fatal(err)
		}
		br = open()
		b.say(want, lines(300, 50)...)
	}
	out.expect(want)
	app.stop()
	if err := app.wait(t); err != nil {
		t.Fatal(err)
	}
}

func TestStopsWhileTheBrokerIsAway(t *testing.T) {
	br := startBroker(t)
	b := newBench(t, []string{br.Addr()})
	app := b.start(b.config("a"), nil)
	app.ready(t)
	if err := br.Close(); err != nil {
		t.Fatal(err)
	}
	app.stop()
	since := time.Now()
	if err := app.wait(t); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(since); took > 30*time.Second {
		t.Errorf("stopping took %s; a last commit may take 10 s", took)
	}
}

func TestStateDirectoryInUseNamesTheProcess(t *testing.T) {
	b := newBench(t, startFake(t).ListenAddrs())
	first := b.start(b.config("a"), nil)
	first.ready(t)
	second := b.start(b.config("a"), nil)
	if err := second.wait(t); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), "process") {
		t.Errorf("the second instance in the directory: %v, want state.ErrLocked and the process", err)
	}
	first.stop()
	if err := first.wait(t); err != nil {
		t.Fatal(err)
	}
}

func TestInternalTopicOfAnotherShapeIsRefused(t *testing.T) {
	b := newBench(t, startFake(t).ListenAddrs())
	if _, err := kadm.NewClient(b.client()).CreateTopics(t.Context(), 5, 1, nil, b.app+"-counts-changelog"); err != nil {
		t.Fatal(err)
	}
	app := b.start(b.config("a"), nil)
	if err := app.wait(t); !errors.Is(err, streams.ErrInternalTopic) || !strings.Contains(err.Error(), "5 partitions") {
		t.Errorf("Run returned %v, want ErrInternalTopic", err)
	}
}

func TestAnotherInstanceTakesOverFromNothing(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) { // takes a session timeout
		first := b.config("first")
		first.SessionTimeout = 6 * time.Second
		b.takesOver(first, b.config("second"))
	})
}

// takesOver has an instance abandoned in the middle: its context ends as by a crash, without a commit. Another one takes over, with
// a directory in which there is nothing, and restores all.
func (b *bench) takesOver(from, to streams.Config) {
	t := b.t
	t.Helper()
	want := map[string]int64{}
	out := b.results()
	points := &failpoint.Set{}
	first := b.start(from, points)
	b.say(want, lines(500, 100)...)
	out.expect(want)
	points.Arm(failpoint.OffsetsAdded, 1, func() error { return errCrash })
	b.say(want, lines(50, 100)...)
	if err := first.wait(t); !errors.Is(err, errCrash) {
		t.Fatalf("Run returned %v, want the crash", err)
	}
	second := b.start(to, nil)
	out.expect(want)
	second.ready(t)
	if n := second.RestoredRecords(); n < int64(len(want)) {
		t.Errorf("%d records were restored, want all %d at least", n, len(want))
	}
	second.stop()
	if err := second.wait(t); err != nil {
		t.Fatal(err)
	}
}
