package consumer

import (
	"strings"
	"testing"
	"time"
)

// A pattern matches what each member may see, whoever's heartbeat comes first, before and after a restart.
func TestPatternMeetsWhatOneMaySee(t *testing.T) {
	g, c := New("g", limits, 0), &cluster{map[string]int32{"in-1": 2, "in-2": 2, "in-3": 2}}
	alice, bob := &fake{id: "a", pattern: "in-.*"}, &fake{id: "b", pattern: "in-.*"}
	may := map[*fake]string{alice: "in-1 in-2", bob: "in-2 in-3"}
	beat := func(c Cluster) {
		t.Helper()
		for range 8 {
			for _, m := range []*fake{alice, bob} {
				g.SetSight(func(topic string) bool { return strings.Contains(may[m], topic) })
				if r := m.beat(g, c, time.Now()); r != nil {
					t.Fatal(r)
				}
			}
		}
	}
	want := func(a, b string) {
		t.Helper()
		if alice.owned.text() != a || bob.owned.text() != b {
			t.Errorf("alice has %s, bob %s, want %s and %s", alice.owned.text(), bob.owned.text(), a, b)
		}
	}
	beat(c)
	want("in-1:0,1 in-2:0", "in-2:1 in-3:0,1")
	may[alice] = "in-1"
	beat(c)
	want("in-1:0,1", "in-2:0,1 in-3:0,1")
	beat(&cluster{map[string]int32{"in-1": 2, "in-2": 2, "in-3": 2, "in-4": 1}})
	want("in-1:0,1", "in-2:0,1 in-3:0,1")
	may[bob] = may[alice]
	beat(c)
	want("in-1:0", "in-1:1")
	epoch := g.Epoch()
	saved := g.Unsaved() // all of it: nothing was saved before
	g = New("g", limits, 0)
	for _, e := range saved {
		kind, _, member, err := ParseKey(e.Key)
		if err == nil && e.Value != nil {
			err = g.Load(kind, member, e.Value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	g.Resume(time.Now())
	beat(c)
	want("in-1:0", "in-1:1")
	if g.Epoch() != epoch {
		t.Errorf("a restart alone makes epoch %d of %d", g.Epoch(), epoch)
	}
}
