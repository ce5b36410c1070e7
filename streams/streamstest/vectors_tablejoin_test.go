package streamstest_test

import (
	"strings"

	"github.com/leatstream/leat/streams"
)

func outer2(_ str, l, r *str) (str, error) { return p(sideText(l) + "-" + sideText(r)), nil }

func sideText(s *str) string {
	if s == nil {
		return "null"
	}
	return text(*s)
}

// leftRight builds the tables L in 'l' and R in 'r'.
func leftRight(x *vector) (l, r *streams.KTable[str, str]) {
	l = x.Table(strs("L"), x.kv[str, str]("l"))
	return l, x.Table(strs("R"), x.kv[str, str]("r"))
}

var _ = more(map[string]func(x *vector){
	"headers-table-join": func(x *vector) {
		l, r := leftRight(x)
		l.Join(r, join2, x.kv[str, str]("j")).ToStream().To(strs("out"))
	},
	"table-join-inner": func(x *vector) {
		l, r := leftRight(x)
		l.Join(r, join2).ToStream().To(strs("out"))
	},
	"table-join-inner-stored": func(x *vector) {
		l, r := leftRight(x)
		l.Join(r, join2, x.kv[str, str]("j")).ToStream().To(strs("out"))
	},
	"table-join-left": func(x *vector) {
		l, r := leftRight(x)
		l.LeftJoin(r, leftJoin2).ToStream().To(strs("out"))
	},
	"table-join-left-stored": func(x *vector) {
		l, r := leftRight(x)
		l.LeftJoin(r, leftJoin2, x.kv[str, str]("j")).ToStream().To(strs("out"))
	},
	"table-join-outer": func(x *vector) {
		l, r := leftRight(x)
		l.OuterJoin(r, outer2).ToStream().To(strs("out"))
	},
	"table-join-outer-stored": func(x *vector) {
		l, r := leftRight(x)
		l.OuterJoin(r, outer2, x.kv[str, str]("j")).ToStream().To(strs("out"))
	},
	"table-chain-inner": func(x *vector) {
		ab := x.Table(strs("A"), x.kv[str, str]("a")).Join(x.Table(strs("B"), x.kv[str, str]("b")), join2)
		ab.Join(x.Table(strs("C"), x.kv[str, str]("c")), join2).ToStream().To(strs("out"))
	},
	"table-chain-left": func(x *vector) {
		a, b := x.Table(strs("A"), x.kv[str, str]("a")), x.Table(strs("B"), x.kv[str, str]("b"))
		c := x.Table(strs("C"), x.kv[str, str]("c"))
		bc := b.LeftJoin(c, func(_, l str, r *str) (str, error) { return p(text(l) + sideText(r)), nil })
		a.LeftJoin(bc, leftJoin2).ToStream().To(strs("out"))
	},
	"table-self-join": func(x *vector) {
		a := x.Table(strs("A"), x.kv[str, str]("a"))
		a.Join(a.MapValues(mapText(strings.ToUpper)), join2).ToStream().To(strs("out"))
	},
	"table-join-filter": func(x *vector) {
		l, r := leftRight(x)
		l.Join(r, func(_, l, r str) (str, error) { return concat(l, r) }).
			Filter(func(_, v str) bool { return size(v) >= 5 }, x.kv[str, str]("f")).ToStream().To(strs("out"))
	},
	"table-join-null-result": func(x *vector) {
		l, r := leftRight(x)
		l.OuterJoin(r, func(_ str, l, r *str) (str, error) {
			switch {
			case l == nil:
				return *r, nil
			case r == nil:
				return *l, nil
			}
			return nil, nil
		}, x.kv[str, str]("j")).ToStream().To(strs("out"))
	},
	"table-join-group": func(x *vector) {
		l, r := leftRight(x)
		l.Join(r, func(_, _, r str) (str, error) { return r, nil }).
			GroupBy(func(k, v str) (str, str, error) { return p(runes(*v)[0]), k, nil }).
			Reduce(x.kv[str, str]("g"), joinedBy("+"), joinedBy("-")).ToStream().To(strs("out"))
	},
	"table-join-aggregates": func(x *vector) {
		ca := x.Stream(strs("A")).GroupByKey().Count(x.kv[str, int64]("ca"))
		cb := x.Stream(strs("B")).GroupByKey().Count(x.kv[str, int64]("cb"))
		count := func(n *int64) string {
			if n == nil {
				return "0"
			}
			return dec(*n)
		}
		ca.OuterJoin(cb, func(_ str, n, m *int64) (str, error) { return p(count(n) + "/" + count(m)), nil }, x.kv[str, str]("j")).
			ToStream().To(strs("out"))
	},
})
