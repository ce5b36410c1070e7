//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

// What the second instance of queriesOn, a process that can be killed, is told by.
const (
	queriedDirEnv    = "LEAT_QUERIED_DIR"
	queriedServerEnv = "LEAT_QUERIED_SERVER"

	queriedPartitions = 6
	queriedKeys       = 300
)

var (
	queriedWords  = streams.Topic[string, string]{Name: "queried-words"}
	queriedCounts = streams.Store[string, int64]{Name: "queried-counts"}
)

// queriedApp counts the records of each key; each instance keeps copies of what the other one counts.
func queriedApp(addrs, dir string) (*streams.App, error) {
	var b streams.Builder
	b.Stream(queriedWords).GroupByKey().Count(queriedCounts)
	topology, err := b.Build()
	if err != nil {
		return nil, err
	}
	return streams.New(topology, streams.Config{AppID: "queried", Brokers: strings.Split(addrs, ","), StateDir: dir, MemoryBytes: 32 << 20,
		Listen: "127.0.0.1:0", Standbys: 1, Queries: streams.QueryConfig{Timeout: time.Minute}})
}

// serveQueried is the instance that is killed.
func serveQueried(dir string) {
	app, err := queriedApp(os.Getenv(queriedServerEnv), dir)
	if err == nil {
		go func() {
			<-app.Ready()
			fmt.Println("ready")
		}()
		err = app.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// queried is the application under test, and what its store has to hold.
type queried struct {
	t    *testing.T
	cl   *kgo.Client
	app  *streams.App
	view *streams.View[string, int64]
	want map[string]int64
	last map[string]streams.Position // of the latest record of each key
}

// queriesOn asks one of two instances, the other of which is killed and comes back, in every way that there is: by key, for
// ranges, for what was written just now, from copies, and for what changes.
func queriesOn(t *testing.T, addrs string) {
	q := &queried{t: t, want: map[string]int64{}, last: map[string]streams.Position{}}
	var err error
	q.cl, err = kgo.NewClient(kgo.SeedBrokers(strings.Split(addrs, ",")...), kgo.DefaultProduceTopic(queriedWords.Name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.cl.Close)
	made, err := kadm.NewClient(q.cl).CreateTopics(t.Context(), queriedPartitions, -1, nil, queriedWords.Name)
	if err := errors.Join(err, made.Error()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if q.app, err = queriedApp(addrs, filepath.Join(dir, "here")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.app.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if q.view, err = q.app.View(queriedCounts); err != nil {
		t.Fatal(err)
	}
	t.Setenv(queriedDirEnv, filepath.Join(dir, "there"))
	t.Setenv(queriedServerEnv, addrs)
	there := startApp(t, os.Args[0])
	defer func() { there.Process.Kill(); there.Wait() }()
	q.shared()

	q.write(4)
	q.readEverywhere(addrs)
	updates, final := make(chan error, 1), make(chan map[string]int64, 1)
	go func() { updates <- q.follow(t.Context(), q.view.Subscribe(t.Context(), nil, nil), final) }()

	there.Process.Kill()
	there.Wait()
	q.readCopies()
	q.write(1)
	started := make(chan error, 1)
	go func() { started <- q.readWrites() }() // waits for the instance that is away
	there = startApp(t, os.Args[0])
	began := time.Now()
	if err := <-started; err != nil {
		t.Errorf("what was written while the other instance was away: %v", err)
	}
	t.Logf("the killed instance's part shows what was written meanwhile %v after it was ready again", time.Since(began).Round(time.Millisecond))
	q.readEverywhere(addrs)
	final <- maps.Clone(q.want)
	if err := <-updates; err != nil {
		t.Errorf("what the subscriber has seen: %v", err)
	}
}

// shared waits until both instances have tasks, and this one copies of the other's.
func (q *queried) shared() {
	q.t.Helper()
	within(q.t, func() error {
		runs, copies := 0, 0
		for _, s := range q.app.Tasks() {
			switch {
			case s.Role == streams.TaskRunning:
				runs++
			case s.Role == streams.TaskStandby && s.Remaining == 0:
				copies++
			}
		}
		if runs == 0 || copies == 0 || runs+copies != queriedPartitions {
			return fmt.Errorf("%d tasks run here, of %d there are copies; want all %d, and some of each", runs, copies, queriedPartitions)
		}
		return nil
	})
}

// within waits until f succeeds.
func within(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func queriedKey(n int) string { return fmt.Sprintf("key%03d", n) }

// write writes n records of each key.
func (q *queried) write(n int) {
	q.t.Helper()
	var recs []*kgo.Record
	for range n {
		for k := range queriedKeys {
			recs = append(recs, &kgo.Record{Key: []byte(queriedKey(k)), Value: []byte("x")})
		}
	}
	for _, r := range q.cl.ProduceSync(q.t.Context(), recs...) {
		if r.Err != nil {
			q.t.Fatal(r.Err)
		}
		q.want[string(r.Record.Key)]++
		q.last[string(r.Record.Key)] = streams.PositionOf(r.Record)
	}
}

// holds checks that rows are the wanted counts of the keys that pick has.
func (q *queried) holds(rows iter.Seq2[streams.Entry[string, int64], error], pick func(string) bool) error {
	want := maps.Clone(q.want)
	maps.DeleteFunc(want, func(k string, _ int64) bool { return !pick(k) })
	got, last := map[string]int64{}, ""
	for e, err := range rows {
		if err != nil {
			return err
		}
		if e.Key <= last {
			return fmt.Errorf("%s comes after %s", e.Key, last)
		}
		got[e.Key], last = e.Value, e.Key
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("%d rows, want %d, or other counts", len(got), len(want))
	}
	return nil
}

func every(string) bool { return true }

// readWrites wants of each key the count that its latest record has brought.
func (q *queried) readWrites() error {
	for k, n := range q.want {
		v := q.view.Reading(q.t.Context(), streams.Reading{After: []streams.Position{q.last[k]}})
		if e, ok, err := v.Get(k); err != nil || !ok || e.Value != n {
			return fmt.Errorf("%s: %d, %t, %v; want %d", k, e.Value, ok, err, n)
		}
	}
	return nil
}

// readEverywhere reads by key, ranges and all, here and as a program that is no instance.
func (q *queried) readEverywhere(addrs string) {
	q.t.Helper()
	if err := q.readWrites(); err != nil {
		q.t.Error(err)
	}
	for k, n := range q.want { // here, and where else it is
		if e, ok, err := q.view.Get(k); err != nil || !ok || e.Value != n {
			q.t.Fatalf("%s: %d, %t, %v; want %d", k, e.Value, ok, err, n)
		}
	}
	local := 0
	for _, err := range q.view.Reading(q.t.Context(), streams.Reading{Local: true}).All() {
		if err != nil {
			q.t.Fatal(err)
		}
		local++
	}
	if local == 0 || local == len(q.want) {
		q.t.Errorf("%d of %d rows are with this instance, want a part", local, len(q.want))
	}
	remote, err := streams.NewRemote(streams.RemoteConfig{AppID: "queried", Brokers: strings.Split(addrs, ",")})
	if err != nil {
		q.t.Fatal(err)
	}
	defer remote.Close()
	afar, err := remote.View(queriedCounts)
	if err != nil {
		q.t.Fatal(err)
	}
	from, to := queriedKey(50), queriedKey(99)
	for name, v := range map[string]interface {
		All() iter.Seq2[streams.Entry[string, int64], error]
		Range(from, to *string) iter.Seq2[streams.Entry[string, int64], error]
	}{"an instance": q.view, "no instance": afar} {
		if err := errors.Join(q.holds(v.All(), every), q.holds(v.Range(&from, &to), func(k string) bool { return k >= from && k <= to })); err != nil {
			q.t.Errorf("asked by %s: %v", name, err)
		}
	}
	// The copies have it, too, a little later.
	copies := q.view.Reading(q.t.Context(), streams.Reading{Local: true, Staleness: time.Millisecond})
	within(q.t, func() error { return q.holds(copies.All(), every) })
}

// readCopies reads while the owner of some rows is dead.
func (q *queried) readCopies() {
	q.t.Helper()
	stale := q.view.Reading(q.t.Context(), streams.Reading{Staleness: time.Minute})
	if err := q.holds(stale.All(), every); err != nil {
		q.t.Errorf("with copies: %v", err)
	}
	for k, n := range q.want {
		if e, ok, err := stale.Get(k); err != nil || !ok || e.Value != n {
			q.t.Fatalf("from copies: %s: %d, %t, %v; want %d", k, e.Value, ok, err, n)
		}
	}
	ctx, cancel := context.WithTimeout(q.t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := q.holds(q.view.Reading(ctx, streams.Reading{}).All(), every); err == nil {
		q.t.Error("all rows came of owners, one of which is dead")
	}
}

// follow reads updates until they have brought what final then says, and no count has fallen.
func (q *queried) follow(ctx context.Context, updates iter.Seq2[streams.Update[string, int64], error], final <-chan map[string]int64) error {
	got, snapshot := map[string]int64{}, 0
	var want map[string]int64
	for u, err := range updates {
		if err != nil {
			return err
		}
		if u.Value < got[u.Key] || u.Deleted {
			return fmt.Errorf("the count of %s goes from %d to %d", u.Key, got[u.Key], u.Value)
		}
		if got[u.Key] = u.Value; u.Snapshot {
			snapshot++
		}
		if len(got) < queriedKeys || got[queriedKey(0)] < 5 {
			continue
		}
		if want == nil {
			select {
			case want = <-final:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if maps.Equal(got, want) {
			if snapshot != queriedKeys {
				return fmt.Errorf("%d rows at the beginning, want %d", snapshot, queriedKeys)
			}
			return nil
		}
	}
	return fmt.Errorf("it ended with %d rows: %w", len(got), ctx.Err())
}
