package state

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/serde"
)

func openSession[K, V any](t testing.TB, sh *Shard, k serde.Serde[K], v serde.Serde[V], o StoreOptions) *SessionStore[K, V] {
	t.Helper()
	s, err := OpenSession(sh, k, v, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var sessionShard = ShardOptions{Windowed: true, Sessions: true}

// A session's changelog key is the key, its end and its start, as Kafka's; it restores to the same sessions.
func TestSessionChangelogKeysAreKafkas(t *testing.T) {
	db := openMem(t, nil, 0)
	s := openSession(t, shard(t, db, "s", sessionShard), serde.String, serde.Int64, StoreOptions{Now: func() int64 { return 5 }})
	var _ Session[string, int64] = s
	var _ Store = s
	for i, w := range []Span{{10, 20}, {0, 7}, {12, 20}} {
		if err := s.Put("k", time.UnixMilli(w.Start), time.UnixMilli(w.End), int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	var updates []string
	s.OnUpdate(func(u Update[SessionKey[string], int64]) error {
		updates = append(updates, fmt.Sprint(u.Key.Key, " ", u.Key.Start, "-", u.Start, " ", u.New))
		return nil
	})
	want := []logged{{"k" + be(7) + be(0), be(1), false, 5}, {"k" + be(20) + be(10), be(0), false, 5}, {"k" + be(20) + be(12), be(2), false, 5}}
	if d := gocmp.Diff(want, commit(t, db, 1, s)); d != "" {
		t.Errorf("changelog (-want +got):\n%s", d)
	}
	if d := gocmp.Diff([]string{"k 10-20 0", "k 0-7 1", "k 12-20 2"}, updates); d != "" {
		t.Errorf("updates (-want +got):\n%s", d)
	}
	sh := shard(t, db, "copy", sessionShard)
	var recs []Restored
	for _, l := range want {
		recs = append(recs, Restored{[]byte(l.Key), []byte(l.Value), l.Time})
	}
	if err := sh.Restore(recs, Position{Offset: 3}); err != nil {
		t.Fatal(err)
	}
	c := openSession(t, sh, serde.String, serde.Int64, StoreOptions{})
	found, err := c.Find(nil, []byte("k"), 7, 11)
	if d := gocmp.Diff([]Span{{0, 7}, {10, 20}}, found); d != "" || err != nil {
		t.Errorf("found in the copy, %v (-want +got):\n%s", err, d)
	}
	if err := sh.Restore([]Restored{{Key: []byte("short")}}, Position{}); err == nil {
		t.Error("a changelog key without session was restored")
	}
}

// A shard of sessions is no shard of windows, nor the other way round.
func TestSessionShardsAreTheirOwn(t *testing.T) {
	db := openMem(t, nil, 0)
	sh := shard(t, db, "s", sessionShard)
	if _, err := OpenWindow(sh, serde.String, serde.Int64, StoreOptions{}); err == nil {
		t.Error("a window store was opened on sessions")
	}
	if _, err := db.Shard("s", 0, ShardOptions{Windowed: true}); err == nil {
		t.Error("the shard of sessions was given out as one of windows")
	}
	if _, err := OpenSession(shard(t, db, "w", ShardOptions{Windowed: true}), serde.String, serde.Int64, StoreOptions{}); err == nil {
		t.Error("a session store was opened on windows")
	}
}

type modelSession struct {
	k string
	Span
}

// sessionModel drives a session store and a map with the same random operations, commits and aborts between.
type sessionModel struct {
	t     *testing.T
	r     *rand.Rand
	db    *DB
	s     *SessionStore[string, int64]
	rows  map[modelSession]int64
	saved map[modelSession]int64
	now   int64
	was   int64
	// closed is how far Closed has been asked for; at the last commit it was closedThen.
	closed, closedThen int64
}

const sessionRetention = 400

func (m *sessionModel) alive(at Span) bool { return at.End > m.now-sessionRetention }

func (m *sessionModel) open() {
	m.s = openSession(m.t, shard(m.t, m.db, "s", sessionShard), serde.String, serde.Int64,
		StoreOptions{Retention: sessionRetention * time.Millisecond})
	m.s.Advance(m.now)
}

func (m *sessionModel) step(i int64, k string) {
	switch m.r.IntN(13) {
	case 12:
		m.close(i)
	case 0:
		m.now += int64(m.r.IntN(100))
		m.s.Advance(m.now)
	case 1:
		commit(m.t, m.db, i, m.s)
		m.saved, m.was, m.closedThen = make(map[modelSession]int64), m.now, m.closed
		for at, v := range m.rows {
			m.saved[at] = v
		}
	case 2:
		if m.r.IntN(4) != 0 {
			return
		}
		m.s.Abort()
		m.rows, m.now, m.closed = make(map[modelSession]int64), m.was, m.closedThen
		for at, v := range m.saved {
			m.rows[at] = v
		}
		if m.r.IntN(2) == 0 {
			if err := m.s.Close(); err != nil {
				m.t.Fatal(err)
			}
			m.open()
		}
		m.s.Advance(m.now) // it was opened at this time, or later
	default:
		end := m.now - int64(m.r.IntN(200))
		if end < 0 {
			return
		}
		at := Span{max(0, end-int64(m.r.IntN(30))), end}
		e := must[*Entry[SessionKey[string], int64]](m.t)(m.s.Entry([]byte(k), k, at))
		if m.r.IntN(3) == 0 {
			delete(m.rows, modelSession{k, at})
			if err := m.s.Remove([]byte(k), e, m.now); err != nil {
				m.t.Fatal(err)
			}
			return
		}
		m.rows[modelSession{k, at}] = i
		if err := m.s.Set([]byte(k), e, i, m.now); err != nil {
			m.t.Fatal(err)
		}
	}
}

// close asks for the sessions that have closed since it was last called: those that end before any that may still come.
func (m *sessionModel) close(i int64) {
	from, to := m.closed+1, m.now-200
	if to < from {
		return
	}
	m.closed = to
	want, got := map[modelSession]int64{}, map[modelSession]int64{}
	for at, v := range m.rows {
		if at.End >= from && at.End <= to && m.alive(at.Span) {
			want[at] = v
		}
	}
	for row := range m.s.Closed(from, to) {
		got[modelSession{row.Key.Key, Span{row.Key.Start, row.Start}}] = row.Value
	}
	if d := gocmp.Diff(want, got); d != "" || m.s.Err() != nil {
		m.t.Fatalf("step %d, sessions that have closed from %d to %d (-want +got):\n%s", i, from, to, d)
	}
	if next := m.s.dir.soonest; next <= to || next > to+closedAhead+1 {
		m.t.Fatalf("step %d: the next session after %d is expected at %d", i, to, next)
	}
}

func (m *sessionModel) check(i int64, k string) {
	from, to := m.now-int64(m.r.IntN(300)), m.now-int64(m.r.IntN(100))
	var want, got []string
	var spans []Span
	for at := range m.rows {
		if at.k == k && at.End >= from && at.Start <= to && m.alive(at.Span) {
			spans = append(spans, at.Span)
		}
	}
	slices.SortFunc(spans, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Start, b.Start))
	})
	for _, at := range spans {
		want = append(want, fmt.Sprint(at, m.rows[modelSession{k, at}]))
	}
	for w, v := range m.s.Sessions(k, time.UnixMilli(from), time.UnixMilli(to)) {
		got = append(got, fmt.Sprint(Span{w.Start.UnixMilli(), w.End.UnixMilli()}, v))
	}
	if d := gocmp.Diff(want, got); d != "" || m.s.Err() != nil {
		m.t.Fatalf("step %d, sessions of %q from %d to %d (-want +got):\n%s", i, k, from, to, d)
	}
	n := 0
	for at := range m.rows {
		if m.alive(at.Span) {
			n++
		}
	}
	for range m.s.All() {
		n--
	}
	if n != 0 {
		m.t.Fatalf("step %d: %d sessions more in the model than in the store", i, n)
	}
}

func TestSessionStoreEqualsAModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	m := &sessionModel{t: t, r: rand.New(rand.NewPCG(seed, 1)), db: openMem(t, nil, 0), rows: make(map[modelSession]int64)}
	m.open()
	keys := []string{"a", "ab", "a\x00\x00", "b", ""}
	for i := range int64(4000) {
		m.step(i, keys[m.r.IntN(len(keys))])
		if i%10 == 0 {
			m.check(i, keys[m.r.IntN(len(keys))])
		}
	}
}
