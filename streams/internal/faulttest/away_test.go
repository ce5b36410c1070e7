package faulttest

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
)

// An application that comes back to a table of a compacted topic later than that keeps deletes says that rows may have stayed that
// were deleted: nothing on the log tells of them.
func TestWhoWasAwayForLongerThanDeletesAreKeptIsTold(t *testing.T) {
	t.Parallel()
	const text = "away for longer than the topic of its table keeps deletes"
	w := newWorld(t)
	rows := streams.Store[string, string]{Name: "rows", Value: serde.String}
	compact := "compact"
	if _, err := w.admin().AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &compact}}, words.Name); err != nil {
		t.Fatal(err)
	}
	run := func() {
		b := streams.Builder{Optimize: true} // the topic is the changelog
		b.Table(words, rows).ToStream().To(streams.Topic[string, string]{Name: totals.Name})
		top, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		app := w.run(top, w.config())
		view, err := app.View(rows)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the rows", func() bool {
			n := 0
			for _, err := range view.All() {
				if err != nil {
					return false
				}
				n++
			}
			return n == len(w.said)
		})
		app.end()
	}
	age := func() { // as if the application had ended three days ago
		db, err := state.Open(state.Options{Dir: filepath.Join(w.dir, appID)})
		if err != nil {
			t.Fatal(err)
		}
		for p := range int32(partitions) {
			sh, err := db.Shard(rows.Name, p, state.ShardOptions{})
			if err != nil {
				t.Fatal(err)
			}
			pos, has := sh.Position()
			pos.At = pos.At.Add(-72 * time.Hour)
			if !has {
				t.Fatal("the table stands nowhere")
			}
			if err := sh.Restore(nil, pos); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.say(some(20)...)
	run()
	w.say(some(30)...)
	run()
	age()
	run() // nothing has come meanwhile, so nothing can have been deleted
	if w.log.has(text) {
		t.Fatalf("nothing was missed:\n%s", w.log)
	}
	age()
	w.say(some(40)...)
	run()
	if !w.log.has(text) {
		t.Errorf("nothing was said of it:\n%s", w.log)
	}
}
