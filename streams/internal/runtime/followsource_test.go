package runtime

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// copyBench is a follower with a copy of one store, without brokers.
func copyBench(t *testing.T, windowed bool) (*follower, *followedStore, tp) {
	t.Helper()
	db, err := state.Open(state.Options{Dir: t.TempDir(), MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	sh, err := db.Shard("s", 0, state.ShardOptions{Windowed: windowed})
	if err != nil {
		t.Fatal(err)
	}
	var st state.Store
	if windowed {
		st, err = state.OpenWindow(sh, serde.String, serde.String, state.StoreOptions{Size: time.Second, Retention: time.Second})
	} else {
		st, err = state.OpenKeyValue(sh, serde.String, serde.String, state.StoreOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	rt := New(Config{Logger: slog.New(slog.DiscardHandler), DB: db})
	rt.restorer = newRestorer(&rt.cfg, nil, new(atomic.Int64))
	t.Cleanup(rt.restorer.close)
	at := tp{"rows", 0}
	task := &task{id: engine.TaskID{}, progress: new(progress)}
	s := &followedStore{taskStore: &taskStore{store: st, changelog: at.topic, fromSource: !windowed}, of: &followed{task: task}, stable: -1}
	return &follower{rt: rt, logs: map[tp]*followedStore{at: s}}, s, at
}

// What the owner has not processed a copy holds back: ahead of its owner it would be wiped when it takes over.
func TestACopyIsNeverAheadOfItsOwner(t *testing.T) {
	f, s, at := copyBench(t, false)
	var recs []*kgo.Record
	for i := range int64(10) {
		recs = append(recs, &kgo.Record{Topic: at.topic, Key: []byte{'a' + byte(i)}, Value: []byte("v"), Offset: i, Timestamp: time.UnixMilli(i)})
	}
	f.hold(at, s, recs)
	for _, step := range []struct{ owner, next, held int64 }{{-1, 0, 10}, {0, 0, 10}, {4, 4, 6}, {4, 4, 6}, {10, 10, 0}, {12, 10, 0}} {
		s.stable = step.owner
		f.release(t.Context())
		rows, err := s.store.Shard().ApproximateCount()
		pos, _ := s.store.Shard().Position()
		if err != nil || s.next != step.next || rows != step.next || pos.Offset != step.next || int64(len(s.held)) != step.held {
			t.Errorf("the owner is at %d: the copy is at %d (%d in the store) with %d rows (%v), and holds %d; want %d, and %d held",
				step.owner, s.next, pos.Offset, rows, err, len(s.held), step.next, step.held)
		}
	}
}

// A copy of windows lets go of what its owner says that it has let go of, and of nothing else.
func TestACopyLetsGoOfWhatItsOwnerHas(t *testing.T) {
	f, s, at := copyBench(t, true)
	owner := &taskStore{store: expiring{s.store, 0}}
	window := func(offset, start int64) *kgo.Record {
		key := append([]byte("k"), 0, 0, 0, 0, 0, 0, byte(start>>8), byte(start), 0, 0, 0, 0)
		r := &kgo.Record{Topic: at.topic, Key: key, Value: []byte("v"), Offset: offset, Timestamp: time.UnixMilli(start)}
		if h, ok := owner.expires(); ok {
			r.Headers = append(r.Headers, h)
		}
		return r
	}
	rows := func() int64 {
		n, err := s.store.Shard().ApproximateCount()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := f.write(s, []*kgo.Record{window(0, 1000), window(1, 2000), window(2, 3000)}); err != nil || rows() != 3 {
		t.Errorf("%d rows (%v), want 3: the owner has all of them", rows(), err)
	}
	owner.store = expiring{s.store, 2000}
	if err := f.write(s, []*kgo.Record{window(3, 4000), window(4, 5000)}); err != nil || rows() != 3 {
		t.Errorf("%d rows (%v), want the last 3 of 5", rows(), err)
	}
	if r := window(5, 6000); len(r.Headers) != 0 {
		t.Errorf("headers %v: what has been said is not said again", r.Headers)
	}
}

// expiring is a store that has removed windows.
type expiring struct {
	state.Store
	to int64
}

func (e expiring) Expired() int64 { return e.to }
