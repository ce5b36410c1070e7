package runtime

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// cleanBench is an instance with state of four tasks, of which it has none, and a cleaner that looks when it is told to.
type cleanBench struct {
	t   *testing.T
	rt  *Runtime
	c   *cleaner
	now time.Time
}

func newCleanBench(t *testing.T) *cleanBench {
	db, err := state.Open(state.Options{Dir: t.TempDir(), MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	log := engine.Topic{Name: "s-changelog", Internal: true}
	plan := &engine.Plan{Subs: []*engine.Sub{
		{ID: 0, Stores: []*engine.StoreSpec{{Name: "s", Changelog: log}, {Name: "bare"}}},
		{ID: 1, Global: true, Stores: []*engine.StoreSpec{{Name: "g", Changelog: engine.Topic{Name: "g"}}}},
	}}
	rt := New(Config{AppID: "app", Logger: slog.New(slog.DiscardHandler), DB: db, Plan: plan, StateCleanup: 24 * time.Hour})
	rt.current.Store(&subscription{layout: []subTopology{{id: 0, topics: map[string]int32{"in": 4}}}})
	rt.follower = &follower{rt: rt} // nobody runs it: there are no brokers to copy from
	rt.follower.mu.wanted = map[*worker][]standbyCopy{}
	b := &cleanBench{t: t, rt: rt, now: time.UnixMilli(1_800_000_000_000)}
	b.c = &cleaner{rt: rt, idle: map[engine.TaskID]time.Time{}, used: map[engine.TaskID]time.Time{}}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, store := range []string{"s", "bare", "g"} {
		for p := range int32(4) {
			sh, err := db.Shard(store, p, state.ShardOptions{})
			if err == nil {
				err = sh.Restore([]state.Restored{{Key: []byte("k"), Value: []byte("v")}}, state.Position{Offset: 1, At: b.now})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return b
}

// look lets time go by, and the cleaner look.
func (b *cleanBench) look(after time.Duration) {
	b.t.Helper()
	b.now = b.now.Add(after)
	if err := b.c.look(b.now); err != nil {
		b.t.Error(err)
	}
}

// has checks which tasks have state, and which of them the group is told of.
func (b *cleanBench) has(what string, kept, told []int32) {
	b.t.Helper()
	all, err := b.rt.cfg.DB.Kept()
	if err != nil {
		b.t.Fatal(err)
	}
	has := map[string][]int32{}
	for _, k := range all {
		has[k.Store] = append(has[k.Store], k.Partition)
	}
	if !slices.Equal(has["s"], kept) || len(has["bare"]) != 4 || len(has["g"]) != 4 {
		b.t.Errorf("%s: state of %v; want tasks %v, and all that has no changelog or belongs to no task", what, has, kept)
	}
	var says []int32
	for _, h := range b.rt.stateTasks() {
		id, _ := b.rt.taskID(h.task)
		says = append(says, id.Partition)
	}
	if !slices.Equal(says, told) {
		b.t.Errorf("%s: the group is told of the tasks %v, want %v", what, says, told)
	}
}

func TestStateOfTasksThatWentElsewhereIsRemovedWhenItIsOld(t *testing.T) {
	b := newCleanBench(t)
	all := []int32{0, 1, 2, 3}
	id := func(p int32) engine.TaskID { return engine.TaskID{Partition: p} }
	w := &worker{rt: b.rt}
	b.rt.claim(id(0), w) // runs here, or is restored, or copied

	b.look(0)
	b.look(23 * time.Hour)
	b.has("a day is not over", all, all)
	b.rt.claim(id(1), w)
	b.look(30 * time.Minute)
	b.rt.release(id(1))
	b.look(time.Minute)
	b.look(time.Hour)
	b.has("a day is over: 1 was used half an hour before, 2 and 3 are about to go", all, []int32{0, 1})
	b.rt.claim(id(3), w) // the group has given it to us
	b.look(time.Minute)
	b.has("2 is gone", []int32{0, 1, 3}, []int32{0, 1, 3})
	b.rt.release(id(3))
	b.look(time.Minute)
	b.look(time.Hour)
	b.has("3 was used", []int32{0, 1, 3}, []int32{0, 1, 3})

	b.rt.follower.mu.Lock() // a copy that cannot be opened yet
	b.rt.follower.mu.wanted[w] = []standbyCopy{{task: "0_3", kind: warmup}}
	b.rt.follower.mu.Unlock()
	b.look(30 * time.Hour)
	b.look(time.Minute)
	b.has("1 is gone, of 3 a copy is wanted", []int32{0, 3}, []int32{0, 3})
	b.rt.follower.follow(w, nil)
	b.look(time.Minute)
	b.look(time.Minute)
	b.has("3 is gone, 0 runs", []int32{0}, []int32{0})
	if !b.rt.claim(id(2), w) || b.rt.claim(id(0), b.c) {
		t.Error("the cleaner keeps tasks, or takes them")
	}
}

// However old state is when an instance starts, the group has time to give out its tasks.
func TestOldStateWaitsForTheGroup(t *testing.T) {
	b := newCleanBench(t)
	all := []int32{0, 1, 2, 3}
	b.look(1000 * time.Hour)
	b.look(time.Minute)
	b.has("right after the start", all, all)
	b.look(cleanSettle)
	b.has("about to go", all, nil)
	b.look(time.Minute)
	b.has("gone", nil, nil)
}

// What an error leaves half removed is not told to the group, and goes later.
func TestStateThatCannotBeRemovedIsNotSaidToBeThere(t *testing.T) {
	b := newCleanBench(t)
	sh, err := b.rt.cfg.DB.Shard("s", 2, state.ShardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := state.OpenKeyValue(sh, serde.String, serde.String, state.StoreOptions{}) // without a claim, which nobody does
	if err != nil {
		t.Fatal(err)
	}
	b.look(1000 * time.Hour)
	b.look(time.Hour)
	if err := b.c.look(b.now.Add(time.Hour)); err == nil {
		t.Error("the state of an open store is removed")
	}
	for _, h := range b.rt.stateTasks() {
		t.Errorf("the group is told of task %s", h.task)
	}
	if err := errors.Join(st.Close(), b.c.look(b.now.Add(2*time.Hour))); err != nil {
		t.Error(err)
	}
	b.has("all gone", nil, nil)
}
