package group

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// shortened is a restart after everything that is not needed any more is gone.
func (f *fixture) shortened() *fixture {
	f.t.Helper()
	end := int64(len(f.m.entries))
	needed, _, err := f.Rewrite(end)
	if err != nil || needed > end {
		f.t.Fatalf("needed from %d of %d, %v", needed, end, err)
	}
	for i := range needed {
		f.m.entries[i] = stored{marker: true, producerID: -2} // nothing: a marker of nobody
	}
	return f.reopen()
}

func TestRewrite(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		wantErr(t, "commit", f.commit("", -1, 5), nil)
		f = f.shortened()
		if got := f.offset(true); got != "5/3/note" {
			t.Errorf("offset %s", got)
		}
		wantErr(t, "pending", f.commitTxn(1, "", -1, 10, nil), nil)
		f = f.shortened()
		if got := f.offset(false) + " " + f.offset(true); got != "5/3/note UNSTABLE_OFFSET_COMMIT" {
			t.Errorf("pending: %s", got)
		}
		f.m.end(f.Coordinator, 1, true)
		f = f.shortened()
		if got := f.offset(true); got != "10/-1/" {
			t.Errorf("committed: %s", got)
		}
		js := f.stable(2)
		f = f.shortened()
		for _, j := range js {
			if r := f.sync(j).get(); string(r.MemberAssignment) != "for "+j.MemberID {
				t.Errorf("assignment %q", r.MemberAssignment)
			}
		}
		w := f.join(joining{id: js[0].MemberID}) // the leader: a rebalance begins
		time.Sleep(time.Second)
		f = f.shortened()
		if len(w.resp) != 0 || f.state() != "Stable" {
			t.Errorf("state %s", f.state())
		}
		for _, j := range js { // as if the rebalance had not begun
			wantErr(t, "heartbeat", f.heartbeat(j.MemberID, j.Generation), nil)
			if r := f.sync(j).get(); string(r.MemberAssignment) != "for "+j.MemberID {
				t.Errorf("assignment %q", r.MemberAssignment)
			}
		}
		d := park(t, f.Delete("g")).get()
		wantErr(t, "delete", kerr.ErrorForCode(d.ErrorCode), kerr.NonEmptyGroup)
		time.Sleep(time.Minute)
		d = park(t, f.Delete("g")).get()
		wantErr(t, "delete", kerr.ErrorForCode(d.ErrorCode), nil)
		f = f.shortened()
		defer f.Close()
		if len(f.List(nil, nil)) != 0 || f.offset(true) != "-1/-1/" {
			t.Errorf("a deleted group is back: %v %s", f.List(nil, nil), f.offset(true))
		}
	})
}
