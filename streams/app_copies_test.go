package streams_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

var (
	secondly = streams.WindowStore[string, int64]{Name: "secondly", Size: time.Second, Retention: 3 * time.Second}
	visits   = streams.SessionStore[string, int64]{Name: "visits", Retention: 2 * time.Second}
	windowed = time.UnixMilli(1_700_000_000_000).UTC() // when the records begin
)

// windows counts lines by key in windows of a second, and in sessions that end after half a second of silence.
func (b *bench) windows() *streams.Topology {
	b.t.Helper()
	var sb streams.Builder
	g := sb.Stream(streams.Topic[string, string]{Name: b.in}).GroupByKey()
	g.WindowedBy(streams.Tumbling(time.Second)).Count(secondly).
		To(streams.Topic[streams.Windowed[string], int64]{Name: b.out})
	g.WindowedBySession(streams.Session(500 * time.Millisecond)).Count(visits)
	topology, err := sb.Build()
	if err != nil {
		b.t.Fatal(err)
	}
	return topology
}

const windowKeys = 20

// tick writes a record of each key in each second from one, included, to another, excluded.
func (b *bench) tick(from, to int) {
	b.t.Helper()
	cl := b.client(kgo.DefaultProduceTopic(b.in))
	for at := from; at < to; at++ {
		for k := range windowKeys {
			cl.Produce(b.t.Context(), &kgo.Record{Key: []byte("k" + strconv.Itoa(k)), Value: []byte("x"), Timestamp: second(at)}, func(_ *kgo.Record, err error) {
				if err != nil {
					b.t.Error(err)
				}
			})
		}
	}
	if err := cl.Flush(b.t.Context()); err != nil {
		b.t.Error(err)
	}
}

func second(n int) time.Time { return windowed.Add(time.Duration(n) * time.Second) }

// collected are rows as texts key@second.
func collected(rows iter.Seq2[streams.Entry[streams.Windowed[string], int64], error]) (map[string]int64, error) {
	got := map[string]int64{}
	for e, err := range rows {
		if err != nil {
			return nil, err
		}
		got[fmt.Sprintf("%s@%d", e.Key.Key, e.Key.Start.Sub(windowed)/time.Second)] = e.Value
	}
	return got, nil
}

// ticked are the rows of the seconds from one, included, to another, excluded.
func ticked(from, to int, keys ...string) map[string]int64 {
	if keys == nil {
		for k := range windowKeys {
			keys = append(keys, "k"+strconv.Itoa(k))
		}
	}
	want := map[string]int64{}
	for at := from; at < to; at++ {
		for _, k := range keys {
			want[fmt.Sprintf("%s@%d", k, at)] = 1
		}
	}
	return want
}

func windowsAre(rows iter.Seq2[streams.Entry[streams.Windowed[string], int64], error], want map[string]int64) error {
	got, err := collected(rows)
	if err == nil && !maps.Equal(got, want) {
		err = fmt.Errorf("windows %v, want %v", got, want)
	}
	return err
}

// windowViews are the views of both stores at one instance.
func windowViews(t *testing.T, app *running) (*streams.WindowView[string, int64], *streams.SessionView[string, int64]) {
	t.Helper()
	w, err := app.WindowView(secondly)
	if err != nil {
		t.Fatal(err)
	}
	s, err := app.SessionView(visits)
	if err != nil {
		t.Fatal(err)
	}
	return w, s
}

// pair starts two instances, each with copies of the other's tasks.
func (b *bench) pair(topology *streams.Topology) (first, second *running) {
	b.t.Helper()
	cfg := b.asked("first")
	cfg.Standbys, cfg.LeaveOnStop = 1, true
	first = b.run(topology, cfg, nil)
	first.ready(b.t)
	other := b.asked("second")
	other.Standbys = 1
	return first, b.run(topology, other, nil)
}

// Windows and sessions are found from every instance: a range of all of them wherever they are, one key's where it is, and
// from copies.
func TestWindowsAreFoundFromEveryInstance(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		first, other := b.pair(b.windows())
		b.tick(0, 3)
		half := func(tasks []streams.TaskStatus) bool { n := count(tasks, runs); return n > 0 && n < 3 }
		other.until(t, "some of the tasks run here", half)
		first.until(t, "some of the tasks run here", half)
		all := ticked(0, 3)
		for _, app := range []*running{first, other} {
			w, s := windowViews(t, app)
			eventually(t, func() error { return windowsAre(w.Range(second(0), second(9)), all) })
			eventually(t, func() error { return windowsAre(s.Range(second(0), second(9)), all) })
			eventually(t, func() error { return windowsAre(w.Range(second(1), second(1)), ticked(1, 2)) })
			for _, k := range []string{"k0", "k1", "k2", "k3", "k4", "k5"} { // on both instances
				eventually(t, func() error { return windowsAre(w.Fetch(k, second(1), second(9)), ticked(1, 3, k)) })
				eventually(t, func() error { return windowsAre(s.Sessions(k, second(1), second(9)), ticked(1, 3, k)) })
			}
			here := streams.Reading{Local: true}
			if got, err := collected(w.Reading(t.Context(), here).Range(second(0), second(9))); err != nil || len(got) == 0 || len(got) == len(all) {
				t.Errorf("%d of %d windows are with one instance (%v), want a part", len(got), len(all), err)
			}
			here.Staleness = time.Millisecond // with its copies each instance has all
			eventually(t, func() error { return windowsAre(w.Reading(t.Context(), here).Range(second(0), second(9)), all) })
			eventually(t, func() error { return windowsAre(s.Reading(t.Context(), here).Range(second(0), second(9)), all) })
		}
	})
}

// A subscriber has the windows, and then what changes of them.
func TestSubscribersSeeWindows(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		app := b.run(b.windows(), b.asked("a"), nil)
		app.ready(t)
		b.tick(0, 1)
		w, s := windowViews(t, app)
		eventually(t, func() error { return windowsAre(w.Range(second(0), second(2)), ticked(0, 1)) })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		see := func(updates iter.Seq2[streams.Update[streams.Windowed[string], int64], error], more func()) {
			t.Helper()
			got, snapshot := map[string]int64{}, 0
			for u, err := range updates {
				if err != nil || u.Deleted {
					t.Fatalf("%+v, %v", u, err)
				}
				if got[fmt.Sprintf("%s@%d", u.Key.Key, u.Key.Start.Sub(windowed)/time.Second)] = u.Value; u.Snapshot {
					snapshot++
				}
				if len(got) == windowKeys && more != nil {
					more()
					more = nil
				}
				if len(got) == 2*windowKeys {
					break
				}
			}
			if want := ticked(0, 2); !maps.Equal(got, want) || snapshot < windowKeys {
				t.Errorf("windows %v, of them %d at the beginning; want %v", got, snapshot, want)
			}
		}
		see(w.Subscribe(ctx, second(0), second(1)), func() { b.tick(1, 2); b.tick(2, 3) })
		see(s.Subscribe(ctx, second(0), second(1)), nil)
	})
}

// A copy lets go of the windows that its owner has let go of, and has exactly the others when it takes over.
func TestCopiesOfWindowsStayBounded(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		first, other := b.pair(b.windows())
		const rounds, bound = 60, windowKeys * 10
		b.tick(0, rounds)
		next := rounds
		for _, app := range []*running{first, other} {
			w, s := windowViews(t, app)
			here := streams.Reading{Local: true, Staleness: time.Hour}
			other.until(t, "copies of all tasks", func(tasks []streams.TaskStatus) bool { return len(tasks) == 3 })
			eventually(t, func() error { // what the owner has let go of goes with the next commits
				b.tick(next, next+1)
				next++
				ws, err := collected(w.Reading(t.Context(), here).Range(second(0), second(next)))
				if err != nil {
					return err
				}
				ss, err := collected(s.Reading(t.Context(), here).Range(second(0), second(next)))
				if err != nil || len(ws) > bound || len(ss) > bound || len(ws) < windowKeys || len(ss) < windowKeys {
					return fmt.Errorf("%d windows and %d sessions after %d rounds (%v), want at most %d, and a round", len(ws), len(ss), next, err, bound)
				}
				return nil
			})
		}
		w, s := windowViews(t, other)
		kept := ticked(next-2, next) // what can still change, and is kept for certain
		eventually(t, func() error { return windowsAre(w.Range(second(next-2), second(next)), kept) })
		eventually(t, func() error { return windowsAre(s.Range(second(next-2), second(next)), kept) })
		first.stop()
		if err := first.wait(t); err != nil {
			t.Fatal(err)
		}
		other.until(t, "all tasks run here", func(tasks []streams.TaskStatus) bool { return count(tasks, runs) == 3 })
		if err := windowsAre(w.Range(second(next-2), second(next)), kept); err != nil {
			t.Error(err)
		}
		if err := windowsAre(s.Range(second(next-2), second(next)), kept); err != nil {
			t.Error(err)
		}
	})
}

// tableOfSource is a table whose source topic is its changelog.
func (b *bench) tableOfSource() (*streams.Topology, streams.Store[string, string]) {
	b.t.Helper()
	table := streams.Store[string, string]{Name: "table"}
	sb := streams.Builder{Optimize: true}
	sb.Table(streams.Topic[string, string]{Name: b.in}, table).ToStream().To(streams.Topic[string, string]{Name: b.out})
	topology, err := sb.Build()
	if err != nil {
		b.t.Fatal(err)
	}
	return topology, table
}

// A table whose source topic is its changelog has copies, too: with what its owner has processed, and nothing to replay when
// they take over.
func TestTablesOfSourceTopicsHaveCopies(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		topology, table := b.tableOfSource()
		first, other := b.pair(topology)
		b.say(map[string]int64{}, lines(300, 50)...)
		b.say(map[string]int64{}, lines(100, 50)...)
		copied := func(tasks []streams.TaskStatus) bool {
			return len(tasks) == 3 && count(tasks, func(s streams.TaskStatus) bool { return s.Role == streams.TaskStandby && s.Remaining == 0 }) > 0
		}
		other.until(t, "three tasks, some of them copies", copied)
		views := map[*running]*streams.View[string, string]{}
		for _, app := range []*running{first, other} {
			v, err := app.View(table)
			if err != nil {
				t.Fatal(err)
			}
			views[app] = v
		}
		rows := func(v *streams.View[string, string]) (map[string]string, error) {
			got := map[string]string{}
			for e, err := range v.All() {
				if err != nil {
					return nil, err
				}
				got[e.Key] = e.Value
			}
			return got, nil
		}
		var want map[string]string
		eventually(t, func() (err error) {
			if want, err = rows(views[first]); err == nil && len(want) != 300 {
				err = fmt.Errorf("%d rows, want 300", len(want))
			}
			return err
		})
		here := views[other].Reading(t.Context(), streams.Reading{Local: true, Staleness: time.Nanosecond})
		eventually(t, func() error {
			got, err := rows(here)
			if err == nil && !maps.Equal(got, want) {
				err = fmt.Errorf("the other instance has %d rows, or other ones", len(got))
			}
			return err
		})
		before := other.RestoredRecords()
		first.stop()
		if err := first.wait(t); err != nil {
			t.Fatal(err)
		}
		other.until(t, "all tasks run here", func(tasks []streams.TaskStatus) bool { return count(tasks, runs) == 3 })
		if n := other.RestoredRecords() - before; n != 0 {
			t.Errorf("%d records were replayed although the rows were there", n)
		}
		if got, err := rows(views[other]); err != nil || !maps.Equal(got, want) {
			t.Errorf("%d rows (%v) after the take-over, want those of the owner", len(got), err)
		}
	})
}

// Such a table is copied before its task moves to an instance that has nothing of it.
func TestTablesOfSourceTopicsMoveWhenTheirRowsAreThere(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		topology, table := b.tableOfSource()
		cfg := b.config("first")
		cfg.AcceptableLag = 1
		first := b.run(topology, cfg, nil)
		first.ready(t)
		b.say(map[string]int64{}, lines(300, 50)...)
		first.until(t, "everything is processed", func(tasks []streams.TaskStatus) bool {
			return count(tasks, func(s streams.TaskStatus) bool { return runs(s) && s.Lag == 0 }) == 3 && rowsHere(first, table) == 300
		})
		other := b.config("second")
		other.AcceptableLag = 1
		second := b.run(topology, other, nil)
		second.until(t, "one of the tasks runs here", func(tasks []streams.TaskStatus) bool { return count(tasks, runs) == 1 })
		if n := second.RestoredRecords(); n != 0 {
			t.Errorf("%d records were replayed by a task that had been taken from its owner", n)
		}
	})
}

// rowsHere is how many rows of a table an instance shows.
func rowsHere(app *running, table streams.Store[string, string]) (n int) {
	v, err := app.View(table)
	if err != nil {
		return 0
	}
	for _, err := range v.All() {
		if err != nil {
			return 0
		}
		n++
	}
	return n
}
