package group

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// gathering is a bubble in which assignments are a second apart.
func gathering(t *testing.T, f func(t *testing.T, f *fixture, again func(*fixture) *fixture)) {
	config := func(c *Config) {
		c.Cluster = topicsOf(4)
		c.ConsumerTimes = func(string) (session, heartbeat, assignment time.Duration) {
			return 45 * time.Second, 5 * time.Second, time.Second
		}
	}
	bubble(t, config, func(t *testing.T, fx *fixture) {
		f(t, fx, func(old *fixture) *fixture { old.Close(); return open(t, old.m, config) })
	})
}

// TestAssignmentsAreGathered: who comes too soon after an assignment waits at its epoch, and the next one is for all who came, and left, meanwhile
// (KIP-1263). A restart does not shorten the time; an empty group has none to wait for.
func TestAssignmentsAreGathered(t *testing.T) {
	gathering(t, func(t *testing.T, f *fixture, again func(*fixture) *fixture) {
		beats := func(what, id string, epoch int32, owned string, wantE int32, wantA string) {
			t.Helper()
			if e, a := f.mustBeat(id, epoch, owned); e != wantE || a != wantA {
				t.Fatalf("%s: epoch %d, %q, want %d, %q", what, e, a, wantE, wantA)
			}
		}
		state := func(want string) {
			t.Helper()
			if s := f.groupState(); s != want {
				t.Fatalf("%s, want %s", s, want)
			}
		}
		beats("the first waits for nothing", "a", 0, "-", 2, "0,1,2,3")
		beats("the second comes too soon", "b", 0, "-", 2, "-")
		beats("and the third", "c", 0, "-", 2, "-")
		beats("the first goes on", "a", 2, "", 2, "")
		state("consumer Assigning")
		f = again(f)
		beats("a restart changes nothing", "b", 2, "", 2, "")
		time.Sleep(time.Second)
		beats("the next assignment is for both", "b", 2, "", 4, "")
		state("consumer Reconciling")
		beats("the first is told once", "a", 2, "", 2, "0,1")
		beats("and gives up", "a", 2, "0,1", 4, "0,1")
		beats("the second has a partition", "b", 4, "", 4, "3")
		beats("and the third", "c", 2, "", 4, "2")
		state("consumer Stable")

		time.Sleep(time.Second)
		f.mustBeat("c", -1, "")
		state("consumer Assigning")
		beats("who comes as another leaves has what that one had", "d", 0, "-", 6, "2")
		f.mustBeat("b", -1, "")
		beats("what is left is not given away at once", "a", 4, "", 6, "")
		f.mustBeat("a", -1, "")
		f.mustBeat("d", -1, "")
		state("consumer Empty")
		beats("the first who comes back waits for nothing", "e", 0, "-", 10, "0,1,2,3")
		f.Close()
	})
}

// TestClassicMembersJoinForNewAssignments: while one is due, classic members of the group are not asked to join for what there is not.
func TestClassicMembersJoinForNewAssignments(t *testing.T) {
	gathering(t, func(t *testing.T, f *fixture, _ func(*fixture) *fixture) {
		a, first := f.alone("")
		f.mustBeat("b", 0, "-")
		wantErr(t, "a newcomer to a group that has just become one of the new protocol", f.heartbeat(a, first), kerr.RebalanceInProgress)
		f.rejoin(classic(a, "", 0, 1, 2, 3))
		if e, ps := f.rejoin(classic(a, "", 0, 1)); e != first+1 || ps != "0,1" {
			t.Fatal(e, ps)
		}
		if e, ps := f.mustBeat("c", 0, "-"); e != first+1 || ps != "-" {
			t.Fatal(e, ps)
		}
		wantErr(t, "the next one comes too soon", f.heartbeat(a, first+1), nil)
		time.Sleep(time.Second)
		wantErr(t, "there is an assignment", f.heartbeat(a, first+1), kerr.RebalanceInProgress)
		f.Close()
	})
}
