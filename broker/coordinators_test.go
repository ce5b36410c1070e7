package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/txn"
	"github.com/leatstream/leat/internal/vfs"
)

// Every version that is advertised is answered in that version.
func TestCoordinatorVersions(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "in", 1)
	r := dialRaw(t, b)
	for _, row := range coordinatorRoutes() {
		for v := row.min; v <= row.max; v++ {
			t.Run(fmt.Sprintf("%s v%d", kmsg.NameForKey(row.key), v), func(t *testing.T) {
				req := kmsg.RequestForKey(row.key)
				fillIn(req, v)
				req.SetVersion(v)
				resp := do[kmsg.Response](r, req, v)
				if resp.Key() != row.key {
					t.Errorf("answered with key %d", resp.Key())
				}
			})
		}
	}
}

// fillIn puts something into the arrays of a request, so that the answer has some too.
func fillIn(req kmsg.Request, version int16) {
	switch req := req.(type) {
	case *kmsg.OffsetCommitRequest:
		*req = *newCommit("g", "in", 0, 1)
	case *kmsg.OffsetFetchRequest:
		req.Group = "g"
		req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "in", Partitions: []int32{0, 5}}}
		req.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}, {Group: "nobody", Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "in", Partitions: []int32{0}}}}}
	case *kmsg.FindCoordinatorRequest:
		req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
	case *kmsg.LeaveGroupRequest:
		req.Group, req.Members = "g", []kmsg.LeaveGroupRequestMember{{MemberID: "m"}}
	case *kmsg.DescribeGroupsRequest:
		req.Groups = []string{"g", "nobody"}
	case *kmsg.DeleteGroupsRequest:
		req.Groups = []string{"nobody"}
	case *kmsg.InitProducerIDRequest:
		if version > 0 {
			req.TransactionalID = kmsg.StringPtr("v")
		}
		req.TransactionTimeoutMillis = 1000
	case *kmsg.AddPartitionsToTxnRequest:
		req.TransactionalID = "v"
		req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "in", Partitions: []int32{0}}}
		req.Transactions = []kmsg.AddPartitionsToTxnRequestTransaction{{TransactionalID: "v", VerifyOnly: true, Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: "in", Partitions: []int32{0}}}}}
	case *kmsg.WriteTxnMarkersRequest:
		req.Markers = []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: 5, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "in", Partitions: []int32{0, 7}}}}}
	case *kmsg.TxnOffsetCommitRequest:
		req.TransactionalID, req.Group = "v", "g"
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "in", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
	case *kmsg.OffsetDeleteRequest:
		req.Group = "g"
		req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "in", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}
	case *kmsg.DescribeTransactionsRequest:
		req.TransactionalIDs = []string{"v", "nobody"}
	}
}

func TestFindCoordinator(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKeys = []string{"a", "b"}
	resp := do[*kmsg.FindCoordinatorResponse](r, req, 6)
	if len(resp.Coordinators) != 2 || resp.Coordinators[1].Key != "b" || resp.Coordinators[1].ErrorCode != 0 || resp.Coordinators[1].NodeID != 1 {
		t.Errorf("%+v", resp.Coordinators)
	}
	req.CoordinatorType = 2
	resp = do[*kmsg.FindCoordinatorResponse](r, req, 6)
	if resp.Coordinators[0].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("share group: %+v", resp.Coordinators)
	}
}

// An administrator can see who holds a partition up, and end it.
func TestAdministratorEndsTransaction(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "out", 1)
	cl := txnClient(t, b, "x")
	begin(t, cl)
	produceTxn(t, cl, "out", "stuck")
	r := dialRaw(t, b)
	list := kmsg.NewPtrListTransactionsRequest()
	list.StateFilters = []string{"Ongoing", "Odd"}
	l := do[*kmsg.ListTransactionsResponse](r, list, 1)
	if len(l.TransactionStates) != 1 || l.TransactionStates[0].TransactionalID != "x" || len(l.UnknownStateFilters) != 1 {
		t.Fatalf("list: %+v", l)
	}
	describe := kmsg.NewPtrDescribeTransactionsRequest()
	describe.TransactionalIDs = []string{"x"}
	d := do[*kmsg.DescribeTransactionsResponse](r, describe, 0).TransactionStates[0]
	if d.State != "Ongoing" || len(d.Topics) != 1 || d.Topics[0].Topic != "out" {
		t.Errorf("describe: %+v", d)
	}
	mark := kmsg.NewPtrWriteTxnMarkersRequest()
	mark.Markers = []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: d.ProducerID, ProducerEpoch: d.ProducerEpoch, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "out", Partitions: []int32{0}}}}}
	m := do[*kmsg.WriteTxnMarkersResponse](r, mark, 1)
	if code := m.Markers[0].Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Errorf("marker: %v", kerr.ErrorForCode(code))
	}
	settledLSO(t, b, "out")
	_ = cl.EndTransaction(t.Context(), kgo.TryAbort)
}

// The offsets of a deleted topic are gone with it.
func TestDeletedTopicTakesOffsetsAlong(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "in", 1)
	r := dialRaw(t, b)
	if resp := do[*kmsg.OffsetCommitResponse](r, newCommit("g", "in", 0, 9), 8); resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal("commit")
	}
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: kmsg.StringPtr("in")}}
	if resp := do[*kmsg.DeleteTopicsResponse](r, del, 6); resp.Topics[0].ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(resp.Topics[0].ErrorCode))
	}
	createTopic(t, b, "in", 1)
	if o := fetchOffset(r, "g", "in", 0); o != -1 {
		t.Errorf("the new topic starts at offset %d", o)
	}
}

// A topic that is deleted in the middle of a transaction does not keep it from ending.
func TestTopicDeletedInTransaction(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "out", 1)
	createTopic(t, b, "gone", 1)
	cl := txnClient(t, b, "x")
	begin(t, cl)
	produceTxn(t, cl, "out", "a")
	produceTxn(t, cl, "gone", "b")
	r := dialRaw(t, b)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: kmsg.StringPtr("gone")}}
	if resp := do[*kmsg.DeleteTopicsResponse](r, del, 6); resp.Topics[0].ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(resp.Topics[0].ErrorCode))
	}
	end(t, cl, kgo.TryCommit)
	begin(t, cl)
	produceTxn(t, cl, "out", "c")
	end(t, cl, kgo.TryCommit)
	settledLSO(t, b, "out")
	if got := strings.Join(readAll(t, b, "out", kgo.ReadCommitted()), " "); got != "a c" {
		t.Errorf("read_committed: %q", got)
	}
}

// When the disk fails under a coordinator nothing is acknowledged that a restart would not find.
func TestCoordinatorsWithoutDisk(t *testing.T) {
	mem := vfs.NewMem()
	disk := &vfs.Faulty{FS: mem}
	quiet := slog.New(slog.DiscardHandler)
	b, err := Start(t.Context(), Config{Dir: "/data", FS: disk, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	createTopic(t, b, "out", 1)
	r := dialRaw(t, b)
	commit := func(offset int64) int16 {
		return do[*kmsg.OffsetCommitResponse](r, newCommit("g", "out", 0, offset), 8).Topics[0].Partitions[0].ErrorCode
	}
	if c := commit(1); c != 0 {
		t.Fatalf("commit: %v", kerr.ErrorForCode(c))
	}
	cl := txnClient(t, b, "x")
	begin(t, cl)
	produceTxn(t, cl, "out", "a")
	id, epoch, err := cl.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	disk.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && (strings.Contains(name, offsetsTopic) || strings.Contains(name, transactionsTopic)) {
			return errors.New("input/output error")
		}
		return nil
	})
	for range 2 {
		if c := commit(2); c != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("commit: %v", kerr.ErrorForCode(c))
		}
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = "x", id, epoch, true
	if resp := do[*kmsg.EndTxnResponse](r, req, 5); resp.ErrorCode != kerr.CoordinatorNotAvailable.Code {
		t.Errorf("EndTxn: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	if l := b.topic("out").parts[0].Bounds(); l.LastStable != 0 {
		t.Errorf("the undecided transaction is visible: %+v", l)
	}
	after := mem.CrashClone(0, nil)
	cl.Close()
	_ = b.Close()
	b = startWith(t, Config{Dir: "/data", FS: after, Logger: quiet})
	r = dialRaw(t, b)
	if o := fetchOffset(r, "g", "out", 0); o != 1 {
		t.Errorf("offset %d after the restart, 1 was acknowledged", o)
	}
	req.Commit = false // the client does not know: it aborts, and may
	if resp := do[*kmsg.EndTxnResponse](r, req, 5); resp.ErrorCode != 0 {
		t.Errorf("abort after the restart: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	settledLSO(t, b, "out")
	if got := readAll(t, b, "out", kgo.ReadCommitted()); len(got) != 0 {
		t.Errorf("read_committed: %v", got)
	}
}

// A marker is waited for in the log it was written to. The topic may be deleted and made anew in between; the new one may never
// have so many records.
func TestWaitForAMarkerOfATopicMadeAnew(t *testing.T) {
	disk := &slowDisk{FS: vfs.NewMem(), slow: "t-0"}
	b := start(t, func(c *Config) { c.FS, c.Dir, c.Flush = disk, "/data", FlushAlways })
	createTopic(t, b, "t", 1)
	tp := txn.TopicPartition{Topic: "t"}
	var marker txn.Written
	for range 100 {
		var err error
		if marker, err = b.appendMarker(tp, 7, 0, true, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.deleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	createTopic(t, b, "t", 1)
	marker.Hasten()
	if err := marker.Synced(within(t, time.Minute)); err != nil {
		t.Error(err)
	}
}
