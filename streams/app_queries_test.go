package streams_test

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

// asked is an instance that answers queries.
func (b *bench) asked(dir string) streams.Config {
	cfg := b.config(dir)
	cfg.Listen = "127.0.0.1:0"
	return cfg
}

func (b *bench) counts(app *running) *streams.View[string, int64] {
	b.t.Helper()
	v, err := app.View(counts)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

var counts = streams.Store[string, int64]{Name: "counts"}

// holds checks that a view has just these rows, in order.
func holds(rows iter.Seq2[streams.Entry[string, int64], error], want map[string]int64) error {
	got := map[string]int64{}
	var keys []string
	for e, err := range rows {
		if err != nil {
			return err
		}
		got[e.Key] = e.Value
		keys = append(keys, e.Key)
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("%d rows, want %d, or other counts", len(got), len(want))
	}
	if !slices.IsSorted(keys) {
		return fmt.Errorf("keys are not in order: %q", keys)
	}
	return nil
}

// foundByCount checks that an index finds just these words, all and by each count, in order.
func foundByCount(v *streams.IndexView[string, int64, int64], want map[string]int64) error {
	got, last := map[string]int64{}, streams.Entry[string, int64]{}
	for e, err := range v.Range(nil, nil) {
		if err != nil {
			return err
		}
		if cmp.Or(cmp.Compare(last.Value, e.Value), cmp.Compare(last.Key, e.Key)) > 0 {
			return fmt.Errorf("%v comes before %v", last, e)
		}
		got[e.Key], last = e.Value, e
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("found %d words, want %d, or other counts", len(got), len(want))
	}
	most := last.Value
	for e, err := range v.Get(most) {
		if err != nil || e.Value != most {
			return fmt.Errorf("%v, %v among those counted %d times", e, err, most)
		}
		delete(got, e.Key)
	}
	for e, err := range v.BackwardRange(nil, &most) {
		if err != nil || e.Value > most {
			return fmt.Errorf("%v, %v among those counted %d times or less", e, err, most)
		}
		most = e.Value
		delete(got, e.Key)
	}
	if len(got) > 0 {
		return fmt.Errorf("not found again: %v", got)
	}
	return nil
}

// runsHere is how many tasks with state the instance runs.
func runsHere(tasks []streams.TaskStatus) int {
	return count(tasks, func(s streams.TaskStatus) bool { return runs(s) && stateful(s) })
}

func TestViewsReadTheWholeStoreWhereverItsTasksAre(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		cfg := b.asked("first")
		cfg.LeaveOnStop = true
		first := b.start(cfg, nil)
		first.ready(t)
		b.say(want, lines(300, 60)...)
		out.expect(want)
		second := b.start(b.asked("second"), nil)
		views := []*streams.View[string, int64]{b.counts(first), b.counts(second)}

		// While tasks move, no query fails, and no count falls.
		var asked atomic.Int64
		stop, done := make(chan struct{}), make(chan error, len(views))
		for _, v := range views[1:] {
			go func() { done <- askOn(v, slices.Sorted(maps.Keys(want)), want, &asked, stop) }()
		}
		second.until(t, "some of the tasks run here", func(tasks []streams.TaskStatus) bool { return runsHere(tasks) > 0 })
		first.until(t, "not all tasks run here", func(tasks []streams.TaskStatus) bool { n := runsHere(tasks); return n > 0 && n < 3 })
		for i, v := range views {
			eventually(t, func() error { return holds(v.All(), want) })
			from, to := "w2", "w4"
			part := maps.Clone(want)
			maps.DeleteFunc(part, func(k string, _ int64) bool { return k < from || k > to })
			if err := holds(v.Range(&from, &to), part); err != nil {
				t.Errorf("instance %d: %v", i, err)
			}
			index, err := []*running{first, second}[i].IndexView(counts, byCount)
			if err != nil {
				t.Fatal(err)
			}
			if err := foundByCount(index, want); err != nil {
				t.Errorf("instance %d, by index: %v", i, err)
			}
			if n, err := v.ApproximateCount(); err != nil || n != int64(len(want)) {
				t.Errorf("instance %d counts %d rows (%v), want %d", i, n, err, len(want))
			}
			local := 0
			for _, err := range v.Reading(t.Context(), streams.Reading{Local: true}).All() {
				if err != nil {
					t.Error(err)
				}
				local++
			}
			if local == 0 || local == len(want) {
				t.Errorf("instance %d has %d of %d rows itself", i, local, len(want))
			}
		}
		first.stop()
		if err := first.wait(t); err != nil {
			t.Fatal(err)
		}
		second.until(t, "all tasks run here", func(tasks []streams.TaskStatus) bool { return runsHere(tasks) == 3 })
		for n := asked.Load(); asked.Load() == n && len(done) == 0; {
			<-time.After(time.Millisecond)
		}
		close(stop)
		for range views[1:] {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := holds(views[1].All(), want); err != nil {
			t.Error(err)
		}
	})
}

// askOn asks for keys until stop is closed.
func askOn(v *streams.View[string, int64], keys []string, want map[string]int64, asked *atomic.Int64, stop <-chan struct{}) error {
	for {
		for _, k := range keys {
			select {
			case <-stop:
				return nil
			default:
			}
			if _, ok, err := v.Get(k); err != nil && !errors.Is(err, streams.ErrNotReady) {
				return err
			} else if err == nil && !ok {
				return fmt.Errorf("no row of %q, want %d", k, want[k])
			}
			asked.Add(1)
		}
	}
}

func TestQueriesSeeWhatTheyWaitFor(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		first, second := b.start(b.asked("first"), nil), b.start(b.asked("second"), nil)
		first.until(t, "some tasks", func(tasks []streams.TaskStatus) bool { n := runsHere(tasks); return n > 0 && n < 3 })
		second.until(t, "the other tasks", func(tasks []streams.TaskStatus) bool { n := runsHere(tasks); return n > 0 && n < 3 })
		views := []*streams.View[string, int64]{b.counts(first), b.counts(second)}
		cl := b.client(kgo.DefaultProduceTopic(b.in))
		for n := range 12 {
			word := fmt.Sprintf("word%d", n)
			r := &kgo.Record{Key: []byte(word), Value: []byte(word)}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			v := views[n%2].Reading(t.Context(), streams.Reading{After: []streams.Position{streams.PositionOf(r)}})
			if e, ok, err := v.Get(word); err != nil || !ok || e.Value != 1 {
				t.Fatalf("%q: %+v, %t, %v; want what was written before", word, e, ok, err)
			}
		}
		v := views[0].Reading(t.Context(), streams.Reading{After: []streams.Position{{Topic: "elsewhere"}}})
		if _, _, err := v.Get("word1"); err == nil || !strings.Contains(err.Error(), "does not lead to the store") {
			t.Errorf("a position in a topic that the application does not read: %v", err)
		}
	})
}

// remote asks the application's instances from outside.
func (b *bench) remote(q streams.QueryConfig) *streams.Remote {
	b.t.Helper()
	r, err := streams.NewRemote(streams.RemoteConfig{AppID: b.app, Brokers: b.brokers, Client: b.opts, Queries: q})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func TestCopiesAnswerWithinABound(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		cfg := b.asked("first")
		cfg.Standbys = 1
		first := b.start(cfg, nil)
		first.ready(t)
		other := b.asked("second")
		other.Standbys = 1
		second := b.start(other, nil)
		b.say(want, lines(300, 60)...)
		out.expect(want)
		second.until(t, "tasks and copies", func(tasks []streams.TaskStatus) bool {
			return runsHere(tasks) > 0 && runsHere(tasks) < 3 && count(tasks, stateful) == 3
		})
		stale := b.counts(second).Reading(t.Context(), streams.Reading{Staleness: 50 * time.Millisecond})
		eventually(t, func() error { return holds(stale.All(), want) })
		first.stop() // and it stays a member: its tasks go nowhere for now
		if err := first.wait(t); err != nil {
			t.Fatal(err)
		}
		if err := holds(stale.All(), want); err != nil {
			t.Errorf("with copies: %v", err)
		}
		impatient := b.remote(streams.QueryConfig{Timeout: 300 * time.Millisecond})
		defer impatient.Close()
		v, err := impatient.View(counts)
		if err != nil {
			t.Fatal(err)
		}
		if err := holds(v.All(), want); !errors.Is(err, streams.ErrUnavailable) {
			t.Errorf("without copies: %v, want ErrUnavailable", err)
		}
	})
}

func TestRemoteAsksWithTokenAndTLS(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		lent := httptest.NewTLSServer(nil) // for its certificate
		defer lent.Close()
		pool := x509.NewCertPool()
		pool.AddCert(lent.Certificate())
		want := map[string]int64{}
		out := b.results()
		cfg := b.asked("a")
		cfg.Queries = streams.QueryConfig{Token: "secret", TLS: &tls.Config{Certificates: lent.TLS.Certificates}, ClientTLS: &tls.Config{RootCAs: pool}}
		app := b.start(cfg, nil)
		b.say(want, lines(100, 30)...)
		out.expect(want)
		ask := func(token string) error {
			remote := b.remote(streams.QueryConfig{Token: token, ClientTLS: cfg.Queries.ClientTLS, Timeout: 5 * time.Second})
			defer remote.Close()
			v, err := remote.View(counts)
			if err != nil {
				t.Fatal(err)
			}
			if err := holds(v.All(), want); err != nil {
				return err
			}
			index, err := remote.IndexView(counts, byCount)
			if err != nil {
				t.Fatal(err)
			}
			if err := foundByCount(index, want); err != nil {
				return err
			}
			for k, n := range want {
				if e, ok, err := v.Get(k); err != nil || !ok || e.Value != n {
					return fmt.Errorf("%q: %+v, %t, %v", k, e, ok, err)
				}
			}
			return nil
		}
		eventually(t, func() error { return ask("secret") })
		if err := ask("guessed"); err == nil || !strings.Contains(err.Error(), "token") {
			t.Errorf("with a wrong token: %v", err)
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHealthSaysHowFarTheInstanceIs(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		topology, _, err := wordCount(b.in, b.out)
		if err != nil {
			t.Fatal(err)
		}
		app, err := streams.New(topology, b.config("a"))
		if err != nil {
			t.Fatal(err)
		}
		get := func(path string) (int, string) {
			w := httptest.NewRecorder()
			app.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			return w.Code, w.Body.String()
		}
		if code, text := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, `"state":"created"`) {
			t.Errorf("before Run: %d %s", code, text)
		}
		run := b.drive(app)
		run.ready(t)
		if code, text := get("/readyz"); code != http.StatusOK || !strings.Contains(text, `"restored_percent":100`) {
			t.Errorf("ready: %d %s", code, text)
		}
		if code, text := get("/livez"); code != http.StatusOK {
			t.Errorf("alive: %d %s", code, text)
		}
		run.stop()
		if err := run.wait(t); err != nil {
			t.Fatal(err)
		}
		if code, _ := get("/livez"); code != http.StatusServiceUnavailable {
			t.Errorf("after the end /livez says %d", code)
		}
	})
}

func TestListenIsChecked(t *testing.T) {
	for _, c := range []struct {
		listen, advertise, want string
	}{
		{"nonsense", "", "want host:port"},
		{":7070", "", "Advertise"},
		{"0.0.0.0:7070", "", "Advertise"},
		{"0.0.0.0:7070", "ftp://x", "want a URL"},
		{"0.0.0.0:7070", "http://10.0.0.7:7070", ""},
		{"localhost:0", "", ""},
	} {
		cfg := streams.Config{AppID: "a", Brokers: []string{"b:1"}, Listen: c.listen, Queries: streams.QueryConfig{Advertise: c.advertise}}
		err := cfg.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
