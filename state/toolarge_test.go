package state

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
)

// A row that the changelog would not take does not encode; the key counts, and what a window adds to it. Deletes go.
func TestRowsThatAreTooLargeDoNotEncode(t *testing.T) {
	var sizes []string
	refused := func(key []byte, _ int, cause error) (bool, error) {
		if !errors.Is(cause, ErrTooLarge) {
			t.Errorf("refused for %v", cause)
		}
		sizes = append(sizes, string(key)+": "+strings.TrimPrefix(cause.Error(), ErrTooLarge.Error()+": "))
		return false, nil
	}
	o := StoreOptions{MaxRow: 20, Refused: refused, Size: time.Second}
	fill := func(n int) string { return strings.Repeat("v", n) }
	db := openMem(t, nil, 0)
	kv := openKV(t, shard(t, db, "kv", ShardOptions{}), serde.String, serde.String, o)
	set(t, kv, "fits", fill(16))
	set(t, kv, "large", fill(16))
	if got := commit(t, db, 1, kv); len(got) != 1 || got[0].Key != "fits" {
		t.Errorf("logged %v, want what fits", got)
	}
	if _, ok, err := kv.Get("large"); ok || err != nil {
		t.Errorf("the row that is too large is there (%v)", err)
	}
	win, err := OpenWindow(shard(t, db, "win", ShardOptions{Windowed: true}), serde.String, serde.String, o)
	if err != nil {
		t.Fatal(err)
	}
	for k, n := range map[string]int{"w1": 6, "w2": 7} {
		if err := win.Put(k, time.UnixMilli(1000), fill(n)); err != nil {
			t.Fatal(err)
		}
	}
	if got := commit(t, db, 2, win); len(got) != 1 || !strings.HasPrefix(got[0].Key, "w1") {
		t.Errorf("logged %v, want w1", got)
	}
	if len(sizes) != 2 || sizes[0] != "large: 21 bytes of key and value, of at most 20" || sizes[1] != "w2: 21 bytes of key and value, of at most 20" {
		t.Errorf("refused %q", sizes)
	}

	versions, err := OpenVersioned(shard(t, db, "versions", ShardOptions{Versions: true}), serde.String, serde.String, time.Minute, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 { // which together are larger
		if kept, err := versions.Put("key", fill(17), time.UnixMilli(int64(i))); !kept || err != nil {
			t.Errorf("a version that fits: %t, %v", kept, err)
		}
	}
	if kept, err := versions.Put("key", fill(18), time.UnixMilli(9)); kept || !errors.Is(err, ErrTooLarge) {
		t.Errorf("a version that does not fit: %t, %v", kept, err)
	}
	if got := commit(t, db, 3, versions); len(got) != 5 {
		t.Errorf("logged %d versions, want 5", len(got))
	}
}
