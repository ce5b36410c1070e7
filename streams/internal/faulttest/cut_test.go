package faulttest

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/streams"
)

// cut deletes all records of the changelog, of which nobody may delete some while it is compacted only.
func (w *world) cut() {
	w.t.Helper()
	policy := func(p string) {
		if _, err := w.admin().AlterTopicConfigs(w.t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &p}}, changelog); err != nil {
			w.t.Fatal(err)
		}
	}
	policy("compact,delete")
	ends := kadm.Offsets{}
	for p := range int32(partitions) {
		ends.AddOffset(changelog, p, -1, -1)
	}
	deleted, err := w.admin().DeleteRecords(w.t.Context(), ends)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	policy("compact")
}

// versions counts words in a store of versions.
func versions() (*streams.Topology, error) {
	store := streams.Store[string, int64]{Name: counts.Name, Versioned: time.Hour}
	var b streams.Builder
	b.Stream(words).ProcessValues("count", func(t *streams.Task, emit streams.Emit[string, int64]) (streams.Processor[string, string], error) {
		st := t.VersionedStore(store)
		return func(_ context.Context, r streams.Record[string, string]) error {
			was, ok, err := st.Get(r.Key)
			if err != nil {
				return err
			}
			at := r.Time
			if ok && !at.After(was.From) {
				at = was.From.Add(time.Millisecond)
			}
			if kept, err := st.Put(r.Key, was.Value+1, at); err != nil || !kept {
				return fmt.Errorf("the version of %s is kept: %t, %w", at, kept, err)
			}
			return emit(streams.Record[string, int64]{Key: r.Key, Value: was.Value + 1, Time: r.Time})
		}, nil
	}, store).To(totals)
	return b.Build()
}

// kinds are topologies that count words, in stores of the kinds whose changelogs are compacted.
var kinds = map[string]func() (*streams.Topology, error){"key-value": counting, "versions": versions}

// State that is on disk, and its copies elsewhere, stay what they are when their changelog loses all records, whoever starts again
// or takes over. Who has nothing and restores it from there is told.
func TestCutChangelogsTakeNoStateAlong(t *testing.T) {
	t.Parallel()
	for kind, topology := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			run := func(id string) *running {
				top, err := topology()
				if err != nil {
					t.Fatal(err)
				}
				cfg := w.config()
				cfg.InstanceID, cfg.StateDir, cfg.LeaveOnStop, cfg.Standbys = id, w.dir+"-"+id, true, 1
				return w.run(top, cfg)
			}
			one := run("one")
			w.say(some(30)...)
			w.committed()
			w.cut()
			one.end()
			one = run("one") // from its disk
			w.say(some(30)...)
			w.committed()
			two := run("two") // which has nothing
			until(t, "what has come since the cut is read", func() bool { return w.log.has("lost its beginning") })
			if kind == "key-value" {
				until(t, "copies", func() bool { return maps.Equal(w.here(two), w.said) })
				w.cut()
				two.end()
				two = run("two") // from its copies
				w.say(some(30)...)
				w.committed()
				until(t, "copies", func() bool { return maps.Equal(w.here(two), w.said) })
				w.cut()
				one.end() // and two takes over
				w.say(some(30)...)
				w.committed()
			}
			one.stop()
			<-one.done
			two.end()
		})
	}
}

// here are the counts that an instance has itself, in tasks and in copies.
func (w *world) here(app *running) map[string]int64 {
	got := map[string]int64{}
	view, err := app.View(counts)
	if err != nil {
		w.t.Fatal(err)
	}
	for e, err := range view.Reading(w.t.Context(), streams.Reading{Local: true, Staleness: time.Nanosecond}).All() {
		if err != nil {
			return nil
		}
		got[e.Key] = e.Value
	}
	return got
}
