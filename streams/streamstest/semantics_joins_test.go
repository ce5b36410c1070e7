package streamstest_test

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

var leftIn, rightIn = streams.Topic[string, string]{Name: "L"}, streams.Topic[string, string]{Name: "R"}

// outerTopology joins L and R: two before, five after, three of grace.
func outerTopology(b *streams.Builder) {
	b.Stream(leftIn).OuterJoin("j", b.Stream(rightIn), streams.JoinWindow{Before: 2 * milli, After: 5 * milli, Grace: 3 * milli},
		func(_ string, l, r *string) (string, error) {
			return fmt.Sprint(textOr(l), "-", textOr(r)), nil
		}).To(plainOut)
}

func textOr(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// 65-67, as Leat decides: what has found no partner goes out with the first record after its window and grace, not
// later, and what comes after that is late. A record goes out alone once, or with its partners, never both.
func TestJoinGraceIsExact(t *testing.T) {
	d := driver(t, outerTopology)
	d.Send(leftIn, "k", "l0", at(0))
	d.Send(rightIn, "x", "r8", at(8)) // 0+5+3 is not before 8
	want(t, show(d.Read(plainOut)))
	d.Send(rightIn, "k", "r5", at(5)) // late in time, in grace
	want(t, show(d.Read(plainOut)), "k=l0-r5@5")
	d.Send(leftIn, "y", "l9", at(9))
	d.Send(leftIn, "k", "l0b", at(0)) // 0+5+3 is before 9
	want(t, show(d.Read(plainOut)))
	if d.Dropped().Late != 1 {
		t.Errorf("dropped %+v", d.Dropped())
	}
	d.Send(rightIn, "z", "r14", at(14)) // 8+2+3 is before 14
	want(t, show(d.Read(plainOut)), "x=null-r8@8")
	d.Send(leftIn, "x", "l8", at(8)) // it went out alone, and does not meet l8 any more
	d.Send(leftIn, "q", "l100", at(100))
	want(t, show(d.Read(plainOut)), "x=l8-null@8", "y=l9-null@9", "z=null-r14@14")
}

// 65-67: against a model: every pair in the window of which neither side was late, and each record without one, once.
func TestOuterJoinAgainstAModel(t *testing.T) {
	type rec struct {
		left    bool
		key, v  string
		at      int64
		partner bool
	}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		d := driver(t, outerTopology)
		var seen []*rec
		var expect []string
		now := int64(-1)
		send := func(r *rec) {
			topic, wait := rightIn, int64(2+3)
			if r.left {
				topic, wait = leftIn, 5+3
			}
			d.Send(topic, r.key, r.v, at(r.at))
			if now = max(now, r.at); r.at+wait < now {
				return
			}
			for _, o := range seen {
				l, w := o, r
				if r.left {
					l, w = r, o
				}
				oWait := int64(8)
				if r.left {
					oWait = 5
				}
				if o.left == r.left || o.key != r.key || w.at < l.at-2 || w.at > l.at+5 || o.at+oWait < now {
					continue
				}
				o.partner, r.partner = true, true
				expect = append(expect, fmt.Sprintf("%s=%s-%s@%d", r.key, l.v, w.v, max(l.at, w.at)))
			}
			seen = append(seen, r)
		}
		for i := range 150 {
			r := &rec{left: rng.IntN(2) == 0, key: string(rune('a' + rng.IntN(3))), v: fmt.Sprint("v", i), at: int64(i) + rng.Int64N(14)}
			send(r)
			if i%40 == 39 {
				d.Restart() // who waits is known from the store
			}
		}
		d.Send(leftIn, "end", "end", at(10_000))
		for _, r := range seen {
			switch {
			case r.partner:
			case r.left:
				expect = append(expect, fmt.Sprintf("%s=%s-null@%d", r.key, r.v, r.at))
			default:
				expect = append(expect, fmt.Sprintf("%s=null-%s@%d", r.key, r.v, r.at))
			}
		}
		got := show(d.Read(plainOut))
		sort.Strings(expect)
		sort.Strings(got)
		if diff := cmp.Diff(expect, got); diff != "" {
			t.Fatalf("seed %d (-model +got):\n%s", seed, diff)
		}
	}
}

// 41: a record that goes out alone has its own headers, also after a restart.
func TestLoneRecordsHaveTheirHeaders(t *testing.T) {
	d := driver(t, outerTopology)
	d.Send(leftIn, "k", "l", at(0), streamstest.Headers(streams.Header{Key: "h", Value: []byte("1")}, streams.Header{Key: "nil"}))
	d.Restart()
	d.Send(rightIn, "x", "r", at(50), streamstest.Headers(streams.Header{Key: "other"}))
	got := d.Read(plainOut)
	if len(got) != 1 || got[0].Value != "l-null" || len(got[0].Headers) != 2 || got[0].Headers[0].Key != "h" ||
		string(got[0].Headers[0].Value) != "1" || got[0].Headers[1].Value != nil {
		t.Errorf("got %+v", got)
	}
}

// A join's mistakes are said at Build.
func TestStreamJoinMistakes(t *testing.T) {
	var b streams.Builder
	l, r := b.Stream(leftIn), b.Stream(rightIn)
	f := func(_, l, r string) (string, error) { return l + r, nil }
	l.Join("", r, streams.Within(time.Second), f)
	l.Join("w", r, streams.JoinWindow{Before: -time.Second}, f)
	l.Join("g", r, streams.JoinWindow{Grace: -1}, f)
	l.Join("j", r, streams.Within(time.Second), f)
	l.Join("j", r, streams.Within(time.Second), f)
	_, err := b.Build()
	for _, part := range []string{"a join has no name", `join "w": the window ends before it begins`, `join "g" has the negative grace`, `two joins are named "j"`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("Build says %v, want %q", err, part)
		}
	}
}
