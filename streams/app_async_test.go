package streams_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/failpoint"
)

const asyncChild = "async"

// asyncWordCount is wordCount behind calls that fail now and then and take up to twice the commit interval, so that
// every commit overtakes some.
func asyncWordCount(in, out string) (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(streams.Topic[string, string]{Name: in}).
		MapAsync(streams.Async{Name: "calls", Parallel: 8, Retries: 1000, Backoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond},
			func(ctx context.Context, _, line string) (string, error) {
				if rand.IntN(10) == 0 {
					return "", errors.New("now and then")
				}
				t := time.NewTimer(time.Duration(rand.Int64N(int64(60 * time.Millisecond))))
				defer t.Stop()
				select {
				case <-t.C:
					return line, nil
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}).
		FlatMapValues(func(_, line string) ([]string, error) { return strings.Fields(line), nil }).
		GroupBy(func(_, word string) string { return word }).
		Count(streams.Store[string, int64]{Name: "counts"}).
		ToStream().
		To(streams.Topic[string, int64]{Name: out})
	return b.Build()
}

func TestKilledAmongCallsEachResultComesOnce(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		b.child = asyncChild
		want := map[string]int64{}
		out := b.results()
		for _, point := range failpoint.Points() {
			b.say(want, lines(60, 20)...)
			if err := b.life(point + ":3"); err != nil {
				t.Fatalf("%s: %v", point, err)
			}
		}
		topology, err := asyncWordCount(b.in, b.out)
		if err != nil {
			t.Fatal(err)
		}
		app := b.run(topology, b.config("a"), nil)
		b.say(want, lines(60, 20)...)
		out.expect(want)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

// Another instance takes over calls that had not ended.
func TestCallsMoveWithTheirTask(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		topology, err := asyncWordCount(b.in, b.out)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{}
		out := b.results()
		first := b.run(topology, b.config("a"), nil)
		first.ready(t)
		b.say(want, lines(500, 50)...)
		second := b.run(topology, b.config("b"), nil)
		second.ready(t)
		first.Leave()
		if err := first.wait(t); err != nil {
			t.Fatal(err)
		}
		b.say(want, lines(100, 50)...)
		out.expect(want)
		second.stop()
		if err := second.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}
