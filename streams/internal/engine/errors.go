package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Phase says what was being done with a record when it failed.
type Phase string

const (
	Decoding   Phase = "decode"    // its bytes
	Processing Phase = "process"   // a function of the topology
	Encoding   Phase = "encode"    // a result, at a sink, repartition or store
	Timing     Phase = "timestamp" // its timestamp is negative, or too far ahead
	Producing  Phase = "produce"   // a result, or a store's row, is larger than the client sends
)

// RecordError is an error of one record. See streams.RecordError.
type RecordError struct {
	Node      string
	Task      string
	Phase     Phase
	Store     string
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
	Attempt   int
	Err       error
}

// Error says what failed, and where the record lies. Where that does not say the task, the text does.
func (e *RecordError) Error() string {
	if e.Store != "" && e.Offset < 0 {
		return fmt.Sprintf("%s in task %s of store %q, key %q (node %s): %v", e.Phase, e.Task, e.Store, clip(e.Key), e.Node, e.Err)
	}
	if e.Topic == "" {
		return fmt.Sprintf("%s in node %s of task %s: %v", e.Phase, e.Node, e.Task, e.Err)
	}
	return fmt.Sprintf("%s of %s/%d at offset %d, key %q (node %s): %v",
		e.Phase, e.Topic, e.Partition, e.Offset, clip(e.Key), e.Node, e.Err)
}

// NamesTask reports whether err is of a record, and its text says in which task.
func NamesTask(err error) bool {
	var of *RecordError
	return errors.As(err, &of) && (of.Topic == "" || of.Store != "" && of.Offset < 0)
}

// Unwrap returns the cause.
func (e *RecordError) Unwrap() error { return e.Err }

func clip(b []byte) []byte {
	if len(b) > 64 {
		return b[:64]
	}
	return b
}

// PanicError is the cause of a RecordError when user code panicked.
type PanicError = state.PanicError

// Recover is to be deferred around a call of user code: it turns a panic into an error with its stack.
func Recover(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

// Decision is an answer of OnError. The zero value is Fail.
type Decision struct {
	kind  decisionKind
	topic string
	after time.Duration
}

type decisionKind int8

const (
	fail decisionKind = iota
	skip
	deadLetter
	retry
)

// Fail stops the task.
func Fail() Decision { return Decision{} }

// Skip drops the record from the failing node down.
func Skip() Decision { return Decision{kind: skip} }

// DeadLetter is Skip, and the source record goes to topic.
func DeadLetter(topic string) Decision { return Decision{kind: deadLetter, topic: topic} }

// Retry calls the failing function again after that time.
func Retry(after time.Duration) Decision { return Decision{kind: retry, after: after} }

// String names the decision.
func (d Decision) String() string {
	switch d.kind {
	case skip:
		return "skip"
	case deadLetter:
		return "dead letter to " + d.topic
	case retry:
		return "retry after " + d.after.String()
	}
	return "fail"
}

// fatal marks an error to which the policy has been applied: it ends the task.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// IsFatal reports whether the policy has been applied to err already.
func IsFatal(err error) bool {
	var f fatal
	return errors.As(err, &f)
}

// Fail applies the error policy to an error of the record in hand at node. With again, the caller is to try once more;
// else it returns err, which is nil if the record is to be left alone. attempt counts from 1.
func (c *Cursor) Fail(node string, phase Phase, attempt int, cause error) (again bool, err error) {
	t := c.Task
	if t.dead != nil {
		return false, t.dead
	}
	if IsFatal(cause) {
		return false, cause
	}
	if t.env.DB != nil && t.env.DB.Err() != nil { // what a processor makes of a store that cannot be read is no fault of its record
		return false, t.die(t.env.DB.Err())
	}
	if errors.Is(cause, serde.ErrUnavailable) {
		wait := min(10*time.Millisecond<<min(attempt, 10), 5*time.Second)
		t.env.Logger.Warn("waiting for a dependency", "task", t.id.String(), "node", node, "attempt", attempt, "retry_in", wait, "error", cause)
		if err := t.env.Sleep(wait); err != nil {
			return false, t.die(err)
		}
		return true, nil
	}
	c.Trace.failed(phase, cause)
	re := &RecordError{Node: node, Task: t.id.String(), Phase: phase, Partition: -1, Offset: -1, Attempt: attempt, Err: cause}
	switch r := c.Record; {
	case r != nil:
		re.Topic, re.Partition, re.Offset, re.Key, re.Value = r.Topic, r.Partition, r.Offset, r.Key, r.Value
	case c.Store != "":
		re.Store, re.Key, re.Value = c.Store, c.Key, c.Value
		re.Topic, re.Partition = t.changelog(c.Store), t.id.Partition
	}
	return c.settle(re)
}

// changelog names the changelog topic of a store; empty if it has none.
func (t *Task) changelog(store string) string {
	for _, s := range t.sub.Stores {
		if s.Name == store && s.Changelog.Name != "" {
			return s.Changelog.In(t.env.AppID)
		}
	}
	return ""
}

// Refused applies the error policy to values of a store that do not encode: state.StoreOptions.Refused. With a record in
// hand the error is that record's; at a commit it is that of the store's row.
func (t *Task) Refused(node, store string) func(key []byte, attempt int, cause error) (again bool, err error) {
	return func(key []byte, attempt int, cause error) (bool, error) {
		c := &t.cur
		wasStore, wasKey := c.Store, c.Key
		c.Store, c.Key = store, key
		phase := Encoding
		if errors.Is(cause, state.ErrTooLarge) {
			phase = Producing
			cause = fmt.Errorf("store %q, key %q: %w; kgo.ProducerBatchMaxBytes in Config.Client raises that, up to max.message.bytes of topic %s, which the "+
				"store's Changelog sets where the topic is not there yet", store, clip(key), cause, t.changelog(store))
		}
		again, err := c.Fail(node, phase, attempt, cause)
		c.Store, c.Key = wasStore, wasKey
		return again, err
	}
}

// Unreadable applies the error policy to rows of a store that an iteration meets and that do not decode:
// state.StoreOptions.Unreadable. Whatever record is in hand, the error is the row's, which is left out unless it ends the task.
func (t *Task) Unreadable(node, store string) func(key, value []byte, attempt int, cause error) (again bool, err error) {
	return func(key, value []byte, attempt int, cause error) (bool, error) {
		c := &t.cur
		record, wasStore, wasKey := c.Record, c.Store, c.Key
		c.Record, c.Store, c.Key, c.Value = nil, store, key, value
		again, err := c.Fail(node, Decoding, attempt, cause)
		c.Record, c.Store, c.Key, c.Value = record, wasStore, wasKey, nil
		return again, err
	}
}

// settle does what the error policy says of an error.
func (c *Cursor) settle(re *RecordError) (again bool, err error) {
	t := c.Task
	d := t.decide(re)
	switch d.kind {
	case retry:
		if err := t.env.Sleep(d.after); err != nil {
			return false, t.die(err)
		}
		return true, nil
	case skip:
		t.Counters.Skipped++
		return false, nil
	case deadLetter:
		if t.sub.Global || !t.started { // without a transaction, or not yet within one
			t.Counters.Skipped++
			t.env.Logger.Warn("a global table, and a task that is being opened, send no dead letters, and skip the record", "node", re.Node,
				"topic", re.Topic, "partition", re.Partition, "offset", re.Offset, "store", re.Store, "error", re.Err)
			return false, nil
		}
		t.Counters.DeadLetters++
		t.sendDeadLetter(d.topic, c.Record, re)
		return false, nil
	}
	return false, t.die(unanswered(t.env.OnError, re))
}

// unanswered is the error of a record for which the policy is to fail; where there is none it says that there can be.
func unanswered(policy ErrorPolicy, re *RecordError) error {
	if policy != nil {
		return re
	}
	return fmt.Errorf("%w: this ends the application, now and after each restart, unless Config.OnError answers Skip, Retry or DeadLetter", re)
}

func (t *Task) decide(re *RecordError) Decision {
	return decide(t.env.Context, t.env.OnError, t.env.Logger, re)
}

func decide(ctx context.Context, policy ErrorPolicy, log *slog.Logger, re *RecordError) (d Decision) {
	if policy == nil {
		return Fail()
	}
	defer func() {
		if v := recover(); v != nil {
			log.Error("OnError panicked", "task", re.Task, "node", re.Node, "panic", v)
			d = Fail()
		}
	}()
	return policy(ctx, re)
}

// Admit applies the error policy to a record that is to be replayed into a store, where check finds fault with it: it says
// whether the record is to be taken. A dead letter is a skip here: nothing is written while state is restored, and of a
// source topic's record there has been one. An error ends the application. sleep waits for a retry.
func Admit(ctx context.Context, policy ErrorPolicy, log *slog.Logger, sleep func(time.Duration) error, re *RecordError, check func() error) (bool, error) {
	for re.Attempt = 1; ; re.Attempt++ {
		err := guard(func(int64) error { return check() }, 0)
		if err == nil {
			return true, nil
		}
		re.Err = err
		wait := min(10*time.Millisecond<<min(re.Attempt, 10), 5*time.Second)
		if !errors.Is(err, serde.ErrUnavailable) {
			d := decide(ctx, policy, log, re)
			switch d.kind {
			case fail:
				return false, unanswered(policy, re)
			case skip, deadLetter:
				log.Warn("a record is left out of a restored store", "error", re)
				return false, nil
			}
			wait = d.after
		}
		if err := sleep(wait); err != nil {
			return false, err
		}
	}
}

// Die ends the task with an error that no policy applies to: of a store, say. It returns the error, marked as final.
func (t *Task) Die(err error) error {
	if t.dead != nil {
		return t.dead
	}
	if IsFatal(err) {
		t.dead = err
		return err
	}
	return t.die(err)
}

func (t *Task) die(err error) error {
	t.dead = fatal{err}
	return t.dead
}

// sendDeadLetter writes the source record as it came, with Kafka's headers. Where there is no source record the letter has
// what is known: of a table's update at the commit the row's key, the changelog's topic and partition, and the store in a
// header of Leat's own; of a punctuator nothing.
func (t *Task) sendDeadLetter(topic string, src *kgo.Record, re *RecordError) {
	r := t.env.Records.Get()
	r.Topic, r.Partition = topic, -1
	r.Timestamp = t.env.Now()
	var stack []byte
	var p *PanicError
	if errors.As(re.Err, &p) {
		stack = p.Stack
	}
	if src != nil {
		r.Key, r.Value, r.Timestamp = src.Key, src.Value, src.Timestamp
		r.Headers = append(r.Headers, t.cur.Trace.letter(src)...)
	} else {
		r.Key, r.Value = bytes.Clone(re.Key), bytes.Clone(re.Value)
	}
	r.Headers = append(r.Headers,
		kgo.RecordHeader{Key: "__streams.errors.exception", Value: fmt.Appendf(nil, "%T", re.Err)},
		kgo.RecordHeader{Key: "__streams.errors.message", Value: []byte(re.Err.Error())},
		kgo.RecordHeader{Key: "__streams.errors.stacktrace", Value: stack})
	header := func(name string, value []byte) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "__streams.errors." + name, Value: value})
	}
	if re.Topic != "" {
		header("topic", []byte(re.Topic))
		header("partition", strconv.AppendInt(nil, int64(re.Partition), 10))
	}
	if re.Offset >= 0 {
		header("offset", strconv.AppendInt(nil, re.Offset, 10))
	}
	if re.Store != "" {
		header("store", []byte(re.Store))
	}
	if n := t.env.Partitions(topic); n > 0 && r.Key != nil {
		r.Partition = Partition(r.Key, n)
	}
	t.send(r)
}

// ErrorPolicy is Config.OnError.
type ErrorPolicy = func(context.Context, *RecordError) Decision
