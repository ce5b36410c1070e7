package engine

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a task of one sub-topology without stores, whose sources write down what they get.
type bench struct {
	task  *Task
	got   []string
	sent  []*kgo.Record
	now   time.Time
	slept []time.Duration
	open  func(t *Task)
	fail  func(r *kgo.Record) error // of the node after the source
	time  func(r *kgo.Record, partition int64) (int64, error)
}

func (b *bench) start(t *testing.T, policy ErrorPolicy, topics ...string) {
	t.Helper()
	sub := &Sub{}
	for _, topic := range topics {
		sub.Sources = append(sub.Sources, &SourceSpec{Node: "src-" + topic, Topics: []Topic{{Name: topic}}, Group: -1})
	}
	sub.Open = func(task *Task) (*Instance, error) {
		if b.open != nil {
			b.open(task)
		}
		in := new(Instance)
		for range topics {
			in.Sources = append(in.Sources, Source{Time: b.time, Process: b.process})
		}
		return in, nil
	}
	env := &Env{Send: func(r *kgo.Record) { b.sent = append(b.sent, r) }, OnError: policy,
		Now: func() time.Time { return b.now }, Sleep: func(d time.Duration) error { b.slept = append(b.slept, d); return nil }}
	task, err := NewTask(&Plan{Subs: []*Sub{sub}}, sub, 0, env)
	if err != nil {
		t.Fatal(err)
	}
	b.task = task
	if err := task.Start(); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) process(c *Cursor, r *kgo.Record) error {
	for attempt := 1; b.fail != nil; attempt++ {
		err := guard(func(int64) error { return b.fail(r) }, 0)
		if err == nil {
			break
		}
		if again, err := c.Fail("node", Processing, attempt, err); !again {
			return err
		}
	}
	b.got = append(b.got, fmt.Sprintf("%s@%d", r.Value, c.Time))
	return nil
}

func rec(topic, value string, ts, offset int64) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte(value), Timestamp: time.UnixMilli(ts), Offset: offset, LeaderEpoch: 7}
}

func (b *bench) want(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, b.got); diff != "" {
		t.Errorf("processed (-want +got):\n%s", diff)
	}
}

func all(t *testing.T, task *Task) {
	t.Helper()
	if _, err := task.Process(1000); err != nil {
		t.Fatal(err)
	}
}

// docs/semantics.md 1, 4: the smallest head timestamp is next, and stream time never goes back.
func TestSmallestTimestampIsNext(t *testing.T) {
	b := &bench{}
	b.start(t, nil, "A", "B")
	b.task.Enqueue("A", 0, []*kgo.Record{rec("A", "a1", 10, 0), rec("A", "a2", 5, 1), rec("A", "a3", 30, 2)})
	b.task.Enqueue("B", 0, []*kgo.Record{rec("B", "b1", 7, 0), rec("B", "b2", 20, 1)})
	b.task.Enqueue("B", 0, []*kgo.Record{rec("B", "b3", 25, 2)})
	all(t, b.task)
	b.want(t, "b1@7", "a1@10", "a2@5", "b2@20", "b3@25", "a3@30")
	if got := b.task.StreamTime(); got != 30 {
		t.Errorf("stream time %d, want 30", got)
	}
	if b.task.Counters.Processed != 6 || b.task.BufferedAll() != 0 {
		t.Errorf("processed %d, buffered %d; want 6, 0", b.task.Counters.Processed, b.task.BufferedAll())
	}
}

// What processes comes back between two records once it is told to, and goes on from there.
func TestProcessYields(t *testing.T) {
	b := &bench{}
	b.start(t, nil, "A")
	b.task.Enqueue("A", 0, []*kgo.Record{rec("A", "a", 1, 0), rec("A", "b", 2, 1), rec("A", "c", 3, 2)})
	yield := b.task.Env().Yield
	b.fail = func(r *kgo.Record) error { yield.Store(string(r.Value) == "b"); return nil }
	if n, err := b.task.Process(1000); n != 2 || err != nil {
		t.Fatalf("processed %d, %v; want 2", n, err)
	}
	yield.Store(false)
	all(t, b.task)
	b.want(t, "a@1", "b@2", "c@3")
	if records, bytes := b.task.Buffered("A", 0); records != 0 || bytes != 0 {
		t.Errorf("%d records and %d bytes wait, want none", records, bytes)
	}
}

// docs/semantics.md 10: what is committed is the offset of the next buffered record, else the consumer's position.
func TestPositionsAreThoseOfWhatComesNext(t *testing.T) {
	b := &bench{}
	b.start(t, nil, "A", "B", "C")
	positions := func() string {
		var out []string
		b.task.Positions(func(topic string, p int32, next int64, epoch int32) {
			out = append(out, fmt.Sprint(topic, p, " ", next, " ", epoch))
		})
		return strings.Join(out, "; ")
	}
	if got := positions(); got != "" {
		t.Errorf("positions before the first record: %q", got)
	}
	b.task.Enqueue("A", 0, []*kgo.Record{rec("A", "a", 1, 3), rec("A", "b", 2, 9)})
	b.task.NotePosition("B", 0, 5, 2) // a control record alone
	if got, want := positions(), "A0 3 -1; B0 5 2"; got != want {
		t.Errorf("positions %q, want %q", got, want)
	}
	if _, err := b.task.Process(1); err != nil {
		t.Fatal(err)
	}
	if got, want := positions(), "A0 9 7; B0 5 2"; got != want {
		t.Errorf("positions %q, want %q (offsets 4 to 8 are gone)", got, want)
	}
	all(t, b.task)
	b.task.NotePosition("A", 0, 12, 8) // a marker after the last record
	if got, want := positions(), "A0 12 8; B0 5 2"; got != want {
		t.Errorf("positions %q, want %q", got, want)
	}
}

// docs/semantics.md 8: a record with a negative timestamp of its own is an error; one to which an extractor gives a negative
// time is dropped, and its offset is passed.
func TestNegativeTimestamps(t *testing.T) {
	b := &bench{}
	b.start(t, nil, "A")
	b.task.Enqueue("A", 0, []*kgo.Record{rec("A", "a", -1, 0)})
	_, err := b.task.Process(10)
	var re *RecordError
	if !errors.As(err, &re) || !errors.Is(err, ErrNegativeTime) || re.Phase != Timing || re.Offset != 0 {
		t.Errorf("error %v, want a RecordError about the timestamp", err)
	}
	b = &bench{time: func(r *kgo.Record, partition int64) (int64, error) {
		if string(r.Value) == "before" {
			return partition, nil
		}
		return r.Timestamp.UnixMilli() - 10, nil
	}}
	b.start(t, nil, "A")
	b.task.Enqueue("A", 0, []*kgo.Record{rec("A", "before", 9, 0), rec("A", "x", 9, 1), rec("A", "y", 15, 2), rec("A", "before", 3, 3)})
	all(t, b.task)
	b.want(t, "y@5", "before@5") // 9: the extractor sees the partition's time before the record, -1 at first
	if b.task.Counters.BadTime != 2 {
		t.Errorf("dropped for their time: %d, want 2", b.task.Counters.BadTime)
	}
}

// docs/semantics.md 11, 12: stream-time punctuators are aligned to 0 and collapse missed calls; wall-clock ones start an
// interval from now.
func TestPunctuators(t *testing.T) {
	b := &bench{now: time.UnixMilli(1000)}
	var fired []string
	b.open = func(task *Task) {
		task.Every("p", 10*time.Millisecond, false, func(now int64) error { fired = append(fired, fmt.Sprint("s", now)); return nil })
		var wall *Punctuator
		wall = task.Every("p", 100*time.Millisecond, true, func(now int64) error {
			fired = append(fired, fmt.Sprint("w", now))
			if now > 1300 {
				wall.Stop()
			}
			return nil
		})
	}
	b.start(t, nil, "A")
	if at, ok := b.task.NextPunctuation(); !ok || at.UnixMilli() != 1100 {
		t.Errorf("next wall-clock punctuation %v, %v; want 1100", at.UnixMilli(), ok)
	}
	b.task.Enqueue("A", 0, []*kgo.Record{rec("A", "a", 3, 0), rec("A", "b", 9, 1), rec("A", "c", 47, 2), rec("A", "d", 49, 3), rec("A", "e", 50, 4)})
	all(t, b.task)
	for _, at := range []int64{1099, 1100, 1350, 1500} {
		if err := b.task.Punctuate(time.UnixMilli(at)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"s3", "s47", "s50", "w1100", "w1350"}, fired); diff != "" {
		t.Errorf("fired (-want +got):\n%s", diff)
	}
	if _, ok := b.task.NextPunctuation(); ok {
		t.Error("a stopped punctuator is still scheduled")
	}
}

func TestErrorPolicy(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name   string
		policy ErrorPolicy
		fail   func(attempt *int) func(r *kgo.Record) error
		want   []string
		err    error
	}{
		{"no policy fails", nil, always(boom), nil, boom},
		{"skip drops the record", func(context.Context, *RecordError) Decision { return Skip() }, always(boom), []string{"good@2"}, nil},
		{"a panic is an error", func(_ context.Context, e *RecordError) Decision {
			var p *PanicError
			if !errors.As(e, &p) || !bytes.Contains(p.Stack, []byte("engine_test.go")) {
				return Fail()
			}
			return Skip()
		}, func(*int) func(*kgo.Record) error {
			return func(r *kgo.Record) error {
				if string(r.Value) == "bad" {
					panic("oh")
				}
				return nil
			}
		}, []string{"good@2"}, nil},
		{"retry calls again", func(_ context.Context, e *RecordError) Decision {
			if e.Attempt == 3 {
				return Fail()
			}
			return Retry(time.Second)
		}, func(n *int) func(*kgo.Record) error {
			return func(*kgo.Record) error {
				if *n++; *n < 3 {
					return boom
				}
				return nil
			}
		}, []string{"bad@1", "good@2"}, nil},
		{"what may pass by itself is retried without asking", func(context.Context, *RecordError) Decision { return Fail() },
			func(n *int) func(*kgo.Record) error {
				return func(*kgo.Record) error {
					if *n++; *n < 5 {
						return fmt.Errorf("registry: %w", serde.ErrUnavailable)
					}
					return nil
				}
			}, []string{"bad@1", "good@2"}, nil},
		{"a policy that panics fails", func(context.Context, *RecordError) Decision { panic("policy") }, always(boom), nil, boom},
	} {
		t.Run(c.name, func(t *testing.T) {
			attempts := 0
			b := &bench{fail: c.fail(&attempts)}
			b.start(t, c.policy, "A")
			b.task.Enqueue("A", 0, []*kgo.Record{rec("A", "bad", 1, 0), rec("A", "good", 2, 1)})
			_, err := b.task.Process(10)
			if !errors.Is(err, c.err) || (err != nil) != (c.err != nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			b.want(t, c.want...)
			if err != nil {
				if _, again := b.task.Process(10); again != err {
					t.Errorf("a failed task goes on: %v", again)
				}
			}
		})
	}
}

func always(err error) func(*int) func(*kgo.Record) error {
	return func(*int) func(*kgo.Record) error {
		return func(r *kgo.Record) error {
			if string(r.Value) == "bad" {
				return err
			}
			return nil
		}
	}
}

// docs/semantics.md 93: a dead letter is the source record as it came, with Kafka's headers, through the task's own producer.
func TestDeadLetter(t *testing.T) {
	b := &bench{fail: func(*kgo.Record) error { return errors.New("no") }}
	b.start(t, func(context.Context, *RecordError) Decision { return DeadLetter("dlq") }, "A")
	r := rec("A", "v", 5, 3)
	r.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}
	b.task.Enqueue("A", 0, []*kgo.Record{r})
	all(t, b.task)
	if len(b.sent) != 1 {
		t.Fatalf("%d records sent, want 1", len(b.sent))
	}
	got := b.sent[0]
	var hs []string
	for _, h := range got.Headers {
		hs = append(hs, h.Key+"="+string(h.Value))
	}
	want := []string{"h=1", "__streams.errors.exception=*errors.errorString", "__streams.errors.message=no", "__streams.errors.stacktrace=",
		"__streams.errors.topic=A", "__streams.errors.partition=0", "__streams.errors.offset=3"}
	if diff := cmp.Diff(want, hs); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if got.Topic != "dlq" || string(got.Key) != "k" || string(got.Value) != "v" || got.Timestamp.UnixMilli() != 5 {
		t.Errorf("dead letter %+v", got)
	}
	if b.task.Counters.DeadLetters != 1 || len(r.Headers) != 1 {
		t.Errorf("counted %d, source has %d headers; want 1, 1", b.task.Counters.DeadLetters, len(r.Headers))
	}
}

// docs/semantics.md 3, as Leat decides: observed times survive a restart, partitions committed at different times included.
func TestMetadataKeepsObservedTimes(t *testing.T) {
	start := func(metadata ...string) (task *Task, lag, same *int64) {
		b := &bench{open: func(task *Task) { lag, same = task.Observe("lag"), task.Observe("same") }}
		sub := &Sub{Sources: []*SourceSpec{{Topics: []Topic{{Name: "A"}}}}}
		sub.Open = func(task *Task) (*Instance, error) { b.open(task); return &Instance{Sources: make([]Source, 1)}, nil }
		task, err := NewTask(&Plan{}, sub, 0, &Env{})
		if err != nil {
			t.Fatal(err)
		}
		if err := task.Start(metadata...); err != nil {
			t.Fatal(err)
		}
		return task, lag, same
	}
	task, lag, same := start()
	if *lag != -1 || *same != -1 || task.Metadata() != "" {
		t.Fatalf("a fresh task has seen %d, %d, metadata %q", *lag, *same, task.Metadata())
	}
	task.streamTime, *lag, *same = 100, 40, 100
	early := task.Metadata()
	task.streamTime, *lag, *same = 200, 200, 150
	late := task.Metadata()
	task, lag, same = start(early)
	if task.StreamTime() != 100 || *lag != 40 || *same != 100 {
		t.Errorf("restored %d, %d, %d; want 100, 40, 100", task.StreamTime(), *lag, *same)
	}
	for _, order := range [][]string{{early, late}, {late, early, "not ours", "Av//////////"}} {
		if task, lag, same = start(order...); task.StreamTime() != 200 || *lag != 200 || *same != 150 {
			t.Errorf("restored %d, %d, %d from %q; want 200, 200, 150", task.StreamTime(), *lag, *same, order)
		}
	}
	for i := range 500 {
		*task.Observe(fmt.Sprintf("a-rather-long-operator-name-%03d", i)) = int64(i % 190)
	}
	if m := task.Metadata(); len(m) > 4096 || len(m) < 2048 {
		t.Errorf("metadata of %d bytes; brokers take 4,096", len(m))
	}
}

func TestMurmur2EqualsKafkas(t *testing.T) {
	raw, err := os.ReadFile("../../streamstest/testdata/streams/formats.json")
	if err != nil {
		t.Fatal(err)
	}
	var formats struct {
		Partitioner struct {
			Vectors []struct {
				Key       string
				Murmur2   int32
				Partition map[string]int32
			}
		}
	}
	if err := json.Unmarshal(raw, &formats); err != nil {
		t.Fatal(err)
	}
	if len(formats.Partitioner.Vectors) < 10 {
		t.Fatalf("%d vectors", len(formats.Partitioner.Vectors))
	}
	for _, v := range formats.Partitioner.Vectors {
		key, _ := hex.DecodeString(v.Key)
		if got := int32(Murmur2(key)); got != v.Murmur2 {
			t.Errorf("murmur2(%s) = %d, want %d", v.Key, got, v.Murmur2)
		}
		for n, want := range v.Partition {
			var count int32
			fmt.Sscan(n, &count)
			if got := Partition(key, count); got != want {
				t.Errorf("partition of %s among %s is %d, want %d", v.Key, n, got, want)
			}
		}
	}
}

func TestSlabKeepsWhatItGaveOut(t *testing.T) {
	var s Slab
	var got, want [][]byte
	for round := range 3 {
		for i := range 3000 {
			v := bytes.Repeat([]byte{byte(i), byte(round)}, i%700)
			got, want = append(got, s.Copy(v)), append(want, v)
		}
		got = append(got, s.Copy(bytes.Repeat([]byte("x"), slabChunk+10)))
		want = append(want, bytes.Repeat([]byte("x"), slabChunk+10))
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("round %d: encoding %d has changed", round, i)
			}
			if cap(got[i]) != len(got[i]) && len(got[i]) > 0 {
				t.Fatalf("encoding %d could be appended to", i)
			}
		}
		got, want = nil, nil
		s.Reset()
	}
	if s.Copy(nil) != nil {
		t.Error("null became empty")
	}
	if allocs := testing.AllocsPerRun(10, func() {
		for range 10_000 {
			s.Keep(append(s.Tail(), "0123456789"...))
		}
		s.Reset()
	}); allocs != 0 {
		t.Errorf("a warm slab allocates %v times", allocs)
	}
}

// docs/semantics.md 96: a commit that is asked for is the runtime's to do, once, at its next occasion; until then processing
// goes on.
func TestCommitsAreAskedForOnce(t *testing.T) {
	b := &bench{}
	b.start(t, nil, "A")
	b.fail = func(r *kgo.Record) error {
		if string(r.Value) == "commit" {
			b.task.RequestCommit()
			b.task.RequestCommit()
		}
		return nil
	}
	b.task.Enqueue("A", 0, []*kgo.Record{rec("A", "commit", 1, 0), rec("A", "a2", 2, 1)})
	all(t, b.task)
	b.want(t, "commit@1", "a2@2")
	if !b.task.TakeCommitRequest() || b.task.TakeCommitRequest() {
		t.Error("the request is not there once")
	}
}

// An error that nobody was asked about says that somebody can be.
func TestAnErrorWithoutAPolicySaysThatThereCanBeOne(t *testing.T) {
	re := &RecordError{Node: "n", Task: "0_0", Phase: Decoding, Topic: "in", Err: errors.New("no number")}
	for _, policy := range []ErrorPolicy{nil, func(context.Context, *RecordError) Decision { return Fail() }} {
		_, err := Admit(t.Context(), policy, slog.New(slog.DiscardHandler), nil, re, func() error { return re.Err })
		var got *RecordError
		if says := strings.Contains(err.Error(), "Config.OnError"); !errors.As(err, &got) || got != re || says != (policy == nil) {
			t.Errorf("with a policy: %t; the error is %v", policy != nil, err)
		}
	}
}
