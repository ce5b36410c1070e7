package statetest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
)

// tens is an index by the value's tens.
var tens = state.ShardIndex{Name: "tens", Value: func(dst, _, value []byte) ([]byte, bool, error) {
	return append(dst, byte(binary.BigEndian.Uint64(value)/10)), true, nil
}}

func (s *suite) db() *state.DB {
	s.Helper()
	db, err := state.Open(state.Options{Dir: s.dir})
	s.must(err)
	return db
}

func (s *suite) shard(db *state.DB, o state.ShardOptions) *state.Shard {
	s.Helper()
	o.Engine = s.opener
	sh, err := db.Shard("store", 0, o)
	s.must(err)
	return sh
}

// keyValueStore compares a store with a map, among commits, aborts, restores and restarts.
func (s *suite) keyValueStore() {
	now, sealed, offset := map[string]int64{}, map[string]int64{}, int64(0)
	for range 6 {
		db := s.db()
		sh := s.shard(db, state.ShardOptions{})
		pos, ok := sh.Position()
		if s.opt.Volatile {
			clear(sealed)
		} else if ok != (offset > 0) || pos.Offset != offset {
			s.Fatalf("the position is %d, %t; want %d", pos.Offset, ok, offset)
		}
		now = maps.Clone(sealed)
		st, err := state.OpenKeyValue(sh, serde.String, serde.Int64, state.StoreOptions{})
		s.must(err)
		s.rows(st, now)
		for range 10 {
			for range 20 {
				k := fmt.Sprint("k", s.r.IntN(50))
				if s.r.IntN(4) == 0 {
					_, _, err = st.Delete(k)
					delete(now, k)
				} else {
					now[k] = s.r.Int64N(100)
					err = st.Put(k, now[k])
				}
				s.must(err)
			}
			s.rows(st, now)
			if s.r.IntN(5) == 0 {
				st.Abort()
				now = maps.Clone(sealed)
				continue
			}
			offset++
			s.commit(db, st, offset)
			sealed = maps.Clone(now)
		}
		s.must(db.Drain())
		offset++
		s.must(sh.Restore([]state.Restored{{Key: []byte("k1")}, {Key: []byte("r"), Value: binary.BigEndian.AppendUint64(nil, 7)}}, state.Position{Offset: offset}))
		delete(now, "k1")
		now["r"] = 7
		s.rows(st, now)
		s.view(sh, now)
		sealed = maps.Clone(now)
		s.must(st.Close())
		s.must(db.Close())
	}
}

func (s *suite) commit(db *state.DB, st state.Store, offset int64) {
	s.Helper()
	s.must(st.Flush(nil))
	b := db.NewBatch()
	st.Seal(b, state.Position{Offset: offset})
	b.Apply()
}

func (s *suite) rows(st *state.KeyValueStore[string, int64], want map[string]int64) {
	s.Helper()
	got := maps.Collect(st.All())
	s.must(st.Err())
	if !maps.Equal(got, want) {
		s.Fatalf("rows %v, want %v", got, want)
	}
	for k, w := range want {
		if v, ok, err := st.Get(k); err != nil || !ok || v != w {
			s.Fatalf("Get of %q gives %d, %t, %v; want %d", k, v, ok, err, w)
		}
	}
}

func (s *suite) view(sh *state.Shard, want map[string]int64) {
	s.Helper()
	v := state.ViewKeyValue(sh, serde.String, serde.Int64, "")
	got := make(map[string]int64)
	for r, err := range v.All() {
		s.must(err)
		got[r.Key] = r.Value
	}
	if !maps.Equal(got, want) {
		s.Fatalf("the view has %v, want %v", got, want)
	}
	if n, err := v.ApproximateCount(); err != nil || n != int64(len(want)) {
		s.Fatalf("%d rows (%v), want %d", n, err, len(want))
	}
	pos, _ := sh.Position()
	s.must(sh.Wipe())
	if _, ok := sh.Position(); ok {
		s.Error("a position after Wipe")
	}
	for r, err := range v.All() {
		s.Fatalf("row %v (%v) after Wipe", r, err)
	}
	var recs []state.Restored
	for k, w := range want {
		recs = append(recs, state.Restored{Key: []byte(k), Value: binary.BigEndian.AppendUint64(nil, uint64(w))})
	}
	s.must(sh.Restore(recs, pos))
}

// windowStore checks fetches and expiry.
func (s *suite) windowStore() {
	db := s.db()
	sh := s.shard(db, state.ShardOptions{Windowed: true})
	minute := time.Minute.Milliseconds()
	st, err := state.OpenWindow(sh, serde.String, serde.Int64, state.StoreOptions{Size: time.Minute, Retention: time.Hour})
	s.must(err)
	at := func(i int64) time.Time { return time.UnixMilli(i * minute) }
	for i := range int64(120) {
		st.Advance(i * minute)
		s.must(st.Put("a", at(i), i))
		s.must(st.Put("b", at(i), -i))
		s.commit(db, st, i+1)
	}
	s.must(db.Drain())
	var got []int64
	for _, v := range st.Fetch("a", at(0), at(63)) {
		got = append(got, v)
	}
	s.must(st.Err())
	if !slices.Equal(got, []int64{60, 61, 62, 63}) {
		s.Errorf("windows of a: %v, want those of the last hour", got)
	}
	got = nil
	for r, err := range state.ViewWindow(sh, serde.String, serde.Int64, "").Fetch("b", 110*minute, 112*minute) {
		s.must(err)
		got = append(got, r.Value)
	}
	if !slices.Equal(got, []int64{-110, -111, -112}) {
		s.Errorf("the view's windows of b: %v", got)
	}
	s.must(st.Close())
	s.must(db.Close())
}

// index checks a secondary index.
func (s *suite) index() {
	db := s.db()
	sh := s.shard(db, state.ShardOptions{Indexes: []state.ShardIndex{tens}})
	st, err := state.OpenKeyValue(sh, serde.String, serde.Int64, state.StoreOptions{})
	s.must(err)
	s.must(st.UseIndex("tens", func(dst []byte, _ string, v int64) ([]byte, bool, error) { return append(dst, byte(v/10)), true, nil }))
	by, err := state.LookUp[[]byte](st, "tens", serde.Bytes)
	s.must(err)
	for i := range int64(30) {
		s.must(st.Put(fmt.Sprintf("k%02d", i), i))
		if i%10 == 5 {
			s.commit(db, st, i)
		}
	}
	s.must(db.Drain())
	s.must(st.Put("k11", 25)) // from one to another
	var got []int64
	for _, v := range by.Get([]byte{1}) {
		got = append(got, v)
	}
	s.must(by.Err())
	if !slices.Equal(got, []int64{10, 12, 13, 14, 15, 16, 17, 18, 19}) {
		s.Errorf("found %v by 1", got)
	}
	s.must(st.Close())
	s.must(db.Close())
}
