package policytest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

func skipAll(context.Context, *streams.RecordError) streams.Decision { return streams.Skip() }

// choosy is a serde of strings that does not take all of them.
type choosy struct {
	refuse func(v string) bool // when it is written
	reject func(v string) bool // when it is read
}

func (c choosy) Append(dst []byte, at serde.Place, v string) ([]byte, error) {
	if c.refuse != nil && c.refuse(v) {
		return nil, errors.New("does not encode: " + v)
	}
	return serde.String.Append(dst, at, v)
}

func (c choosy) Decode(at serde.Place, data []byte) (string, error) {
	v, err := serde.String.Decode(at, data)
	if err == nil && c.reject != nil && c.reject(v) {
		return "", errors.New("does not decode: " + v)
	}
	return v, err
}

func bad(v string) bool { return strings.Contains(v, "bad") }

// latest keeps the last value of each key in a store with that serde.
func latest(s serde.Serde[string], unbuffered bool) (*streams.Builder, *streams.KTable[string, string], streams.Store[string, string]) {
	b, store := new(streams.Builder), streams.Store[string, string]{Name: "last", Value: s, NoBuffer: unbuffered}
	return b, b.Stream(topic{Name: "in"}).GroupByKey().Reduce(store, func(_, v string) (string, error) { return v, nil }), store
}

// A value that does not encode at the commit is for the policy, and its row stays as it was. There is no source record at
// hand then: the letter has the row's key, the store, and the changelog's partition.
func TestValuesThatDoNotEncodeAtTheCommit(t *testing.T) {
	b, table, store := latest(choosy{refuse: bad}, false)
	table.ToStream().To(topic{Name: "out"})
	var got []streams.RecordError
	d := streamstest.New(t, build(t, b), streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
		got = append(got, *e)
		return streams.DeadLetter("letters")
	}})
	in := topic{Name: "in"}
	d.Send(in, "a", "old")
	d.Together(func() {
		d.Send(in, "a", "bad")
		d.Send(in, "b", "good")
	})
	if out := values(d, "out"); !slices.Equal(out, []string{"old", "good"}) {
		t.Errorf("results %v, want those that encode", out)
	}
	if v, _ := d.Store(store).Get("a"); v != "old" {
		t.Errorf("the row is %q, want what it was", v)
	}
	if len(got) != 1 || got[0].Store != "last" || got[0].Phase != "encode" || string(got[0].Key) != "a" || got[0].Topic != "test-last-changelog" || got[0].Offset != -1 {
		t.Errorf("errors %+v, want one of store last at key a", got)
	} else if text := got[0].Error(); !strings.Contains(text, `store "last", key "a"`) {
		t.Errorf("the error says %q", text)
	}
	l := d.Letters("letters")
	if len(l) != 1 || string(l[0].Key) != "a" || l[0].Store != "last" || l[0].From != "test-last-changelog" || l[0].Partition != 0 || l[0].Offset != -1 {
		t.Errorf("letters %+v, want one that says what is known", l)
	}
}

// With NoBuffer the record is at hand, and is the letter.
func TestValuesThatDoNotEncodeAtOnce(t *testing.T) {
	b, table, store := latest(choosy{refuse: bad}, true)
	table.ToStream().To(topic{Name: "out"})
	d := streamstest.New(t, build(t, b), streams.Config{OnError: func(context.Context, *streams.RecordError) streams.Decision { return streams.DeadLetter("letters") }})
	d.Send(topic{Name: "in"}, "a", "old")
	d.Send(topic{Name: "in"}, "a", "bad")
	d.Send(topic{Name: "in"}, "b", "bad")
	if out := values(d, "out"); !slices.Equal(out, []string{"old"}) {
		t.Errorf("results %v, want old alone", out)
	}
	if v, _ := d.Store(store).Get("a"); v != "old" {
		t.Errorf("the row is %q, want what it was", v)
	}
	if l := d.Letters("letters"); len(l) != 2 || string(l[0].Value) != "bad" || l[0].From != "in" || l[0].Offset != 1 {
		t.Errorf("letters %+v, want the two records", l)
	}
	if _, ok := d.Store(store).Get("b"); ok {
		t.Error("a row is there that was never written")
	}
}

// A function that fails on a table's update at the commit says which row it was.
func TestFunctionsThatFailAtTheCommit(t *testing.T) {
	b, table, _ := latest(nil, false)
	table.MapValues(func(_, v string) (string, error) {
		if bad(v) {
			return "", errors.New("no such value")
		}
		return v, nil
	}).ToStream().To(topic{Name: "out"})
	d := streamstest.New(t, build(t, b), streams.Config{OnError: func(context.Context, *streams.RecordError) streams.Decision { return streams.DeadLetter("letters") }})
	d.Send(topic{Name: "in"}, "a", "bad")
	if l := d.Letters("letters"); len(l) != 1 || string(l[0].Key) != "a" || l[0].Store != "last" || l[0].Message != "no such value" {
		t.Errorf("letters %+v, want one of row a", l)
	}
}

// A stored row that does not decode is the error of the record that needs it; the row stays, for a serde that can.
func TestRowsThatDoNotDecode(t *testing.T) {
	broken := false
	b, table, store := latest(choosy{reject: func(v string) bool { return broken && bad(v) }}, false)
	table.ToStream().To(topic{Name: "out"})
	d := streamstest.New(t, build(t, b), streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
		if e.Phase != "decode" || e.Topic != "in" {
			t.Errorf("error %v in phase %s, want decode of a record of in", e, e.Phase)
		}
		return streams.Skip()
	}})
	d.Send(topic{Name: "in"}, "a", "bad")
	d.Restart()
	broken = true
	d.Send(topic{Name: "in"}, "a", "new")
	d.Send(topic{Name: "in"}, "b", "new")
	if n := d.Dropped().Skipped; n != 1 {
		t.Errorf("%d records were skipped, want the one whose row does not decode", n)
	}
	broken = false
	if v, _ := d.Store(store).Get("a"); v != "bad" {
		t.Errorf("the row is %q, want what it was", v)
	}
}

// fragile is a serde that panics.
type fragile struct{ serde.Serde[string] }

func (fragile) Append([]byte, serde.Place, string) ([]byte, error) { panic("fragile") }

type fragileRead struct{ serde.Serde[string] }

func (fragileRead) Decode(serde.Place, []byte) (string, error) { panic("fragile") }

// Wherever a function or a serde of the user's panics, it is an error with its stack, for the policy: nothing takes the
// application down that the policy skips.
func TestPanicsAreErrorsEverywhere(t *testing.T) {
	type stream = *streams.KStream[string, string]
	out := topic{Name: "out"}
	p := func(string, string) (string, error) { panic("here") }
	for name, wire := range map[string]func(b *streams.Builder, s stream){
		"filter":    func(_ *streams.Builder, s stream) { s.Filter(func(string, string) bool { panic("here") }).To(out) },
		"map":       func(_ *streams.Builder, s stream) { s.MapValues(p).To(out) },
		"selectKey": func(_ *streams.Builder, s stream) { s.SelectKey(func(string, string) string { panic("here") }).To(out) },
		"flatMap": func(_ *streams.Builder, s stream) {
			s.FlatMap(func(_, _ string, _ func(string, string)) error { panic("here") }).To(out)
		},
		"peek": func(_ *streams.Builder, s stream) { s.Peek(func(string, string) { panic("here") }).To(out) },
		"branch": func(_ *streams.Builder, s stream) {
			s.Split().Branch(func(string, string) bool { panic("here") }).To(out)
		},
		"groupBy": func(_ *streams.Builder, s stream) {
			s.GroupBy(func(string, string) string { panic("here") }).Count(streams.Store[string, int64]{Name: "s"})
		},
		"reduce": func(_ *streams.Builder, s stream) {
			s.GroupByKey().Aggregate(streams.Store[string, string]{Name: "s"}, empty, func(string, string, string) (string, error) { panic("here") })
		},
		"zero": func(_ *streams.Builder, s stream) {
			s.GroupByKey().Aggregate(streams.Store[string, string]{Name: "s"}, func() string { panic("here") }, join2)
		},
		"name": func(_ *streams.Builder, s stream) {
			s.ToDynamic(func(streams.Record[string, string]) string { panic("here") }, out)
		},
		"partitioner": func(_ *streams.Builder, s stream) {
			s.To(topic{Name: "out", Partitioner: func(string, string, int) []int { panic("here") }})
		},
		"value serde": func(_ *streams.Builder, s stream) { s.To(topic{Name: "out", Value: fragile{serde.String}}) },
		"key serde":   func(_ *streams.Builder, s stream) { s.To(topic{Name: "out", Key: fragile{serde.String}}) },
		"store key": func(_ *streams.Builder, s stream) {
			s.GroupByKey().Count(streams.Store[string, int64]{Name: "s", Key: fragile{serde.String}})
		},
		"store value": func(_ *streams.Builder, s stream) {
			s.ToTable(streams.Store[string, string]{Name: "s", Value: fragile{serde.String}})
		},
		"windows": func(_ *streams.Builder, s stream) {
			s.GroupByKey().WindowedBy(streams.Custom(time.Minute, func(time.Time, func(start, end time.Time)) { panic("here") })).
				Count(streams.WindowStore[string, int64]{Name: "s"})
		},
		"processor": func(_ *streams.Builder, s stream) {
			s.Process("p", func(*streams.Task, streams.Emit[string, string]) (streams.Processor[string, string], error) {
				return func(context.Context, streams.Record[string, string]) error { panic("here") }, nil
			})
		},
		"async": func(_ *streams.Builder, s stream) {
			s.MapAsync(streams.Async{Name: "a"}, func(context.Context, string, string) (string, error) { panic("here") }).To(out)
		},
		"joiner": func(b *streams.Builder, s stream) {
			s.LeftJoinTable(b.Table(topic{Name: "t"}, streams.Store[string, string]{Name: "t"}), func(string, string, *string) (string, error) { panic("here") }).To(out)
		},
	} {
		var b streams.Builder
		wire(&b, b.Stream(topic{Name: "in"}))
		panics := 0
		d := streamstest.New(t, build(t, &b), streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
			var p *streams.PanicError
			if errors.As(e, &p) && len(p.Stack) > 0 {
				panics++
			}
			return streams.Skip()
		}})
		if err := d.Fails(func() { d.Send(topic{Name: "in"}, "k", "v") }); err != nil || panics != 1 {
			t.Errorf("%s: %d panics came to the policy, and the application: %v", name, panics, err)
		}
	}
	var b streams.Builder
	b.Stream(topic{Name: "in", Value: fragileRead{serde.String}, Time: func(streams.Record[string, string], time.Time) (time.Time, error) { panic("here") }}).To(out)
	d := streamstest.New(t, build(t, &b), streams.Config{OnError: skipAll})
	d.Send(topic{Name: "in"}, "k", "v")
	if n := d.Dropped().Skipped; n != 1 {
		t.Errorf("%d records were skipped whose bytes do not decode, want 1", n)
	}
}

// Rules retry with growing pauses, by node, and then decide.
func TestErrorRules(t *testing.T) {
	var b streams.Builder
	failing := func(string, string) (string, error) { return "", errors.New("always") }
	in := b.Stream(topic{Name: "in"})
	in.MapValues(failing).Named("patient").To(topic{Name: "out"})
	in.MapValues(failing).Named("other").To(topic{Name: "out2"})
	rules := streams.ErrorRules{
		ByNode: map[string]streams.ErrorRule{"patient": {Retries: 3, Backoff: time.Second, MaxBackoff: 3 * time.Second, Then: streams.DeadLetter("letters")}},
		Else:   streams.ErrorRule{Then: streams.Skip()},
	}
	d := streamstest.New(t, build(t, &b), streams.Config{OnError: rules.Decide})
	begin := d.Now()
	d.Send(topic{Name: "in"}, "k", "v")
	if by := d.Now().Sub(begin); by != 6*time.Second {
		t.Errorf("retries took %v, want 1 s, 2 s and 3 s", by)
	}
	if n := d.Dropped(); n.Letters != 1 || n.Skipped != 1 || len(d.Letters("letters")) != 1 {
		t.Errorf("dropped %+v, want one letter and one skip", n)
	}
	if d := (streams.ErrorRules{}).Decide(t.Context(), &streams.RecordError{Attempt: 1}); d != streams.Fail() {
		t.Errorf("no rules decide %v, want fail", d)
	}
}
