package group

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// bubble runs a test on virtual time.
func bubble(t *testing.T, change func(*Config), f func(t *testing.T, f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fx := open(t, &memory{}, change)
		f(t, fx)
		fx.Close()
	})
}

func wantErr(t *testing.T, what string, got error, want *kerr.Error) {
	t.Helper()
	if want == nil && got != nil || want != nil && !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestJoinSyncHeartbeat(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		js := f.stable(3)
		if len(js[0].Members) != 3 || len(js[1].Members) != 0 {
			t.Errorf("leader got %d members, follower %d", len(js[0].Members), len(js[1].Members))
		}
		if f.state() != "Stable" {
			t.Errorf("state %s", f.state())
		}
		wantErr(t, "heartbeat", f.heartbeat(js[1].MemberID, js[1].Generation), nil)
		wantErr(t, "wrong generation", f.heartbeat(js[1].MemberID, js[1].Generation+1), kerr.IllegalGeneration)
		wantErr(t, "stranger", f.heartbeat("stranger", 1), kerr.UnknownMemberID)
		again := f.join(joining{id: js[1].MemberID}).get() // a follower that changes nothing
		if again.ErrorCode != 0 || again.Generation != js[1].Generation || f.state() != "Stable" {
			t.Errorf("follower joins again: %v, generation %d, %s", kerr.ErrorForCode(again.ErrorCode), again.Generation, f.state())
		}
		w := f.join(joining{id: js[0].MemberID}) // the leader: a rebalance
		if !w.waiting(time.Second) || f.state() != "PreparingRebalance" {
			t.Fatalf("leader joined again: %s", f.state())
		}
		wantErr(t, "heartbeat in a rebalance", f.heartbeat(js[1].MemberID, js[1].Generation), kerr.RebalanceInProgress)
		r := f.sync(js[1]).get()
		wantErr(t, "sync in a rebalance", kerr.ErrorForCode(r.ErrorCode), kerr.RebalanceInProgress)
		next := f.finish(w, f.join(joining{id: js[1].MemberID}), f.join(joining{id: js[2].MemberID}))
		if next[0].Generation != js[0].Generation+1 || next[1].LeaderID != js[0].MemberID {
			t.Errorf("generation %d led by %s", next[0].Generation, next[1].LeaderID)
		}
	})
}

func TestCompletingRebalance(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		a, b := f.id(joining{}), f.id(joining{})
		wa, wb := f.join(joining{id: a}), f.join(joining{id: b})
		ja, jb := wa.get(), wb.get()
		if ja.LeaderID == jb.MemberID {
			ja, jb = jb, ja
		}
		s := f.sync(jb)
		if !s.waiting(time.Second) || f.state() != "CompletingRebalance" {
			t.Fatalf("follower is answered before the leader has assigned; %s", f.state())
		}
		wantErr(t, "heartbeat", f.heartbeat(jb.MemberID, jb.Generation), nil)
		wantErr(t, "commit", f.commit(jb.MemberID, jb.Generation, 1), kerr.RebalanceInProgress)
		wantErr(t, "transactional commit", f.commitTxn(1, jb.MemberID, jb.Generation, 1, nil), nil)
		again := f.join(joining{id: ja.MemberID}).get() // its answer was lost
		if again.Generation != ja.Generation || len(again.Members) != 2 {
			t.Errorf("told again: generation %d, %d members", again.Generation, len(again.Members))
		}
		f.sync(ja, ja.MemberID, "x").get()
		if r := s.get(); r.ErrorCode != 0 || r.MemberAssignment == nil || len(r.MemberAssignment) != 0 {
			t.Errorf("member without an assignment: %v %v", kerr.ErrorForCode(r.ErrorCode), r.MemberAssignment)
		}
	})
}

func TestSessionEnds(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		js := f.stable(2)
		for range 4 { // one is alive, the other silent
			time.Sleep(session / 3)
			_ = f.heartbeat(js[0].MemberID, js[0].Generation)
		}
		wantErr(t, "silent member", f.heartbeat(js[1].MemberID, js[1].Generation), kerr.UnknownMemberID)
		w := f.join(joining{id: js[0].MemberID}).get()
		if len(w.Members) != 1 || w.Generation != js[0].Generation+1 {
			t.Errorf("rest: generation %d, %d members", w.Generation, len(w.Members))
		}
		time.Sleep(2 * session)
		if f.state() != "Empty" {
			t.Errorf("nobody speaks, but the group is %s", f.state())
		}
	})
}

// A member that waits for an answer of ours is not silent.
func TestParkedMembersStay(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		js := f.stable(2)
		w := f.join(joining{id: js[0].MemberID, rebalance: time.Minute})
		for range 8 { // the other keeps its session but does not join
			time.Sleep(session / 2)
			_ = f.heartbeat(js[1].MemberID, js[1].Generation)
		}
		if len(w.resp) != 0 || f.state() != "PreparingRebalance" {
			t.Fatalf("the rebalance did not wait: %s", f.state())
		}
		time.Sleep(30 * time.Second)
		if r := w.get(); r.ErrorCode != 0 || len(r.Members) != 1 {
			t.Errorf("after the rebalance timeout: %v, %d members", kerr.ErrorForCode(r.ErrorCode), len(r.Members))
		}
		wantErr(t, "dropped member", f.heartbeat(js[1].MemberID, js[1].Generation), kerr.UnknownMemberID)
	})
}

func TestMembersThatNeverSync(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		a, b := f.id(joining{}), f.id(joining{})
		wa, wb := f.join(joining{id: a}), f.join(joining{id: b})
		ja, jb := wa.get(), wb.get()
		for range 7 {
			time.Sleep(session / 2)
			_ = f.heartbeat(a, ja.Generation)
			_ = f.heartbeat(b, jb.Generation)
		}
		wantErr(t, "members that fetch no assignment", f.heartbeat(a, ja.Generation), kerr.UnknownMemberID)
	})
}

// An id that is handed out holds a rebalance up, but not for ever.
func TestAnnouncedMember(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		a := f.id(joining{})
		_ = f.id(joining{})
		w := f.join(joining{id: a})
		if !w.waiting(session / 2) {
			t.Fatal("the rebalance did not wait for the announced member")
		}
		if r := w.get(); r.ErrorCode != 0 || len(r.Members) != 1 {
			t.Errorf("%v, %d members", kerr.ErrorForCode(r.ErrorCode), len(r.Members))
		}
	})
}

func TestOldClientsJoinDirectly(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		if r := f.join(joining{version: 3}).get(); r.ErrorCode != 0 || r.MemberID == "" || r.Generation != 1 {
			t.Errorf("v3: %v, id %q, generation %d", kerr.ErrorForCode(r.ErrorCode), r.MemberID, r.Generation)
		}
	})
}

func TestProtocols(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		a := f.id(joining{})
		f.finish(f.join(joining{id: a, protocols: []string{"sticky=s", "range=r"}}))
		r := f.join(joining{protocols: []string{"other=o"}}).get()
		wantErr(t, "no common protocol", kerr.ErrorForCode(r.ErrorCode), kerr.InconsistentGroupProtocol)
		b := f.id(joining{protocols: []string{"range=r"}})
		wb := f.join(joining{id: b, protocols: []string{"range=r"}})
		js := f.finish(f.join(joining{id: a, protocols: []string{"sticky=s", "range=r"}}), wb)
		if *js[0].Protocol != "range" || string(js[0].Members[0].ProtocolMetadata) != "r" {
			t.Errorf("protocol %s", *js[0].Protocol)
		}
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.Generation, req.Protocol = 5, "g", a, js[0].Generation, kmsg.StringPtr("sticky")
		wantErr(t, "sync with another protocol", kerr.ErrorForCode(park(t, f.Sync(req)).get().ErrorCode), kerr.InconsistentGroupProtocol)
		bad := joining{}.request()
		bad.SessionTimeoutMillis = 1
		wantErr(t, "session of 1 ms", kerr.ErrorForCode(park(t, f.Join(bad, Client{})).get().ErrorCode), kerr.InvalidSessionTimeout)
		bad.Group = ""
		wantErr(t, "no group id", kerr.ErrorForCode(park(t, f.Join(bad, Client{})).get().ErrorCode), kerr.InvalidGroupID)
	})
}

func TestGroupIsFull(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxGroupSize = 2 }, func(t *testing.T, f *fixture) {
		f.stable(2)
		r := f.join(joining{}).get()
		wantErr(t, "third member", kerr.ErrorForCode(r.ErrorCode), kerr.GroupMaxSizeReached)
	})
}

func TestStaticMembers(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		js := f.finish(f.join(joining{instance: "one"}))
		old := js[0]
		back := f.join(joining{instance: "one"}).get() // v9: keeps leading, and skips the assignment
		if back.ErrorCode != 0 || back.MemberID == old.MemberID || back.Generation != old.Generation || !back.SkipAssignment || back.LeaderID != back.MemberID || len(back.Members) != 1 {
			t.Fatalf("static leader is back: %+v", back)
		}
		if r := f.sync(back).get(); string(r.MemberAssignment) != "for "+old.MemberID {
			t.Errorf("its assignment: %q", r.MemberAssignment)
		}
		hb := kmsg.NewPtrHeartbeatRequest()
		hb.Group, hb.MemberID, hb.InstanceID, hb.Generation = "g", old.MemberID, kmsg.StringPtr("one"), old.Generation
		wantErr(t, "the old one", kerr.ErrorForCode(f.Heartbeat(hb).ErrorCode), kerr.FencedInstanceID)
		back8 := f.join(joining{instance: "one", version: 8}).get() // v8: must not think that it leads
		if back8.LeaderID != back.MemberID || back8.MemberID == back.MemberID || len(back8.Members) != 0 || back8.SkipAssignment {
			t.Errorf("static leader is back with v8: %+v", back8)
		}
		f = f.reopen() // the new member id is on disk
		r := f.sync(back8).get()
		wantErr(t, "after a restart of the broker", kerr.ErrorForCode(r.ErrorCode), nil)
		wantErr(t, "removal by instance id", f.leave(kmsg.LeaveGroupRequestMember{InstanceID: kmsg.StringPtr("one")})[0], nil)
		if f.state() != "Empty" {
			t.Errorf("state %s", f.state())
		}
		f.Close()
	})
}

// A static member that does not join a rebalance keeps its place until its session ends.
func TestAbsentStaticMember(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		one := f.finish(f.join(joining{instance: "one", rebalance: 2 * time.Second}))[0]
		a := f.id(joining{rebalance: 2 * time.Second})
		r := f.join(joining{id: a, rebalance: 2 * time.Second}).get()
		if r.ErrorCode != 0 || len(r.Members) != 2 || r.LeaderID != a {
			t.Fatalf("the absent member's place: %+v", r)
		}
		f.sync(r, one.MemberID, "x").get()
		time.Sleep(3 * time.Second) // the rebalance timeout, in which it fetches no assignment either
		_ = f.heartbeat(a, r.Generation)
		if n := len(f.Describe("g", 5).Members); n != 2 {
			t.Fatalf("%d members", n)
		}
		back := f.join(joining{instance: "one"}).get()
		if got := f.sync(back).get(); string(got.MemberAssignment) != "x" {
			t.Errorf("back in time: %q", got.MemberAssignment)
		}
	})
}

func TestLeave(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		js := f.stable(2)
		errs := f.leave(kmsg.LeaveGroupRequestMember{MemberID: js[1].MemberID}, kmsg.LeaveGroupRequestMember{MemberID: "stranger"})
		wantErr(t, "leave", errs[0], nil)
		wantErr(t, "stranger leaves", errs[1], kerr.UnknownMemberID)
		wantErr(t, "commit after leaving", f.commit(js[1].MemberID, js[1].Generation, 7), kerr.UnknownMemberID)
		wantErr(t, "the rest hears of it", f.heartbeat(js[0].MemberID, js[0].Generation), kerr.RebalanceInProgress)
		wantErr(t, "commit on revoke", f.commit(js[0].MemberID, js[0].Generation, 8), nil)
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group, req.MemberID = 1, "g", js[0].MemberID
		wantErr(t, "v1", kerr.ErrorForCode(park(t, f.Leave(req)).get().ErrorCode), nil)
		if f.state() != "Empty" || f.offset(false) != "8/3/note" {
			t.Errorf("%s, offset %s", f.state(), f.offset(false))
		}
		again := f.stable(1)
		if again[0].Generation <= js[0].Generation {
			t.Errorf("generation %d comes again after %d", again[0].Generation, js[0].Generation)
		}
	})
}

func TestInitialDelay(t *testing.T) {
	bubble(t, func(c *Config) { c.InitialRebalanceDelay = 3 * time.Second }, func(t *testing.T, f *fixture) {
		a := f.id(joining{})
		wa := f.join(joining{id: a})
		time.Sleep(2 * time.Second)
		b := f.id(joining{})
		wb := f.join(joining{id: b})
		if !wa.waiting(2*time.Second) || !wb.waiting(time.Second) {
			t.Fatal("the delay is not extended by a new member")
		}
		js := f.finish(wa, wb)
		if js[0].Generation != 1 {
			t.Errorf("generation %d, want one rebalance", js[0].Generation)
		}
	})
}

func TestRestartKeepsGroups(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		js := f.stable(2)
		wantErr(t, "commit", f.commit(js[1].MemberID, js[1].Generation, 5), nil)
		f = f.reopen()
		defer f.Close()
		for _, j := range js {
			wantErr(t, "heartbeat", f.heartbeat(j.MemberID, j.Generation), nil)
			if r := f.sync(j).get(); string(r.MemberAssignment) != "for "+j.MemberID {
				t.Errorf("assignment %q", r.MemberAssignment)
			}
		}
		d := f.Describe("g", 5)
		if d.State != "Stable" || d.Protocol != "range" || len(d.Members) != 2 || d.Members[0].ClientID != "c" || f.offset(false) != "5/3/note" {
			t.Errorf("after the restart: %+v, offset %s", d, f.offset(false))
		}
		time.Sleep(2 * session)
		if f.state() != "Empty" {
			t.Errorf("members that do not come back: %s", f.state())
		}
	})
}

func TestAssignmentThatCannotBeStored(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		a := f.id(joining{})
		j := f.join(joining{id: a}).get()
		f.m.refuse = true
		r := f.sync(j, a, "x").get()
		wantErr(t, "sync", kerr.ErrorForCode(r.ErrorCode), kerr.CoordinatorNotAvailable)
		wantErr(t, "commit", f.commit(a, j.Generation, 1), kerr.CoordinatorNotAvailable)
		f.m.refuse = false
		f.finish(f.join(joining{id: a}))
	})
}
