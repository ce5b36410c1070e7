package runtime

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// The group may tell one worker of a task before the other one has closed it: the stores can be open only once.
func TestTaskMovesBetweenWorkersOnlyWhenItsStoresAreClosed(t *testing.T) {
	rt := New(Config{})
	a, b := &worker{rt: rt}, &worker{rt: rt}
	id := engine.TaskID{Sub: 1, Partition: 2}
	if !rt.claim(id, a) || !rt.claim(id, a) {
		t.Fatal("a free task is refused to the worker that has it")
	}
	if rt.claim(id, b) || rt.claim(id, b) {
		t.Fatal("two workers have one task")
	}
	if b.poll.woken {
		t.Fatal("woken although the task is still open")
	}
	rt.release(id)
	if !b.poll.woken || a.poll.woken {
		t.Fatalf("woken: a %t, b %t; b waits for the task", a.poll.woken, b.poll.woken)
	}
	if !rt.claim(id, b) {
		t.Fatal("a task that was given up is refused")
	}
}

// A query that waits for a copy to catch up must not wait for one that nobody keeps any more: others may have one.
func TestWaitForACopyThatIsGivenUp(t *testing.T) {
	db, err := state.Open(state.Options{Dir: "state", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sh, err := db.Shard("s", 0, state.ShardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rt := New(Config{DB: db})
	at := tp{"changelog", 0}
	rt.mu.copies["s"] = map[int32]*copied{0: {sh: sh, changelog: at}}
	rt.mu.ends[at] = logEnd{offset: 10, asked: time.Now()}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := rt.Copy(ctx, "s", 0, time.Hour)
		done <- err
	}()
	time.Sleep(50 * time.Millisecond) // it waits now
	rt.mu.Lock()
	delete(rt.mu.copies["s"], 0)
	rt.mu.Unlock()
	rt.pulse()
	if err := <-done; !errors.Is(err, ErrNotHere) {
		t.Error(err)
	}
}
