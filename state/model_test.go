package state

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/serde"
)

// timed is a value of the model.
type timed[V any] struct {
	V    V
	Time int64
}

// model drives a store and a Go map with the same random operations.
type model[K cmp.Ordered, V any] struct {
	t   *testing.T
	r   *rand.Rand
	db  *DB
	opt Options
	s   *KeyValueStore[K, V]

	beforeFlush func()

	key    serde.Serde[K]
	val    serde.Serde[V]
	keys   []K
	change func(v V, exists bool, n int) V // may change v in place
	clone  func(V) V

	now      map[K]timed[V] // as the store answers
	start    map[K]timed[V] // at the last Flush
	sealed   map[K]timed[V] // at the last Seal
	log      map[K]timed[V] // replay of the changelog, up to the last Seal
	unsealed []func()       // changelog since
	clock    int64
	offset   int64
}

func (m *model[K, V]) open() {
	db, err := Open(m.opt)
	if err != nil {
		m.t.Fatal(err)
	}
	m.db = db
	sh, err := db.Shard("model", 3, ShardOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	if m.s, err = OpenKeyValue(sh, m.key, m.val, StoreOptions{KeepOld: true}); err != nil {
		m.t.Fatal(err)
	}
	var last uint32
	m.s.OnUpdate(func(u Update[K, V]) error {
		old, had := m.start[u.Key]
		if u.HasOld != had || had && gocmp.Diff(old, timed[V]{u.Old, u.OldTime}) != "" {
			m.t.Errorf("old of %v is %v %v, want %v %v", u.Key, u.HasOld, u.Old, had, old)
		}
		cur, has := m.now[u.Key]
		if u.HasNew != has || has && gocmp.Diff(cur, timed[V]{u.New, u.Time}) != "" {
			m.t.Errorf("new of %v is %v %v, want %v %v", u.Key, u.HasNew, u.New, has, cur)
		}
		e, err := m.s.Entry(u.KeyBytes, u.Key)
		if err != nil || e.order <= last {
			m.t.Errorf("update of %v comes with order %d after %d (%v)", u.Key, e.order, last, err)
		}
		last = e.order
		return nil
	})
	m.beforeFlush = func() { last = 0 }
}

func (m *model[K, V]) snapshot() map[K]timed[V] {
	c := make(map[K]timed[V], len(m.now))
	for k, v := range m.now {
		c[k] = timed[V]{m.clone(v.V), v.Time}
	}
	return c
}

func (m *model[K, V]) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *model[K, V]) write() {
	k := m.keys[m.r.IntN(len(m.keys))]
	e, err := m.s.Entry(nil, k)
	m.check(err)
	was, ok := m.now[k]
	if e.Exists != ok || ok && gocmp.Diff(was, timed[V]{e.Value, e.Time}) != "" {
		m.t.Fatalf("entry of %v is %v %v at %d, want %v %v", k, e.Exists, e.Value, e.Time, ok, was)
	}
	m.clock++
	ts := m.clock - int64(m.r.IntN(3))
	if m.r.IntN(5) == 0 {
		m.check(m.s.Remove(e, ts))
		delete(m.now, k)
		return
	}
	n := m.r.IntN(4)
	m.check(m.s.BeforeChange(e))
	v := m.change(e.Value, e.Exists, n)
	m.check(m.s.Set(e, v, ts))
	m.now[k] = timed[V]{m.clone(v), ts}
}

func (m *model[K, V]) flush() {
	// An update that changes nothing but moves the time on is none.
	for k, v := range m.now {
		if old, ok := m.start[k]; ok && v.Time >= old.Time && gocmp.Diff(v.V, old.V) == "" {
			m.now[k] = timed[V]{v.V, old.Time}
		}
	}
	m.beforeFlush()
	var last []byte
	m.check(m.s.Flush(func(key, value []byte, ts int64) error {
		if last != nil && bytes.Compare(last, key) >= 0 {
			m.t.Errorf("changelog key %q after %q", key, last)
		}
		last = append(last[:0:0], key...)
		k, err := m.key.Decode(serde.Place{}, key)
		m.check(err)
		if value == nil {
			if _, ok := m.start[k]; !ok {
				m.t.Errorf("tombstone of %v, which was not there", k)
			}
			m.unsealed = append(m.unsealed, func() { delete(m.log, k) })
			return nil
		}
		v, err := m.val.Decode(serde.Place{}, value)
		m.check(err)
		if old, ok := m.start[k]; ok && gocmp.Diff(old, timed[V]{v, ts}) == "" {
			m.t.Errorf("record of %v changes nothing: %v", k, v)
		}
		m.unsealed = append(m.unsealed, func() { m.log[k] = timed[V]{v, ts} })
		return nil
	}))
	m.start = m.snapshot()
}

func (m *model[K, V]) seal() {
	m.flush()
	m.offset++
	b := m.db.NewBatch()
	m.s.Seal(b, Position{Offset: m.offset})
	b.Apply()
	for _, f := range m.unsealed {
		f()
	}
	m.unsealed = nil
	m.sealed = m.snapshot()
	if d := gocmp.Diff(m.sealed, m.log); d != "" {
		m.t.Fatalf("changelog's replay (-state +replay):\n%s", d)
	}
}

func (m *model[K, V]) abort() {
	m.s.Abort()
	m.now = m.sealed
	m.now = m.snapshot()
	m.start, m.unsealed = m.snapshot(), nil
}

func (m *model[K, V]) reopen() {
	m.seal()
	if m.r.IntN(2) == 0 {
		m.check(m.s.Close())
	}
	m.check(m.db.Close())
	m.open()
	if p, ok := m.s.Shard().Position(); !ok || p.Offset != m.offset {
		m.t.Fatalf("position after reopen is %v %v, want %d", p.Offset, ok, m.offset)
	}
}

// sorted returns the model's rows from lo to hi in the order of encoded keys.
func (m *model[K, V]) sorted(lo, hi []byte) []string {
	type pair struct {
		enc []byte
		row string
	}
	var ps []pair
	for k, v := range m.now {
		enc, err := m.key.Append([]byte{}, serde.Place{}, k)
		m.check(err)
		if bytes.Compare(enc, lo) >= 0 && (hi == nil || bytes.Compare(enc, hi) <= 0) {
			ps = append(ps, pair{enc, fmt.Sprint(k, v.V)})
		}
	}
	slices.SortFunc(ps, func(a, b pair) int { return bytes.Compare(a.enc, b.enc) })
	rows := make([]string, len(ps))
	for i := range ps {
		rows[i] = ps[i].row
	}
	return rows
}

func (m *model[K, V]) sameRows(what string, got iter.Seq2[K, V], want []string) {
	m.t.Helper()
	rows := []string{}
	for k, v := range got {
		rows = append(rows, fmt.Sprint(k, v))
	}
	m.check(m.s.Err())
	if d := gocmp.Diff(want, rows); d != "" {
		m.t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func (m *model[K, V]) scan() {
	all := m.sorted(nil, nil)
	m.sameRows("All", m.s.All(), all)
	slices.Reverse(all)
	m.sameRows("Backward", m.s.Backward(), all)
	from, to := m.keys[m.r.IntN(len(m.keys))], m.keys[m.r.IntN(len(m.keys))]
	lo, _ := m.key.Append([]byte{}, serde.Place{}, from)
	hi, _ := m.key.Append([]byte{}, serde.Place{}, to)
	some := m.sorted(lo, hi)
	m.sameRows("Range", m.s.Range(from, to), some)
	slices.Reverse(some)
	m.sameRows("BackwardRange", m.s.BackwardRange(from, to), some)
	n, err := m.s.ApproximateCount()
	m.check(err)
	if n != int64(len(all)) {
		m.t.Fatalf("count is %d, want %d", n, len(all))
	}
}

func (m *model[K, V]) run(steps int) {
	m.now, m.start, m.sealed, m.log = map[K]timed[V]{}, map[K]timed[V]{}, map[K]timed[V]{}, map[K]timed[V]{}
	m.open()
	for range steps {
		switch m.r.IntN(60) {
		case 0, 1:
			m.flush()
		case 2, 3:
			m.seal()
		case 4:
			m.abort()
		case 5:
			m.reopen()
		case 6, 7:
			m.scan()
		case 8, 9: // the hand of the clock comes by twice: all that may go goes
			m.s.poll()
			m.s.sweep(int(m.s.high)*2, int(m.s.high))
		case 10:
			m.check(m.db.Drain())
		default:
			m.write()
		}
		if m.t.Failed() {
			return
		}
	}
	m.seal()
	m.check(m.db.Drain())
	view := ViewKeyValue(m.s.Shard(), m.key, m.val, "")
	got := map[K]timed[V]{}
	for r, err := range view.All() {
		m.check(err)
		got[r.Key] = timed[V]{r.Value, r.Time}
	}
	if d := gocmp.Diff(m.now, got); d != "" {
		m.t.Errorf("committed view (-want +got):\n%s", d)
	}
	if used := m.s.used; m.s.live*int(m.s.fixedCost) > int(used) || m.s.live > len(m.keys) {
		m.t.Errorf("%d entries account for %d bytes", m.s.live, used)
	}
	m.check(m.db.Close())
}

func TestModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("int/%d", seed), func(t *testing.T) {
			m := &model[int64, int64]{t: t, r: rand.New(rand.NewPCG(3, seed)), opt: Options{Dir: "d", FS: vfs.NewMem()},
				key: serde.Int64, val: serde.Int64, clone: func(v int64) int64 { return v },
				change: func(v int64, _ bool, n int) int64 { return v + int64(n)/2 }}
			for i := range int64(40) {
				m.keys = append(m.keys, i*i*7919)
			}
			m.run(1500)
		})
		t.Run(fmt.Sprintf("string/%d", seed), func(t *testing.T) {
			m := &model[string, map[string]int]{t: t, r: rand.New(rand.NewPCG(4, seed)), opt: Options{Dir: "d", FS: vfs.NewMem()},
				key: serde.String, val: serde.JSON[map[string]int](), clone: maps.Clone[map[string]int],
				change: func(v map[string]int, ok bool, n int) map[string]int {
					if !ok {
						v = map[string]int{}
					}
					v[string(rune('a'+n))] += n % 2
					return v
				}}
			for i := range 30 { // the empty key, ties in the first 16 bytes, zero bytes at the end
				m.keys = append(m.keys, string(make([]byte, i%3))+"a key with a long common prefix "[:i], string(make([]byte, i)))
			}
			slices.Sort(m.keys)
			m.keys = slices.Compact(m.keys)
			m.run(1500)
		})
	}
}
