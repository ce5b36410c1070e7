package streamstest_test

import (
	"context"
	"strings"

	"github.com/leatstream/leat/streams"
)

// first is the first character of a text.
func first(v str) (str, bool) {
	if v == nil || *v == "" {
		return nil, false
	}
	return p(runes(*v)[0]), true
}

// globalG builds stream S and global table G in 'g'.
func globalG(x *vector) (*streams.KStream[str, str], *streams.GlobalKTable[str, str]) {
	s := x.Stream(strs("S"))
	return s, x.GlobalTable(strs("G"), x.kv[str, str]("g"))
}

var _ = more(map[string]func(x *vector){
	"global-join": func(x *vector) {
		s, g := globalG(x)
		s.JoinGlobal(g, func(_, v str) (str, bool) { return first(v) }, join2).To(strs("out"))
	},
	"global-left-join": func(x *vector) {
		s, g := globalG(x)
		s.LeftJoinGlobal(g, func(_, v str) (str, bool) {
			if v == nil || strings.HasPrefix(*v, "n") {
				return nil, false
			}
			return first(v)
		}, leftJoin2).To(strs("out"))
	},
	"global-join-by-key": func(x *vector) {
		s, g := globalG(x)
		s.JoinGlobal(g, func(k, _ str) (str, bool) { return k, true }, func(k, l, r str) (str, error) {
			return p(text(k) + "=" + text(l) + "-" + text(r)), nil
		}).To(strs("out"))
	},
	"global-join-chain": func(x *vector) {
		s := x.Stream(strs("S")).Filter(func(_, v str) bool { return v != nil })
		g := x.GlobalTable(strs("G"), x.kv[str, str]("g"))
		found := s.JoinGlobal(g, func(_, v str) (str, bool) { return first(v) }, func(_, _, r str) (str, error) { return r, nil })
		h := x.GlobalTable(strs("H"), x.kv[str, str]("h"))
		found.LeftJoinGlobal(h, func(_, v str) (str, bool) { return v, true }, func(_, l str, r *str) (str, error) {
			return p(text(l) + "/" + sideText(r)), nil
		}).To(strs("out"))
	},
	"global-table-filter-stream": func(x *vector) {
		s := x.Stream(strs("S")).Filter(func(k, v str) bool { return k != nil && v != nil }).
			MapValues(func(_, v str) (str, error) { return p(*v + *v), nil })
		g := x.GlobalTable(strs("G"), x.kv[str, str]("g"))
		s.LeftJoinGlobal(g, func(k, _ str) (str, bool) { return k, true }, leftJoin2).
			GroupByKey().Count(x.kv[str, int64]("n")).ToStream().To(topic[str, int64]("out"))
	},
	"papi-global-store": func(x *vector) {
		g := x.plainKV[str, str]("g")
		x.GlobalStore(strs("G"), g, func(t *streams.Task) (processStr, error) {
			st := t.Store(g)
			return func(_ context.Context, r streams.Record[str, str]) error {
				switch {
				case r.Key == nil:
					return nil
				case r.Value == nil:
					return putOrDelete(st, r.Key, nil)
				}
				return putOrDelete(st, r.Key, p(strings.ToUpper(*r.Value)))
			}, nil
		})
		x.Stream(strs("S")).Process("look", func(t *streams.Task, emit emitStr) (processStr, error) {
			st := t.Store(g)
			return func(_ context.Context, r streams.Record[str, str]) error {
				if r.Value == nil {
					return nil
				}
				found, _, err := st.Get(r.Value)
				if err != nil {
					return err
				}
				return emit(record(r.Key, p(*r.Value+"="+text(found)), r.Time, r.Headers))
			}, nil
		}).To(strs("out"))
	},
})
