package group

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group/consumer"
)

// fixedTopics are the topics of a test: name -> partitions. An id is the name's first bytes.
type fixedTopics struct{ parts map[string]int32 }

func noTopics() consumer.Cluster { return &fixedTopics{} }

func (c *fixedTopics) Topic(name string) (consumer.Topic, bool) {
	n, ok := c.parts[name]
	t := consumer.Topic{Name: name, Partitions: n}
	copy(t.ID[:], name)
	return t, ok
}

func (c *fixedTopics) TopicByID(id consumer.TopicID) (consumer.Topic, bool) {
	return c.Topic(strings.TrimRight(string(id[:]), "\x00"))
}

func (c *fixedTopics) Names(f func(name string)) {
	for n := range c.parts {
		f(n)
	}
}

func topicsOf(parts int32) func() consumer.Cluster {
	c := &fixedTopics{map[string]int32{"in": parts}}
	return func() consumer.Cluster { return c }
}

// beat sends a heartbeat of the KIP-848 protocol; "" in owned says nothing about partitions, "-" that there are none.
func (f *fixture) beat(id string, epoch int32, partitions string) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version = 1
	req.Group, req.MemberID, req.MemberEpoch = "g", id, epoch
	if epoch >= 0 {
		req.SubscribedTopicNames, req.RebalanceTimeoutMillis = []string{"in"}, 10_000
	}
	if partitions != "" {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	if partitions != "" && partitions != "-" {
		t := kmsg.ConsumerGroupHeartbeatRequestTopic{}
		copy(t.TopicID[:], "in")
		for p := range strings.SplitSeq(partitions, ",") {
			var n int32
			_, _ = fmt.Sscan(p, &n)
			t.Partitions = append(t.Partitions, n)
		}
		req.Topics = append(req.Topics, t)
	}
	resp := park(f.t, f.ConsumerHeartbeat(req, Client{ID: "c", Host: "/h"}, nil)).get()
	return resp, kerr.ErrorForCode(resp.ErrorCode)
}

// mustBeat returns the epoch and the assignment as text, "" if it is unchanged and "-" if it is empty.
func (f *fixture) mustBeat(id string, epoch int32, partitions string) (int32, string) {
	f.t.Helper()
	resp, err := f.beat(id, epoch, partitions)
	if err != nil {
		f.t.Fatalf("%s at %d: %v: %s", id, epoch, err, *resp.ErrorMessage)
	}
	if resp.Assignment == nil {
		return resp.MemberEpoch, ""
	}
	var ps []string
	for _, t := range resp.Assignment.Topics {
		for _, p := range t.Partitions {
			ps = append(ps, fmt.Sprint(p))
		}
	}
	if len(ps) == 0 {
		return resp.MemberEpoch, "-"
	}
	return resp.MemberEpoch, strings.Join(ps, ",")
}

func consumerBubble(t *testing.T, f func(t *testing.T, f *fixture)) {
	bubble(t, func(c *Config) { c.Cluster = topicsOf(4) }, f)
}

func TestConsumerGroupMovesPartitionsInTwoSteps(t *testing.T) {
	consumerBubble(t, func(t *testing.T, f *fixture) {
		want := func(what string, e int32, a string, wantE int32, wantA string) {
			t.Helper()
			if e != wantE || a != wantA {
				t.Fatalf("%s: epoch %d, %q, want %d, %q", what, e, a, wantE, wantA)
			}
		}
		e, a := f.mustBeat("a", 0, "-")
		want("the first has all", e, a, 2, "0,1,2,3")
		e, a = f.mustBeat("b", 0, "-")
		want("the second waits", e, a, 3, "-")
		e, a = f.mustBeat("a", 2, "")
		want("the first is told to give up", e, a, 2, "0,1")
		e, a = f.mustBeat("a", 2, "0,1,2,3")
		want("it has not yet", e, a, 2, "0,1")
		e, a = f.mustBeat("b", 3, "")
		want("so the second waits", e, a, 3, "")
		if s := f.groupState(); s != "consumer Reconciling" {
			t.Fatal(s)
		}
		e, a = f.mustBeat("a", 2, "0,1")
		want("it has", e, a, 3, "0,1")
		e, a = f.mustBeat("b", 3, "")
		want("the second gets them", e, a, 3, "2,3")
		if s := f.groupState(); s != "consumer Stable" {
			t.Fatal(s)
		}
		wantErr(t, "an old epoch", lastErr(f.beat("a", 2, "0,1,2")), kerr.FencedMemberEpoch)
		e, a = f.mustBeat("a", 2, "0,1")
		want("the answer with its epoch was lost", e, a, 3, "0,1")
		wantErr(t, "a later epoch", lastErr(f.beat("a", 9, "")), kerr.FencedMemberEpoch)
		wantErr(t, "a stranger", lastErr(f.beat("x", 3, "")), kerr.UnknownMemberID)

		wantErr(t, "commit", f.commitAt(9, "a", 3, 7), nil)
		wantErr(t, "commit of an old epoch, in which it had the partition already", f.commitAt(9, "a", 2, 7), nil)
		wantErr(t, "commit of an epoch before it had the partition", f.commitAt(9, "a", 1, 7), kerr.StaleMemberEpoch)
		wantErr(t, "commit of an epoch to come", f.commitAt(9, "a", 4, 7), kerr.StaleMemberEpoch)
		wantErr(t, "commit of an old epoch by somebody who has other partitions", f.commitAt(9, "b", 2, 7), kerr.StaleMemberEpoch)
		wantErr(t, "the same of a client that does not know the error", f.commitAt(8, "a", 2, 7), kerr.UnsupportedVersion)
		wantErr(t, "commit of a client that does not know epochs", f.commitAt(8, "a", 3, 7), kerr.UnsupportedVersion)
		wantErr(t, "commit of a stranger", f.commitAt(9, "x", 3, 7), kerr.UnknownMemberID)
		wantErr(t, "commit of nobody", f.commitAt(9, "", -1, 7), kerr.UnknownMemberID)
		wantErr(t, "commit of a transaction", f.commitTxn(1, "", -1, 8, nil), nil)
		wantErr(t, "commit of a stranger's transaction", f.commitTxn(1, "x", 3, 8, nil), kerr.UnknownMemberID)

		f.mustBeat("a", -1, "")
		e, a = f.mustBeat("b", 3, "2,3")
		want("who stays gets all", e, a, 4, "0,1,2,3")
	})
}

func lastErr(_ *kmsg.ConsumerGroupHeartbeatResponse, err error) error { return err }

// groupState is the group as ListGroups has it.
func (f *fixture) groupState() string {
	gs := f.List(nil, nil)
	if len(gs) != 1 {
		f.t.Fatal(gs)
	}
	return gs[0].GroupType + " " + gs[0].GroupState
}

func TestConsumerGroupMembersThatAreSilent(t *testing.T) {
	consumerBubble(t, func(t *testing.T, f *fixture) {
		f.mustBeat("a", 0, "-")
		f.mustBeat("b", 0, "-")
		if _, a := f.mustBeat("a", 2, ""); a != "0,1" {
			t.Fatal(a)
		}
		time.Sleep(9 * time.Second)
		f.mustBeat("b", 3, "")
		time.Sleep(2 * time.Second) // the rebalance timeout is over: a is fenced, although its session is not
		synctest.Wait()
		wantErr(t, "a", lastErr(f.beat("a", 2, "0,1,2,3")), kerr.UnknownMemberID)
		if e, a := f.mustBeat("b", 3, "-"); e != 4 || a != "0,1,2,3" {
			t.Fatal(e, a)
		}
		time.Sleep(44 * time.Second)
		synctest.Wait()
		f.mustBeat("b", 4, "")
		time.Sleep(46 * time.Second)
		synctest.Wait()
		if s := f.groupState(); s != "consumer Empty" {
			t.Fatal(s)
		}
	})
}

func TestConsumerGroupOutlivesARestart(t *testing.T) {
	consumerBubble(t, func(t *testing.T, f *fixture) {
		f.mustBeat("a", 0, "-")
		f.mustBeat("b", 0, "-")
		f.mustBeat("a", 2, "")
		before := f.described()
		for _, again := range []func() *fixture{
			func() *fixture { f.Close(); return open(f.t, f.m, func(c *Config) { c.Cluster = topicsOf(4) }) },
			func() *fixture {
				end := len(f.m.entries)
				if _, _, err := f.Rewrite(int64(end)); err != nil {
					t.Fatal(err)
				}
				f.Close()
				return open(f.t, &memory{entries: slices.Clone(f.m.entries[end:])}, func(c *Config) { c.Cluster = topicsOf(4) })
			},
		} {
			f = again()
			if after := f.described(); after != before {
				t.Fatalf("before\n%s\nafter\n%s", before, after)
			}
		}
		if e, a := f.mustBeat("a", 2, "0,1"); e != 3 || a != "0,1" {
			t.Fatal(e, a)
		}
		if e, a := f.mustBeat("b", 3, ""); e != 3 || a != "2,3" {
			t.Fatal(e, a)
		}
		f.Close()
		f = open(f.t, f.m, func(c *Config) { c.Cluster = topicsOf(5) }) // meanwhile the topic grew
		if e, a := f.mustBeat("a", 3, "0,1"); e != 4 || a != "0,1,4" {
			t.Fatal(e, a)
		}
		f.Close()
	})
}

func TestGroupsChangeTheirType(t *testing.T) {
	consumerBubble(t, func(t *testing.T, f *fixture) {
		wantErr(t, "heartbeat to no group", lastErr(f.beat("a", 1, "")), kerr.GroupIDNotFound)
		if d := f.DescribeConsumer("g"); d.ErrorCode != kerr.GroupIDNotFound.Code || *d.ErrorMessage != "Group g not found." {
			t.Fatal(*d.ErrorMessage)
		}
		rs := f.stable(1)
		generation := rs[0].Generation
		wantErr(t, "a classic group with members", lastErr(f.beat("a", 0, "-")), kerr.GroupIDNotFound)
		if d := f.DescribeConsumer("g"); d.ErrorCode != kerr.GroupIDNotFound.Code || *d.ErrorMessage != "Group g is not a consumer group." {
			t.Fatal(*d.ErrorMessage)
		}
		f.leave(kmsg.LeaveGroupRequestMember{MemberID: rs[0].MemberID})
		e, _ := f.mustBeat("a", 0, "-")
		if e <= generation {
			t.Fatalf("epoch %d after generation %d", e, generation)
		}
		if d := f.Describe("g", 6); d.ErrorCode != kerr.GroupIDNotFound.Code || d.State != "Dead" || *d.ErrorMessage != "Group g is not a classic group." {
			t.Fatal(d)
		}
		f = f.reopenOn(topicsOf(4))
		if s := f.groupState(); s != "consumer Stable" {
			t.Fatal(s)
		}
		join := park(f.t, f.Join(joining{version: 3}.request(), Client{ID: "c"})).get()
		wantErr(t, "a consumer group with members", kerr.ErrorForCode(join.ErrorCode), kerr.InconsistentGroupProtocol)
		f.mustBeat("a", -1, "")
		wantErr(t, "commit while it is empty", f.commitAt(9, "", -1, 7), nil)
		join = park(f.t, f.Join(joining{version: 3}.request(), Client{ID: "c"})).get()
		if wantErr(t, "join", kerr.ErrorForCode(join.ErrorCode), nil); join.Generation <= e {
			t.Fatalf("generation %d after epoch %d", join.Generation, e)
		}
		park(f.t, f.Sync(syncRequest(join))).get()
		f = f.reopenOn(topicsOf(4))
		if s := f.groupState(); s != "classic Stable" {
			t.Fatal(s)
		}
		f.Close()
	})
}

// described is all that ConsumerGroupDescribe says of the group.
func (f *fixture) described() string {
	f.t.Helper()
	b, err := json.Marshal(f.DescribeConsumer("g"))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}

func (f *fixture) reopenOn(cluster func() consumer.Cluster) *fixture {
	f.Close()
	return open(f.t, f.m, func(c *Config) { c.Cluster = cluster })
}

func syncRequest(join *kmsg.JoinGroupResponse) *kmsg.SyncGroupRequest {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = "g", join.MemberID, join.Generation
	req.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: join.MemberID, MemberAssignment: []byte("x")}}
	return req
}

func TestConsumerGroupIsDeleted(t *testing.T) {
	consumerBubble(t, func(t *testing.T, f *fixture) {
		f.mustBeat("a", 0, "-")
		wantErr(t, "commit", f.commitAt(9, "a", 2, 7), nil)
		if r := park(t, f.Delete("g")).get(); r.ErrorCode != kerr.NonEmptyGroup.Code {
			t.Fatal(r)
		}
		f.mustBeat("a", -1, "")
		if r := park(t, f.Delete("g")).get(); r.ErrorCode != 0 {
			t.Fatal(r)
		}
		f = f.reopenOn(topicsOf(4))
		if gs := f.List(nil, nil); len(gs) != 0 {
			t.Fatal(gs)
		}
		f.Close()
	})
}

// What could not be written down is told to nobody, and is written with the next request.
func TestConsumerGroupOnAFullDisk(t *testing.T) {
	consumerBubble(t, func(t *testing.T, f *fixture) {
		f.m.refuse = true
		wantErr(t, "join", lastErr(f.beat("a", 0, "-")), kerr.CoordinatorNotAvailable)
		f.m.refuse = false
		if e, a := f.mustBeat("a", 0, "-"); e != 2 || a != "0,1,2,3" {
			t.Fatal(e, a)
		}
		before := f.described()
		f = f.reopenOn(topicsOf(4))
		if after := f.described(); after != before {
			t.Fatalf("before\n%s\nafter\n%s", before, after)
		}
		f.Close()
	})
}

func (f *fixture) commitAt(version int16, memberID string, epoch int32, offset int64) error {
	resp := park(f.t, f.Commit(commitRequest(version, memberID, epoch, offset), exists)).get()
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}
