package streamstest_test

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

type (
	windowOps  = state.Window[str, str]
	sessionOps = state.Session[str, str]
	windowRows = iter.Seq2[serde.WindowedKey[str], str]
)

var _ = more(map[string]func(x *vector){
	"store-lru": func(x *vector) {
		s := x.plainKV[str, str]("lru")
		s.InMemory, s.MaxEntries = true, 3
		storeOps(x, s, func(t *streams.Task) opFunc {
			st := t.Store(s)
			return func(k str, op []string) (string, bool, error) { return lruOp(st, k, op) }
		})
	},
	"store-window-ops": func(x *vector) {
		w := streams.WindowStore[str, str]{Name: "w", Size: 10 * milli, Retention: 100_000 * milli}
		x.rows["w"] = func(d *streamstest.Driver) (out []any) {
			for _, r := range d.WindowStore(w).All() {
				out = append(out, []any{asJSON(r.Key.Key), r.Key.Start.UnixMilli(), asJSON(r.Value)})
			}
			return out
		}
		storeOps(x, w, func(t *streams.Task) opFunc {
			st := t.WindowStore(w)
			return func(k str, op []string) (string, bool, error) { return windowOp(st, k, op) }
		})
	},
	"store-session-ops": func(x *vector) {
		s := streams.SessionStore[str, str]{Name: "s", Retention: 100_000 * milli}
		x.rows["s"] = func(d *streamstest.Driver) (out []any) {
			for _, r := range d.SessionStore(s).All() {
				out = append(out, []any{asJSON(r.Key.Key), r.Key.Start.UnixMilli(), r.Key.End.UnixMilli(), asJSON(r.Value)})
			}
			return out
		}
		storeOps(x, s, func(t *streams.Task) opFunc {
			st := t.SessionStore(s)
			return func(k str, op []string) (string, bool, error) { return sessionOp(st, k, op) }
		})
	},
})

var _ = more(map[string]func(x *vector){
	"papi-topology": func(x *vector) {
		even, odd := streams.Output[str, str]{Name: "even"}, streams.Output[str, str]{Name: "odd"}
		route := x.Stream(strs("A")).Named("src").Process("route", func(t *streams.Task, _ emitStr) (processStr, error) {
			to := [2]emitStr{t.Output(even), t.Output(odd)}
			return func(_ context.Context, r streams.Record[str, str]) error {
				if r.Value == nil {
					return nil
				}
				return to[len(*r.Value)%2](r)
			}, nil
		})
		suffixed := func(name string, s *streams.KStream[str, str], suffix string) *streams.KStream[str, str] {
			return s.Process(name, func(_ *streams.Task, emit emitStr) (processStr, error) {
				return func(_ context.Context, r streams.Record[str, str]) error {
					r.Value = p(*r.Value + suffix)
					return emit(r)
				}, nil
			})
		}
		evens, odds := suffixed("even", route.Output(even), "/e"), suffixed("odd", route.Output(odd), "/o")
		evens.To(strs("E")).Named("out-even")
		odds.To(strs("O")).Named("out-odd")
		evens.Merge(odds).To(strs("out")).Named("both")
	},
})

// lruOp puts a value, or forwards the one that is there.
func lruOp(st state.KeyValue[str, str], k str, op []string) (string, bool, error) {
	if op[0] != "get" {
		return "", false, st.Put(k, p(op[0]))
	}
	v, ok, err := st.Get(k)
	if !ok {
		return "null", true, err
	}
	return *v, true, err
}

// opFunc runs a command on a store, and says what is to be forwarded, if anything.
type opFunc func(k str, op []string) (out string, forward bool, err error)

// storeOps is a processor that runs the commands that its records hold.
func storeOps(x *vector, ref streams.StoreRef, open func(*streams.Task) opFunc) {
	x.Stream(strs("A")).Process("ops", func(t *streams.Task, emit emitStr) (processStr, error) {
		run := open(t)
		return func(_ context.Context, r streams.Record[str, str]) error {
			out, forward, err := run(r.Key, strings.Split(*r.Value, ":"))
			if err != nil || !forward {
				return err
			}
			return emit(record(r.Key, p(out), r.Time, r.Headers))
		}, nil
	}, ref).To(strs("out"))
}

func times(words ...string) (out []time.Time) {
	for _, w := range words {
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			panic(err)
		}
		out = append(out, time.UnixMilli(n))
	}
	return out
}

func listed(rows windowRows, format func(k serde.WindowedKey[str], v string) string) string {
	var out []string
	for k, v := range rows {
		out = append(out, format(k, *v))
	}
	return strings.Join(out, ",")
}

func whole(k serde.WindowedKey[str], v string) string {
	return fmt.Sprintf("%s@%d/%d=%s", *k.Key, k.Start.UnixMilli(), k.End.UnixMilli(), v)
}

func startOnly(k serde.WindowedKey[str], v string) string {
	return fmt.Sprintf("%d=%s", k.Start.UnixMilli(), v)
}

func windowOp(st windowOps, k str, op []string) (out string, forward bool, err error) {
	switch op[0] {
	case "put":
		at := times(op[2])[0]
		if op[1] == "" {
			return "", false, st.Delete(k, at)
		}
		return "", false, st.Put(k, at, p(op[1]))
	case "get":
		v, _, err := st.Get(k, times(op[1])[0])
		return text(v), true, err
	case "fetch":
		at := times(op[1:]...)
		out = listed(st.Fetch(k, at[0], at[1]), startOnly)
	case "backwardFetch":
		at := times(op[1:]...)
		out = listed(st.BackwardFetch(k, at[0], at[1]), startOnly)
	case "fetchKeys":
		at := times(op[3:]...)
		out = listed(st.FetchKeys(&op[1], &op[2], at[0], at[1]), whole)
		if back := backwards(listed(st.BackwardFetchKeys(&op[1], &op[2], at[0], at[1]), whole)); back != out {
			return "", false, fmt.Errorf("backwards it is %s", back)
		}
	case "fetchAll":
		at := times(op[1:]...)
		out = listed(st.Between(at[0], at[1]), whole)
	case "backwardFetchAll":
		at := times(op[1:]...)
		out = listed(st.BackwardBetween(at[0], at[1]), whole)
	case "all":
		out = listed(st.All(), whole)
	case "backwardAll":
		out = listed(st.Backward(), whole)
	default:
		return "", false, fmt.Errorf("unknown command %q", op)
	}
	return out, true, st.Err()
}

func backwards(list string) string {
	if list == "" {
		return ""
	}
	parts := strings.Split(list, ",")
	slices.Reverse(parts)
	return strings.Join(parts, ",")
}

func sessionOp(st sessionOps, k str, op []string) (out string, forward bool, err error) {
	switch op[0] {
	case "put":
		at := times(op[2:]...)
		return "", false, st.Put(k, at[0], at[1], p(op[1]))
	case "remove":
		at := times(op[1:]...)
		return "", false, st.Delete(k, at[0], at[1])
	case "get":
		at := times(op[1:]...)
		v, _, err := st.Get(k, at[0], at[1])
		return text(v), true, err
	case "find", "backwardFind":
		at := times(op[1:]...)
		rows, back := st.Sessions(k, at[0], at[1]), st.BackwardSessions(k, at[0], at[1])
		if op[0] == "backwardFind" {
			rows, back = back, rows
		}
		return bothWays(st, rows, back)
	case "fetch":
		return bothWays(st, st.Fetch(k), st.BackwardFetch(k))
	case "findKeys":
		at := times(op[3:]...)
		return bothWays(st, st.SessionsOfKeys(&op[1], &op[2], at[0], at[1]), st.BackwardSessionsOfKeys(&op[1], &op[2], at[0], at[1]))
	}
	return "", false, fmt.Errorf("unknown command %q", op)
}

// bothWays checks that back is rows from behind. Sessions of one key and end come earliest start first, as from Kafka's
// RocksDB store; the recorded store is the one in memory, which has them the other way round.
func bothWays(st sessionOps, rows, back windowRows) (string, bool, error) {
	out := listed(rows, whole)
	if b := backwards(listed(back, whole)); b != out {
		return "", false, fmt.Errorf("backwards %s is %s", out, b)
	}
	return recordedOrder(rows), true, st.Err()
}

func recordedOrder(rows windowRows) string {
	type row struct {
		k serde.WindowedKey[str]
		v string
	}
	var all []row
	for k, v := range rows {
		all = append(all, row{k, *v})
	}
	backward := len(all) > 1 && all[0].k.End.After(all[len(all)-1].k.End)
	slices.SortStableFunc(all, func(a, b row) int {
		if c := a.k.End.Compare(b.k.End); c != 0 || *a.k.Key != *b.k.Key {
			if c == 0 {
				c = cmp.Compare(*a.k.Key, *b.k.Key)
			}
			if backward {
				c = -c
			}
			return c
		}
		c := b.k.Start.Compare(a.k.Start)
		if backward {
			c = -c
		}
		return c
	})
	var out []string
	for _, r := range all {
		out = append(out, whole(r.k, r.v))
	}
	return strings.Join(out, ",")
}
