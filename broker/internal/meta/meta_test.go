package meta

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a journal that forgets nothing and fails on demand.
type memory struct {
	entries []Entry
	fail    error
}

func (m *memory) Replay(f func(Entry) error) error {
	for _, e := range m.entries {
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Append(es ...Entry) error {
	if m.fail != nil {
		return m.fail
	}
	m.entries = append(m.entries, es...)
	return nil
}

func open(t *testing.T, j Journal) *Store {
	t.Helper()
	s, err := Open(j)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What is replayed is what was in force, whatever the order of changes.
func TestReplayGivesTheSameState(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	j := &memory{}
	s := open(t, j)
	for range 500 {
		name := fmt.Sprint("t", r.IntN(12))
		switch r.IntN(5) {
		case 0, 1:
			_ = s.Create(Topic{Name: name, ID: NewID(), Partitions: int32(1 + r.IntN(9)), Configs: map[string]string{"retention.ms": fmt.Sprint(r.IntN(99))}, CreatedMs: 7})
		case 2:
			_, _ = s.Update(name, func(t *Topic) error { t.Partitions++; return nil })
		case 3:
			if _, err := s.Update(name, func(t *Topic) error { t.Deleting = true; return nil }); err == nil && r.IntN(2) == 0 {
				if err := s.Forget(name); err != nil {
					t.Fatal(err)
				}
			}
		case 4:
			if err := s.SetBrokerConfigs(map[string]string{"n": fmt.Sprint(r.IntN(9))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.ChangeRecords(Quota, Change{"a", map[string]int{"n": 1}}, Change{"b", nil}); err != nil {
		t.Fatal(err)
	}
	check := func(j Journal) {
		t.Helper()
		again := open(t, j)
		if d := cmp.Diff(s.Topics(), again.Topics()); d != "" || len(s.Topics()) == 0 {
			t.Fatalf("seed %d: %s", seed, d)
		}
		if d := cmp.Diff(s.BrokerConfigs(), again.BrokerConfigs()); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
		if d := cmp.Diff(s.Records(Quota), again.Records(Quota)); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
		if s.ClusterID() == "" || s.ClusterID() != again.ClusterID() {
			t.Fatalf("cluster id %q became %q", s.ClusterID(), again.ClusterID())
		}
	}
	check(j)
	before := len(j.entries)
	if n, err := s.Rewrite(); err != nil || n != len(j.entries)-before {
		t.Fatalf("%d of %d entries: %v", n, len(j.entries)-before, err)
	}
	check(j)
	check(&memory{entries: j.entries[before:]}) // nothing else is needed now
}

func TestChangeThatIsNotWrittenDoesNotHappen(t *testing.T) {
	j := &memory{}
	s := open(t, j)
	if err := s.Create(Topic{Name: "a", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	j.fail = errors.New("disk full")
	if err := s.Create(Topic{Name: "b"}); !errors.Is(err, j.fail) {
		t.Fatal(err)
	}
	if _, err := s.Update("a", func(t *Topic) error { t.Partitions = 9; return nil }); !errors.Is(err, j.fail) {
		t.Fatal(err)
	}
	if err := s.Forget("a"); !errors.Is(err, j.fail) {
		t.Fatal(err)
	}
	if ts := s.Topics(); len(ts) != 1 || ts[0].Name != "a" || ts[0].Partitions != 1 {
		t.Fatalf("state changed without its journal: %+v", ts)
	}
}

func TestTopicBeingDeletedBlocksItsName(t *testing.T) {
	s := open(t, &memory{})
	if err := s.Create(Topic{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(Topic{Name: "a"}); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	if _, err := s.Update("a", func(t *Topic) error { t.Deleting = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(Topic{Name: "a"}); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	if _, err := s.Update("a", func(*Topic) error { return nil }); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	if err := s.Forget("a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(Topic{Name: "a"}); err != nil {
		t.Fatal(err)
	}
}

func TestCorruptJournalIsRefused(t *testing.T) {
	for _, e := range []Entry{
		{[]byte("topic/a"), []byte("{")},
		{[]byte("topic/a"), []byte(`{"id":"short"}`)},
		{[]byte("gadget/a"), []byte("{}")},
		{[]byte("cluster"), []byte("[]")},
	} {
		if _, err := Open(&memory{entries: []Entry{e}}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), string(e.Key)) {
			t.Errorf("%s: %v", e.Key, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, ok := range []string{"a", "A-b_c.d9", strings.Repeat("x", 249), "..."} {
		if err := CheckName(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a b", "a/b", "ä", "a\x00", strings.Repeat("x", 250)} {
		if CheckName(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if !Collides("a.b", "a_b") || Collides("a.b", "a.b") || Collides("a.b", "a-b") {
		t.Error("Collides is wrong")
	}
}

func TestConfigTable(t *testing.T) {
	if !slices.IsSortedFunc(definitions, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatal("the table is not sorted by name: Define searches it")
	}
	for _, d := range definitions {
		if err := d.Check(d.Default); err != nil || d.Doc == "" {
			t.Errorf("%s: default %q: %v; doc %q", d.Name, d.Default, err, d.Doc)
		}
	}
	for name, bad := range map[string]string{
		"cleanup.policy": "compact,zap", "retention.ms": "-2", "segment.bytes": "x", "min.cleanable.dirty.ratio": "1.5", "preallocate": "yes",
		"compression.type": "brotli", "nonsense": "1", "max.message.bytes": "99999999999",
	} {
		if err := CheckConfig(name, bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, bad, err)
		}
	}
	s := Settings{"cleanup.policy": "compact, delete", "retention.ms": "5"}
	if !s.Has("cleanup.policy", "delete") || !s.Has("cleanup.policy", "compact") || s.Long("retention.ms") != 5 || s.Long("segment.ms") != 604800000 {
		t.Errorf("settings read wrong: %v", s)
	}
}
