package streams_test

import (
	"slices"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
)

// until waits until the instance's tasks are as they should be.
func (r *running) until(t *testing.T, what string, is func([]streams.TaskStatus) bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(2 * time.Minute)
	for !is(r.Tasks()) {
		select {
		case <-tick.C:
		case <-r.done:
			t.Fatalf("the application ended: %v", r.err)
		case <-late:
			t.Fatalf("not within 30 s: %s; tasks: %+v", what, r.Tasks())
		}
	}
}

func count(all []streams.TaskStatus, is func(streams.TaskStatus) bool) (n int) {
	for _, s := range all {
		if is(s) {
			n++
		}
	}
	return n
}

func runs(s streams.TaskStatus) bool { return s.Role == streams.TaskRunning }

// The tasks of the word count are 0_0 to 0_2, which have no state, and 1_0 to 1_2, which have.
func stateful(s streams.TaskStatus) bool { return s.ID[0] == '1' }

func TestStandbysTakeOverWithoutReplay(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		cfg := b.config("first")
		cfg.Standbys, cfg.LeaveOnStop = 1, true
		first := b.start(cfg, nil)
		first.ready(t)
		b.say(want, lines(300, 50)...)
		other := b.config("second")
		other.Standbys = 1
		second := b.start(other, nil)
		out.expect(want)
		copied := func(s streams.TaskStatus) bool {
			return s.Role == streams.TaskStandby && s.Remaining == 0 || runs(s)
		}
		all := func(tasks []streams.TaskStatus) bool {
			return count(tasks, stateful) == 3 && count(tasks, runs) >= 3 && !slices.ContainsFunc(tasks, func(s streams.TaskStatus) bool { return !copied(s) })
		}
		second.until(t, "three tasks with state, run or copied", all)
		first.until(t, "three tasks with state, run or copied", all)
		before := second.RestoredRecords()
		first.stop()
		if err := first.wait(t); err != nil {
			t.Fatal(err)
		}
		second.until(t, "all tasks run", func(tasks []streams.TaskStatus) bool { return count(tasks, runs) == 6 })
		if n := second.RestoredRecords() - before; n != 0 {
			t.Errorf("%d records were replayed although the state was there", n)
		}
		b.say(want, lines(300, 50)...)
		out.expect(want)
		second.stop()
		if err := second.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTasksMoveWhenTheirStateIsThere(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		cfg := b.config("first")
		cfg.AcceptableLag = 1
		first := b.start(cfg, nil)
		first.ready(t)
		b.say(want, lines(500, 200)...)
		out.expect(want)
		other := b.config("second")
		other.AcceptableLag = 1
		second := b.start(other, nil)
		second.until(t, "half of the tasks run here", func(tasks []streams.TaskStatus) bool { return count(tasks, runs) == 3 })
		if n := second.RestoredRecords(); n != 0 {
			t.Errorf("%d records were replayed by a task that had been taken from its owner", n)
		}
		b.say(want, lines(500, 200)...)
		out.expect(want)
		for _, app := range []*running{first, second} {
			app.stop()
			if err := app.wait(t); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Of a changelog that does not grow nothing ever comes: its copy is there from the beginning, and says so.
func TestCopiesOfWhatStandsStillAreComplete(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		cfg := b.config("first")
		cfg.Standbys = 1
		first := b.start(cfg, nil)
		first.ready(t)
		other := b.config("second")
		other.Standbys = 1
		second := b.start(other, nil)
		for _, app := range []*running{first, second} {
			app.until(t, "complete copies beside what runs", func(tasks []streams.TaskStatus) bool {
				copies := count(tasks, func(s streams.TaskStatus) bool { return s.Role == streams.TaskStandby && s.Remaining == 0 })
				return copies > 0 && copies+runsHere(tasks) == 3
			})
		}
	})
}
