package streamstest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// Suppression as Leat decides; what it shares with Apache Kafka Streams the golden vectors show.

func suppressedTable(s streams.Suppression, out streams.Topic[string, *string]) func(b *streams.Builder) {
	return func(b *streams.Builder) {
		b.Table(streams.Topic[string, *string]{Name: "A"}, streams.Store[string, *string]{Name: "a"}).Suppress(s).ToStream().To(out)
	}
}

// 58, as Leat decides: a final result is final. At the instant when it goes out nothing is accepted any more, but from the
// record that brings the instant about, and what comes is late.
func TestSuppressedResultsAreFinal(t *testing.T) {
	sessions := sessionOut(serde.Int64)
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBySession(streams.Session(5 * milli).Grace(10 * milli)).
			Count(streams.SessionStore[string, int64]{Name: "s"}).Suppress(sup).To(sessions)
	})
	d.Send(plain, "k", "v", at(0))
	d.Send(plain, "j", "v", at(15))
	want(t, show(d.Read(sessions)), "k[0,0)=1@0")
	d.Send(plain, "k", "late", at(0))
	d.Send(plain, "k", "a session of its own", at(5))
	d.Send(plain, "z", "v", at(100))
	want(t, show(d.Read(sessions)), "k[5,5)=1@5", "j[15,15)=1@15")
	if n := d.Dropped().Late; n != 1 {
		t.Errorf("%d records were late, want 1", n)
	}
	for _, grace := range []time.Duration{0, 10 * milli} {
		sliding := streams.Topic[streams.Windowed[string], int64]{Name: "out", Key: serde.Windowed(serde.String, 10*milli), Value: serde.Int64}
		d := driver(t, func(b *streams.Builder) {
			b.Stream(plain).GroupByKey().WindowedBy(streams.Sliding(10 * milli).Grace(grace)).
				Count(streams.WindowStore[string, int64]{Name: "w"}).Suppress(sup).To(sliding)
		})
		r := rand.New(rand.NewPCG(1, uint64(grace)))
		now := int64(0)
		for range 500 {
			now += r.Int64N(8)
			d.Send(plain, string('a'+rune(r.IntN(3))), "v", at(max(0, now-r.Int64N(25))))
		}
		seen := map[string]bool{}
		for _, r := range d.Read(sliding) {
			at := fmt.Sprint(r.Key)
			if seen[at] {
				t.Errorf("grace %v: a second final result of %s", grace, at)
			}
			seen[at] = true
		}
		if len(seen) < 100 {
			t.Errorf("%d results only", len(seen))
		}
	}
}

// 58, 60: what is held survives a restart, in its place, with its headers; so does the suppression's time.
func TestSuppressionSurvivesRestarts(t *testing.T) {
	out := streams.Topic[string, *string]{Name: "out"}
	in := streams.Topic[string, *string]{Name: "A"}
	d := driver(t, suppressedTable(supFor(10), out))
	d.Send(in, "k", p("a"), at(0))
	d.Send(in, "k", p("b"), at(5), streamstest.Headers(streams.Header{Key: "h", Value: []byte("1")}, streams.Header{Key: "null"}))
	d.Send(in, "j", p("c"), at(9))
	d.Restart()
	d.Send(in, "j", nil, at(8))
	d.Send(in, "z", p("d"), at(19))
	got := d.Read(out)
	want(t, show(got), "k=b@5", "j=null@8")
	if len(got) == 2 && (len(got[0].Headers) != 2 || string(got[0].Headers[0].Value) != "1" || got[0].Headers[1].Value != nil || got[1].Headers != nil) {
		t.Errorf("headers %v and %v", got[0].Headers, got[1].Headers)
	}
	d.Restart()
	d.Send(in, "late", p("e"), at(1)) // its wait is over: the time that was observed is known
	want(t, show(d.Read(out)), "late=e@1")
}

// 59: a full buffer sends what is due first, or ends the application.
func TestSuppressionBounds(t *testing.T) {
	out := streams.Topic[string, *string]{Name: "out"}
	in := streams.Topic[string, *string]{Name: "A"}
	for _, s := range []streams.Suppression{
		{Name: "sup", Wait: time.Hour, MaxRecords: 2},
		{Name: "sup", Wait: time.Hour, MaxBytes: 120}, // a row has 48 bytes beside key and value
	} {
		d := driver(t, suppressedTable(s, out))
		d.Send(in, "b", p("1"), at(5))
		d.Send(in, "a", p("2"), at(5))
		d.Send(in, "b", p("3"), at(7))
		want(t, show(d.Read(out)))
		d.Restart()
		d.Send(in, "c", p("4"), at(1))
		d.Send(in, "d", p("5"), at(9))
		want(t, show(d.Read(out)), "c=4@1", "a=2@5")
	}
	s := streams.Suppression{Name: "sup", Wait: time.Hour, MaxBytes: 120, FailWhenFull: true}
	d := driver(t, suppressedTable(s, out))
	err := d.Fails(func() {
		for i, k := range []string{"a", "b", "c"} {
			d.Send(in, k, p("v"), at(int64(i)))
		}
	})
	if !errors.Is(err, streams.ErrSuppressFull) || !strings.Contains(err.Error(), "3 updates and 150 bytes, of at most 0 and 120") {
		t.Errorf("error %v", err)
	}
}

// 58: the value before an update that goes out is the one that went out before it, so that what is grouped adds up, and a
// join sees what has gone out.
func TestSuppressedTablesAddUp(t *testing.T) {
	out := streams.Topic[string, int64]{Name: "out", Key: serde.String, Value: serde.Int64}
	joined := streams.Topic[string, string]{Name: "joined"}
	ask := streams.Topic[string, string]{Name: "ask"}
	d := driver(t, func(b *streams.Builder) {
		counts := b.Stream(plain).GroupByKey().Count(streams.Store[string, int64]{Name: "n", NoBuffer: true}).Suppress(supFor(10))
		counts.GroupBy(func(_ string, n int64) (string, int64, error) { return "all", n, nil }).
			Reduce(streams.Store[string, int64]{Name: "sum"}, plus, minus).ToStream().To(out)
		b.Stream(ask).LeftJoinTable(counts, func(_, _ string, n *int64) (string, error) {
			if n == nil {
				return "none", nil
			}
			return dec(*n), nil
		}).To(joined)
	})
	lookup := func(what string) {
		t.Helper()
		d.Send(ask, "k", "?", at(0))
		if got := d.Read(joined); len(got) != 1 || got[0].Value != what {
			t.Errorf("a join sees %v, want %s", got, what)
		}
	}
	d.Send(plain, "k", "1", at(0))
	d.Send(plain, "k", "2", at(1))
	lookup("none")
	d.Send(plain, "j", "1", at(11))
	lookup("2")
	d.Send(plain, "k", "3", at(12))
	d.Restart()
	lookup("2")
	d.Send(plain, "j", "2", at(40))
	d.Send(plain, "x", "1", at(60))
	want(t, show(d.Read(out)), "all=2@1", "all=4@40", "all=5@40")
}

// What is held back is the same with and without buffering, and over any number of partitions and restarts: the last
// result of every window is what a count of its records is.
func TestSuppressedWindowsEqualAModel(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 2))
		grace := r.Int64N(12)
		out := streams.Topic[streams.Windowed[string], int64]{Name: "out", Key: serde.Windowed(serde.String, 10*milli), Value: serde.Int64}
		d := driver(t, func(b *streams.Builder) {
			b.Stream(plain).GroupByKey().WindowedBy(streams.Tumbling(10 * milli).Grace(time.Duration(grace) * milli)).
				Count(streams.WindowStore[string, int64]{Name: "w", NoBuffer: seed%2 == 0}).Suppress(sup).To(out)
		})
		model, observed, now := map[string]int64{}, int64(-1), int64(0)
		for range 60 {
			d.Together(func() {
				for range r.IntN(8) {
					now += r.Int64N(5)
					at0 := max(0, now-r.Int64N(20))
					k := string('a' + rune(r.IntN(4)))
					d.Send(plain, k, "v", at(at0))
					observed = max(observed, at0)
					if start := at0 / 10 * 10; start+10+grace > observed {
						model[fmt.Sprintf("%s@%d", k, start)]++
					}
				}
			})
			if r.IntN(10) == 0 {
				d.Restart()
			}
		}
		d.Send(plain, "end", "v", at(now+1000))
		got := map[string]int64{}
		for _, r := range d.Read(out) {
			k := fmt.Sprintf("%s@%d", r.Key.Key, r.Key.Start.UnixMilli())
			if got[k] != 0 {
				t.Errorf("seed %d: %s has a second result", seed, k)
			}
			got[k] = r.Value
		}
		if diff := cmp.Diff(model, got); diff != "" {
			t.Errorf("seed %d, grace %d (-model +got):\n%s", seed, grace, diff)
		}
	}
}

func TestSuppressionMistakes(t *testing.T) {
	var b streams.Builder
	g := b.Stream(plain).GroupByKey()
	g.WindowedBy(streams.Unlimited(time.UnixMilli(0))).Count(streams.WindowStore[string, int64]{Name: "w1"}).Suppress(sup)
	g.WindowedBy(streams.Tumbling(time.Second)).Count(streams.WindowStore[string, int64]{Name: "w2"}).Suppress(streams.Suppression{Name: "early", MaxRecords: 5})
	n := g.Count(streams.Store[string, int64]{Name: "n"})
	n.Suppress(streams.Suppression{Name: "negative", Wait: -1})
	n.Suppress(streams.Suppression{Name: "negative", MaxBytes: -1})
	n.Suppress(streams.Suppression{})
	_, err := b.Build()
	if err == nil {
		t.Fatal("the topology is accepted")
	}
	for _, part := range []string{"do not close", "nothing may go out early", "waits for -1ns", "two stores are named", "-1 bytes", "a suppression has no name"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in:\n%v", part, err)
		}
	}
}
