package streamstest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// Windowing as Leat decides; what it shares with Apache Kafka Streams the golden vectors show.

func sessionOut[V any](val serde.Serde[V]) streams.Topic[streams.Windowed[string], V] {
	return streams.Topic[streams.Windowed[string], V]{Name: "out", Key: serde.SessionWindowed(serde.String), Value: val}
}

// 53, as Leat decides: a session that keeps its bounds is an update, with no delete before it; one that changes them is
// a delete of the old and a value of the new, buffered or not.
func TestSessionsThatKeepTheirBounds(t *testing.T) {
	for _, noBuffer := range []bool{false, true} {
		out := sessionOut(serde.Nullable(serde.Int64))
		d := driver(t, func(b *streams.Builder) {
			s := streams.SessionStore[string, *int64]{Name: "s", NoBuffer: noBuffer}
			b.Stream(plain).GroupByKey().WindowedBySession(streams.Session(10*milli)).Aggregate(s, func() *int64 { return num(0) },
				func(_, _ string, n *int64) (*int64, error) { return num(*n + 1), nil },
				func(_ string, a, b *int64) (*int64, error) { return num(*a + *b), nil }).To(out)
		})
		d.Send(plain, "k", "v", at(10))
		d.Send(plain, "k", "v", at(20))
		d.Send(plain, "k", "v", at(15))
		want(t, show(d.Read(out)), "k[10,10)=1@10", "k[10,10)=null@10", "k[10,20)=2@20", "k[10,20)=3@20")
	}
}

// 54, as Leat decides: with the default retention too a store finds what the operator still accepts.
func TestSessionsAtTheEdgeOfGraceAreFound(t *testing.T) {
	out := sessionOut(serde.Int64)
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBySession(streams.Session(5 * milli)).Count(streams.SessionStore[string, int64]{Name: "s"}).To(out)
	})
	d.Send(plain, "k", "v", at(0))
	d.Send(plain, "k", "v", at(5))
	d.Send(plain, "k", "v", at(10))
	d.Read(out)
	d.Send(plain, "x", "v", at(15))
	d.Send(plain, "k", "v", at(12)) // the session ends where it may still change
	rows := d.ReadRaw("out")
	if n := len(rows); n != 3 || rows[2].Value[7] != 4 {
		t.Errorf("%d results, the last is not a session of 4", n)
	}
	d.Send(plain, "k", "v", at(4)) // reaches that session, though it is late itself
	d.Send(plain, "x", "v", at(100))
	d.Send(plain, "k", "v", at(13))
	want(t, show(d.Read(out)), "k[0,12)=5@12", "x[100,100)=1@100")
}

// 3, 58: final sessions go out once, also over a restart, and nothing is added to them after.
func TestFinalSessionsAreFinal(t *testing.T) {
	out := sessionOut(serde.Int64)
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBySession(streams.Session(5 * milli)).Final().Count(streams.SessionStore[string, int64]{Name: "s"}).To(out)
	})
	d.Send(plain, "k", "v", at(1))
	d.Send(plain, "k", "v", at(4))
	d.Send(plain, "b", "v", at(4))
	d.Send(plain, "k", "v", at(20))
	want(t, show(d.Read(out)), "b[4,4)=1@4", "k[1,4)=2@4")
	d.Restart()
	d.Send(plain, "k", "late", at(8))
	d.Send(plain, "k", "v", at(16)) // is in the session of 20
	d.Send(plain, "x", "v", at(40))
	want(t, show(d.Read(out)), "k[16,20)=2@20")
}

// An aggregate that is no flat value survives a function that fails: the sessions stay as they were.
func TestSessionsAfterAFunctionThatFails(t *testing.T) {
	words := asJSONSerde[[]string]{}
	out := sessionOut[[]string](words)
	build := func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBySession(streams.Session(5*milli).Grace(5*milli)).Aggregate(
			streams.SessionStore[string, []string]{Name: "s", Value: words}, func() []string { return nil },
			func(_, v string, a []string) ([]string, error) {
				if v == "bad" {
					return nil, errors.New("bad")
				}
				return append(a, v), nil
			},
			func(_ string, a, b []string) ([]string, error) {
				if len(a) == 0 {
					return b, nil
				}
				for i := range a {
					a[i] += "+" // its own to change
				}
				return append(a, b...), nil
			}).To(out)
	}
	d := driver(t, build, streams.Config{OnError: func(context.Context, *streams.RecordError) streams.Decision { return streams.Skip() }})
	d.Send(plain, "k", "a", at(0))
	d.Send(plain, "k", "b", at(8))
	d.Send(plain, "k", "bad", at(4))
	d.Read(out)
	d.Send(plain, "k", "c", at(5))
	want(t, show(d.Read(out)), "k[0,8)=[a+ b c]@8")
}

// asJSONSerde writes values as JSON.
type asJSONSerde[T any] struct{}

func (asJSONSerde[T]) Append(dst []byte, _ serde.Place, v T) ([]byte, error) {
	b, err := json.Marshal(v)
	return append(dst, b...), err
}

func (asJSONSerde[T]) Decode(_ serde.Place, data []byte) (v T, err error) {
	return v, json.Unmarshal(data, &v)
}

// Days and months are those of the time zone: a day is 23 hours long where the clocks are put forward, and 25 where they
// are put back.
func TestCalendarWindows(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	local := func(year int, month time.Month, day, hour int) time.Time {
		return time.Date(year, month, day, hour, 0, 0, 0, zone)
	}
	type window struct{ start, end time.Time }
	for _, c := range []struct {
		each streams.Period
		at   time.Time
		want window
	}{
		{streams.Day, local(2026, 3, 29, 12), window{local(2026, 3, 29, 0), local(2026, 3, 30, 0)}},
		{streams.Day, local(2026, 10, 25, 23), window{local(2026, 10, 25, 0), local(2026, 10, 26, 0)}},
		{streams.Week, local(2026, 4, 1, 5), window{local(2026, 3, 30, 0), local(2026, 4, 6, 0)}},
		{streams.Week, local(2026, 3, 29, 23), window{local(2026, 3, 23, 0), local(2026, 3, 30, 0)}},
		{streams.Month, local(2026, 2, 28, 23), window{local(2026, 2, 1, 0), local(2026, 3, 1, 0)}},
		{streams.Year, local(2024, 12, 31, 23), window{local(2024, 1, 1, 0), local(2025, 1, 1, 0)}},
	} {
		out := streams.Topic[streams.Windowed[string], int64]{Name: "out", Key: serde.SessionWindowed(serde.String)}
		d := driver(t, func(b *streams.Builder) {
			b.Stream(plain).GroupByKey().WindowedBy(streams.Calendar(c.each, zone)).Final().
				Count(streams.WindowStore[string, int64]{Name: "w"}).ToStream(streams.WindowedKey).To(out)
		})
		d.Send(plain, "k", "v", streamstest.At(c.want.start))
		d.Send(plain, "k", "v", streamstest.At(c.at))
		d.Send(plain, "k", "v", streamstest.At(c.want.end.Add(-time.Millisecond)))
		if got := d.Read(out); len(got) != 0 {
			t.Errorf("%v: %v before the window's end", c.at, show(got))
		}
		d.Send(plain, "k", "v", streamstest.At(c.want.end))
		d.Send(plain, "k", "late", streamstest.At(c.at))
		got := d.Read(out)
		if len(got) != 1 || !got[0].Key.Start.Equal(c.want.start) || !got[0].Key.End.Equal(c.want.end) || got[0].Value != 3 {
			t.Errorf("%v: got %v, want 3 from %v to %v", c.at, got, c.want.start, c.want.end)
		}
	}
}

// What comes too late goes to the stream that Late gives, once a record, whether that is asked for before the aggregate or
// after; it is counted for each window that refuses it.
func TestLateRecordsAreAStream(t *testing.T) {
	for _, first := range []bool{true, false} {
		d := driver(t, func(b *streams.Builder) {
			w := b.Stream(plain).GroupBy(func(k, _ string) string { return "g" + k }).WindowedBy(streams.Hopping(10*milli, 5*milli))
			if first {
				w.Late().To(plainOut)
			}
			w.Count(streams.WindowStore[string, int64]{Name: "w"})
			if !first {
				w.Late().To(plainOut)
			}
		})
		d.Send(plain, "k", "in time", at(20))
		d.Send(plain, "k", "half", at(12))
		d.Send(plain, "k", "late", at(3))
		want(t, show(d.Read(plainOut)), "gk=half@12", "gk=late@3")
	}
	var b streams.Builder
	b.Stream(plain).GroupByKey().WindowedBy(tens(0)).Late().To(plainOut)
	if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), "nothing aggregates these windows") {
		t.Errorf("late records of nothing: %v", err)
	}
}

// A custom function that gives a window which cannot be is that record's error.
func TestCustomWindowsThatCannotBe(t *testing.T) {
	out := streams.Topic[string, int64]{Name: "out"}
	build := func(b *streams.Builder) {
		w := streams.Custom(10*milli, func(at time.Time, add func(start, end time.Time)) {
			size := 10 * milli
			if at.UnixMilli() == 7 {
				size *= 2
			}
			add(at.Truncate(10*milli), at.Truncate(10*milli).Add(size))
		})
		b.Stream(plain).GroupByKey().WindowedBy(w).Count(streams.WindowStore[string, int64]{Name: "w"}).
			ToStream(func(w streams.Windowed[string]) string { return w.Key }).To(out)
	}
	d := driver(t, build, streams.Config{OnError: func(context.Context, *streams.RecordError) streams.Decision { return streams.Skip() }})
	d.Send(plain, "k", "v", at(5))
	d.Send(plain, "k", "v", at(7))
	d.Send(plain, "k", "v", at(8))
	want(t, show(d.Read(out)), "k=1@5", "k=2@8")
	var b streams.Builder
	w := b.Stream(plain).GroupByKey()
	w.WindowedBy(streams.Custom(time.Second, nil))
	w.WindowedBy(streams.Calendar(0, nil))
	w.WindowedBy(streams.Unlimited(time.UnixMilli(-1)))
	w.WindowedBy(streams.Unlimited(time.UnixMilli(0))).Final()
	_, err := b.Build()
	for _, want := range []string{"without a function", "windows of size 0s", "an unlimited window from 1969", "no final results"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the mistake %q is missing: %v", want, err)
		}
	}
}

// 48, 49: the windows of random records are those that hold the same records as a slow search finds, also over restarts.
func TestSlidingWindowsEqualAModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	const size = 10
	store := streams.WindowStore[string, []string]{Name: "w", Value: asJSONSerde[[]string]{}}
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBy(streams.Sliding(size*milli).Grace(time.Hour)).Aggregate(store, func() []string { return nil },
			func(_, v string, a []string) ([]string, error) { a = append(a, v); slices.Sort(a); return a, nil })
	})
	times := make(map[int64][]string)
	for i := range 150 {
		ts := int64(r.IntN(120))
		v := fmt.Sprintf("%03d", i)
		times[ts] = append(times[ts], v)
		d.Send(plain, "k", v, at(ts))
		if i%40 == 39 {
			d.Restart()
		}
	}
	holds := func(start int64) (in []string) {
		for ts, vs := range times {
			if ts >= start && ts <= start+size {
				in = append(in, vs...)
			}
		}
		slices.Sort(in)
		return in
	}
	model := make(map[int64]string)
	for ts := range times {
		left := max(0, ts-size)
		model[left] = fmt.Sprint(holds(left))
		if in := holds(ts + 1); len(in) > 0 {
			model[ts+1] = fmt.Sprint(in)
		}
	}
	got := make(map[int64]string)
	for _, row := range d.WindowStore(store).All() {
		got[row.Key.Start.UnixMilli()] = fmt.Sprint(row.Value)
	}
	if diff := cmp.Diff(model, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A cogroup has sessions too; with final results its streams close them together, each once.
func TestCogroupsOfSessions(t *testing.T) {
	out := sessionOut(serde.String)
	other := streams.Topic[string, int64]{Name: "B"}
	for _, final := range []bool{false, true} {
		d := driver(t, func(b *streams.Builder) {
			w := b.Stream(plain).GroupByKey().Cogroup(func(_, v, a string) (string, error) { return a + v, nil }).
				Cogroup(b.Stream(other).GroupByKey(), func(_ string, n int64, a string) (string, error) { return a + fmt.Sprint(n), nil }).
				WindowedBySession(streams.Session(5 * milli))
			if final {
				w = w.Final()
			}
			w.Aggregate(streams.SessionStore[string, string]{Name: "s"}, func() string { return "" },
				func(_, a, b string) (string, error) { return a + b, nil }).ToStream(streams.WindowedKey).To(out)
		})
		d.Send(plain, "k", "x", at(1))
		d.Send(other, "k", 7, at(4))
		d.Send(other, "b", 1, at(30))
		d.Send(plain, "b", "y", at(31))
		if final {
			want(t, show(d.Read(out)), "k[1,4)=x7@4")
		} else {
			want(t, show(d.Read(out)), "k[1,1)=x@1", "k[1,4)=x7@4", "b[30,30)=1@30", "b[30,31)=1y@31")
		}
	}
}
