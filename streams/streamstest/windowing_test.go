package streamstest_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// Windowing as Leat decides; what it shares with Apache Kafka Streams the golden vectors show.

func sessionOut[V any](val serde.Serde[V]) streams.Topic[streams.Windowed[string], V] {
	return streams.Topic[streams.Windowed[string], V]{Name: "out", Key: serde.SessionWindowed(serde.String), Value: val}
}

// 53, as Leat decides: a session that keeps its bounds is an update, with no delete before it; one that changes them is
// a delete of the old and a value of the new, buffered or not.
func TestSessionsThatKeepTheirBounds(t *testing.T) {
	for _, noBuffer := range []bool{false, true} {
		out := sessionOut(serde.Nullable(serde.Int64))
		d := driver(t, func(b *streams.Builder) {
			s := streams.SessionStore[string, *int64]{Name: "s", NoBuffer: noBuffer}
			b.Stream(plain).GroupByKey().WindowedBySession(streams.Session(10*milli)).Aggregate(s, func() *int64 { return num(0) },
				func(_, _ string, n *int64) (*int64, error) { return num(*n + 1), nil },
				func(_ string, a, b *int64) (*int64, error) { return num(*a + *b), nil }).To(out)
		})
		d.Send(plain, "k", "v", at(10))
		d.Send(plain, "k", "v", at(20))
		d.Send(plain, "k", "v", at(15))
		want(t, show(d.Read(out)), "k[10,10)=1@10", "k[10,10)=null@10", "k[10,20)=2@20", "k[10,20)=3@20")
	}
}

// 54, as Leat decides: with the default retention too a store finds what the operator still accepts.
func TestSessionsAtTheEdgeOfGraceAreFound(t *testing.T) {
	out := sessionOut(serde.Int64)
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBySession(streams.Session(5 * milli)).Count(streams.SessionStore[string, int64]{Name: "s"}).To(out)
	})
	d.Send(plain, "k", "v", at(0))
	d.Send(plain, "k", "v", at(5))
	d.Send(plain, "k", "v", at(10))
	d.Read(out)
	d.Send(plain, "x", "v", at(15))
	d.Send(plain, "k", "v", at(12)) // the session ends where it may still change
	rows := d.ReadRaw("out")
	if n := len(rows); n != 3 || rows[2].Value[7] != 4 {
		t.Errorf("%d results, the last is not a session of 4", n)
	}
	d.Send(plain, "k", "v", at(4)) // reaches that session, though it is late itself
	d.Send(plain, "x", "v", at(100))
	d.Send(plain, "k", "v", at(13))
	want(t, show(d.Read(out)), "k[0,12)=5@12", "x[100,100)=1@100")
}

// 3, 58: final sessions go out once, also over a restart, and nothing is added to them after.
func TestFinalSessionsAreFinal(t *testing.T) {
	out := sessionOut(serde.Int64)
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBySession(streams.Session(5 * milli)).Final().Count(streams.SessionStore[string, int64]{Name: "s"}).To(out)
	})
	d.Send(plain, "k", "v", at(1))
	d.Send(plain, "k", "v", at(4))
	d.Send(plain, "b", "v", at(4))
	d.Send(plain, "k", "v", at(20))
	want(t, show(d.Read(out)), "b[4,4)=1@4", "k[1,4)=2@4")
	d.Restart()
	d.Send(plain, "k", "late", at(8))
	d.Send(plain, "k", "v", at(16)) // is in the session of 20
	d.Send(plain, "x", "v", at(40))
	want(t, show(d.Read(out)), "k[16,20)=2@20")
}

// An aggregate that is no flat value survives a function that fails: the sessions stay as they were.
func TestSessionsAfterAFunctionThatFails(t *testing.T) {
	words := asJSONSerde[[]string]{}
	out := sessionOut[[]string](words)
	build := func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBySession(streams.Session(5*milli).Grace(5*milli)).Aggregate(
			streams.SessionStore[string, []string]{Name: "s", Value: words}, func() []string { return nil },
			func(_, v string, a []string) ([]string, error) {
				if v == "bad" {
					return nil, errors.New("bad")
				}
				return append(a, v), nil
			},
			func(_ string, a, b []string) ([]string, error) {
				if len(a) == 0 {
					return b, nil
				}
				for i := range a {
					a[i] += "+" // its own to change
				}
				return append(a, b...), nil
			}).To(out)
	}
	d := driver(t, build, streams.Config{OnError: func(context.Context, *streams.RecordError) streams.Decision { return streams.Skip() }})
	d.Send(plain, "k", "a", at(0))
	d.Send(plain, "k", "b", at(8))
	d.Send(plain, "k", "bad", at(4))
	d.Read(out)
	d.Send(plain, "k", "c", at(5))
	want(t, show(d.Read(out)), "k[0,8)=[a+ b c]@8")
}

// asJSONSerde writes values as JSON.
type asJSONSerde[T any] struct{}

func (asJSONSerde[T]) Append(dst []byte, _ serde.Place, v T) ([]byte, error) {
	b, err := json.Marshal(v)
	return append(dst, b...), err
}

func (asJSONSerde[T]) Decode(_ serde.Place, data []byte) (v T, err error) {
	return v, json.Unmarshal(data, &v)
}
