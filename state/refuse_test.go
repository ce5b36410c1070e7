package state

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/serde"
)

// picky does not encode some values.
type picky struct{ serde.Serde[string] }

var errPicky = errors.New("not this one")

func (p picky) Append(dst []byte, at serde.Place, v string) ([]byte, error) {
	switch {
	case strings.HasPrefix(v, "bad"):
		return nil, errPicky
	case v == "panic":
		panic(errPicky)
	}
	return p.Serde.Append(dst, at, v)
}

// pickyStore is a store whose refusals are noted and answered.
func pickyStore(t *testing.T, o StoreOptions, answer func(attempt int) (bool, error)) (db *DB, s *KeyValueStore[string, string], refused *[]string) {
	t.Helper()
	db = openMem(t, nil, 0)
	refused = new([]string)
	o.Refused = func(key []byte, attempt int, cause error) (bool, error) {
		if !errors.Is(cause, errPicky) {
			t.Errorf("refused for %v", cause)
		}
		*refused = append(*refused, string(key))
		return answer(attempt)
	}
	return db, openKV(t, shard(t, db, "s", ShardOptions{}), serde.String, serde.Serde[string](picky{serde.String}), o), refused
}

func set(t *testing.T, s *KeyValueStore[string, string], k, v string) {
	t.Helper()
	if err := s.Set(must[*Entry[string, string]](t)(s.Entry(nil, k)), v, 1); err != nil {
		t.Fatal(err)
	}
}

// A change whose value does not encode is left out; the others are written, and the row is what it was at the last commit,
// whether Pebble has that already or not.
func TestChangesThatDoNotEncodeAreLeftOut(t *testing.T) {
	db, s, refused := pickyStore(t, StoreOptions{}, func(int) (bool, error) { return false, nil })
	var updates []string
	s.OnUpdate(func(u Update[string, string]) error { updates = append(updates, u.Key+"="+u.New); return nil })
	set(t, s, "a", "old")
	set(t, s, "b", "old")
	commit(t, db, 1, s)
	updates = nil
	set(t, s, "a", "bad")
	set(t, s, "b", "new")
	set(t, s, "c", "panic")
	if got, want := commit(t, db, 2, s), []logged{{"b", "new", false, 1}}; !cmp.Equal(got, want) {
		t.Errorf("logged %v, want %v", got, want)
	}
	if diff := cmp.Diff([]string{"a", "c"}, *refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b=new"}, updates); diff != "" {
		t.Errorf("updates (-want +got):\n%s", diff)
	}
	for k, want := range map[string]string{"a": "old", "b": "new", "c": ""} {
		if v, ok, err := s.Get(k); v != want || ok != (want != "") || err != nil {
			t.Errorf("%s is %q, %t, %v; want %q", k, v, ok, err, want)
		}
	}
	set(t, s, "a", "newer")
	if got, want := commit(t, db, 3, s), []logged{{"a", "newer", false, 1}}; !cmp.Equal(got, want) {
		t.Errorf("logged %v, want %v", got, want)
	}
}

// Without a buffer the change is left out at once, and nobody hears of it.
func TestUnbufferedChangesThatDoNotEncodeAreLeftOut(t *testing.T) {
	for _, keep := range []bool{false, true} {
		db, s, refused := pickyStore(t, StoreOptions{NoBuffer: true, KeepUnchanged: keep}, func(int) (bool, error) { return false, nil })
		var updates []string
		s.OnUpdate(func(u Update[string, string]) error { updates = append(updates, u.Key+"="+u.New); return nil })
		set(t, s, "a", "old")
		set(t, s, "a", "bad")
		set(t, s, "b", "bad too")
		if diff := cmp.Diff([]string{"a=old"}, updates); diff != "" || len(*refused) != 2 {
			t.Errorf("keep %t: updates (-want +got), %d refused:\n%s", keep, len(*refused), diff)
		}
		if got, want := commit(t, db, 1, s), []logged{{"a", "old", false, 1}}; !cmp.Equal(got[:min(1, len(got))], want) {
			t.Errorf("keep %t: logged %v, want %v", keep, got, want)
		}
		if v, ok, err := s.Get("b"); ok || err != nil {
			t.Errorf("keep %t: b is %q, %v; want none", keep, v, err)
		}
	}
}

// The answer may be to try again, or an error; without an answer the serde's error ends the flush.
func TestRefusalsAreTriedAgainOrEnd(t *testing.T) {
	asked := 0
	_, s, _ := pickyStore(t, StoreOptions{}, func(attempt int) (bool, error) {
		if asked++; attempt != asked {
			t.Errorf("attempt %d, want %d", attempt, asked)
		}
		if asked == 3 {
			return false, errors.New("enough")
		}
		return true, nil
	})
	set(t, s, "a", "bad")
	if err := s.Flush(nil); err == nil || err.Error() != "enough" || asked != 3 {
		t.Errorf("Flush returns %v after %d questions, want enough after 3", err, asked)
	}
	s.Abort()
	db := openMem(t, nil, 0)
	plain := openKV(t, shard(t, db, "s", ShardOptions{}), serde.String, serde.Serde[string](picky{serde.String}), StoreOptions{})
	set(t, plain, "a", "panic")
	var p *PanicError
	if err := plain.Flush(nil); !errors.As(err, &p) || !strings.Contains(string(p.Stack), "refuse_test.go") {
		t.Errorf("Flush returns %v, want the panic with its stack", err)
	}
	plain.Abort()
}
