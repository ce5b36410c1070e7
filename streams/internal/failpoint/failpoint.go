// Package failpoint lets a test stop a program between two named steps. A Set holds what is armed; where a step is passed
// the code calls Hit, which does nothing and costs one comparison unless something is armed.
//
// A child process is armed from its environment (FromEnv): it then kills itself with SIGKILL, which is what a crash is. A
// test in the same process arms a function of its own.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Variable is the environment variable that FromEnv reads: NAME or NAME:N, the N-th time NAME is passed (1 if left out).
const Variable = "LEAT_FAILPOINT"

// The steps of a commit, in their order. Each is passed once per commit.
const (
	CommitBegin     = "commit-begin"     // records are processed, nothing is flushed
	StoresFlushed   = "stores-flushed"   // changelog records and updates are handed to the producer
	ProducerFlushed = "producer-flushed" // the log has acknowledged every record of the transaction
	OffsetsAdded    = "offsets-added"    // the offsets are part of the transaction
	TxnEnded        = "txn-ended"        // the transaction is committed, the state is not written
	BatchQueued     = "batch-queued"     // the state batch is on its way to Pebble
)

// Points are all names, in order.
func Points() []string {
	return []string{CommitBegin, StoresFlushed, ProducerFlushed, OffsetsAdded, TxnEnded, BatchQueued}
}

// Set holds what is armed. A nil Set is valid and never fires. It is safe for concurrent use.
type Set struct {
	mu struct {
		sync.Mutex
		armed map[string]*point
	}
}

type point struct {
	after int // passes left before it fires
	do    func() error
}

// FromEnv returns the set that Variable asks for: a process that kills itself. It returns nil if Variable is not set, and
// an error if it names no point.
func FromEnv() (*Set, error) {
	spec := os.Getenv(Variable)
	if spec == "" {
		return nil, nil
	}
	name, count, found := strings.Cut(spec, ":")
	n := 1
	if found {
		var err error
		if n, err = strconv.Atoi(count); err != nil || n < 1 {
			return nil, fmt.Errorf("%s=%s: %q is not a positive number", Variable, spec, count)
		}
	}
	known := false
	for _, p := range Points() {
		known = known || p == name
	}
	if !known {
		return nil, fmt.Errorf("%s=%s: no such point; there are %s", Variable, spec, strings.Join(Points(), ", "))
	}
	s := &Set{}
	s.Arm(name, n, func() error { return syscall.Kill(os.Getpid(), syscall.SIGKILL) })
	return s, nil
}

// Arm makes the n-th pass of name from now call do, once. Its error is what Hit returns.
func (s *Set) Arm(name string, n int, do func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.armed == nil {
		s.mu.armed = map[string]*point{}
	}
	s.mu.armed[name] = &point{after: n, do: do}
}

// Hit is called where the step name is passed. Its error is to be treated as a crash: nothing that comes after may run.
func (s *Set) Hit(name string) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	p := s.mu.armed[name]
	if p == nil {
		s.mu.Unlock()
		return nil
	}
	p.after--
	fire := p.after == 0
	if fire {
		delete(s.mu.armed, name)
	}
	s.mu.Unlock()
	if !fire {
		return nil
	}
	return p.do()
}
