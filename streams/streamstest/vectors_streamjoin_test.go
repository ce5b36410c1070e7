package streamstest_test

import (
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/streams"
)

func innerJoin(before, after, grace time.Duration) func(x *vector) {
	return func(x *vector) {
		l, r := x.Stream(strs("L")), x.Stream(strs("R"))
		l.Join("j", r, streams.JoinWindow{Before: before * milli, After: after * milli, Grace: grace * milli}, join2).To(strs("out"))
	}
}

func leftJoin(before, after, grace time.Duration) func(x *vector) {
	return func(x *vector) {
		l, r := x.Stream(strs("L")), x.Stream(strs("R"))
		l.LeftJoin("j", r, streams.JoinWindow{Before: before * milli, After: after * milli, Grace: grace * milli}, leftJoin2).To(strs("out"))
	}
}

func outerJoin(before, after, grace time.Duration) func(x *vector) {
	return func(x *vector) {
		l, r := x.Stream(strs("L")), x.Stream(strs("R"))
		l.OuterJoin("j", r, streams.JoinWindow{Before: before * milli, After: after * milli, Grace: grace * milli}, outer2).To(strs("out"))
	}
}

func selfJoin(x *vector) {
	a := x.Stream(strs("A"))
	a.Join("j", a, streams.Within(10*milli), join2).To(strs("out"))
}

func firstOf(v str) str {
	if v == nil || *v == "" {
		return nil
	}
	return p(runes(*v)[0])
}

var _ = more(map[string]func(x *vector){
	"join-inner":             innerJoin(10, 10, 0),
	"join-inner-grace":       innerJoin(10, 10, 8),
	"join-inner-after-only":  innerJoin(0, 10, 5),
	"join-inner-before-only": innerJoin(10, 0, 5),
	"join-inner-asymmetric":  innerJoin(3, 7, 4),
	"join-inner-shifted":     innerJoin(-2, 8, 4),
	"join-inner-zero":        innerJoin(0, 0, 10),
	"join-left":              leftJoin(10, 10, 0),
	"join-left-grace":        leftJoin(10, 10, 5),
	"join-left-asymmetric":   leftJoin(3, 7, 4),
	"join-outer":             outerJoin(10, 10, 0),
	"join-outer-asymmetric":  outerJoin(8, 2, 6),
	"join-outer-throttled":   outerJoin(10, 10, 0),
	"self-join":              selfJoin,
	"self-join-optimised": func(x *vector) {
		x.Optimize = true
		selfJoin(x)
	},
	"self-join-left": func(x *vector) {
		a := x.Stream(strs("A"))
		a.LeftJoin("j", a.MapValues(func(_, v str) (str, error) { return v, nil }), streams.JoinWindow{After: 5 * milli}, leftJoin2).
			Filter(func(_, v str) bool { l, r, _ := strings.Cut(*v, "-"); return l != r }).To(strs("out"))
	},
	"join-rekeyed": func(x *vector) {
		l := x.Stream(strs("L")).SelectKey(func(_, v str) str { return firstOf(v) })
		r := x.Stream(strs("R")).SelectKey(func(_, v str) str { return firstOf(v) })
		l.Join("j", r, streams.Within(10*milli), join2).To(strs("out"))
	},
	"join-left-rekeyed-null": func(x *vector) {
		l := x.Stream(strs("L")).SelectKey(func(_, v str) str {
			if v == nil || strings.HasPrefix(*v, "n") {
				return nil
			}
			return firstOf(v)
		})
		l.LeftJoin("j", x.Stream(strs("R")), streams.Within(10*milli), leftJoin2).To(strs("out"))
	},
	"join-with-key": func(x *vector) {
		l, r := x.Stream(strs("L")), x.Stream(strs("R"))
		l.Join("j", r, streams.Within(10*milli), func(k, l, r str) (str, error) { return p(text(k) + ":" + text(l) + text(r)), nil }).To(strs("out"))
	},
	"join-types": func(x *vector) {
		l, r := x.Stream(topic[str, *int64]("L")), x.Stream(topic[str, *float64]("R"))
		l.Join("j", r, streams.Within(10*milli), func(_ str, l *int64, r *float64) (float64, error) { return float64(*l) * *r, nil }).
			To(topic[str, float64]("out"))
	},
	"join-chain": func(x *vector) {
		ab := x.Stream(strs("A")).Join("j1", x.Stream(strs("B")), streams.JoinWindow{Before: 10 * milli, After: 10 * milli, Grace: 20 * milli},
			func(_, l, r str) (str, error) { return concat(l, r) })
		ab.Join("j2", x.Stream(strs("C")), streams.JoinWindow{Before: 5 * milli, After: 5 * milli, Grace: 20 * milli},
			func(_, l, r str) (str, error) { return concat(l, r) }).To(strs("out"))
	},
	"join-then-count": func(x *vector) {
		l, r := x.Stream(strs("L")), x.Stream(strs("R"))
		n := x.kv[str, int64]("n")
		n.NoBuffer = true // one record joins several
		l.Join("j", r, streams.JoinWindow{Before: 10 * milli, After: 10 * milli, Grace: 20 * milli}, join2).
			GroupByKey().Count(n).ToStream().To(topic[str, int64]("out"))
	},
})

// outOfStep compares the outputs of a whole scenario: Kafka sends unmatched records later than their time (65), Leat does
// not.
type outOfStep struct{ want, got []string }

func (o *outOfStep) add(want []map[string]any, got map[string][]map[string]any) {
	for _, w := range want {
		o.want = append(o.want, canonical(w))
	}
	for topic, records := range got {
		for _, g := range records {
			g["topic"] = topic
			o.got = append(o.got, canonical(g))
		}
	}
}

func (o *outOfStep) compare(t *testing.T) {
	t.Helper()
	sort.Strings(o.want)
	sort.Strings(o.got)
	if diff := cmp.Diff(o.want, o.got); diff != "" {
		t.Errorf("the scenario's outputs (-want +got):\n%s", diff)
	}
}
