package runtime

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

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

// A worker that is added meanwhile must not get the name of one that is being taken out of the group: it would be taken out, too.
func TestWorkerLeavesBeforeItsNumberIsFree(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	rt := New(Config{AppID: "app", InstanceID: "instance", Logger: slog.New(slog.DiscardHandler)})
	rt.topics = newTopics(cl, &rt.cfg)
	c := &rt.crew
	c.mu.ctx, c.mu.cancel = context.WithCancel(t.Context())
	defer c.mu.cancel()
	for n := range 2 {
		c.mu.workers = append(c.mu.workers, newWorker(c.mu.ctx, rt, n))
	}
	left := make(chan int, 1)
	fake.ControlKey(int16(kmsg.LeaveGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		left <- len(c.all())
		return nil, nil, false
	})
	w := c.mu.workers[1]
	w.removed = true
	c.ended(w, nil)
	if n := <-left; n != 2 {
		t.Errorf("%d workers have their numbers while one of two leaves the group", n)
	}
	if n := len(c.all()); n != 1 {
		t.Errorf("%d workers are left", n)
	}
}
