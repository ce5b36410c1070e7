package streams_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/streams"
)

func TestPausedInstancesProcessNothingAndLoseNothing(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		cfg := b.config("a")
		var mu sync.Mutex
		var states []streams.State
		cfg.OnState = func(s streams.State) { mu.Lock(); states = append(states, s); mu.Unlock() }
		topology, _, err := wordCount(b.in, b.out)
		if err != nil {
			t.Fatal(err)
		}
		app := b.run(topology, cfg, nil, func(a *streams.App) { a.Pause() })
		app.ready(t)
		b.say(want, lines(200, 50)...)
		quiet := func() {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			before := len(out.counts)
			for ctx.Err() == nil {
				out.read(ctx)
			}
			if len(out.counts) != before {
				t.Error("a paused instance processes")
			}
		}
		quiet()
		app.Resume()
		out.expect(want)
		app.Pause()
		b.say(want, "afterwards")
		app.Resume()
		out.expect(want)
		if app.State() != streams.StateRunning || app.Paused() {
			t.Errorf("state %s, paused %t; want running and not paused", app.State(), app.Paused())
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if w := []streams.State{streams.StateRebalancing, streams.StateRunning, streams.StateStopping, streams.StateStopped}; !slices.Equal(states, w) {
			t.Errorf("states %v, want %v", states, w)
		}
	})
}

func TestProcessedRecordsOfRepartitionTopicsAreDeleted(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		app := b.start(b.config("a"), nil)
		b.say(want, lines(300, 50)...)
		out.expect(want)
		adm := kadm.NewClient(b.client())
		topics, err := adm.ListTopics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var repartition string
		for _, name := range topics.Names() {
			if strings.HasPrefix(name, b.app+"-") && strings.HasSuffix(name, "-repartition") {
				repartition = name
			}
		}
		deleted := func() bool {
			start, err := adm.ListStartOffsets(t.Context(), repartition)
			if err != nil {
				t.Fatal(err)
			}
			committed, err := adm.FetchOffsets(t.Context(), b.app)
			if err != nil {
				t.Fatal(err)
			}
			all := true
			start.Each(func(o kadm.ListedOffset) {
				c, ok := committed.Lookup(o.Topic, o.Partition)
				all = all && ok && o.Offset == c.At
			})
			return all
		}
		for late := time.Now().Add(time.Minute); !deleted(); {
			if time.Now().After(late) {
				t.Fatalf("records of %q that were processed are still there", repartition)
			}
			<-time.After(50 * time.Millisecond)
		}
		b.say(want, lines(300, 50)...)
		out.expect(want)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}
