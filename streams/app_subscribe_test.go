package streams_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/streams"
)

// A subscriber has the rows, and then what changes, wherever the tasks are: no count falls, comes twice, or is missing.
func TestSubscribersSeeRowsAndThenChanges(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		cfg := b.asked("first")
		cfg.LeaveOnStop = true
		first, second := b.start(cfg, nil), b.start(b.asked("second"), nil)
		b.say(want, lines(200, 40)...)
		out.expect(want)
		second.until(t, "some of the tasks", func(tasks []streams.TaskStatus) bool { n := runsHere(tasks); return n > 0 && n < 3 })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		got, snapshot, round := map[string]int64{}, 0, 0
		for u, err := range b.counts(second).Subscribe(ctx, nil, nil) {
			if err != nil {
				t.Fatal(err)
			}
			if u.Value <= got[u.Key] || u.Deleted {
				t.Errorf("count of %q goes from %d to %d", u.Key, got[u.Key], u.Value)
			}
			if got[u.Key] = u.Value; u.Snapshot {
				snapshot++
			}
			if !maps.Equal(got, want) {
				continue
			}
			if round++; round == 4 {
				break
			}
			if round == 3 {
				first.stop() // its tasks go to the other one
			}
			b.say(want, lines(100, 60)...)
		}
		if ctx.Err() != nil || round < 4 || snapshot == 0 {
			t.Errorf("after %d rounds, %d rows at the beginning, %d of %d counts: %v", round, snapshot, len(got), len(want), ctx.Err())
		}
		from, to := "w1", "w2"
		for u, err := range b.counts(second).Subscribe(ctx, &from, &to) {
			if err != nil || u.Key < from || u.Key > to {
				t.Errorf("%+v, %v", u, err)
			}
			break
		}
	})
}

// A subscriber whose changelog is cut before it has read on hears of that, and not of a part of what has changed.
func TestASubscriberThatMissesChangesIsCutOff(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		changelog := b.app + "-counts-changelog"
		want := map[string]int64{}
		out := b.results()
		app := b.start(b.asked("a"), nil)
		b.say(want, lines(50, 40)...)
		out.expect(want)
		admin := kadm.NewClient(b.client())
		deletes := "compact,delete" // else nobody may cut it
		if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &deletes}}, changelog); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cut, snapshot := false, 0
		var err error
		for u, e := range b.counts(app).Subscribe(ctx, nil, nil) {
			if err = e; err != nil {
				break
			}
			if snapshot++; !u.Snapshot {
				t.Errorf("the change %v came, of which others are missing", u)
			}
			if cut {
				continue
			}
			cut = true
			b.say(want, lines(50, 40)...)
			out.expect(want)
			b.cut(changelog)
		}
		if !errors.Is(err, streams.ErrCutOff) || snapshot < 2 {
			t.Errorf("after %d rows the subscription ended with %v, want ErrCutOff", snapshot, err)
		}
	})
}
