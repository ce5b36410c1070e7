package streamstest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

var asyncOut = streams.Topic[string, string]{Name: "out"}

// asyncDriver calls f for every record of A.
func asyncDriver(t *testing.T, how streams.Async, f func(context.Context, string, string) (string, error), cfg ...streams.Config) *streamstest.Driver {
	t.Helper()
	var b streams.Builder
	b.Stream(plain).MapAsync(how, f).To(asyncOut)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return streamstest.New(t, topology, cfg...)
}

// sleepy is a function whose value says how long it takes.
func sleepy(ctx context.Context, k, v string) (string, error) {
	by, err := time.ParseDuration(v)
	if err != nil {
		return "", err
	}
	return k + v, streamstest.Sleep(ctx, by)
}

// Results come in the order of their calls' ends, but per key in the order of the records; and with the record's time and
// headers.
func TestAsyncKeepsTheOrderOfEachKey(t *testing.T) {
	d := asyncDriver(t, streams.Async{Name: "calls"}, sleepy)
	d.Send(plain, "a", "3s", at(1))
	d.Send(plain, "a", "1s", at(2)) // waits for the first
	d.Send(plain, "b", "1s", at(3), streamstest.Headers(streams.Header{Key: "h", Value: []byte("x")}))
	want(t, show(d.Read(asyncOut)))
	d.Advance(time.Second)
	got := d.Read(asyncOut)
	want(t, show(got), "b=b1s@3")
	if len(got) != 1 || len(got[0].Headers) != 1 || string(got[0].Headers[0].Value) != "x" {
		t.Errorf("headers of %v", got)
	}
	d.Advance(2 * time.Second)
	want(t, show(d.Read(asyncOut)), "a=a3s@1")
	d.Advance(time.Second)
	want(t, show(d.Read(asyncOut)), "a=a1s@2")
}

// A commit overtakes the calls; after a restart those that had not ended are made again, in their order, and the result
// of each comes out once.
func TestAsyncCallsSurviveARestart(t *testing.T) {
	d := asyncDriver(t, streams.Async{Name: "calls"}, sleepy)
	d.Together(func() {
		d.Send(plain, "a", "5s", at(1), streamstest.Headers(streams.Header{Key: "h", Value: nil}))
		d.Send(plain, "a", "1s", at(2))
		d.Send(plain, "b", "0s", at(3))
	})
	want(t, show(d.Read(asyncOut)), "b=b0s@3")
	if n := len(d.ReadRaw("test-calls-changelog")); n != 2 {
		t.Errorf("%d records in the changelog, want those of the two calls that the commit overtook", n)
	}
	d.Restart()
	d.Advance(5 * time.Second)
	got := d.Read(asyncOut)
	want(t, show(got), "a=a5s@1")
	if len(got) != 1 || len(got[0].Headers) != 1 || got[0].Headers[0].Key != "h" {
		t.Errorf("headers of %v", got)
	}
	d.Restart()
	d.Advance(time.Second)
	want(t, show(d.Read(asyncOut)), "a=a1s@2")
	d.Restart()
	d.Advance(time.Minute)
	want(t, show(d.Read(asyncOut)))
	live := map[string]bool{}
	for _, r := range d.ReadRaw("test-calls-changelog") {
		live[string(r.Key)] = r.Value != nil
	}
	for k, there := range live {
		if there {
			t.Errorf("call %q stays in the store", k)
		}
	}
}

// No more calls run at once than Parallel says, and no more records wait than Waiting says: the task then takes none.
func TestAsyncIsBounded(t *testing.T) {
	running, most := 0, 0
	d := asyncDriver(t, streams.Async{Name: "calls", Parallel: 2, Waiting: 5}, func(ctx context.Context, k, v string) (string, error) {
		running++ // the driver lets one call run at a time
		most = max(most, running)
		defer func() { running-- }()
		return sleepy(ctx, k, v)
	})
	d.Together(func() {
		for i := range 20 {
			d.Send(plain, fmt.Sprint(i), "1s", at(int64(i)))
		}
	})
	if n := len(d.ReadRaw("test-calls-changelog")); n != 5 {
		t.Errorf("%d records wait, want 5", n)
	}
	for range 10 {
		d.Advance(time.Second)
	}
	if n := len(d.Read(asyncOut)); n != 20 || most != 2 {
		t.Errorf("%d results with at most %d calls at once, want 20 with 2", n, most)
	}
}

// A failed call is made again after pauses that double; then the policy decides, with the source record at hand.
func TestAsyncRetriesThenAsksThePolicy(t *testing.T) {
	for _, restart := range []bool{false, true} {
		calls := 0
		cfg := streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
			if e.Attempt != 3 || e.Topic != "A" || string(e.Key) != "k" || string(e.Value) != "bad" || e.Phase != "process" {
				t.Errorf("asked about %v", e)
			}
			return streams.DeadLetter("dead")
		}}
		d := asyncDriver(t, streams.Async{Name: "calls", Retries: 2, Backoff: time.Second}, func(ctx context.Context, k, v string) (string, error) {
			if calls++; v == "bad" {
				return "", errors.New("refused")
			}
			return v, nil
		}, cfg)
		d.Send(plain, "k", "bad", at(1))
		d.Send(plain, "k", "good", at(2)) // waits for its key
		d.Send(plain, "x", "fine", at(3))
		want(t, show(d.Read(asyncOut)), "x=fine@3")
		if calls != 2 {
			t.Errorf("%d calls, want 2", calls)
		}
		if restart {
			d.Restart() // the attempts are counted anew
		}
		d.Advance(time.Second)
		want(t, show(d.Read(asyncOut)))
		d.Advance(time.Second) // the second pause is 2 s
		want(t, show(d.Read(asyncOut)))
		d.Advance(time.Second)
		want(t, show(d.Read(asyncOut)), "k=good@2")
		letters := d.ReadRaw("dead")
		if len(letters) != 1 || string(letters[0].Key) != "k" || string(letters[0].Value) != "bad" {
			t.Errorf("letters %v", letters)
		}
	}
}

// A call that takes longer than Timeout fails; a panic is an error; a failure that nobody decides on ends the application.
func TestAsyncTimeoutsAndPanics(t *testing.T) {
	d := asyncDriver(t, streams.Async{Name: "calls", Timeout: time.Second}, sleepy)
	err := d.Fails(func() {
		d.Send(plain, "k", "2s", at(1))
		d.Advance(2 * time.Second)
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the application ended with %v, want the timeout", err)
	}
	d = asyncDriver(t, streams.Async{Name: "calls"}, func(context.Context, string, string) (string, error) { panic("oh") })
	err = d.Fails(func() { d.Send(plain, "k", "v", at(1)) })
	var pe *streams.PanicError
	if !errors.As(err, &pe) {
		t.Errorf("the application ended with %v, want the panic", err)
	}
}

func TestAsyncSaysWhatIsWrong(t *testing.T) {
	var b streams.Builder
	s := b.Stream(plain)
	s.GroupByKey().Count(streams.Store[string, int64]{Name: "n"})
	f := func(context.Context, string, string) (string, error) { return "", nil }
	s.MapAsync(streams.Async{}, f)
	s.MapAsync(streams.Async{Name: "n"}, f)
	s.MapAsync(streams.Async{Name: "x", Parallel: -1}, f)
	_, err := b.Build()
	for _, part := range []string{"has no name", "store of its own", "below zero"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}
