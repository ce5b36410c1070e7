package runtime

import (
	"testing"

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
