package streams_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/streams"
)

// eventually tries until f has no more to complain about.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Views of a session store see every session, by key and by end; and the changelogs have the configs that the descriptors
// say, or are not there.
func TestSessionViewsAndChangelogConfigs(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		sessions := streams.SessionStore[string, int64]{Name: "visits", Changelog: map[string]string{"segment.bytes": "1048576"}}
		unlogged := streams.Store[string, int64]{Name: "unlogged", NoChangelog: true, Indexes: []streams.StoreIndex[string, int64]{byCount}}
		var sb streams.Builder
		g := sb.Stream(streams.Topic[string, string]{Name: b.in}).GroupByKey()
		g.WindowedBySession(streams.Session(time.Hour)).Count(sessions).
			ToStream(func(w streams.Windowed[string]) string { return w.Key }).To(streams.Topic[string, int64]{Name: b.out})
		g.Count(unlogged)
		topology, err := sb.Build()
		if err != nil {
			t.Fatal(err)
		}
		app := b.run(topology, b.config("a"), nil)
		v, err := app.SessionView(sessions)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := app.SessionView(streams.SessionStore[string, string]{Name: "visits"}); err == nil {
			t.Error("a view of other types was given")
		}
		plain, err := app.View(unlogged)
		if err != nil {
			t.Fatal(err)
		}
		counted, err := app.IndexView(unlogged, byCount)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range counted.Get(1) {
			if !errors.Is(err, streams.ErrNotReady) {
				t.Errorf("a lookup before the application runs gives %v", err)
			}
		}
		app.ready(t)
		b.say(map[string]int64{}, "x", "y", "z") // keys 0, 1, 2
		b.say(map[string]int64{}, "x")
		eventually(t, func() error { return sessionsAre(v, map[string]int64{"0": 2, "1": 1, "2": 1}) })
		eventually(t, func() error {
			if n, err := plain.ApproximateCount(); err != nil || n != 3 {
				return fmt.Errorf("%d rows (%v), want 3", n, err)
			}
			return nil
		})
		eventually(t, func() error {
			var keys []string
			for e, err := range counted.Get(2) {
				if err != nil {
					return err
				}
				keys = append(keys, e.Key)
			}
			once := int64(1)
			for e, err := range counted.Range(nil, &once) {
				if err != nil || e.Value != 1 {
					return fmt.Errorf("row %v (%v) among those counted once", e, err)
				}
				keys = append(keys, e.Key)
			}
			if slices.Sort(keys[min(1, len(keys)):]); !slices.Equal(keys, []string{"0", "1", "2"}) {
				return fmt.Errorf("counted twice, then once: %v, want 0, then 1 and 2", keys)
			}
			return nil
		})
		var back []string
		for e, err := range plain.BackwardRange(nil, nil) {
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, e.Key)
		}
		slices.Sort(back) // each partition is backwards by itself
		if !slices.Equal(back, []string{"0", "1", "2"}) {
			t.Errorf("keys %v", back)
		}
		adm := kadm.NewClient(b.client())
		configs, err := adm.DescribeTopicConfigs(t.Context(), b.app+"-visits-changelog")
		if err != nil || len(configs) != 1 || configs[0].Err != nil {
			t.Fatal(configs, err)
		}
		got := map[string]string{}
		for _, c := range configs[0].Configs {
			if c.Value != nil {
				got[c.Key] = *c.Value
			}
		}
		if got["segment.bytes"] != "1048576" || got["cleanup.policy"] != "compact,delete" || got["retention.ms"] != fmt.Sprint((25*time.Hour).Milliseconds()) {
			t.Errorf("configs %v", got)
		}
		topics, err := adm.ListTopics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if topics.Has(b.app + "-unlogged-changelog") {
			t.Error("a store without a changelog has one")
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		for _, err := range v.Range(time.UnixMilli(0), time.Now()) {
			if !errors.Is(err, streams.ErrNotReady) {
				t.Errorf("after the end: %v, want ErrNotReady", err)
			}
		}
	})
}

func sessionsAre(v *streams.SessionView[string, int64], want map[string]int64) error {
	day := 24 * time.Hour
	from, to := time.Now().Add(-day), time.Now().Add(day)
	got := map[string]int64{}
	for e, err := range v.Range(from, to) {
		if err != nil {
			return err
		}
		got[e.Key.Key] = e.Value
		if e.Key.End.Before(e.Key.Start) {
			return fmt.Errorf("session %v", e.Key)
		}
	}
	for k, n := range want {
		sum := int64(0)
		for e, err := range v.Sessions(k, from, to) {
			if err != nil {
				return err
			}
			sum += e.Value
		}
		if got[k] != n || sum != n {
			return fmt.Errorf("sessions of %q have %d by end and %d by key, want %d", k, got[k], sum, n)
		}
	}
	return nil
}
