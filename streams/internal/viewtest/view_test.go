package viewtest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/broker/brokertest"
	"github.com/leatstream/leat/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	clicks  = streams.Topic[string, string]{Name: "clicks", Partitions: 2}
	minutes = streams.WindowStore[string, int64]{Name: "minutes"}
	months  = streams.WindowStore[string, int64]{Name: "months"}
	visits  = streams.SessionStore[string, int64]{Name: "visits"}
	noon    = time.Date(2026, 2, 10, 12, 0, 0, 0, time.UTC)
)

// counting counts clicks in minutes, in months, and in sessions that end after half a minute.
func counting(t *testing.T) *streams.Topology {
	t.Helper()
	var b streams.Builder
	g := b.Stream(clicks).GroupByKey()
	g.WindowedBy(streams.Tumbling(time.Minute).Grace(time.Hour)).Count(minutes)
	g.WindowedBy(streams.Calendar(streams.Month, nil).Grace(time.Hour)).Count(months)
	g.WindowedBySession(streams.Session(30 * time.Second).Grace(time.Hour)).Count(visits)
	top, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// world is an application on a broker, with a Remote that asks it.
type world struct {
	app    *streams.App
	remote *streams.Remote
	cl     *kgo.Client
}

func start(t *testing.T) *world {
	t.Helper()
	br := brokertest.Start(t, broker.Config{Listen: []string{"127.0.0.1:0"}})
	var err error
	w := new(world)
	if w.app, err = streams.New(counting(t), streams.Config{
		AppID: "counting", Brokers: []string{br.Addr()}, StateDir: t.TempDir(), MemoryBytes: 16 << 20,
		CommitInterval: 10 * time.Millisecond, Listen: "127.0.0.1:0",
	}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.app.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-w.app.Ready():
	case err := <-done:
		done <- err
		t.Fatal("it does not run")
	case <-time.After(time.Minute):
		t.Fatal("it does not get ready")
	}
	if w.remote, err = streams.NewRemote(streams.RemoteConfig{AppID: "counting", Brokers: []string{br.Addr()}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.remote.Close)
	if w.cl, err = kgo.NewClient(kgo.SeedBrokers(br.Addr())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cl.Close)
	return w
}

// click writes a click of a key so long after noon, and says where it lies.
func (w *world) click(t *testing.T, key string, after time.Duration) streams.Position {
	t.Helper()
	r := &kgo.Record{Topic: clicks.Name, Key: []byte(key), Value: []byte("x"), Timestamp: noon.Add(after)}
	if err := w.cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return streams.PositionOf(r)
}

type rows = iter.Seq2[streams.Entry[streams.Windowed[string], int64], error]

// texts are rows as texts, in their order.
func texts(t *testing.T, all rows) (got []string) {
	t.Helper()
	for e, err := range all {
		if err != nil {
			t.Error(err)
			break
		}
		got = append(got, text(e))
	}
	return got
}

func text(e streams.Entry[streams.Windowed[string], int64]) string {
	return fmt.Sprintf("%s %s-%s %d", e.Key.Key, e.Key.Start.Format("15:04:05"), e.Key.End.Format("15:04:05"), e.Value)
}

// one is the row of a Get, as a text.
func one(t *testing.T) func(e streams.Entry[streams.Windowed[string], int64], ok bool, err error) string {
	return func(e streams.Entry[streams.Windowed[string], int64], ok bool, err error) string {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
		if !ok {
			return "none"
		}
		return text(e)
	}
}

// want compares texts, given with commas between.
func want(t *testing.T, what string, got []string, want string) {
	t.Helper()
	if joined := strings.Join(got, ", "); joined != want {
		t.Errorf("%s:\n got %s\nwant %s", what, joined, want)
	}
}

const (
	everyMinute = "a 12:00:00-12:01:00 2, b 12:00:00-12:01:00 1, c 12:00:00-12:01:00 1, d 12:00:00-12:01:00 1, " +
		"a 12:01:00-12:02:00 1, b 12:01:00-12:02:00 1, c 12:01:00-12:02:00 1, d 12:01:00-12:02:00 1"
	everyVisit = "b 12:00:00-12:00:00 1, c 12:00:00-12:00:00 1, d 12:00:00-12:00:00 1, a 12:00:00-12:00:10 2, " +
		"a 12:01:00-12:01:00 1, b 12:01:00-12:01:00 1, c 12:01:00-12:01:00 1, d 12:01:00-12:01:00 1"
)

// Views of windows and sessions read one, those of a key, those of some keys, those of a time and all, the same from the
// instance and from outside; their windows end where those of the topology do, though no descriptor has a size.
func TestViewsOfWindows(t *testing.T) {
	w := start(t)
	var after []streams.Position
	for _, at := range []time.Duration{0, time.Minute} {
		for _, k := range []string{"a", "b", "c", "d"} {
			after = append(after, w.click(t, k, at))
		}
		if at == 0 {
			after = append(after, w.click(t, "a", 10*time.Second))
		}
	}
	how := streams.Reading{After: after}
	check := func(t *testing.T, m, y *streams.WindowView[string, int64], s *streams.SessionView[string, int64], err error) {
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		checkWindows(t, m.Reading(ctx, how))
		checkSessions(t, s.Reading(ctx, how))
		for e, err := range y.Reading(ctx, how).All() {
			if first := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC); err != nil || e.Key.Start != first || e.Key.End != first.AddDate(0, 1, 0) {
				t.Errorf("a month %v (%v), want February", e.Key, err)
			}
		}
		checkChanges(t, w, m.Reading(ctx, how))
	}
	t.Run("instance", func(t *testing.T) {
		m, err1 := w.app.WindowView(minutes)
		y, err2 := w.app.WindowView(months)
		s, err3 := w.app.SessionView(visits)
		check(t, m, y, s, firstOf(err1, err2, err3))
	})
	t.Run("remote", func(t *testing.T) {
		m, err1 := w.remote.WindowView(minutes)
		y, err2 := w.remote.WindowView(months)
		s, err3 := w.remote.SessionView(visits)
		check(t, m, y, s, firstOf(err1, err2, err3))
	})
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkWindows(t *testing.T, v *streams.WindowView[string, int64]) {
	t.Helper()
	get := func(k string, after time.Duration) string { return one(t)(v.Get(k, noon.Add(after))) }
	want(t, "Get", []string{get("a", 0), get("a", 30*time.Second), get("zz", 0), get("d", time.Minute)},
		"a 12:00:00-12:01:00 2, none, none, d 12:01:00-12:02:00 1")
	later := noon.Add(time.Minute)
	first, last := "b", "c"
	want(t, "Fetch", texts(t, v.Fetch("a", noon, later)), "a 12:00:00-12:01:00 2, a 12:01:00-12:02:00 1")
	want(t, "FetchKeys", texts(t, v.FetchKeys(&first, &last, later, later)), "b 12:01:00-12:02:00 1, c 12:01:00-12:02:00 1")
	want(t, "FetchKeys from", texts(t, v.FetchKeys(&last, nil, noon, noon)), "c 12:00:00-12:01:00 1, d 12:00:00-12:01:00 1")
	want(t, "All", upTo(texts(t, v.All()), 8), everyMinute)
	backward := texts(t, v.BackwardRange(noon, later))
	slices.Reverse(backward)
	want(t, "BackwardRange", backward, everyMinute)
	if n, err := v.ApproximateCount(); err != nil || n < 8 {
		t.Errorf("%d windows (%v), want 8 or more", n, err)
	}
}

func checkSessions(t *testing.T, v *streams.SessionView[string, int64]) {
	t.Helper()
	get := func(k string, start, end time.Duration) string {
		return one(t)(v.Get(k, noon.Add(start), noon.Add(end)))
	}
	want(t, "Get", []string{get("a", 0, 10*time.Second), get("a", 0, 0), get("a", 10*time.Second, 10*time.Second), get("b", 0, 0)},
		"a 12:00:00-12:00:10 2, none, none, b 12:00:00-12:00:00 1")
	first, last := "b", "c"
	want(t, "Fetch", texts(t, v.Fetch("a")), "a 12:00:00-12:00:10 2, a 12:01:00-12:01:00 1")
	want(t, "FetchKeys", upTo(texts(t, v.FetchKeys(&first, &last)), 4),
		"b 12:00:00-12:00:00 1, c 12:00:00-12:00:00 1, b 12:01:00-12:01:00 1, c 12:01:00-12:01:00 1")
	want(t, "All", upTo(texts(t, v.All()), 8), everyVisit)
	backward := texts(t, v.BackwardRange(noon, noon.Add(time.Minute)))
	slices.Reverse(backward)
	want(t, "BackwardRange", backward, everyVisit)
	if n, err := v.ApproximateCount(); err != nil || n < 8 {
		t.Errorf("%d sessions (%v), want 8 or more", n, err)
	}
}

// upTo leaves out what checkChanges has added.
func upTo(all []string, n int) []string { return all[:min(n, len(all))] }

// checkChanges subscribes, and lets a window change once it has been told: it ends where it did.
func checkChanges(t *testing.T, w *world, v *streams.WindowView[string, int64]) {
	t.Helper()
	told := 0
	at := 5 * time.Minute
	for u, err := range v.Subscribe(t.Context(), noon, noon.Add(time.Hour)) {
		if err != nil {
			t.Fatal(err)
		}
		if u.Key.End != u.Key.Start.Add(time.Minute) {
			t.Errorf("a minute from %v to %v", u.Key.Start, u.Key.End)
		}
		if told++; told == 8 {
			w.click(t, "b", at)
		}
		if !u.Snapshot && u.Key.Key == "b" && u.Key.Start.Equal(noon.Add(at)) {
			return
		}
	}
	t.Error("the subscription ended")
}
