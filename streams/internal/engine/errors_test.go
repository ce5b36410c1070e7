package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What a record's error says: where the record lies first, the node last; the task only where that does not follow.
func TestRecordErrorTexts(t *testing.T) {
	bad := errors.New("bad")
	for want, e := range map[string]RecordError{
		`decode of rides/1 at offset 2, key "k" (node SOURCE): bad`: {
			Node: "SOURCE", Task: "0_1", Phase: Decoding, Topic: "rides", Partition: 1, Offset: 2, Key: []byte("k"), Err: bad},
		`encode in task 0_1 of store "last", key "a" (node REDUCE): bad`: {
			Node: "REDUCE", Task: "0_1", Phase: Encoding, Topic: "app-last-changelog", Partition: 1, Offset: -1, Store: "last", Key: []byte("a"), Err: bad},
		`process in node watch of task 0_1: bad`: {Node: "watch", Task: "0_1", Phase: Processing, Partition: -1, Offset: -1, Err: bad},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if names := strings.Contains(want, "task 0_1"); NamesTask(fmt.Errorf("more: %w", &e)) != names {
			t.Errorf("%s: NamesTask is %v", want, !names)
		}
	}
}

// An error that ends the task for want of a policy says that there could be one; with a policy it is what that decided.
func TestAnErrorWithoutPolicyNamesOnError(t *testing.T) {
	for name, c := range map[string]struct {
		policy ErrorPolicy
		want   string
	}{
		"none": {nil, `process of A/0 at offset 3, key "k" (node node): bad: this ends the application, now and after each restart, unless Config.OnError answers Skip, Retry or DeadLetter`},
		"fail": {func(context.Context, *RecordError) Decision { return Fail() }, `process of A/0 at offset 3, key "k" (node node): bad`},
	} {
		b := &bench{fail: func(*kgo.Record) error { return errors.New("bad") }}
		b.start(t, c.policy, "A")
		b.task.Enqueue("A", 0, []*kgo.Record{rec("A", "a", 1, 3)})
		_, err := b.task.Process(1)
		var re *RecordError
		if !errors.As(err, &re) || err.Error() != c.want {
			t.Errorf("%s: got  %v\nwant %s", name, err, c.want)
		}
	}
}
