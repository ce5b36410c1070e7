package dsltest

import (
	"testing"

	"github.com/leatstream/leat/streams/internal/engine"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// started opens the first task of a plan without stores.
func started(plan *engine.Plan, env *engine.Env) (*engine.Task, error) {
	task, err := engine.NewTask(plan, plan.Subs[0], 0, env)
	if err != nil {
		return nil, err
	}
	return task, task.Start()
}
