package streamstest_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

func sessionTopic[V any](name string, val serde.Serde[V]) streams.Topic[streams.Windowed[str], V] {
	return streams.Topic[streams.Windowed[str], V]{Name: name, Key: serde.SessionWindowed(nstr), Value: val}
}

func (x *vector) session[V any](name string) streams.SessionStore[str, V] {
	s := streams.SessionStore[str, V]{Name: name, Retention: time.Hour}
	x.rows[name] = func(d *streamstest.Driver) (out []any) {
		for _, r := range d.SessionStore(s).All() {
			out = append(out, []any{asJSON(r.Key.Key), r.Key.Start.UnixMilli(), r.Key.End.UnixMilli(), asJSON(r.Value)})
		}
		return out
	}
	return s
}

func fives(grace time.Duration) streams.SessionWindows {
	return streams.Session(5 * milli).Grace(grace * milli)
}

func countSessions(grace time.Duration) func(x *vector) {
	return func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBySession(fives(grace)).Count(x.session[int64]("s")).To(sessionTopic("out", serde.Int64))
	}
}

var _ = more(map[string]func(x *vector){
	"session-count":    countSessions(100),
	"session-grace":    countSessions(10),
	"session-no-grace": countSessions(0),
	"session-reduce": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBySession(fives(100)).Reduce(x.session[str]("s"),
			func(a, v str) (str, error) { return p(text(a) + "." + text(v)), nil }).To(sessionTopic("out", nstr))
	},
	"session-group-by": func(x *vector) {
		x.Stream(strs("A")).GroupBy(func(_, v str) str { return v }).WindowedBySession(fives(20)).Count(x.session[int64]("s")).
			To(sessionTopic("out", serde.Int64))
	},
	"session-key-mapper": func(x *vector) {
		s := x.session[*int64]("s")
		x.Stream(strs("A")).GroupByKey().WindowedBySession(fives(100)).Aggregate(s, func() *int64 { return num(0) },
			func(_, _ str, n *int64) (*int64, error) { return num(*n + 1), nil },
			func(_ str, a, b *int64) (*int64, error) { return num(*a + *b), nil }).
			ToStream(func(w streams.Windowed[str]) str {
				return p(fmt.Sprintf("%s@%d/%d", *w.Key, w.Start.UnixMilli(), w.End.UnixMilli()))
			}).MapValues(func(_ str, n *int64) (str, error) {
			if n == nil {
				return p("gone"), nil
			}
			return p("n" + dec(*n)), nil
		}).To(strs("out"))
	},
	"session-filter": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBySession(fives(100)).Count(x.session[int64]("s")).
			Filter(func(_ streams.Windowed[str], n int64) bool { return n >= 2 }).To(sessionTopic("out", serde.Int64))
	},
	"session-default-retention": func(x *vector) {
		s := x.session[int64]("s")
		s.Retention = 0
		x.Stream(strs("A")).GroupByKey().WindowedBySession(fives(0)).Count(s).To(sessionTopic("out", serde.Int64))
	},
	"final-session": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBySession(fives(10)).Final().Count(x.session[int64]("s")).To(sessionTopic("out", serde.Int64))
	},
	// window
	"unlimited-count": func(x *vector) {
		s := x.window[int64]("w")
		s.Retention = 0
		x.Stream(strs("A")).GroupByKey().WindowedBy(streams.Unlimited(time.UnixMilli(0))).Count(s).To(windowedTopic("out", 0, serde.Int64))
	},
	"unlimited-start-on": func(x *vector) {
		s := x.window[int64]("w")
		s.Retention = 0
		x.Stream(strs("A")).GroupByKey().WindowedBy(streams.Unlimited(time.UnixMilli(50))).Count(s).ToStream(keyAtStart).To(topic[str, int64]("out"))
	},
	"custom-windows": func(x *vector) {
		pairs := func(at time.Time, add func(start, end time.Time)) {
			begin := at.UnixMilli() / 61 * 61
			if middle := begin + 30; at.UnixMilli() < middle {
				add(time.UnixMilli(begin), time.UnixMilli(middle))
			} else {
				add(time.UnixMilli(middle), time.UnixMilli(begin+61))
			}
		}
		x.Stream(strs("A")).GroupByKey().WindowedBy(streams.Custom(31*milli, pairs).Grace(5 * milli)).Count(x.window[int64]("w")).
			ToStream(keyAtStart).To(topic[str, int64]("out"))
	},
	// sliding
	"sliding-count": countWindows(streams.Sliding(10*milli).Grace(100*milli), 10*milli),
	"sliding-grace": countWindows(streams.Sliding(10*milli).Grace(5*milli), 10*milli),
	"sliding-aggregate": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(streams.Sliding(5*milli).Grace(100*milli)).Aggregate(x.window[str]("w"), func() str { return p("") },
			func(_, v, a str) (str, error) {
				all := runes(text(a) + text(v))
				slices.Sort(all)
				return p(strings.Join(all, "")), nil
			}).To(windowedTopic("out", 5*milli, nstr))
	},
	"sliding-group-by": func(x *vector) {
		x.Stream(strs("A")).GroupBy(firstChar).WindowedBy(streams.Sliding(10*milli).Grace(20*milli)).Reduce(x.window[str]("w"),
			func(a, v str) (str, error) { return p(text(a) + "," + text(v)), nil }).To(windowedTopic("out", 10*milli, nstr))
	},
})

func keyAtStart(w streams.Windowed[str]) str {
	return p(fmt.Sprintf("%s@%d", *w.Key, w.Start.UnixMilli()))
}

func firstChar(_, v str) str {
	if v == nil || *v == "" {
		return v
	}
	return p(runes(*v)[0])
}

func tagged(tag string) func(k, v, a str) (str, error) {
	return func(_, v, a str) (str, error) { return p(text(a) + tag + text(v)), nil }
}

func empty() str { return p("") }

func cogroupAB(x *vector) *streams.CogroupedKStream[str, str] {
	a, b := x.Stream(strs("A")).GroupByKey(), x.Stream(strs("B")).GroupByKey()
	return a.Cogroup(tagged("A")).Cogroup(b, tagged("B"))
}

func cogroupWindows(w streams.Windows) func(x *vector) {
	return func(x *vector) {
		cogroupAB(x).WindowedBy(w).Aggregate(x.window[str]("c"), empty).To(windowedTopic("out", 10*milli, nstr))
	}
}

var _ = more(map[string]func(x *vector){
	"cogroup": func(x *vector) { cogroupAB(x).Aggregate(x.kv[str, str]("c"), empty).ToStream().To(strs("out")) },
	"cogroup-types": func(x *vector) {
		a := x.Stream(strs("A")).GroupByKey()
		b := x.Stream(topic[str, *int64]("B")).GroupByKey()
		c := x.Stream(topic[str, *float64]("C")).GroupByKey()
		a.Cogroup(func(_, v str, n int64) (int64, error) { return n + int64(size(v)), nil }).
			Cogroup(b, func(_ str, v *int64, n int64) (int64, error) { return n + *v, nil }).
			Cogroup(c, func(_ str, v *float64, n int64) (int64, error) { return n*2 + int64(math.Floor(*v)), nil }).
			Aggregate(x.kv[str, int64]("c"), func() int64 { return 0 }).ToStream().To(topic[str, int64]("out"))
	},
	"cogroup-rekeyed": func(x *vector) {
		a := x.Stream(strs("A")).GroupBy(firstChar).Named("ga")
		b := x.Stream(strs("B")).GroupByKey()
		a.Cogroup(tagged("A")).Cogroup(b, tagged("B")).Aggregate(x.kv[str, str]("c"), empty).ToStream().To(strs("out"))
	},
	"cogroup-tumbling": cogroupWindows(tens(5)),
	"cogroup-hopping":  cogroupWindows(streams.Hopping(10*milli, 5*milli).Grace(50 * milli)),
	"cogroup-sliding":  cogroupWindows(streams.Sliding(10 * milli).Grace(50 * milli)),
	"cogroup-one": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Cogroup(tagged("A")).Aggregate(x.kv[str, str]("c"), func() str { return p("z") }).ToStream().To(strs("out"))
	},
})
