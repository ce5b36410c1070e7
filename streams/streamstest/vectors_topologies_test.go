package streamstest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

type str = *string

func p(s string) str { return &s }

// text is a nullable string with 'null' for null.
func text(s str) string {
	if s == nil {
		return "null"
	}
	return *s
}

func size(s str) int {
	if s == nil {
		return 0
	}
	return utf8.RuneCountInString(*s)
}

// upTo is the part of a string before the first sep.
func upTo(s str, sep string) str {
	if s == nil {
		return nil
	}
	before, _, _ := strings.Cut(*s, sep)
	return &before
}

func topic[K, V any](name string) streams.Topic[K, V] { return streams.Topic[K, V]{Name: name} }

func strs(name string) streams.Topic[str, str] { return topic[str, str](name) }

func windowedTopic[V any](name string, size time.Duration, val serde.Serde[V]) streams.Topic[streams.Windowed[str], V] {
	return streams.Topic[streams.Windowed[str], V]{Name: name, Key: serde.Windowed(serde.Nullable(serde.String), size), Value: val}
}

const milli = time.Millisecond

func asJSON[T any](v T) any {
	switch v := any(v).(type) {
	case *string:
		if v == nil {
			return nil
		}
		return *v
	case *int64:
		if v == nil {
			return nil
		}
		return *v
	case *float64:
		if v == nil {
			return nil
		}
		return *v
	default:
		return v
	}
}

// kv is a store of the topology that the harness compares.
func (x *vector) kv[K, V any](name string) streams.Store[K, V] {
	s := streams.Store[K, V]{Name: name}
	x.rows[name] = func(d *streamstest.Driver) (out []any) {
		for _, r := range d.Store(s).All() {
			out = append(out, []any{asJSON(r.Key), asJSON(r.Value), r.Time.UnixMilli()})
		}
		return out
	}
	return s
}

// plainKV is a store of a processor: without timestamps.
func (x *vector) plainKV[K, V any](name string) streams.Store[K, V] {
	s := x.kv[K, V](name)
	rows := x.rows[name]
	x.rows[name] = func(d *streamstest.Driver) (out []any) {
		for _, r := range rows(d) {
			out = append(out, r.([]any)[:2])
		}
		return out
	}
	return s
}

func (x *vector) window[V any](name string) streams.WindowStore[str, V] {
	s := streams.WindowStore[str, V]{Name: name, Retention: time.Hour}
	x.rows[name] = func(d *streamstest.Driver) (out []any) {
		for _, r := range d.WindowStore(s).All() {
			out = append(out, []any{asJSON(r.Key.Key), r.Key.Start.UnixMilli(), asJSON(r.Value), r.Time.UnixMilli()})
		}
		return out
	}
	return s
}

func skipErrors(context.Context, *streams.RecordError) streams.Decision { return streams.Skip() }

func letters(context.Context, *streams.RecordError) streams.Decision {
	return streams.DeadLetter("dlq")
}

// mapText is a value mapper that leaves null alone.
func mapText(f func(string) string) func(str, str) (str, error) {
	return func(_, v str) (str, error) {
		if v == nil {
			return nil, nil
		}
		return p(f(*v)), nil
	}
}

func bang(_, v str) (str, error) { return mapText(func(s string) string { return s + "!" })(nil, v) }

func join2(_, l, r str) (str, error) { return p(text(l) + "-" + text(r)), nil }

func leftJoin2(_, l str, r *str) (str, error) {
	if r == nil {
		return p(text(l) + "-null"), nil
	}
	return p(text(l) + "-" + text(*r)), nil
}

func concat(a, v str) (str, error) { return p(text(a) + text(v)), nil }

func runes(s string) []string {
	var out []string
	for _, r := range s {
		out = append(out, string(r))
	}
	return out
}

func isBad(_, v str) (str, error) {
	if v != nil && strings.HasPrefix(*v, "bad") {
		return nil, errors.New("no " + *v)
	}
	return p(text(v) + "!"), nil
}

// otherShape lists topologies whose recorded description has names that Leat's topology does not give, and why.
var otherShape = map[string]string{"join-types": "the join's stores have names, its nodes have not; here one name serves both",
	"papi-topology":      "its sink has two parents; here they are merged first",
	"fk-join-chain":      "the join between the two has a store with a name",
	"suppress-shut-down": "its suppression has a name"}

var vectorTopologies = map[string]func(x *vector){
	// stateless
	"filter": func(x *vector) {
		x.Stream(strs("A")).Filter(func(_, v str) bool { return v != nil && size(v)%2 == 0 }).To(strs("out"))
	},
	"filter-null-passing": func(x *vector) {
		x.Stream(strs("A")).Filter(func(k, v str) bool { return v == nil || k == nil }).To(strs("out"))
	},
	"filter-not": func(x *vector) {
		x.Stream(strs("A")).FilterNot(func(_, v str) bool { return v != nil && strings.HasPrefix(*v, "x") }).To(strs("out"))
	},
	"map": func(x *vector) {
		x.Stream(strs("A")).Map(func(k, v str) (str, str, error) { return v, k, nil }).To(strs("out"))
	},
	"map-types": func(x *vector) {
		x.Stream(strs("A")).Map(func(k, v str) (int64, float64, error) { return int64(size(v)), float64(size(k)) / 4, nil }).To(topic[int64, float64]("out"))
	},
	"map-values": func(x *vector) {
		x.Stream(strs("A")).MapValues(mapText(func(s string) string {
			r := []rune(s)
			slices.Reverse(r)
			return string(r)
		})).To(strs("out"))
	},
	"map-values-with-key": func(x *vector) {
		x.Stream(strs("A")).MapValues(func(k, v str) (str, error) { return p(text(k) + ":" + text(v)), nil }).To(strs("out"))
	},
	"flat-map": func(x *vector) {
		x.Stream(strs("A")).FlatMap(func(k, v str, emit func(str, str)) error {
			if v != nil {
				for i, c := range runes(*v) {
					emit(p(c), p(text(k)+strconv.Itoa(i)))
				}
			}
			return nil
		}).To(strs("out"))
	},
	"flat-map-values": func(x *vector) { x.Stream(strs("A")).FlatMapValues(splitWords(false)).To(strs("out")) },
	"select-key":      func(x *vector) { x.Stream(strs("A")).SelectKey(func(_, v str) str { return v }).To(strs("out")) },
	"peek": func(x *vector) {
		s := x.Stream(strs("A")).Peek(func(str, str) {})
		s.To(strs("out1"))
		s.MapValues(bang).To(strs("out2"))
	},
	"split-default": func(x *vector) {
		b := x.Stream(strs("A")).Split().Named("s-")
		short := b.Branch(func(_, v str) bool { return v != nil && size(v) <= 1 }).Named("s-short")
		even := b.Branch(func(_, v str) bool { return v != nil && size(v)%2 == 0 }).Named("s-even")
		rest := b.Default().Named("s-rest")
		short.To(strs("short"))
		even.To(strs("even"))
		rest.To(strs("rest"))
	},
	"split-no-default": func(x *vector) {
		b := x.Stream(strs("A")).Split().Named("s-")
		red := b.Branch(func(_, v str) bool { return text(v) == "red" }).Named("s-r")
		green := b.Branch(func(_, v str) bool { return text(v) == "green" || text(v) == "red" }).Named("s-g")
		red.To(strs("red"))
		green.To(strs("green"))
	},
	"merge": func(x *vector) {
		a := x.Stream(strs("A"))
		a.Merge(x.Stream(strs("B"))).To(strs("out"))
	},
	"merge-three": func(x *vector) {
		a := x.Stream(strs("A")).MapValues(func(_, v str) (str, error) { return p("a" + text(v)), nil })
		b := x.Stream(strs("B")).Filter(func(_, v str) bool { return v != nil })
		m := a.Merge(b)
		m.Merge(x.Stream(strs("C"))).To(strs("out"))
	},
	"diamond": func(x *vector) {
		a := x.Stream(strs("A"))
		one := a.MapValues(func(_, v str) (str, error) { return p(text(v) + "1"), nil })
		two := a.MapValues(func(_, v str) (str, error) { return p(text(v) + "2"), nil })
		one.Merge(two).To(strs("out"))
	},
	"to-dynamic": func(x *vector) {
		x.Stream(strs("A")).ToDynamic(func(r streams.Record[str, str]) string {
			if r.Value != nil && strings.HasPrefix(*r.Value, "a") {
				return "out-a"
			}
			return "out-b"
		}, strs(""))
	},
	"multi-topic-source": func(x *vector) {
		x.Stream(streams.Topic[str, str]{Name: "A", Also: []string{"B"}}).MapValues(func(_, v str) (str, error) { return p(text(v) + "."), nil }).To(strs("out"))
	},
	"pattern-source": func(x *vector) { x.Stream(streams.Topic[str, str]{Pattern: "in-.*"}).To(strs("out")) },
	"timestamp-extractor": func(x *vector) {
		x.Stream(streams.Topic[str, str]{Name: "A", Time: extractTime}).To(strs("out"))
	},
	"chain": func(x *vector) {
		x.Stream(strs("A")).FlatMapValues(splitWords(false)).Filter(func(_, v str) bool { return size(v) > 2 }).
			Map(func(k, v str) (str, str, error) { return v, p(text(k) + "/" + *v), nil }).
			MapValues(mapText(strings.ToUpper)).To(strs("out"))
	},
	"null-map-result": func(x *vector) {
		x.Stream(strs("A")).Map(func(k, v str) (str, str, error) {
			if text(v) == "bad" {
				return nil, nil, errors.New("no pair")
			}
			return k, v, nil
		}).To(strs("out"))
	},
	"sink-and-continue": func(x *vector) {
		s := x.Stream(strs("A"))
		s.To(strs("out1"))
		f := s.Filter(func(_, v str) bool { return v != nil })
		f.To(strs("out2"))
		f.MapValues(func(_, v str) (str, error) { return concat(v, v) }).To(strs("out3"))
	},
	// repartition
	"repartition": func(x *vector) { x.Stream(strs("A")).Repartition(strs("r")).To(strs("out")) },
	"selectkey-repartition": func(x *vector) {
		x.Stream(strs("A")).SelectKey(func(_, v str) str { return v }).Repartition(strs("r")).
			MapValues(func(k, v str) (str, error) { return p(text(k) + "=" + text(v)), nil }).To(strs("out"))
	},
	"selectkey-count": func(x *vector) {
		x.Stream(strs("A")).SelectKey(func(_, v str) str { return v }).GroupByKey().Count(x.kv[str, int64]("counts")).To(topic[str, int64]("out"))
	},
	"map-values-keeps-key": func(x *vector) {
		x.Stream(strs("A")).MapValues(mapText(func(s string) string { return s + s })).GroupByKey().Count(x.kv[str, int64]("counts")).ToStream().To(topic[str, int64]("out"))
	},
	"two-counts-after-map": func(x *vector) {
		m := x.Stream(strs("A")).Map(func(k, v str) (str, str, error) { return v, k, nil })
		m.GroupByKey().Count(x.kv[str, int64]("c1")).ToStream().To(topic[str, int64]("out1"))
		m.GroupByKey().Count(x.kv[str, int64]("c2")).ToStream().To(topic[str, int64]("out2"))
	},
	"group-once-count-twice": func(x *vector) {
		g := x.Stream(strs("A")).GroupBy(func(_, v str) str { return v }).Named("g")
		g.Count(x.kv[str, int64]("c1")).ToStream().To(topic[str, int64]("out1"))
		g.Reduce(x.kv[str, str]("c2"), concat).ToStream().To(strs("out2"))
	},
	// table
	"table-source":        func(x *vector) { x.Table(strs("A"), streams.Store[str, str]{}).ToStream().To(strs("out")) },
	"table-source-stored": func(x *vector) { x.Table(strs("A"), x.kv[str, str]("a")).ToStream().To(strs("out")) },
	"table-filter": func(x *vector) {
		x.Table(strs("A"), streams.Store[str, str]{}).Filter(long).ToStream().To(strs("out"))
	},
	"table-filter-source-stored": func(x *vector) { x.Table(strs("A"), x.kv[str, str]("a")).Filter(long).ToStream().To(strs("out")) },
	"table-filter-stored": func(x *vector) {
		x.Table(strs("A"), streams.Store[str, str]{}).Filter(long, x.kv[str, str]("f")).ToStream().To(strs("out"))
	},
	"table-filter-both-stored": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).Filter(long, x.kv[str, str]("f")).ToStream().To(strs("out"))
	},
	"table-filter-not": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).FilterNot(func(_, v str) bool { return strings.HasPrefix(*v, "x") }).ToStream().To(strs("out"))
	},
	"table-map-values": func(x *vector) {
		x.Table(strs("A"), streams.Store[str, str]{}).MapValues(bang).ToStream().To(strs("out"))
	},
	"table-map-values-stored": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).MapValues(concat, x.kv[str, str]("m")).ToStream().To(strs("out"))
	},
	"table-map-values-null": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).MapValues(func(_, v str) (str, error) {
			if size(v) < 2 {
				return nil, nil
			}
			return p(strings.ToUpper(*v)), nil
		}, x.kv[str, str]("m")).ToStream().To(strs("out"))
	},
	"table-chain": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).Filter(long).MapValues(func(_, v str) (str, error) { return concat(v, v) }).
			Filter(func(_, v str) bool { return size(v) <= 6 }, x.kv[str, str]("f")).ToStream().To(strs("out"))
	},
	"table-to-stream-key": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).ToStream().SelectKey(func(k, v str) str { return p(text(k) + "/" + text(v)) }).To(strs("out"))
	},
	"stream-to-table": func(x *vector) { x.Stream(strs("A")).ToTable(x.kv[str, str]("t")).ToStream().To(strs("out")) },
	"stream-to-table-rekeyed": func(x *vector) {
		x.Stream(strs("A")).SelectKey(func(_, v str) str { return upTo(v, ":") }).ToTable(x.kv[str, str]("t")).Named("t").ToStream().To(strs("out"))
	},
	"table-to-stream-count": func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).ToStream().GroupByKey().Count(x.kv[str, int64]("n")).ToStream().To(topic[str, int64]("out"))
	},
	"table-no-logging": func(x *vector) {
		s := x.kv[str, str]("a")
		s.NoChangelog, s.InMemory = true, true
		x.Table(strs("A"), s).MapValues(bang).ToStream().To(strs("out"))
	},
	"table-lookup-int64": func(x *vector) {
		x.Table(topic[str, *int64]("A"), x.kv[str, *int64]("a")).Filter(func(_ str, v *int64) bool { return *v >= 10 }).
			MapValues(func(_ str, v *int64) (*int64, error) { n := *v * 2; return &n, nil }, x.kv[str, *int64]("m")).ToStream().To(topic[str, *int64]("out"))
	},
	"headers-table-source": func(x *vector) { x.Table(strs("A"), x.kv[str, str]("a")).ToStream().To(strs("out")) },
}

func long(_, v str) bool { return size(v) >= 2 }

func splitWords(lower bool) func(_, v str) ([]str, error) {
	return func(_, v str) (out []str, _ error) {
		if v == nil {
			return nil, nil
		}
		s := *v
		if lower {
			s = strings.ToLower(s)
		}
		for _, w := range strings.Split(s, " ") {
			if w != "" {
				out = append(out, p(w))
			}
		}
		return out, nil
	}
}

func extractTime(r streams.Record[str, str], partition time.Time) (time.Time, error) {
	if r.Value == nil {
		return r.Time, nil
	}
	_, after, ok := strings.Cut(*r.Value, "@")
	if !ok {
		if partition.IsZero() {
			return time.UnixMilli(-1), nil
		}
		return partition, nil
	}
	n, err := strconv.ParseInt(after, 10, 64)
	return time.UnixMilli(n), err
}

var _ = fmt.Sprint
var _ state.KeyValue[int, int]
