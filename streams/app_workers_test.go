package streams_test

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/streams"
)

func TestWorkersComeAndGoWhileItRuns(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		app := b.start(b.config("a"), nil)
		app.ready(t)
		b.say(want, lines(300, 50)...)
		out.expect(want)
		if n, err := app.RemoveWorker(t.Context()); !errors.Is(err, streams.ErrWorkers) {
			t.Errorf("the only worker is removed: %d, %v", n, err)
		}
		if n, err := app.AddWorker(); n != 1 || err != nil {
			t.Fatalf("AddWorker: %d, %v", n, err)
		}
		of := func(worker int) func(streams.TaskStatus) bool {
			return func(s streams.TaskStatus) bool { return runs(s) && s.Worker == worker }
		}
		app.until(t, "each worker runs half of the tasks", func(all []streams.TaskStatus) bool {
			return count(all, of(0)) == 3 && count(all, of(1)) == 3
		})
		if n := app.RestoredRecords(); n != 0 {
			t.Errorf("%d records were replayed by a task that only changed its worker", n)
		}
		b.say(want, lines(300, 50)...)
		if n, err := app.RemoveWorker(t.Context()); n != 1 || err != nil {
			t.Fatalf("RemoveWorker: %d, %v", n, err)
		}
		app.until(t, "one worker runs all tasks", func(all []streams.TaskStatus) bool { return count(all, of(0)) == 6 })
		b.say(want, lines(300, 50)...)
		out.expect(want)
		groups, err := kadm.NewClient(b.client()).DescribeGroups(t.Context(), b.app)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(groups[b.app].Members); n != 1 {
			t.Errorf("the group has %d members, want 1", n)
		}
		if n, err := app.AddWorker(); n != 1 || err != nil {
			t.Errorf("AddWorker, the number free again: %d, %v", n, err)
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		if _, err := app.AddWorker(); !errors.Is(err, streams.ErrWorkers) {
			t.Errorf("a worker is added to what has ended: %v", err)
		}
		if _, err := app.RemoveWorker(context.Background()); !errors.Is(err, streams.ErrWorkers) {
			t.Errorf("a worker is removed from what has ended: %v", err)
		}
	})
}
