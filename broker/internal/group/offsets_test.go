package group

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestSimpleCommits(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		if got := f.offset(true); got != "-1/-1/" {
			t.Errorf("unknown group: %s", got)
		}
		if len(f.List(nil, nil)) != 0 {
			t.Error("asking for offsets makes a group")
		}
		wantErr(t, "member of no group", f.commit("m", 1, 1), kerr.IllegalGeneration)
		wantErr(t, "simple", f.commit("", -1, 5), nil)
		if got := f.offset(true); got != "5/3/note" {
			t.Errorf("offset %s", got)
		}
		js := f.stable(1)
		wantErr(t, "simple, but the group has members", f.commit("", -1, 6), kerr.UnknownMemberID)
		wantErr(t, "wrong generation", f.commit(js[0].MemberID, js[0].Generation-1, 6), kerr.IllegalGeneration)
		wantErr(t, "member", f.commit(js[0].MemberID, js[0].Generation, 6), nil)
		bad := commitRequest(8, js[0].MemberID, js[0].Generation, 7)
		bad.Topics[0].Topic = "nosuch"
		wantErr(t, "unknown topic", kerr.ErrorForCode(park(t, f.Commit(bad, exists)).get().Topics[0].Partitions[0].ErrorCode), kerr.UnknownTopicOrPartition)
		f.m.refuse = true
		wantErr(t, "no disk", f.commit(js[0].MemberID, js[0].Generation, 9), kerr.CoordinatorNotAvailable)
		if got := f.offset(true); got != "6/3/note" {
			t.Errorf("offset %s", got)
		}
	})
}

func TestTransactionalOffsets(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		wantErr(t, "commit", f.commit("", -1, 5), nil)
		wantErr(t, "not verified", f.commitTxn(1, "", -1, 10, kerr.InvalidTxnState), kerr.InvalidTxnState)
		if got := f.offset(true); got != "5/3/note" {
			t.Errorf("stable offset %s after a refused commit", got)
		}
		wantErr(t, "pending", f.commitTxn(1, "", -1, 10, nil), nil)
		if got := f.offset(false) + " " + f.offset(true); got != "5/3/note UNSTABLE_OFFSET_COMMIT" {
			t.Errorf("while it is pending: %s", got)
		}
		d := park(t, f.Delete("g")).get()
		wantErr(t, "delete", kerr.ErrorForCode(d.ErrorCode), kerr.NonEmptyGroup)
		f = f.reopen()
		defer func() { f.Close() }()
		if got := f.offset(true); got != "UNSTABLE_OFFSET_COMMIT" {
			t.Errorf("after a restart: %s", got)
		}
		f.m.end(f.Coordinator, 1, true)
		if got := f.offset(true); got != "10/-1/" {
			t.Errorf("committed: %s", got)
		}
		wantErr(t, "pending", f.commitTxn(1, "", -1, 20, nil), nil)
		f.m.end(f.Coordinator, 1, false)
		if got := f.offset(true); got != "10/-1/" {
			t.Errorf("aborted: %s", got)
		}
		wantErr(t, "pending", f.commitTxn(2, "", -1, 30, nil), nil)
		wantErr(t, "plain commit meanwhile", f.commit("", -1, 31), nil)
		f.m.end(f.Coordinator, 2, true)
		if got := f.offset(true); got != "31/3/note" {
			t.Errorf("of two commits the later one wins, not the one whose marker is later: %s", got)
		}
		f = f.reopen()
		if got := f.offset(true); got != "31/3/note" {
			t.Errorf("the same after a restart: %s", got)
		}
	})
}

// What a transaction has still to commit for a topic that is deleted must not be there for the next topic of that name.
func TestTopicGoesInTheMiddleOfATransaction(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		for _, restarts := range []bool{false, true} {
			wantErr(t, "pending", f.commitTxn(1, "", -1, 10, nil), nil)
			f.TopicDeleted("in")
			if restarts {
				f = f.reopen()
				defer f.Close()
			}
			f.m.end(f.Coordinator, 1, true)
			if got := f.offset(true); got != "-1/-1/" {
				t.Errorf("offset %s of a topic that is gone", got)
			}
			f.TopicDeleted("in")
		}
		wantErr(t, "pending", f.commitTxn(1, "", -1, 10, nil), nil)
		f.TopicDeleted("in")
		wantErr(t, "pending for the new topic", f.commitTxn(1, "", -1, 3, nil), nil)
		f.m.end(f.Coordinator, 1, true)
		if got := f.offset(true); got != "3/-1/" {
			t.Errorf("offset %s, want that of the new topic", got)
		}
		d := park(t, f.Delete("g")).get()
		wantErr(t, "delete", kerr.ErrorForCode(d.ErrorCode), nil)
	})
}

func TestZombieCommitsAreRefused(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		js := f.finish(f.join(joining{instance: "one"}))
		wantErr(t, "right", f.commitTxn(1, js[0].MemberID, js[0].Generation, 1, nil), nil)
		wantErr(t, "wrong generation", f.commitTxn(1, js[0].MemberID, js[0].Generation-1, 1, nil), kerr.IllegalGeneration)
		wantErr(t, "wrong member", f.commitTxn(1, "stranger", js[0].Generation, 1, nil), kerr.UnknownMemberID)
		wantErr(t, "without a member", f.commitTxn(1, "", -1, 1, nil), nil)
	})
}

func TestDeleteOffsets(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = "g"
		req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "in", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
		code := func() (error, error) {
			r := park(t, f.DeleteOffsets(req, exists)).get()
			if len(r.Topics) == 0 {
				return kerr.ErrorForCode(r.ErrorCode), nil
			}
			return kerr.ErrorForCode(r.ErrorCode), kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode)
		}
		err, _ := code()
		wantErr(t, "unknown group", err, kerr.GroupIDNotFound)
		req.Group = ""
		err, _ = code()
		wantErr(t, "no group", err, kerr.InvalidGroupID)
		req.Group = "g"
		wantErr(t, "commit", f.commit("", -1, 5), nil)
		sub := kmsg.NewConsumerMemberMetadata()
		sub.Topics = []string{"in"}
		j := joining{version: 3, protocols: []string{"range=" + string(sub.AppendTo(nil))}}
		r := f.finish(f.join(j))
		_, err = code()
		wantErr(t, "subscribed", err, kerr.GroupSubscribedToTopic)
		f.leave(kmsg.LeaveGroupRequestMember{MemberID: r[0].MemberID})
		_, err = code()
		wantErr(t, "nobody subscribed", err, nil)
		req.Topics[0].Topic = "nosuch"
		_, err = code()
		wantErr(t, "no such topic", err, kerr.UnknownTopicOrPartition)
		if got := f.offset(true); got != "-1/-1/" {
			t.Errorf("offset %s", got)
		}
		f = f.reopen()
		if got := f.offset(true); got != "-1/-1/" {
			t.Errorf("offset %s after a restart", got)
		}
		d := park(t, f.Delete("g")).get()
		wantErr(t, "delete", kerr.ErrorForCode(d.ErrorCode), nil)
		f = f.reopen()
		defer f.Close()
		if d := f.Describe("g", 6); d.State != "Dead" || d.ErrorCode != kerr.GroupIDNotFound.Code {
			t.Errorf("a deleted group: %+v", d)
		}
		if d := f.Describe("g", 5); d.ErrorCode != 0 {
			t.Errorf("v5: code %d", d.ErrorCode)
		}
	})
}

func TestCommitsToTheEmptyGroup(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		code := func(version int16, member string, generation int32) error {
			req := commitRequest(version, member, generation, 5)
			req.Group = ""
			return kerr.ErrorForCode(park(t, f.Commit(req, exists)).get().Topics[0].Partitions[0].ErrorCode)
		}
		wantErr(t, "of a member", code(8, "m", 1), kerr.IllegalGeneration)
		wantErr(t, "of a member, v9", code(9, "m", 1), kerr.GroupIDNotFound)
		wantErr(t, "of nobody", code(9, "", -1), nil)
	})
}

func TestOffsetsExpire(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		js := f.stable(1)
		wantErr(t, "commit", f.commit(js[0].MemberID, js[0].Generation, 5), nil)
		for alive := time.Duration(0); alive < 8*24*time.Hour; alive += session - time.Second {
			time.Sleep(session - time.Second)
			_ = f.heartbeat(js[0].MemberID, js[0].Generation)
		}
		if got := f.offset(true); got != "5/3/note" {
			t.Fatalf("with a member: %s", got)
		}
	})
	bubble(t, nil, func(t *testing.T, f *fixture) {
		wantErr(t, "commit", f.commit("", -1, 5), nil)
		time.Sleep(6 * 24 * time.Hour)
		f.TopicDeleted("other")
		if got := f.offset(true); got != "5/3/note" {
			t.Fatalf("after six days: %s", got)
		}
		time.Sleep(2 * 24 * time.Hour)
		if got := f.offset(true); got != "-1/-1/" || len(f.List(nil, nil)) != 0 {
			t.Errorf("after eight days: %s, groups %v", got, f.List(nil, nil))
		}
		wantErr(t, "commit", f.commit("", -1, 5), nil)
		f.TopicDeleted("in")
		if got := f.offset(true); got != "-1/-1/" {
			t.Errorf("offset of a deleted topic: %s", got)
		}
	})
}

func TestList(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		f.stable(1)
		for _, c := range []struct {
			states, types []string
			want          int
		}{{nil, nil, 1}, {[]string{"stable"}, nil, 1}, {[]string{"Empty"}, nil, 0}, {nil, []string{"classic"}, 1}, {nil, []string{"consumer"}, 0}} {
			if got := f.List(c.states, c.types); len(got) != c.want {
				t.Errorf("%v %v: %+v", c.states, c.types, got)
			}
		}
	})
}
