package streamstest_test

import (
	"strconv"
	"strings"

	"github.com/leatstream/leat/streams"
)

func byPrefix(_, v str) (str, str, error) { return upTo(v, ":"), v, nil }

func plus(a, b int64) (int64, error)  { return a + b, nil }
func minus(a, b int64) (int64, error) { return a - b, nil }

func addTo(_ str, v, a int64) (int64, error)    { return a + v, nil }
func takeFrom(_ str, v, a int64) (int64, error) { return a - v, nil }

// joined is the text of two values with something between.
func joinedBy(sep string) func(a, b str) (str, error) {
	return func(a, b str) (str, error) { return p(text(a) + sep + text(b)), nil }
}

func endsWith(v str, end string) bool { return strings.HasSuffix(text(v), end) }

var _ = more(map[string]func(x *vector){
	"grouped-table-count": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).GroupBy(byPrefix).Count(x.kv[str, int64]("n")).ToStream().To(topic[str, int64]("out"))
	},
	"grouped-table-reduce": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).GroupBy(byPrefix).Reduce(x.kv[str, str]("n"), joinedBy("+"),
			func(a, v str) (str, error) { return p(*a + "(-" + *v + ")"), nil }).ToStream().To(strs("out"))
	},
	"grouped-table-sum": func(x *vector) {
		x.Table(topic[str, *int64]("A"), x.kv[str, *int64]("a")).GroupBy(func(_ str, v *int64) (str, int64, error) {
			if *v%2 == 0 {
				return p("even"), *v, nil
			}
			return p("odd"), *v, nil
		}).Aggregate(x.kv[str, int64]("sum"), func() int64 { return 0 }, addTo, takeFrom).ToStream().To(topic[str, int64]("out"))
	},
	"grouped-table-null-selector": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).GroupBy(func(_, v str) (str, str, error) {
			if strings.HasPrefix(*v, "0") {
				return nil, v, nil
			}
			return p(runes(*v + " ")[0]), v, nil
		}).Aggregate(x.kv[str, str]("n"), func() str { return p("") },
			func(_, v, a str) (str, error) { return p(*a + "+" + *v), nil },
			func(_, v, a str) (str, error) { return p(*a + "-" + *v), nil }).ToStream().To(strs("out"))
	},
	"grouped-table-null-aggregate": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).GroupBy(byPrefix).Aggregate(x.kv[str, str]("n"), func() str { return p("z") },
			func(_, v, a str) (str, error) {
				if endsWith(v, "x") {
					return nil, nil
				}
				return concat(a, v)
			}, func(_, v, a str) (str, error) {
				if endsWith(v, "y") {
					return nil, nil
				}
				return p(*a + "-" + *v), nil
			}).ToStream().To(strs("out"))
	},
	"grouped-table-of-filter": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).Filter(func(_, v str) bool { return !endsWith(v, "0") }).
			GroupBy(byPrefix).Count(x.kv[str, int64]("n")).ToStream().To(topic[str, int64]("out"))
	},
	"grouped-table-of-map-values": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).MapValues(func(_, v str) (int64, error) {
			_, after, _ := strings.Cut(*v, ":")
			return strconv.ParseInt(after, 10, 64)
		}).GroupBy(func(_ str, n int64) (str, int64, error) { return p("all"), n, nil }).
			Reduce(x.kv[str, int64]("n"), plus, minus).ToStream().To(topic[str, int64]("out"))
	},
	"grouped-table-two-level": func(x *vector) {
		n := x.kv[str, int64]("n")
		n.KeepUnchanged = true // the texts further down show every update that Kafka passes on
		x.Table(strs("A"), x.kv[str, str]("a")).GroupBy(byPrefix).Count(n).
			GroupBy(func(k str, n int64) (str, str, error) { return p("n" + dec(n)), k, nil }).
			Reduce(x.kv[str, str]("m"), joinedBy(","), joinedBy("~")).ToStream().To(strs("out"))
	},
	"aggregate-then-group": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Aggregate(x.kv[str, int64]("x"), func() int64 { return 5 },
			func(_, _ str, a int64) (int64, error) { return a + 1, nil }).
			GroupBy(func(_ str, v int64) (str, int64, error) { return p("all"), v, nil }).
			Aggregate(x.kv[str, int64]("sum"), func() int64 { return 0 }, addTo, takeFrom).ToStream().To(topic[str, int64]("out"))
	},
	"count-then-group": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Count(x.kv[str, int64]("x")).
			GroupBy(func(_ str, v int64) (str, int64, error) { return p("all"), v, nil }).
			Reduce(x.kv[str, int64]("sum"), plus, minus).ToStream().To(topic[str, int64]("out"))
	},
	"windowed-then-group": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(20)).Count(x.window[int64]("w")).
			GroupBy(func(w streams.Windowed[str], n int64) (str, int64, error) { return p(dec(w.Start.UnixMilli())), n, nil }).
			Reduce(x.kv[str, int64]("sum"), plus, minus).ToStream().To(topic[str, int64]("out"))
	},
})
