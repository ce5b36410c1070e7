package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/broker/internal/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a journal that is always on disk.
type memory struct {
	mu      sync.Mutex
	entries []stored
	refuse  bool
}

type stored struct {
	journal.Entry
	producerID int64
	marker     bool
	commit     bool
}

var errDisk = errors.New("the disk is gone")

func (m *memory) Append(es []journal.Entry) (int64, error) { return m.append(-1, es) }

func (m *memory) append(producerID int64, es []journal.Entry) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse {
		return 0, errDisk
	}
	for _, e := range es {
		m.entries = append(m.entries, stored{Entry: e, producerID: producerID})
	}
	return int64(len(m.entries)), nil
}

func (m *memory) AppendTxn(p journal.Producer, es []journal.Entry, verify func() error) (int64, error) {
	if err := verify(); err != nil {
		return 0, err
	}
	return m.append(p.ID, es)
}

func (m *memory) WaitSynced(context.Context, int64) error { return nil }

func (m *memory) end(c *Coordinator, producerID int64, commit bool) {
	m.mu.Lock()
	m.entries = append(m.entries, stored{producerID: producerID, marker: true, commit: commit})
	m.mu.Unlock()
	c.ApplyMarker(producerID, commit)
}

// fixture is a coordinator under test.
type fixture struct {
	*Coordinator
	t *testing.T
	m *memory
}

func open(t *testing.T, m *memory, change func(*Config)) *fixture {
	t.Helper()
	cfg := Defaults(slog.New(slog.DiscardHandler), noTopics)
	if change != nil {
		change(&cfg)
	}
	c := New(cfg, m)
	v := c.Visitor()
	for i, e := range m.entries {
		var err error
		if e.marker {
			err = v.Marker(e.producerID, e.commit)
		} else {
			err = v.Record(e.producerID, int64(i), e.Key, e.Value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Start()
	return &fixture{c, t, m}
}

// reopen is what a restart of the broker makes of it.
func (f *fixture) reopen() *fixture {
	f.Close()
	return open(f.t, f.m, nil)
}

const session = 10 * time.Second

// joining describes a JoinGroup.
type joining struct {
	id, instance string
	version      int16
	protocols    []string // "name=metadata"
	rebalance    time.Duration
}

func (j joining) request() *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = j.version
	if j.version == 0 {
		req.Version = 9
	}
	req.Group, req.MemberID, req.ProtocolType = "g", j.id, "consumer"
	req.SessionTimeoutMillis = int32(session.Milliseconds())
	if j.rebalance == 0 {
		j.rebalance = 30 * time.Second
	}
	req.RebalanceTimeoutMillis = int32(j.rebalance.Milliseconds())
	if j.instance != "" {
		req.InstanceID = &j.instance
	}
	if j.protocols == nil {
		j.protocols = []string{"range=m"}
	}
	for _, p := range j.protocols {
		jp := kmsg.NewJoinGroupRequestProtocol()
		var name, metadata string
		for i := range p {
			if p[i] == '=' {
				name, metadata = p[:i], p[i+1:]
			}
		}
		jp.Name, jp.Metadata = name, []byte(metadata)
		req.Protocols = append(req.Protocols, jp)
	}
	return req
}

// parked is a request that waits for its answer.
type parked[R any] struct {
	t    *testing.T
	resp chan R
}

func park[R any](t *testing.T, wait Pending[R]) parked[R] {
	p := parked[R]{t, make(chan R, 1)}
	go func() {
		if r, err := wait(t.Context()); err == nil {
			p.resp <- r
		}
	}()
	return p
}

func (p parked[R]) get() R {
	p.t.Helper()
	select {
	case r := <-p.resp:
		return r
	case <-time.After(time.Hour): // of virtual time
		p.t.Fatal("no answer")
		panic("unreachable")
	}
}

// waiting says that there is no answer yet, after d.
func (p parked[R]) waiting(d time.Duration) bool {
	time.Sleep(d)
	return len(p.resp) == 0
}

func (f *fixture) join(j joining) parked[*kmsg.JoinGroupResponse] {
	return park(f.t, f.Join(j.request(), Client{ID: "c", Host: "/h"}))
}

// id gets a member id, as clients from v4 on do.
func (f *fixture) id(j joining) string {
	f.t.Helper()
	r := f.join(j).get()
	if r.ErrorCode != kerr.MemberIDRequired.Code || r.MemberID == "" {
		f.t.Fatalf("join without an id: %v, id %q", kerr.ErrorForCode(r.ErrorCode), r.MemberID)
	}
	return r.MemberID
}

func (f *fixture) sync(r *kmsg.JoinGroupResponse, assignments ...string) parked[*kmsg.SyncGroupResponse] {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.Generation, req.MemberID = 5, "g", r.Generation, r.MemberID
	for i := 0; i < len(assignments); i += 2 {
		req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: assignments[i], MemberAssignment: []byte(assignments[i+1])})
	}
	return park(f.t, f.Sync(req))
}

func (f *fixture) heartbeat(id string, generation int32) error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = "g", id, generation
	return kerr.ErrorForCode(f.Heartbeat(req).ErrorCode)
}

func (f *fixture) leave(ms ...kmsg.LeaveGroupRequestMember) []error {
	f.t.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group, req.Members = 5, "g", ms
	var errs []error
	for _, m := range park(f.t, f.Leave(req)).get().Members {
		errs = append(errs, kerr.ErrorForCode(m.ErrorCode))
	}
	return errs
}

// stable joins n dynamic members and takes them through a rebalance; the first is the leader.
func (f *fixture) stable(n int) []*kmsg.JoinGroupResponse {
	f.t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = f.id(joining{})
	}
	waits := make([]parked[*kmsg.JoinGroupResponse], n)
	for i := range ids {
		waits[i] = f.join(joining{id: ids[i]})
		time.Sleep(time.Millisecond)
	}
	return f.finish(waits...)
}

// finish takes joined members through SyncGroup; each is assigned its own id.
func (f *fixture) finish(waits ...parked[*kmsg.JoinGroupResponse]) []*kmsg.JoinGroupResponse {
	f.t.Helper()
	var joined []*kmsg.JoinGroupResponse
	var syncs []parked[*kmsg.SyncGroupResponse]
	for _, w := range waits {
		r := w.get()
		if r.ErrorCode != 0 {
			f.t.Fatalf("join: %v", kerr.ErrorForCode(r.ErrorCode))
		}
		joined = append(joined, r)
	}
	for _, r := range joined {
		var as []string
		if r.LeaderID == r.MemberID {
			for _, m := range r.Members {
				as = append(as, m.MemberID, "for "+m.MemberID)
			}
		}
		syncs = append(syncs, f.sync(r, as...))
	}
	for i, s := range syncs {
		if r := s.get(); r.ErrorCode != 0 || string(r.MemberAssignment) != "for "+joined[i].MemberID {
			f.t.Fatalf("sync: %v, %q", kerr.ErrorForCode(r.ErrorCode), r.MemberAssignment)
		}
	}
	return joined
}

func (f *fixture) state() string { return f.Describe("g", 5).State }

func exists(topic string, _ int32) bool { return topic != "nosuch" }

func commitRequest(version int16, memberID string, generation int32, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = version, "g", memberID, generation
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.LeaderEpoch = offset, 3
	p.Metadata = kmsg.StringPtr("note")
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "in", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return req
}

func (f *fixture) commit(memberID string, generation int32, offset int64) error {
	f.t.Helper()
	resp := park(f.t, f.Commit(commitRequest(8, memberID, generation, offset), exists)).get()
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

func (f *fixture) commitTxn(producerID int64, memberID string, generation int32, offset int64, verify error) error {
	f.t.Helper()
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.Group, req.ProducerID, req.MemberID, req.Generation = 3, "g", producerID, memberID, generation
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset = offset
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "in", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
	resp := park(f.t, f.CommitTxn(req, exists, func() error { return verify })).get()
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// offset is the committed offset as "offset/epoch/metadata", or an error's name.
func (f *fixture) offset(stable bool) string {
	f.t.Helper()
	topics := []kmsg.OffsetFetchRequestGroupTopic{{Topic: "in", Partitions: []int32{0}}}
	r := park(f.t, f.Fetch("g", nil, -1, topics, stable)).get()
	p := r.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return err.(*kerr.Error).Message
	}
	return fmt.Sprintf("%d/%d/%s", p.Offset, p.LeaderEpoch, *p.Metadata)
}
