// Package statetest checks storage engines of one's own (state.Engine) against what package state asks of them.
package statetest

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/leatstream/leat/state"
)

// Options say what an engine is like.
type Options struct {
	// Volatile is set for an engine that keeps nothing over its Close.
	Volatile bool
}

// Run checks an engine, in directories of the test's own. An engine that passes keeps stores as Pebble does.
func Run(t *testing.T, engine *state.OwnEngine, o Options) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"Reads", (*suite).reads}, {"Batches", (*suite).batches}, {"Iterators", (*suite).iterators}, {"Snapshots", (*suite).snapshots},
		{"Bytes", (*suite).ownership}, {"Model", (*suite).model}, {"Concurrency", (*suite).concurrency}, {"Reopen", (*suite).reopen},
		{"KeyValueStore", (*suite).keyValueStore}, {"WindowStore", (*suite).windowStore}, {"Index", (*suite).index},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			c.run(&suite{TB: t, opener: engine, opt: o, dir: t.TempDir(), r: rand.New(rand.NewPCG(seed, 0))})
		})
	}
}

// suite is one check.
type suite struct {
	testing.TB
	opener *state.OwnEngine
	opt    Options
	dir    string
	r      *rand.Rand
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) open() state.Engine {
	s.Helper()
	e, err := s.opener.Open(s.dir, slog.New(slog.DiscardHandler))
	s.must(err)
	return e
}

func set(key, value string) state.Write {
	return state.Write{Kind: state.WriteSet, Key: []byte(key), Value: []byte(value)}
}

func del(key string) state.Write { return state.Write{Kind: state.WriteDelete, Key: []byte(key)} }

func delRange(from, to string) state.Write {
	return state.Write{Kind: state.WriteDeleteRange, Key: []byte(from), Value: []byte(to)}
}

// is checks the engine's whole content: by iteration, there and back, and by Get.
func (s *suite) is(e state.Engine, want map[string]string) {
	s.Helper()
	keys := slices.Sorted(maps.Keys(want))
	for _, backwards := range []bool{false, true} {
		it, err := e.Iterate([]byte{0}, bytes.Repeat([]byte{0xff}, 64))
		s.must(err)
		first, next := it.First, it.Next
		if backwards {
			first, next = it.Last, it.Prev
			slices.Reverse(keys)
		}
		var got []string
		for ok := first(); ok; ok = next() {
			if !it.Valid() {
				s.Fatal("an iterator on a key is not valid")
			}
			v, err := it.ValueAndErr()
			s.must(err)
			got = append(got, string(it.Key()))
			if w, ok := want[string(it.Key())]; !ok || w != string(v) {
				s.Fatalf("key %q has %q, want %q, %t", it.Key(), v, w, ok)
			}
		}
		if it.Valid() {
			s.Fatal("an iterator at its end is valid")
		}
		s.must(it.Error())
		s.must(it.Close())
		if !slices.Equal(got, keys) {
			s.Fatalf("keys %q, want %q (backwards: %t)", got, keys, backwards)
		}
	}
	for k, w := range want {
		if v, ok, err := e.Get([]byte(k)); err != nil || !ok || string(v) != w {
			s.Fatalf("Get of %q gives %q, %t, %v; want %q", k, v, ok, err, w)
		}
	}
}

func (s *suite) reads() {
	e := s.open()
	s.is(e, nil)
	if _, ok, err := e.Get([]byte("a")); ok || err != nil {
		s.Fatalf("a key of an empty engine: %t, %v", ok, err)
	}
	want := map[string]string{"a": "1", "a\x00": "", "a\x00\xff": "2", "b": "3", "\x00": "4", "\xff\xfe": "5"}
	for k, v := range want {
		s.must(e.Apply([]state.Write{set(k, v)}, false))
	}
	s.is(e, want)
	if v, ok, err := e.Get([]byte("a\x00")); !ok || len(v) != 0 || err != nil {
		s.Fatalf("an empty value is %q, %t, %v; want an empty one that is there", v, ok, err)
	}
	s.must(e.Close())
}

// batches checks that writes take effect in their order.
func (s *suite) batches() {
	e := s.open()
	s.must(e.Apply([]state.Write{set("a", "1"), set("b", "1"), set("c", "1"), del("a"), set("a", "2"), set("a", "3")}, false))
	s.is(e, map[string]string{"a": "3", "b": "1", "c": "1"})
	s.must(e.Apply([]state.Write{delRange("a", "c"), set("b", "4"), del("not there")}, true))
	s.is(e, map[string]string{"b": "4", "c": "1"})
	s.must(e.Apply([]state.Write{set("d", "1"), delRange("b", "\xff"), delRange("x", "y")}, false))
	s.is(e, nil)
	s.must(e.Close())
}

func (s *suite) iterators() {
	e := s.open()
	s.must(e.Apply([]state.Write{set("a", "1"), set("b", "2"), set("c", "3"), set("d", "4")}, false))
	it, err := e.Iterate([]byte("b"), []byte("d"))
	s.must(err)
	at := func(ok bool, want string) {
		s.Helper()
		if ok != (want != "") || ok && string(it.Key()) != want || it.Valid() != ok {
			s.Fatalf("moved: %t, valid: %t; want key %q", ok, it.Valid(), want)
		}
	}
	if it.Valid() {
		s.Error("a new iterator is on a key")
	}
	at(it.First(), "b")
	at(it.Next(), "c")
	at(it.Next(), "")
	at(it.Last(), "c")
	at(it.Prev(), "b")
	at(it.Prev(), "")
	at(it.SeekGE([]byte("a")), "b") // the bounds hold
	at(it.SeekGE([]byte("bb")), "c")
	at(it.Next(), "")
	at(it.SeekGE([]byte("c")), "c")
	at(it.Prev(), "b")
	at(it.SeekGE([]byte("cc")), "")
	at(it.SeekGE([]byte("x")), "")
	s.must(it.Error())
	s.must(it.Close())
	it, err = e.Iterate([]byte("bb"), []byte("bc"))
	s.must(err)
	at(it.First(), "")
	at(it.Last(), "")
	s.must(it.Close())
	s.must(e.Close())
}

// snapshots checks that an iterator does not see what comes later.
func (s *suite) snapshots() {
	e := s.open()
	s.must(e.Apply([]state.Write{set("a", "1"), set("b", "1")}, false))
	it, err := e.Iterate([]byte{0}, []byte{0xff})
	s.must(err)
	s.must(e.Apply([]state.Write{set("a", "2"), del("b"), set("c", "2")}, false))
	var got []string
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		s.must(err)
		got = append(got, string(it.Key())+string(v))
	}
	if !slices.Equal(got, []string{"a1", "b1"}) {
		s.Errorf("the iterator sees %q, want what was there when it was made", got)
	}
	s.must(it.Close())
	s.is(e, map[string]string{"a": "2", "c": "2"})
	s.must(e.Close())
}

// ownership checks that the engine keeps copies, and gives out what does not change.
func (s *suite) ownership() {
	e := s.open()
	key, value := []byte("key"), []byte("one")
	s.must(e.Apply([]state.Write{{Key: key, Value: value}}, false))
	copy(key, "xxx")
	copy(value, "xxx")
	got, _, err := e.Get([]byte("key"))
	s.must(err)
	s.must(e.Apply([]state.Write{set("key", "two")}, false))
	if string(got) != "one" {
		s.Errorf("a value that was given out is %q now, want one", got)
	}
	s.is(e, map[string]string{"key": "two"})
	s.must(e.Close())
}

// random makes the writes of one call, and does them to want.
func (s *suite) random(want map[string]string) (writes []state.Write) {
	key := func() string { return fmt.Sprintf("%c%d", 'a'+s.r.IntN(3), s.r.IntN(40)) }
	for range 1 + s.r.IntN(20) {
		switch k := key(); s.r.IntN(8) {
		case 0:
			to := key()
			if cmp.Compare(k, to) > 0 {
				k, to = to, k
			}
			maps.DeleteFunc(want, func(have, _ string) bool { return have >= k && have < to })
			writes = append(writes, delRange(k, to))
		case 1, 2:
			delete(want, k)
			writes = append(writes, del(k))
		default:
			want[k] = fmt.Sprint(s.r.IntN(1000))
			writes = append(writes, set(k, want[k]))
		}
	}
	return writes
}

// model compares with a map.
func (s *suite) model() {
	e, want := s.open(), make(map[string]string)
	for range 150 {
		s.must(e.Apply(s.random(want), s.r.IntN(10) == 0))
		s.is(e, want)
	}
	s.must(e.Close())
}

// concurrency reads while others write: pairs of keys are written together, and are to be seen together.
func (s *suite) concurrency() {
	e := s.open()
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 100 {
				k, v := fmt.Sprint(w), fmt.Sprint(i)
				if err := e.Apply([]state.Write{set("a"+k, v), set("z"+k, v)}, false); err != nil {
					s.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 100 {
				if err := together(e); err != nil {
					s.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	s.is(e, map[string]string{"a0": "99", "z0": "99", "a1": "99", "z1": "99"})
	s.must(e.Close())
}

func together(e state.Engine) error {
	it, err := e.Iterate([]byte("a"), []byte("zz"))
	if err != nil {
		return err
	}
	seen := make(map[string]string)
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		seen[string(it.Key())] = string(v)
	}
	for _, w := range []string{"0", "1"} {
		if seen["a"+w] != seen["z"+w] {
			return fmt.Errorf("an iterator sees half of a call: %v", seen)
		}
	}
	return it.Close()
}

// reopen checks what is left behind: everything that was synced or flushed, nothing by halves.
func (s *suite) reopen() {
	want := make(map[string]string)
	for range 8 {
		e := s.open()
		if s.opt.Volatile {
			clear(want)
		}
		s.is(e, want)
		for range 5 {
			s.must(e.Apply(s.random(want), s.r.IntN(2) == 0))
		}
		if s.r.IntN(2) == 0 {
			s.must(e.Apply(s.random(want), true))
		} else {
			s.must(e.Flush())
		}
		s.must(e.Close())
	}
}
