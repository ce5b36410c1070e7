package streamstest_test

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

var sup = streams.Suppression{Name: "sup"}

func supFor(wait int64) streams.Suppression {
	return streams.Suppression{Name: "sup", Wait: time.Duration(wait) * milli}
}

func suppressCounts(w streams.Windows) func(x *vector) {
	return func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(w).Count(x.window[int64]("w")).Suppress(sup).
			ToStream(streams.WindowedKey).To(windowedTopic("out", 10*milli, serde.Int64))
	}
}

func suppressTable(s streams.Suppression) func(x *vector) {
	return func(x *vector) { x.Table(strs("A"), x.kv[str, str]("a")).Suppress(s).ToStream().To(strs("out")) }
}

var _ = more(map[string]func(x *vector){
	"suppress-tumbling": suppressCounts(tens(0)),
	"suppress-hopping":  suppressCounts(streams.Hopping(10*milli, 5*milli).Grace(3 * milli)),
	"suppress-sliding":  suppressCounts(streams.Sliding(10 * milli).Grace(10 * milli)),
	"suppress-grace": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(7)).Reduce(x.window[str]("w"), concat).Suppress(sup).
			ToStream(streams.WindowedKey).To(windowedTopic("out", 10*milli, nstr))
	},
	"suppress-session": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBySession(fives(10)).Count(x.session[int64]("s")).Suppress(sup).
			ToStream(streams.WindowedKey).To(sessionTopic("out", serde.Int64))
	},
	"suppress-time-limit": suppressTable(supFor(10)),
	"suppress-zero":       suppressTable(sup),
	"suppress-shut-down":  suppressTable(streams.Suppression{Name: "sup", Wait: time.Second, MaxRecords: 2, FailWhenFull: true}),
	"suppress-max-bytes":  suppressTable(streams.Suppression{Name: "sup", Wait: time.Second, MaxBytes: 200}),
	"suppress-count-time-limit": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Count(x.kv[str, int64]("n")).Suppress(supFor(20)).ToStream().To(topic[str, int64]("out"))
	},
	"suppress-then-group": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(5)).Count(x.window[int64]("w")).Suppress(sup).
			GroupBy(func(w streams.Windowed[str], n int64) (str, int64, error) { return w.Key, n, nil }).Named("total").
			Reduce(x.kv[str, int64]("total"), func(a, n int64) (int64, error) { return a + n, nil },
				func(a, n int64) (int64, error) { return a - n, nil }).ToStream().To(topic[str, int64]("out"))
	},
	"table-join-suppress": func(x *vector) {
		l, r := x.Table(strs("L"), x.kv[str, str]("l")), x.Table(strs("R"), x.kv[str, str]("r"))
		l.LeftJoin(r, leftJoin2).Suppress(supFor(10)).ToStream().To(strs("out"))
	},
})

// leatsOutcome rewrites what was recorded to what Leat decides, for topologies in which every scenario deviates.
var leatsOutcome = map[string]func(sc *vectorScenario){"suppress-then-group": sumOfFinalResults, "versioned-group-count": deletedAtThatTime}

// sumOfFinalResults is 58, as Leat decides: the first update of a row that goes out has no value before it, so that what
// groups it sums the results that went out. Kafka Streams takes off the window's count before its last record.
func sumOfFinalResults(sc *vectorScenario) {
	type window struct {
		key   string
		start int64
	}
	type count struct{ n, at int64 }
	open, totals, observed := map[window]count{}, map[string]count{}, int64(-1)
	var logged []any
	for i := range sc.Steps {
		s := &sc.Steps[i]
		key, isKey := s.Key.(string)
		if !isKey {
			continue
		}
		observed = max(observed, s.TS)
		w := window{key, s.TS / 10 * 10}
		s.Out = nil
		if w.start+15 <= observed {
			continue // late
		}
		open[w] = count{open[w].n + 1, max(open[w].at, s.TS)}
		var closed []window
		for w := range open {
			if w.start+15 <= observed {
				closed = append(closed, w)
			}
		}
		slices.SortFunc(closed, func(a, b window) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.key, b.key)) })
		for _, w := range closed {
			t := totals[w.key]
			t = count{t.n + open[w].n, max(t.at, open[w].at)}
			totals[w.key] = t
			delete(open, w)
			s.Out = append(s.Out, map[string]any{"topic": "out", "key": w.key, "value": t.n, "ts": t.at})
			b, _ := serde.Int64.Append([]byte{}, serde.Place{}, t.n)
			logged = append(logged, []any{hex.EncodeToString([]byte(w.key)), hex.EncodeToString(b), json.Number(dec(t.at))})
		}
	}
	var rows []any
	for k, t := range totals {
		rows = append(rows, []any{k, t.n, t.at})
	}
	sc.Stores["total"] = rows
	if sc.Changelog != nil {
		sc.Changelog["total"] = logged
	}
}
