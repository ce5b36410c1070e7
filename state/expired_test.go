package state

import (
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
)

// What a store says that it has let go of is what is sealed: a transaction that is aborted has told nobody.
func TestExpiredIsWhatIsSealed(t *testing.T) {
	db, err := Open(Options{Dir: t.TempDir(), MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sh, err := db.Shard("w", 0, ShardOptions{Windowed: true})
	if err != nil {
		t.Fatal(err)
	}
	st, err := OpenWindow(sh, serde.String, serde.String, StoreOptions{Size: time.Second, Retention: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	flush := func() {
		t.Helper()
		if err := st.Flush(nil); err != nil {
			t.Fatal(err)
		}
	}
	want := func(to int64) {
		t.Helper()
		if got := st.Expired(); got != to {
			t.Errorf("it says %d, want %d", got, to)
		}
	}
	want(0)
	st.Advance(9000)
	flush()
	want(0)
	st.Abort()
	want(0)
	st.Advance(9000)
	flush()
	b := db.NewBatch()
	st.Seal(b, Position{Offset: 1})
	b.Apply()
	want(7000)
	st.Advance(20_000)
	flush()
	want(7000)
}

// A slot that was given back is the next one's: churn does not make a cache grow.
func TestSlotsThatWereGivenBackAreUsedAgain(t *testing.T) {
	db, err := Open(Options{Dir: t.TempDir(), MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sh, err := db.Shard("s", 0, ShardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := sh.Expire(1 << 60); err != nil { // it has no windows, and so nothing to let go of
		t.Fatal(err)
	}
	st, err := OpenKeyValue(sh, serde.Int64, serde.Int64, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const keys = 100
	for round := range int64(5) {
		for k := range int64(keys) {
			if err := st.Put(round*keys+k, k); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.Flush(nil); err != nil {
			t.Fatal(err)
		}
		b := db.NewBatch()
		st.Seal(b, Position{Offset: round})
		b.Apply()
		if err := db.Drain(); err != nil {
			t.Fatal(err)
		}
		if err := sh.Expire(1 << 60); err != nil {
			t.Fatal(err)
		}
		st.poll()
		st.sweep(2*int(st.high), int(st.high)) // once over what was read lately, once to evict
		if st.live != 0 || st.high > keys {
			t.Errorf("round %d: %d entries in %d slots, want none in %d", round, st.live, st.high, keys)
		}
	}
	rows, err := sh.ApproximateCount()
	if err != nil || rows != 5*keys {
		t.Errorf("%d rows (%v), want %d", rows, err, 5*keys)
	}
}
