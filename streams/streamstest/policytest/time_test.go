package policytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// A record from the future is an error that the policy decides on, and makes nobody else late.
func TestRecordsFromTheFutureAreDecidedOn(t *testing.T) {
	var b streams.Builder
	b.Stream(topic{Name: "in"}, streams.Source{MaxAhead: time.Hour}).
		GroupByKey().
		WindowedBy(streams.Tumbling(time.Minute)).
		Reduce(streams.WindowStore[string, string]{Name: "last", Retention: time.Hour}, func(_, v string) (string, error) { return v, nil }).
		ToStream(func(w streams.Windowed[string]) string { return w.Key }).
		To(topic{Name: "out"})
	wait := false
	d := streamstest.New(t, build(t, &b), streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
		if !errors.Is(e, streams.ErrFutureTime) || e.Phase != "timestamp" || e.Topic != "in" {
			t.Errorf("error %v in %s of %s, want ErrFutureTime in timestamp of in", e.Err, e.Phase, e.Topic)
		}
		if wait {
			return streams.Retry(time.Minute)
		}
		return streams.DeadLetter("letters")
	}})
	now := d.Now()
	d.Send(topic{Name: "in"}, "k", "on the edge", streamstest.At(now.Add(time.Hour)))
	d.Send(topic{Name: "in"}, "k", "far", streamstest.At(now.Add(time.Hour+time.Millisecond)))
	d.Send(topic{Name: "in"}, "k", "in time", streamstest.At(now.Add(time.Hour))) // late, had the one before been taken
	if got, want := values(d, "out"), []string{"on the edge", "in time"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if l := d.Letters("letters"); len(l) != 1 || string(l[0].Value) != "far" {
		t.Errorf("letters %+v, want the one from too far ahead", l)
	}
	wait = true
	d.Send(topic{Name: "in"}, "k", "waited for", streamstest.At(now.Add(time.Hour+90*time.Second)))
	if got, want := values(d, "out"), []string{"waited for"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if by := d.Now().Sub(now); by != 2*time.Minute {
		t.Errorf("the record was waited for by %v, want two retries of a minute", by)
	}
}

// The guard is about event time, and each source has its own.
func TestFutureTimesOfAnExtractor(t *testing.T) {
	var b streams.Builder
	far := func(r streams.Record[string, string], _ time.Time) (time.Time, error) {
		return r.Time.Add(24 * time.Hour), nil
	}
	b.Stream(topic{Name: "guarded", Time: far}, streams.Source{MaxAhead: time.Hour}).
		Merge(b.Stream(topic{Name: "free", Time: far})).
		To(topic{Name: "out"})
	d := streamstest.New(t, build(t, &b), streams.Config{OnError: skipAll})
	for _, name := range []string{"guarded", "free"} {
		d.Send(topic{Name: name}, "k", name)
	}
	if got, want := values(d, "out"), []string{"free"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

const idle = 10 * time.Second

// When nothing comes, time goes on by the wall clock: windows and sessions close, suppressions let go, and joins give up
// waiting, each once, behind a repartition too. What comes with an older time is late then.
func TestIdleTimeGoesOn(t *testing.T) {
	for _, c := range []struct {
		name string
		wire func(b *streams.Builder, in, other *streams.KStream[string, string])
		want string
		hops int
	}{
		{"final windows", func(b *streams.Builder, in, _ *streams.KStream[string, string]) {
			in.GroupByKey().WindowedBy(streams.Tumbling(time.Minute)).Final().
				Count(streams.WindowStore[string, int64]{Name: "s"}).
				ToStream(func(w streams.Windowed[string]) string { return w.Key }).
				MapValues(show).To(topic{Name: "out"})
		}, "1", 0},
		{"final windows behind a repartition", func(b *streams.Builder, in, _ *streams.KStream[string, string]) {
			in.SelectKey(func(_, v string) string { return v }).GroupByKey().WindowedBy(streams.Tumbling(time.Minute)).Final().
				Count(streams.WindowStore[string, int64]{Name: "s"}).
				ToStream(func(w streams.Windowed[string]) string { return w.Key }).
				MapValues(show).To(topic{Name: "out"})
		}, "1", 1},
		{"final sessions", func(b *streams.Builder, in, _ *streams.KStream[string, string]) {
			in.GroupByKey().WindowedBySession(streams.Session(30 * time.Second)).Final().
				Count(streams.SessionStore[string, int64]{Name: "s"}).
				ToStream(func(w streams.Windowed[string]) string { return w.Key }).
				MapValues(show).To(topic{Name: "out"})
		}, "1", 0},
		{"suppressed windows", func(b *streams.Builder, in, _ *streams.KStream[string, string]) {
			in.GroupByKey().WindowedBy(streams.Tumbling(time.Minute)).
				Count(streams.WindowStore[string, int64]{Name: "s"}).
				Suppress(streams.Suppression{Name: "held"}).
				ToStream(func(w streams.Windowed[string]) string { return w.Key }).
				MapValues(show).To(topic{Name: "out"})
		}, "1", 0},
		{"a left join", func(b *streams.Builder, in, other *streams.KStream[string, string]) {
			in.LeftJoin("j", other, streams.Within(20*time.Second), func(_, l string, r *string) (string, error) { return fmt.Sprint(l, r == nil), nil }).
				To(topic{Name: "out"})
		}, "vtrue", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b streams.Builder
			in, other := b.Stream(topic{Name: "in"}), b.Stream(topic{Name: "other"})
			other.ForEach(func(string, string) error { return nil })
			c.wire(&b, in, other)
			d := streamstest.New(t, build(t, &b), streams.Config{IdleAdvance: idle})
			d.Advance(time.Hour) // nothing has come: nothing is known of its time
			begin := d.Now()
			d.Send(topic{Name: "in"}, "k", "v", streamstest.At(begin.Truncate(time.Minute)))
			d.Advance(idle * time.Duration(1+c.hops))
			d.Restart()
			if got := values(d, "out"); got != nil {
				t.Errorf("%v came before its time", got)
			}
			d.Advance(2 * time.Minute)
			if got := values(d, "out"); !slices.Equal(got, []string{c.want}) {
				t.Errorf("got %v, want %s", got, c.want)
			}
			d.Restart()
			d.Advance(time.Hour)
			late := d.Dropped().Late
			d.Send(topic{Name: "in"}, "k", "v", streamstest.At(begin))
			d.Advance(time.Hour)
			if got := values(d, "out"); got != nil || d.Dropped().Late != late+1 {
				t.Errorf("a late record gives %v, and %d were late before and %d after it", got, late, d.Dropped().Late)
			}
		})
	}
}

func show(_ string, n int64) (string, error) { return fmt.Sprint(n), nil }

// Without the setting only records move time.
func TestTimeStandsStillWithoutRecords(t *testing.T) {
	var b streams.Builder
	b.Stream(topic{Name: "in"}).GroupByKey().WindowedBy(streams.Tumbling(time.Minute)).Final().
		Count(streams.WindowStore[string, int64]{Name: "s"}).
		ToStream(func(w streams.Windowed[string]) string { return w.Key }).
		MapValues(show).To(topic{Name: "out"})
	d := streamstest.New(t, build(t, &b))
	d.Send(topic{Name: "in"}, "k", "v")
	d.Advance(24 * time.Hour)
	if got := values(d, "out"); got != nil {
		t.Errorf("got %v, want nothing", got)
	}
}

// Stream-time punctuators follow. Behind each repartition time goes on later, so that what comes from before is in time.
func TestIdleTimeGoesDownTheTopology(t *testing.T) {
	var b streams.Builder
	var ticks []time.Time
	b.Stream(topic{Name: "in"}).GroupByKey().WindowedBy(streams.Tumbling(time.Second)).Final().
		Count(streams.WindowStore[string, int64]{Name: "seconds"}).
		ToStream(func(w streams.Windowed[string]) string { return w.Key }).
		Process("ticks", func(task *streams.Task, emit streams.Emit[string, int64]) (streams.Processor[string, int64], error) {
			task.Every(time.Minute, streams.StreamTime, func(_ context.Context, now time.Time) error {
				ticks = append(ticks, now)
				return nil
			})
			return func(_ context.Context, r streams.Record[string, int64]) error { return emit(r) }, nil
		}).
		GroupByKey().WindowedBy(streams.Tumbling(time.Minute)).Final().
		Reduce(streams.WindowStore[string, int64]{Name: "minutes", Value: serde.Int64}, func(a, b int64) (int64, error) { return a + b, nil }).
		ToStream(func(w streams.Windowed[string]) string { return w.Key }).
		MapValues(show).To(topic{Name: "out"})
	d := streamstest.New(t, build(t, &b), streams.Config{IdleAdvance: idle})
	begin := d.Now()
	for i := range 3 {
		d.Send(topic{Name: "in"}, "k", "v", streamstest.At(begin.Add(time.Duration(i)*time.Second)))
	}
	d.Advance(3 * time.Minute)
	d.Advance(3 * time.Minute)
	if got := values(d, "out"); !slices.Equal(got, []string{"3"}) || d.Dropped().Late != 0 {
		t.Errorf("got %v with %d late, want the three seconds in one minute", got, d.Dropped().Late)
	}
	if want := []time.Time{begin, begin.Add(3*time.Minute - idle), begin.Add(6*time.Minute - idle)}; !slices.EqualFunc(ticks, want, time.Time.Equal) {
		t.Errorf("the punctuator ran at %v, want %v", ticks, want)
	}
}
