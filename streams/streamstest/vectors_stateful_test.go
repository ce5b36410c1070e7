package streamstest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
)

var (
	nstr = serde.Nullable(serde.String)
	nint = serde.Nullable(serde.Int64)
)

func num(n int64) *int64 { return &n }

func dec(n int64) string { return strconv.FormatInt(n, 10) }

// more adds topologies to the harness, beside those of vectors_topologies_test.go.
func more(all map[string]func(x *vector)) bool {
	for name, build := range all {
		vectorTopologies[name] = build
	}
	return true
}

func tens(grace time.Duration) streams.Windows {
	return streams.Tumbling(10 * milli).Grace(grace * milli)
}

func countWindows(w streams.Windows, size time.Duration) func(x *vector) {
	return func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(w).Count(x.window[int64]("w")).To(windowedTopic("out", size, serde.Int64))
	}
}

var _ = more(map[string]func(x *vector){
	"count": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Count(x.kv[str, int64]("n")).To(topic[str, int64]("out"))
	},
	"headers-count": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Count(x.kv[str, int64]("n")).To(topic[str, int64]("out"))
	},
	"reduce": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Reduce(x.kv[str, str]("r"), func(a, v str) (str, error) { return p(*a + "," + *v), nil }).ToStream().To(strs("out"))
	},
	"reduce-max": func(x *vector) {
		x.Stream(topic[str, *int64]("A")).GroupByKey().Reduce(x.kv[str, *int64]("r"), func(a, v *int64) (*int64, error) { return num(max(*a, *v)), nil }).ToStream().To(topic[str, *int64]("out"))
	},
	"reduce-to-null": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Reduce(x.kv[str, str]("r"), func(a, v str) (str, error) {
			if *v == "del" {
				return nil, nil
			}
			return concat(a, v)
		}).ToStream().To(strs("out"))
	},
	"aggregate": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Aggregate(x.kv[str, str]("s"), func() str { return p("") },
			func(k, v, a str) (str, error) { return p(*a + *k + *v + ";"), nil }).ToStream().To(strs("out"))
	},
	"aggregate-to-null": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Aggregate(x.kv[str, *int64]("s"), func() *int64 { return num(0) }, addOrDelete).ToStream().To(topic[str, *int64]("out"))
	},
	"aggregate-float64": func(x *vector) {
		x.Stream(topic[str, *float64]("A")).GroupByKey().Aggregate(x.kv[str, float64]("s"), func() float64 { return 0 },
			func(_ str, v *float64, a float64) (float64, error) { return a + *v/2, nil }).ToStream().To(topic[str, float64]("out"))
	},
	"group-by-count": func(x *vector) {
		x.Stream(strs("A")).GroupBy(func(_, v str) str { return v }).Count(x.kv[str, int64]("n")).ToStream().To(topic[str, int64]("out"))
	},
	"word-count": func(x *vector) {
		x.Stream(strs("A")).FlatMapValues(splitWords(true)).GroupBy(func(_, v str) str { return v }).Count(x.kv[str, int64]("words")).ToStream().To(topic[str, int64]("out"))
	},
	"count-filter": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Count(x.kv[str, int64]("n")).Filter(func(_ str, n int64) bool { return n%2 == 0 }).To(topic[str, int64]("out"))
	},
	"count-filter-stored": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Count(x.kv[str, int64]("n")).Filter(func(_ str, n int64) bool { return n%2 == 0 }, x.kv[str, int64]("f")).
			MapValues(func(_ str, n int64) (str, error) { return p("even " + dec(n)), nil }).ToStream().To(strs("out"))
	},
	"two-aggregates": func(x *vector) {
		g := x.Stream(strs("A")).GroupByKey()
		g.Count(x.kv[str, int64]("n")).ToStream().To(topic[str, int64]("out1"))
		g.Reduce(x.kv[str, str]("r"), concat).ToStream().To(strs("out2"))
	},
	"count-chain": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().Count(x.kv[str, int64]("n")).ToStream().
			GroupBy(func(_ str, n int64) str { return p("c" + dec(n)) }).Count(x.kv[str, int64]("m")).ToStream().To(topic[str, int64]("out"))
	},
	// window
	"tumbling-count":    countWindows(tens(5), 10*milli),
	"tumbling-no-grace": countWindows(tens(0), 10*milli),
	"tumbling-reduce": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(20)).Reduce(x.window[str]("w"),
			func(a, v str) (str, error) { return p(text(a) + "|" + text(v)), nil }).To(windowedTopic("out", 10*milli, nstr))
	},
	"tumbling-aggregate": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(20)).Aggregate(x.window[str]("w"), func() str { return p("") },
			func(_, v, a str) (str, error) { return p(*a + text(v) + " "), nil }).To(windowedTopic("out", 10*milli, nstr))
	},
	"tumbling-to-null": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(20)).Aggregate(x.window[*int64]("w"), func() *int64 { return num(0) }, addOrDelete).
			ToStream(streams.WindowedKey).To(windowedTopic("out", 10*milli, nint))
	},
	"tumbling-group-by": func(x *vector) {
		x.Stream(strs("A")).GroupBy(func(_, v str) str { return v }).WindowedBy(tens(10)).Count(x.window[int64]("w")).
			ToStream(streams.WindowedKey).To(windowedTopic("out", 10*milli, serde.Int64))
	},
	"hopping-count":  countWindows(streams.Hopping(10*milli, 5*milli).Grace(5*milli), 10*milli),
	"hopping-by-one": countWindows(streams.Hopping(4*milli, 1*milli).Grace(100*milli), 4*milli),
	"windowed-filter": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(20)).Count(x.window[int64]("w")).
			Filter(func(_ streams.Windowed[str], n int64) bool { return n >= 2 }).To(windowedTopic("out", 10*milli, serde.Int64))
	},
	"windowed-map-values": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(20)).Count(x.window[int64]("w")).
			MapValues(func(w streams.Windowed[str], n int64) (str, error) {
				return p(fmt.Sprintf("%s#%d@%d-%d", *w.Key, n, w.Start.UnixMilli(), w.End.UnixMilli())), nil
			}).ToStream(inner).To(strs("out"))
	},
	"two-windows": func(x *vector) {
		g := x.Stream(strs("A")).GroupByKey()
		g.WindowedBy(tens(0)).Count(x.window[int64]("w1")).ToStream(streams.WindowedKey).To(windowedTopic("out1", 10*milli, serde.Int64))
		g.WindowedBy(streams.Hopping(20*milli, 10*milli).Grace(10 * milli)).Count(x.window[int64]("w2")).ToStream(streams.WindowedKey).To(windowedTopic("out2", 20*milli, serde.Int64))
	},
	"filter-stalls-window": func(x *vector) {
		x.Stream(strs("A")).Filter(func(_, v str) bool { return v != nil && !strings.HasPrefix(*v, "x") }).GroupByKey().
			WindowedBy(tens(0)).Count(x.window[int64]("w")).To(windowedTopic("out", 10*milli, serde.Int64))
	},
	"window-second-level": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(10)).Count(x.window[int64]("w1")).ToStream(streams.WindowedKey).
			Map(func(w streams.Windowed[str], n int64) (str, int64, error) { return w.Key, n, nil }).
			WithSerdes(nstr, nil).GroupByKey().WindowedBy(streams.Tumbling(30*milli).Grace(30*milli)).
			Reduce(x.window[int64]("w2"), func(a, n int64) (int64, error) { return a + n, nil }).To(windowedTopic("out", 30*milli, serde.Int64))
	},
	// final
	"final-tumbling": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(0)).Final().Count(x.window[int64]("w")).To(windowedTopic("out", 10*milli, serde.Int64))
	},
	"final-default-retention": func(x *vector) {
		s := x.window[int64]("w")
		s.Retention = 0
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(0)).Final().Count(s).To(windowedTopic("out", 10*milli, serde.Int64))
	},
	"final-grace": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(7)).Final().Reduce(x.window[str]("w"), concat).To(windowedTopic("out", 10*milli, nstr))
	},
	"final-hopping": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(streams.Hopping(10*milli, 5*milli).Grace(3 * milli)).Final().Count(x.window[int64]("w")).
			To(windowedTopic("out", 10*milli, serde.Int64))
	},
	"final-aggregate": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(5)).Final().Aggregate(x.window[str]("w"), func() str { return p("") },
			func(_, v, a str) (str, error) {
				if text(v) == "del" {
					return nil, nil
				}
				return concat(a, v)
			}).ToStream(inner).To(strs("out"))
	},
	"final-then-count": func(x *vector) {
		x.Stream(strs("A")).GroupByKey().WindowedBy(tens(0)).Final().Count(x.window[int64]("w")).ToStream(streams.WindowedKey).
			Map(func(w streams.Windowed[str], n int64) (str, str, error) { return p("n" + dec(n)), w.Key, nil }).
			GroupByKey().Count(x.kv[str, int64]("m")).ToStream().To(topic[str, int64]("out"))
	},
	// join-st
	"stream-table-join": func(x *vector) {
		s := x.Stream(strs("S"))
		s.JoinTable(x.Table(strs("T"), x.kv[str, str]("t")), join2).To(strs("out"))
	},
	"stream-table-left-join": func(x *vector) {
		s := x.Stream(strs("S"))
		s.LeftJoinTable(x.Table(strs("T"), x.kv[str, str]("t")), leftJoin2).To(strs("out"))
	},
	"stream-table-join-with-key": func(x *vector) {
		s := x.Stream(strs("S"))
		s.LeftJoinTable(x.Table(strs("T"), x.kv[str, str]("t")), func(k, l str, r *str) (str, error) {
			v, _ := leftJoin2(k, l, r)
			return p(text(k) + "=" + *v), nil
		}, streams.TableJoin{Name: "j"}).To(strs("out"))
	},
	"stream-table-rekeyed": func(x *vector) {
		s := x.Stream(strs("S")).SelectKey(func(_, v str) str { return upTo(v, ":") })
		s.JoinTable(x.Table(strs("T"), x.kv[str, str]("t")), join2, streams.TableJoin{Name: "j"}).To(strs("out"))
	},
	"stream-table-left-rekeyed": func(x *vector) {
		s := x.Stream(strs("S")).SelectKey(func(_, v str) str {
			if v == nil || strings.HasPrefix(*v, "n") {
				return nil
			}
			return upTo(v, ":")
		})
		s.LeftJoinTable(x.Table(strs("T"), x.kv[str, str]("t")), leftJoin2, streams.TableJoin{Name: "j"}).To(strs("out"))
	},
	"stream-table-filter": func(x *vector) {
		s := x.Stream(strs("S"))
		t := x.Table(strs("T"), x.kv[str, str]("t")).Filter(func(_, v str) bool {
			return *v != "" && strings.ContainsAny((*v)[len(*v)-1:], "02468")
		})
		s.JoinTable(t, join2).To(strs("out"))
	},
	"stream-table-aggregate": func(x *vector) {
		s := x.Stream(strs("S"))
		n := s.GroupByKey().Count(x.kv[str, int64]("n"))
		s.JoinTable(n, func(_, v str, n int64) (str, error) { return p(*v + "#" + dec(n)), nil }).To(strs("out"))
	},
	"stream-table-two": func(x *vector) {
		s := x.Stream(strs("S"))
		j := s.LeftJoinTable(x.Table(strs("T"), x.kv[str, str]("t")), leftJoin2)
		j.LeftJoinTable(x.Table(strs("U"), x.kv[str, str]("u")), leftJoin2).To(strs("out"))
	},
	"stream-table-to-table": func(x *vector) {
		s := x.Stream(strs("S"))
		s.JoinTable(x.Stream(strs("U")).ToTable(x.kv[str, str]("u")), join2).To(strs("out"))
	},
})

func inner(w streams.Windowed[str]) str { return w.Key }

func addOrDelete(_, v str, a *int64) (*int64, error) {
	if text(v) == "del" {
		return nil, nil
	}
	return num(*a + 1), nil
}

// record is the record that a processor emits.
func record[V any](k str, v V, at time.Time, hs []streams.Header) streams.Record[str, V] {
	return streams.Record[str, V]{Key: k, Value: v, Time: at, Headers: hs}
}

type emitStr = streams.Emit[str, str]
type processStr = streams.Processor[str, str]

var _ = more(map[string]func(x *vector){
	"process-running-sum": func(x *vector) {
		sum := x.plainKV[str, int64]("sum")
		x.Stream(topic[str, *int64]("A")).Process("sum", func(t *streams.Task, emit streams.Emit[str, int64]) (streams.Processor[str, *int64], error) {
			st := t.Store(sum)
			return func(_ context.Context, r streams.Record[str, *int64]) error {
				if r.Key == nil || r.Value == nil {
					return nil
				}
				old, _, err := st.Get(r.Key)
				if err != nil {
					return err
				}
				if err := st.Put(r.Key, old+*r.Value); err != nil {
					return err
				}
				return emit(record(r.Key, old+*r.Value, r.Time.Add(time.Second), r.Headers))
			}, nil
		}, sum).To(topic[str, int64]("out"))
	},
	"process-fan-out": func(x *vector) {
		x.Stream(strs("A")).Process("fan", func(_ *streams.Task, emit emitStr) (processStr, error) {
			return func(_ context.Context, r streams.Record[str, str]) error {
				if r.Value == nil {
					return nil
				}
				for i, c := range runes(*r.Value) {
					if err := emit(record(p(text(r.Key)+strconv.Itoa(i)), p(c), r.Time.Add(time.Duration(i)*milli), r.Headers)); err != nil {
						return err
					}
				}
				return nil
			}, nil
		}).To(strs("out"))
	},
	"process-values": func(x *vector) {
		n := x.plainKV[str, int64]("n")
		s := x.Stream(strs("A")).ProcessValues("num", func(t *streams.Task, emit emitStr) (processStr, error) {
			st := t.Store(n)
			return func(_ context.Context, r streams.Record[str, str]) error {
				count, err := bump(st, r.Key)
				if err != nil {
					return err
				}
				return emit(record(r.Key, p(text(r.Value)+"#"+dec(count)), r.Time, r.Headers))
			}, nil
		}, n)
		s.To(strs("out"))
		s.GroupByKey().Count(x.kv[str, int64]("c")).ToStream().MapValues(func(_ str, n int64) (str, error) { return p(dec(n)), nil }).To(strs("out2"))
	},
	"process-then-group": func(x *vector) {
		x.Stream(strs("A")).Process("swap", func(_ *streams.Task, emit emitStr) (processStr, error) {
			return func(_ context.Context, r streams.Record[str, str]) error {
				return emit(record(r.Value, r.Key, r.Time, r.Headers))
			}, nil
		}).GroupByKey().Count(x.kv[str, int64]("c")).ToStream().To(topic[str, int64]("out"))
	},
	"select-key-then-process": func(x *vector) {
		n := x.plainKV[str, int64]("n")
		x.Stream(strs("A")).SelectKey(func(_, v str) str { return v }).Process("count", func(t *streams.Task, emit emitStr) (processStr, error) {
			st := t.Store(n)
			return func(_ context.Context, r streams.Record[str, str]) error {
				count, err := bump(st, r.Key)
				if err != nil {
					return err
				}
				return emit(record(r.Key, p(dec(count)), r.Time, r.Headers))
			}, nil
		}, n).To(strs("out"))
	},
	"process-shared-store": func(x *vector) {
		kv := x.plainKV[str, str]("kv")
		a, b := x.Stream(strs("A")), x.Stream(strs("B"))
		a.Process("put", func(t *streams.Task, _ emitStr) (processStr, error) {
			st := t.Store(kv)
			return func(_ context.Context, r streams.Record[str, str]) error { return putOrDelete(st, r.Key, r.Value) }, nil
		}, kv)
		b.Process("get", func(t *streams.Task, emit emitStr) (processStr, error) {
			st := t.Store(kv)
			return func(_ context.Context, r streams.Record[str, str]) error {
				if r.Key == nil {
					return nil
				}
				v, _, err := st.Get(r.Key)
				if err != nil {
					return err
				}
				return emit(record(r.Key, p(text(r.Value)+"="+text(v)), r.Time, r.Headers))
			}, nil
		}, kv).To(strs("out"))
	},
	"process-context": func(x *vector) {
		x.Stream(strs("A")).Process("ctx", func(t *streams.Task, emit emitStr) (processStr, error) {
			return func(_ context.Context, r streams.Record[str, str]) error {
				o, _ := t.Origin()
				return emit(record(r.Key, p(fmt.Sprintf("stream=%d system=%d topic=%s partition=%d offset=%d",
					t.StreamTime().UnixMilli(), t.Now().UnixMilli(), o.Topic, o.Partition, o.Offset)), r.Time, r.Headers))
			}, nil
		}).To(strs("out"))
	},
	"process-headers": func(x *vector) {
		x.Stream(strs("A")).Process("h", func(_ *streams.Task, emit emitStr) (processStr, error) {
			return func(_ context.Context, r streams.Record[str, str]) error {
				hs := append(slices.Clone(r.Headers), streams.Header{Key: "seen", Value: []byte(text(r.Value))})
				hs = slices.DeleteFunc(hs, func(h streams.Header) bool { return h.Key == "drop" })
				return emit(record(r.Key, r.Value, r.Time, hs))
			}, nil
		}).To(strs("out"))
	},
	"process-header-siblings": func(x *vector) {
		a := x.Stream(strs("A"))
		a.Process("h1", func(_ *streams.Task, emit emitStr) (processStr, error) {
			return func(_ context.Context, r streams.Record[str, str]) error {
				return emit(record(r.Key, r.Value, r.Time, append(r.Headers, streams.Header{Key: "h1", Value: []byte("x")})))
			}, nil
		}).To(strs("out1"))
		a.Process("h2", func(_ *streams.Task, emit emitStr) (processStr, error) { return processStr(emit2(emit)), nil }).To(strs("out2"))
	},
	"punctuate-stream-time": func(x *vector) {
		x.Stream(strs("A")).Process("p", func(t *streams.Task, emit emitStr) (processStr, error) {
			n := int64(0)
			t.Every(10*milli, streams.StreamTime, func(_ context.Context, now time.Time) error {
				v := p(dec(n) + "@" + dec(now.UnixMilli()))
				n = 0
				return emit(record(p("tick"), v, now, nil))
			})
			return func(context.Context, streams.Record[str, str]) error { n++; return nil }, nil
		}).To(strs("out"))
	},
	"punctuate-wall-clock": func(x *vector) {
		x.Stream(strs("A")).Process("p", func(t *streams.Task, emit emitStr) (processStr, error) {
			n := int64(0)
			t.Every(100*milli, streams.WallClock, func(_ context.Context, now time.Time) error {
				return emit(record(p("tick"), p(dec(n)+"@"+dec(now.UnixMilli())), now, nil))
			})
			return func(context.Context, streams.Record[str, str]) error { n++; return nil }, nil
		}).To(strs("out"))
	},
	"punctuate-cancel": func(x *vector) {
		x.Stream(strs("A")).Process("p", func(t *streams.Task, emit emitStr) (processStr, error) {
			calls := 0
			var stop func()
			stop = t.Every(5*milli, streams.StreamTime, func(_ context.Context, now time.Time) error {
				if calls++; calls == 3 {
					stop()
				}
				return emit(record(p("tick"), p(dec(now.UnixMilli())), now, nil))
			})
			return processStr(emit2(emit)), nil
		}).To(strs("out"))
	},
	"punctuate-flush": func(x *vector) {
		buf := x.plainKV[str, str]("buf")
		x.Stream(strs("A")).Process("p", func(t *streams.Task, emit emitStr) (processStr, error) {
			st := t.Store(buf)
			t.Every(20*milli, streams.StreamTime, func(_ context.Context, now time.Time) error {
				var keys []str
				for k, v := range st.All() {
					keys = append(keys, k)
					if err := emit(record(k, v, now, nil)); err != nil {
						return err
					}
				}
				for _, k := range keys {
					if _, _, err := st.Delete(k); err != nil {
						return err
					}
				}
				return st.Err()
			})
			return func(_ context.Context, r streams.Record[str, str]) error { return putOrDelete(st, r.Key, r.Value) }, nil
		}, buf).To(strs("out"))
	},
	"punctuate-two-clocks": func(x *vector) {
		x.Stream(strs("A")).Process("p", func(t *streams.Task, emit emitStr) (processStr, error) {
			for key, clock := range map[string]streams.Clock{"s": streams.StreamTime, "w": streams.WallClock} {
				t.Every(10*milli, clock, func(_ context.Context, now time.Time) error {
					return emit(record(p(key), p(dec(now.UnixMilli())), now, nil))
				})
			}
			return func(context.Context, streams.Record[str, str]) error { return nil }, nil
		}).To(strs("out"))
	},
	"store-kv-ops": func(x *vector) {
		kv := x.plainKV[str, str]("kv")
		x.Stream(strs("A")).Process("ops", func(t *streams.Task, emit emitStr) (processStr, error) {
			st := t.Store(kv)
			return func(_ context.Context, r streams.Record[str, str]) error {
				out, forward, err := kvOp(st, r.Key, strings.Split(*r.Value, ":"))
				if err != nil || !forward {
					return err
				}
				return emit(record(r.Key, p(out), r.Time, r.Headers))
			}, nil
		}, kv).To(strs("out"))
	},
	"papi-store": func(x *vector) {
		kv := x.plainKV[str, str]("kv")
		x.Stream(strs("A")).Named("src").Process("last", func(t *streams.Task, emit emitStr) (processStr, error) {
			st := t.Store(kv)
			return func(_ context.Context, r streams.Record[str, str]) error {
				if r.Key == nil {
					return nil
				}
				old, _, err := st.Get(r.Key)
				if err != nil {
					return err
				}
				if err := emit(record(r.Key, p(text(old)+">"+text(r.Value)), r.Time, r.Headers)); err != nil {
					return err
				}
				return putOrDelete(st, r.Key, r.Value)
			}, nil
		}, kv).To(strs("out")).Named("snk")
	},
	// errors
	"deserialise-continue": func(x *vector) {
		x.onError = skipErrors
		x.Stream(topic[str, *int64]("A")).MapValues(plusOne).To(topic[str, *int64]("out"))
	},
	"deserialise-fail": func(x *vector) { x.Stream(topic[str, *int64]("A")).To(topic[str, *int64]("out")) },
	"process-error-continue": func(x *vector) {
		x.onError = skipErrors
		a := x.Stream(strs("A"))
		a.GroupByKey().Count(x.kv[str, int64]("n")).ToStream().To(topic[str, int64]("counts"))
		a.MapValues(isBad).To(strs("out"))
	},
	"process-error-fail": func(x *vector) { x.Stream(strs("A")).MapValues(isBad).To(strs("out")) },
	"aggregate-error-continue": func(x *vector) {
		x.onError = skipErrors
		x.Stream(strs("A")).GroupByKey().Aggregate(x.kv[str, str]("s"), func() str { return p("") }, failOn("bad", false)).ToStream().To(strs("out"))
	},
	"dlq-deserialise": func(x *vector) {
		x.onError = letters
		x.Stream(topic[str, *int64]("A")).To(topic[str, *int64]("out"))
	},
	"dlq-process": func(x *vector) {
		x.onError = letters
		x.Stream(strs("A")).MapValues(func(_, v str) (str, error) { return p(text(v) + "?"), nil }).SelectKey(func(_, v str) str { return v }).
			MapValues(func(k, v str) (str, error) {
				if strings.HasPrefix(text(v), "bad") {
					return nil, errors.New("no " + text(v))
				}
				return v, nil
			}).To(strs("out"))
	},
	"dlq-process-repartitioned": func(x *vector) {
		x.onError = letters
		x.Stream(strs("A")).SelectKey(func(_, v str) str { return v }).GroupByKey().
			Aggregate(x.kv[str, str]("s"), func() str { return p("") }, failOn("bad", true)).ToStream().To(strs("out"))
	},
})

func emit2(emit emitStr) func(context.Context, streams.Record[str, str]) error {
	return func(_ context.Context, r streams.Record[str, str]) error { return emit(r) }
}

func plusOne(_ str, v *int64) (*int64, error) {
	if v == nil {
		return nil, nil
	}
	if *v == math.MaxInt64 {
		return num(math.MinInt64), nil
	}
	return num(*v + 1), nil
}

func failOn(bad string, prefix bool) func(k, v, a str) (str, error) {
	return func(_, v, a str) (str, error) {
		if *v == bad || prefix && strings.HasPrefix(*v, bad) {
			return nil, errors.New("no " + *v)
		}
		return concat(a, v)
	}
}

func bump(st state.KeyValue[str, int64], k str) (int64, error) {
	if k == nil {
		k = p("?")
	}
	n, _, err := st.Get(k)
	if err != nil {
		return 0, err
	}
	return n + 1, st.Put(k, n+1)
}

func putOrDelete(st state.KeyValue[str, str], k, v str) (err error) {
	if k == nil {
		return nil
	}
	if v == nil {
		_, _, err = st.Delete(k)
		return err
	}
	return st.Put(k, v)
}

func kvOp(st state.KeyValue[str, str], k str, op []string) (out string, forward bool, err error) {
	var v str
	list := func(seq func(func(str, str) bool)) string {
		var rows []string
		for k, v := range seq {
			rows = append(rows, *k+"="+*v)
		}
		return strings.Join(rows, ",")
	}
	end := func(s, open string) str {
		if s == "" {
			return p(open)
		}
		return p(s)
	}
	switch op[0] {
	case "put":
		return "", false, st.Put(k, p(op[1]))
	case "putIfAbsent":
		v, _, err = st.PutIfAbsent(k, p(op[1]))
		return text(v), true, err
	case "delete":
		v, _, err = st.Delete(k)
		return text(v), true, err
	case "get":
		v, _, err = st.Get(k)
		return text(v), true, err
	case "range":
		out = list(st.Range(end(op[1], ""), end(op[2], "\U0010FFFF")))
	case "reverseRange":
		out = list(st.BackwardRange(end(op[1], ""), end(op[2], "\U0010FFFF")))
	case "prefix":
		out = list(st.Prefix([]byte(op[1])))
	case "all":
		out = list(st.All())
	case "reverseAll":
		out = list(st.Backward())
	default:
		return "", false, fmt.Errorf("unknown command %q", op)
	}
	return out, true, st.Err()
}
