package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// classic is a member of the classic protocol that reads "in" and says what it owns, as cooperative consumers do.
func classic(id, instance string, owned ...int32) joining {
	sub := kmsg.NewConsumerMemberMetadata()
	sub.Version, sub.Topics = 1, []string{"in"}
	if len(owned) > 0 {
		sub.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: "in", Partitions: owned}}
	}
	return joining{id: id, instance: instance, protocols: []string{"range=" + string(sub.AppendTo(nil))}}
}

// alone makes a classic group of one member that has all partitions.
func (f *fixture) alone(instance string) (id string, generation int32) {
	f.t.Helper()
	if instance == "" {
		id = f.id(classic("", ""))
	}
	join := f.join(classic(id, instance)).get()
	has := kmsg.NewConsumerMemberAssignment()
	has.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: "in", Partitions: []int32{0, 1, 2, 3}}}
	if r := f.sync(join, join.MemberID, string(has.AppendTo(nil))).get(); r.ErrorCode != 0 {
		f.t.Fatal(r)
	}
	return join.MemberID, join.Generation
}

// rejoin takes a classic member through JoinGroup and SyncGroup and says what it then has.
func (f *fixture) rejoin(j joining) (generation int32, has string) {
	f.t.Helper()
	join := f.join(j).get()
	if join.ErrorCode != 0 {
		f.t.Fatalf("join: %v", kerr.ErrorForCode(join.ErrorCode))
	}
	resp := f.sync(join).get()
	a := kmsg.NewConsumerMemberAssignment()
	if err := a.ReadFrom(resp.MemberAssignment); resp.ErrorCode != 0 || err != nil {
		f.t.Fatalf("sync: %v, %v", kerr.ErrorForCode(resp.ErrorCode), err)
	}
	var ps []int32
	for _, t := range a.Topics {
		ps = append(ps, t.Partitions...)
	}
	return join.Generation, strings.Join(strings.Fields(strings.Trim(fmt.Sprint(ps), "[]")), ",")
}

// TestGroupIsMigratedWhileItRuns: a classic member gives up half of what it has to a member of the new protocol, goes on beside it, and has all again
// when that one is gone, without ever being thrown out.
func TestGroupIsMigratedWhileItRuns(t *testing.T) {
	consumerBubble(t, func(t *testing.T, f *fixture) {
		want := func(what string, e int32, a string, wantE int32, wantA string) {
			t.Helper()
			if e != wantE || a != wantA {
				t.Fatalf("%s: epoch %d, %q, want %d, %q", what, e, a, wantE, wantA)
			}
		}
		a, first := f.alone("")
		e, ps := f.mustBeat("b", 0, "-")
		want("the newcomer waits", e, ps, first+1, "-")
		if s := f.groupState(); s != "consumer Reconciling" {
			t.Fatal(s)
		}
		wantErr(t, "the classic member is told", f.heartbeat(a, first), kerr.RebalanceInProgress)
		wantErr(t, "it may commit what it has", f.commit(a, first, 7), nil)
		e, ps = f.rejoin(classic(a, "", 0, 1, 2, 3))
		want("it is to give up half", e, ps, first, "0,1")
		wantErr(t, "it has not yet", f.heartbeat(a, first), kerr.RebalanceInProgress)
		e, ps = f.mustBeat("b", first+1, "")
		want("so the newcomer waits", e, ps, first+1, "")
		e, ps = f.rejoin(classic(a, "", 0, 1))
		want("it has", e, ps, first+1, "0,1")
		wantErr(t, "and is left alone", f.heartbeat(a, first+1), nil)
		e, ps = f.mustBeat("b", first+1, "")
		want("the newcomer has the rest", e, ps, first+1, "2,3")
		f = f.reopenOn(topicsOf(4))
		if d := f.DescribeConsumer("g"); len(d.Members) != 2 || d.State != "Stable" || d.Members[0].MemberType+d.Members[1].MemberType != 1 {
			t.Fatalf("%+v", d)
		}
		wantErr(t, "after a restart it goes on", f.heartbeat(a, first+1), nil)
		wantErr(t, "a generation to come", f.heartbeat(a, first+2), kerr.IllegalGeneration)
		wantErr(t, "a commit in it", f.commit(a, first+2, 8), kerr.IllegalGeneration)
		wantErr(t, "a stranger", f.heartbeat("x", first+1), kerr.UnknownMemberID)
		wantErr(t, "who speaks the other protocol", f.heartbeat("b", first+1), kerr.UnknownMemberID)

		malformed := f.id(joining{}) // an id is given out before a subscription is read
		join := f.join(joining{id: malformed}).get()
		wantErr(t, "a subscription that cannot be read", kerr.ErrorForCode(join.ErrorCode), kerr.InconsistentGroupProtocol)

		f.mustBeat("b", -1, "")
		if s := f.groupState(); s != "classic PreparingRebalance" {
			t.Fatal(s)
		}
		wantErr(t, "it is told", f.heartbeat(a, first+1), kerr.RebalanceInProgress)
		join = f.join(classic(a, "", 0, 1)).get()
		if join.ErrorCode != 0 || join.Generation != first+2 || join.LeaderID != a {
			t.Fatalf("%+v", join)
		}
		park(f.t, f.Sync(syncRequest(join))).get()
		f = f.reopenOn(topicsOf(4))
		if s := f.groupState(); s != "classic Stable" || f.offset(true) != "7/-1/note" && f.offset(true) != "7/3/note" {
			t.Fatal(s, f.offset(true))
		}
		f.Close()
	})
}

// TestClassicMembersThatAreSilent: in a mixed group a classic member has its own session timeout, and its own time for rejoining.
func TestClassicMembersThatAreSilent(t *testing.T) {
	for _, alive := range []bool{false, true} {
		consumerBubble(t, func(t *testing.T, f *fixture) {
			a, first := f.alone("")
			f.mustBeat("b", 0, "-")
			patience := session
			if alive { // but does not join
				patience = 30 * time.Second
			}
			for began := time.Now(); time.Since(began) < patience-time.Second; time.Sleep(time.Second) {
				if alive {
					wantErr(t, "heartbeat", f.heartbeat(a, first), kerr.RebalanceInProgress)
				}
				if _, ps := f.mustBeat("b", first+1, "-"); ps != "-" {
					t.Fatalf("b has %q after %v", ps, time.Since(began))
				}
			}
			time.Sleep(2 * time.Second)
			if _, ps := f.mustBeat("b", first+1, "-"); ps != "0,1,2,3" {
				t.Fatalf("b has %q", ps)
			}
			wantErr(t, "it is gone", f.heartbeat(a, first), kerr.UnknownMemberID)
			f.Close()
		})
	}
}

// TestStaticMembersChangeTheirProtocol: a static member is replaced by itself with the other protocol, and has what it had, without a rebalance.
func TestStaticMembersChangeTheirProtocol(t *testing.T) {
	for _, old := range []bool{false, true} {
		consumerBubble(t, func(t *testing.T, f *fixture) {
			f.alone("i")
			beat := func(id string) *kmsg.ConsumerGroupHeartbeatResponse {
				req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
				req.Version, req.Group, req.MemberID, req.InstanceID, req.RebalanceTimeoutMillis = 1, "g", id, kmsg.StringPtr("i"), 1000
				req.SubscribedTopicNames, req.Topics = []string{"in"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
				return park(f.t, f.ConsumerHeartbeat(req, Client{ID: "c"}, nil)).get()
			}
			resp := beat("b")
			if resp.ErrorCode != 0 || resp.Assignment == nil || len(resp.Assignment.Topics) != 1 || len(resp.Assignment.Topics[0].Partitions) != 4 {
				t.Fatalf("%+v", resp)
			}
			if s := f.groupState(); s != "consumer Stable" {
				t.Fatal(s)
			}
			if d := f.DescribeConsumer("g"); len(d.Members) != 1 || d.Members[0].MemberType != 1 {
				t.Fatalf("%+v", d)
			}
			back := classic("", "i") // the last of its protocol
			if old {
				back.version = 8
			}
			join := f.join(back).get()
			if join.ErrorCode != 0 || join.Generation != resp.MemberEpoch {
				t.Fatalf("%+v after epoch %d", join, resp.MemberEpoch)
			}
			if old { // cannot lead without assigning, and joins again
				wantErr(t, "sync", kerr.ErrorForCode(f.sync(join).get().ErrorCode), kerr.RebalanceInProgress)
				back.id = join.MemberID
				if join = f.join(back).get(); join.ErrorCode != 0 || join.LeaderID != back.id || join.Generation != resp.MemberEpoch+1 {
					t.Fatalf("%+v", join)
				}
				f.Close()
				return
			}
			if !join.SkipAssignment || join.LeaderID != join.MemberID || len(join.Members) != 1 {
				t.Fatalf("%+v", join)
			}
			f = f.reopenOn(topicsOf(4))
			has := kmsg.NewConsumerMemberAssignment()
			if sync := f.sync(join).get(); has.ReadFrom(sync.MemberAssignment) != nil || len(has.Topics) != 1 || len(has.Topics[0].Partitions) != 4 {
				t.Fatalf("%+v", sync)
			}
			if s := f.groupState(); s != "classic Stable" {
				t.Fatal(s)
			}
			f.Close()
		})
	}
}

// TestGroupsThatKeepTheirProtocol: each way can be forbidden. A group that stays one of the consumer protocol leads classic members alone, too.
func TestGroupsThatKeepTheirProtocol(t *testing.T) {
	bubble(t, func(c *Config) { c.Cluster, c.KeepClassic = topicsOf(4), true }, func(t *testing.T, f *fixture) {
		a, first := f.alone("")
		wantErr(t, "a newcomer", lastErr(f.beat("b", 0, "-")), kerr.GroupIDNotFound)
		wantErr(t, "the member goes on", f.heartbeat(a, first), nil)
	})
	bubble(t, func(c *Config) { c.Cluster, c.KeepConsumer = topicsOf(4), true }, func(t *testing.T, f *fixture) {
		a, first := f.alone("")
		f.mustBeat("b", 0, "-")
		f.mustBeat("b", -1, "")
		if s := f.groupState(); s != "consumer Assigning" {
			t.Fatal(s)
		}
		if e, ps := f.rejoin(classic(a, "", 0, 1, 2, 3)); e != first+2 || ps != "0,1,2,3" {
			t.Fatal(e, ps)
		}
		f.cfg.KeepClassic = true
		join := f.join(classic("", "")).get()
		wantErr(t, "classic members where both ways are forbidden", kerr.ErrorForCode(join.ErrorCode), kerr.InconsistentGroupProtocol)
		if errs := f.leave(kmsg.LeaveGroupRequestMember{MemberID: a}); errs[0] != nil {
			t.Fatal(errs)
		}
		if s := f.groupState(); s != "consumer Empty" {
			t.Fatal(s)
		}
	})
}

// TestLastOfTheNewProtocolComesBackWithTheOldOne: the others go on undisturbed if the group had settled, and are asked to join if not.
func TestLastOfTheNewProtocolComesBackWithTheOldOne(t *testing.T) {
	for _, settled := range []bool{true, false} {
		consumerBubble(t, func(t *testing.T, f *fixture) {
			a, first := f.alone("")
			beat := func(epoch int32) {
				t.Helper()
				req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
				req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID, req.RebalanceTimeoutMillis = 1, "g", "b", epoch, kmsg.StringPtr("i"), 60_000
				req.SubscribedTopicNames, req.Topics = []string{"in"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
				wantErr(t, "heartbeat", kerr.ErrorForCode(park(f.t, f.ConsumerHeartbeat(req, Client{ID: "c"}, nil)).get().ErrorCode), nil)
			}
			beat(0)
			f.rejoin(classic(a, "", 0, 1, 2, 3))
			generation := first
			if settled {
				f.rejoin(classic(a, "", 0, 1))
				beat(first + 1)
				generation++
			}
			join := f.join(classic("", "i")).get()
			sync := f.sync(join).get()
			if !settled {
				wantErr(t, "the newcomer's sync", kerr.ErrorForCode(sync.ErrorCode), kerr.RebalanceInProgress)
				wantErr(t, "the other's heartbeat", f.heartbeat(a, join.Generation), kerr.RebalanceInProgress)
				f.Close()
				return
			}
			if join.ErrorCode != 0 || !join.SkipAssignment || len(join.Members) != 2 || join.Generation != generation || sync.ErrorCode != 0 {
				t.Fatalf("%+v, %+v", join, sync)
			}
			wantErr(t, "the other's heartbeat", f.heartbeat(a, generation), nil)
			if s := f.groupState(); s != "classic Stable" {
				t.Fatal(s)
			}
			f.Close()
		})
	}
}
