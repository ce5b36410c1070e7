package runtime

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The time of a position is what tells whether deletes behind it may be gone from the log. A part of a restore does not make
// what was there any younger: only who has reached the end knows that nothing is missing.

func TestAReplayIsAsOldAsWhereItBegan(t *testing.T) {
	t.Parallel()
	b := newReplayBench(t)
	b.write(b.cl, 0, 20)
	old, asked := time.Now().Add(-20*time.Hour).Truncate(time.Millisecond), time.Now().Truncate(time.Millisecond)
	info, _ := b.r.topics.get(changelog)
	s := &taskStore{store: b.store, changelog: changelog, topicID: info.id}
	rp := &replay{of: new(progress), store: s, task: "0_0", at: tp{changelog, 0}, end: 20, since: old, asked: asked}
	for _, c := range []struct {
		next int64
		want time.Time
	}{{10, old}, {20, asked}} {
		if err := b.r.write(rp, chunk{next: c.next}); err != nil {
			t.Fatal(err)
		}
		if pos, _ := b.sh.Position(); pos.Offset != c.next || !pos.At.Equal(c.want) {
			t.Errorf("at %d the time is %v, want %v", pos.Offset, pos.At, c.want)
		}
	}
}

func TestACopyIsYoungWhereItHasEverything(t *testing.T) {
	t.Parallel()
	f, s, at := copyBench(t, false)
	s.fromSource, s.stable = false, 10
	old := time.Now().Add(-20 * time.Hour).Truncate(time.Millisecond)
	s.since = old
	for _, c := range []struct {
		offset int64
		young  bool
	}{{4, false}, {9, true}} {
		if err := f.write(t.Context(), s, []*kgo.Record{row(at, c.offset, "k")}); err != nil {
			t.Fatal(err)
		}
		if pos, _ := s.store.Shard().Position(); pos.Offset != c.offset+1 || pos.At.Equal(old) == c.young {
			t.Errorf("at %d the time is %v", pos.Offset, pos.At)
		}
	}
}
