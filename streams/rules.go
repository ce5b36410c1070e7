package streams

import (
	"context"
	"time"
)

// ErrorRules are an error policy made of rules, by node: Config{OnError: rules.Decide}. The zero value fails on every error.
type ErrorRules struct {
	// ByNode has the rules of single nodes, by RecordError.Node: the name given with Named, a store's or join's name, or that
	// in Topology.Describe.
	ByNode map[string]ErrorRule
	// Else is for all other nodes.
	Else ErrorRule
}

// ErrorRule says what becomes of an error.
type ErrorRule struct {
	// Retries is how often what failed is tried again before Then. 0: not at all.
	Retries int
	// Backoff is the pause before the first retry; each further one is twice as long, up to MaxBackoff. The task waits
	// meanwhile. Exactly once, all pauses of a record together should stay well below 10 s: past that the brokers abort the
	// transaction, and everything since the last commit is processed again. 0: 100 ms.
	Backoff time.Duration
	// MaxBackoff is the longest pause. 0: 2 s.
	MaxBackoff time.Duration
	// Then is the decision once nothing is tried any more. The zero value is Fail.
	Then Decision
}

// Decide is a Config.OnError. Any goroutine may call it.
func (r ErrorRules) Decide(_ context.Context, e *RecordError) Decision {
	rule, ok := r.ByNode[e.Node]
	if !ok {
		rule = r.Else
	}
	if e.Attempt > rule.Retries {
		return rule.Then
	}
	wait, most := rule.Backoff, rule.MaxBackoff
	if wait <= 0 {
		wait = 100 * time.Millisecond
	}
	if most <= 0 {
		most = 2 * time.Second
	}
	for range e.Attempt - 1 {
		if wait >= most {
			break
		}
		wait *= 2
	}
	return Retry(min(wait, most))
}
