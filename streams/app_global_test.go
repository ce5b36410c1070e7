package streams_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// globalBench is an application that joins a stream with a global table of another partition count.
type globalBench struct {
	*bench
	names    string
	store    streams.Store[string, string]
	topology *streams.Topology
	out      *kgo.Client
}

func newGlobalBench(t *testing.T, b *bench) *globalBench {
	g := &globalBench{bench: b, names: "names-" + b.app, store: streams.Store[string, string]{Name: "names"}}
	resps, err := kadm.NewClient(b.client()).CreateTopics(t.Context(), 5, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, g.names)
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	var build streams.Builder
	names := build.GlobalTable(streams.Topic[string, string]{Name: g.names}, g.store)
	build.Stream(streams.Topic[string, string]{Name: b.in}).
		LeftJoinGlobal(names, func(_, v string) (string, bool) { return v, true }, func(_, v string, name *string) (string, error) {
			if name == nil {
				return v + "=?", nil
			}
			return v + "=" + *name, nil
		}).To(streams.Topic[string, string]{Name: b.out})
	if g.topology, err = build.Build(); err != nil {
		t.Fatal(err)
	}
	g.out = b.client(kgo.ConsumeTopics(b.out), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))
	return g
}

// put writes records; a value of "" is a tombstone.
func (g *globalBench) put(topic string, kv ...string) {
	g.t.Helper()
	cl := g.client()
	for i := 0; i < len(kv); i += 2 {
		r := &kgo.Record{Topic: topic, Key: []byte(kv[i]), Value: []byte(kv[i+1])}
		if kv[i+1] == "" {
			r.Value = nil
		}
		cl.Produce(g.t.Context(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				g.t.Error(err)
			}
		})
	}
	if err := cl.Flush(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
}

// results waits for n results.
func (g *globalBench) results(n int) map[string]string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*time.Minute)
	defer cancel()
	got := map[string]string{}
	for len(got) < n {
		g.out.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got[string(r.Key)] = string(r.Value) })
		if ctx.Err() != nil {
			g.t.Fatalf("%d results, want %d: %v", len(got), n, got)
		}
	}
	return got
}

// until waits for a row of the global table.
func (g *globalBench) until(app *running, key, want string) {
	g.t.Helper()
	view, err := app.View(g.store)
	if err != nil {
		g.t.Fatal(err)
	}
	deadline := time.After(2 * time.Minute)
	for {
		e, _, err := view.Get(key)
		if err == nil && e.Value == want {
			return
		}
		select {
		case <-deadline:
			g.t.Fatalf("%q is %q (%v), want %q", key, e.Value, err, want)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// 73: the first record finds the whole table, whatever partition its row lies in; updates are followed, and a restart
// reads only what has come since.
func TestGlobalTableIsLoadedBeforeTheFirstRecordAndFollowed(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		g := newGlobalBench(t, b)
		const rows = 300
		var names, orders []string
		for i := range rows {
			k := strconv.Itoa(i)
			names = append(names, k, "name-"+k)
			orders = append(orders, "o"+k, k)
		}
		g.put(g.names, names...)
		g.put(g.names, "7", "")
		g.put(g.in, orders...)
		app := g.run(g.topology, g.config("a"), nil)
		for k, v := range g.results(rows) {
			want := fmt.Sprintf("%s=name-%s", k[1:], k[1:])
			if k == "o7" {
				want = "7=?"
			}
			if v != want {
				t.Errorf("%s is joined to %q, want %q", k, v, want)
			}
		}
		if n := app.RestoredRecords(); n < rows || n > rows+1 { // the cleaner may have been there
			t.Errorf("%d records read, want %d", n, rows+1)
		}
		g.put(g.names, "3", "third", "7", "seventh", "8", "")
		g.until(app, "3", "third")
		g.until(app, "7", "seventh")
		g.until(app, "8", "")
		g.put(g.in, "a", "3", "b", "7", "c", "8")
		got := g.results(3)
		if got["a"] != "3=third" || got["b"] != "7=seventh" || got["c"] != "8=?" {
			t.Errorf("after the updates: %v", got)
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		g.put(g.names, "9", "ninth")
		app = g.run(g.topology, g.config("a"), nil)
		g.put(g.in, "a", "9", "b", "3")
		if got := g.results(2); got["a"] != "9=ninth" || got["b"] != "3=third" {
			t.Errorf("after the restart: %v", got)
		}
		if n := app.RestoredRecords(); n != 1 {
			t.Errorf("%d records read after the restart, want the 1 that came meanwhile", n)
		}
	})
}

// Each of several instances has all of the table, and queries of any key are answered by any.
func TestEveryInstanceHasAllOfAGlobalTable(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		g := newGlobalBench(t, b)
		one, two := g.run(g.topology, g.config("a"), nil), g.run(g.topology, g.config("b"), nil)
		one.ready(t)
		two.ready(t)
		for i := range 20 {
			g.put(g.names, strconv.Itoa(i), "n")
		}
		for i := range 20 {
			g.until(one, strconv.Itoa(i), "n")
			g.until(two, strconv.Itoa(i), "n")
		}
	})
}

// A record of a global table that does not decode is the policy's.
func TestGlobalTableAppliesTheErrorPolicy(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		var build streams.Builder
		store := streams.Store[string, int64]{Name: "numbers"}
		table := build.GlobalTable(streams.Topic[string, int64]{Name: "numbers-" + b.app, Partitions: 2}, store)
		build.Stream(streams.Topic[string, string]{Name: b.in}).
			JoinGlobal(table, func(_, v string) (string, bool) { return v, true }, func(_, _ string, n int64) (int64, error) { return n, nil }).
			To(streams.Topic[string, int64]{Name: b.out})
		topology, err := build.Build()
		if err != nil {
			t.Fatal(err)
		}
		g := &globalBench{bench: b}
		app := g.run(topology, g.config("a"), nil)
		app.ready(t)
		g.put("numbers-"+b.app, "a", "not eight bytes", "b", "12345678")
		var re *streams.RecordError
		if err := app.wait(t); !errors.As(err, &re) || string(re.Key) != "a" {
			t.Fatalf("the application ended with %v", err)
		}
		cfg := g.config("a")
		cfg.OnError = func(context.Context, *streams.RecordError) streams.Decision { return streams.DeadLetter("letters") }
		app = g.run(topology, cfg, nil)
		app.ready(t)
		view, err := app.View(store)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := view.Get("b"); !ok || err != nil {
			t.Errorf("the good row is not there: %v", err)
		}
		if _, ok, err := view.Get("a"); ok || err != nil {
			t.Errorf("the bad row: %v, %v", ok, err)
		}
	})
}

// A global table whose topic is deleted and made anew has what is in the new one, and nothing else.
func TestAGlobalTablesTopicIsMadeAnew(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		g := newGlobalBench(t, b)
		g.put(g.names, "1", "first", "2", "second")
		app := g.run(g.topology, g.config("a"), nil)
		app.ready(t)
		g.until(app, "1", "first")
		b.delete(g.names)
		b.create(5, g.names)
		g.put(g.names, "1", "anew")
		g.until(app, "1", "anew")
		g.until(app, "2", "")
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

// While a global table is loaded anew no record is processed: it would find a part of the table, or nothing.
func TestRecordsWaitWhileAGlobalTableIsLoadedAnew(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		held, resume, entered, release := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
		hold, enter := sync.OnceFunc(func() { close(held) }), sync.OnceFunc(func() { close(entered) })
		slow := serde.Of("text", func(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }, func(data []byte) (string, error) {
			switch string(data) {
			case "hold":
				hold()
				<-resume
			case "anew":
				enter()
				<-release
			}
			return string(data), nil
		})
		g := &globalBench{bench: b, names: "names-" + b.app, store: streams.Store[string, string]{Name: "names"}}
		b.create(1, g.names)
		var build streams.Builder
		names := build.GlobalTable(streams.Topic[string, string]{Name: g.names, Value: slow}, g.store)
		build.Stream(streams.Topic[string, string]{Name: b.in}).
			JoinGlobal(names, func(_, v string) (string, bool) { return v, true }, func(_, v, name string) (string, error) { return v + "=" + name, nil }).
			To(streams.Topic[string, string]{Name: b.out})
		topology, err := build.Build()
		if err != nil {
			t.Fatal(err)
		}
		g.out = b.client(kgo.ConsumeTopics(b.out), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))
		g.put(g.names, "1", "first")
		app := g.run(topology, g.config("a"), nil)
		g.put(g.in, "a", "1")
		if got := g.results(1); got["a"] != "1=first" {
			t.Fatal(got)
		}
		g.put(g.names, "2", "hold") // or the new topic could be loaded while nothing is in it yet
		<-held
		b.delete(g.names)
		b.create(1, g.names)
		g.put(g.names, "1", "anew")
		close(resume)
		<-entered
		g.put(g.in, "b", "1")
		<-time.After(200 * time.Millisecond) // in which it would be joined with nothing, were it processed
		close(release)
		if got := g.results(1); got["b"] != "1=anew" {
			t.Error(got)
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}
