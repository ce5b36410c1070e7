package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// told is what a fetch answer says, "topic-partition:records" in order.
func told(resp *kmsg.FetchResponse) (out []string) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			s := fmt.Sprintf("%d:%d", p.Partition, len(p.RecordBatches))
			if len(p.RecordBatches) > 0 {
				s = fmt.Sprintf("%d:data", p.Partition)
			}
			if p.ErrorCode != 0 {
				s = fmt.Sprintf("%d:%v", p.Partition, kerr.TypedErrorForCode(p.ErrorCode).Message)
			}
			out = append(out, s)
		}
	}
	return out
}

func TestFetchSession(t *testing.T) {
	for _, version := range []int16{7, 11, 12, 13, 17} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			b := start(t, nil)
			createTopic(t, b, "t", 3)
			id, _ := b.topicID("t")
			r := dialRaw(t, b)
			epoch, session := int32(0), int32(0)
			fetch := func(req *kmsg.FetchRequest, want ...string) {
				t.Helper()
				req.SessionID, req.SessionEpoch = session, epoch
				resp := do[*kmsg.FetchResponse](r, req, version)
				if resp.ErrorCode != 0 || resp.SessionID == 0 || session != 0 && resp.SessionID != session {
					t.Fatalf("error %d, session %d", resp.ErrorCode, resp.SessionID)
				}
				session = resp.SessionID
				epoch++
				if got := fmt.Sprint(told(resp)); got != fmt.Sprint(want) {
					t.Fatalf("epoch %d: %s, want %s", epoch, got, want)
				}
			}
			none := func() *kmsg.FetchRequest { req := fetchOf("t", id, 0); req.Topics = nil; return req }
			fetch(fetchOf("t", id, 0, 0, 1, 2), "0:0", "1:0", "2:0")
			fetch(none())
			produceEach(t, b, "t", 3, 1, 1) // to partition 1
			fetch(none(), "1:data")
			fetch(none(), "1:data") // the offset asked for is the same
			fetch(fetchOf("t", id, 1, 1))
			produceEach(t, b, "t", 3, 0, 2)
			fetch(fetchOf("t", id, 1, 0), "0:0", "1:data")                   // of 0 the high watermark is news; its offset was never changed
			fetch(fetchOf("t", id, 9, 2), "2:OFFSET_OUT_OF_RANGE", "1:data") // what was served comes last
			forget := fetchOf("t", id, 0, 0)                                 // 1 was served last: it comes last
			ft := kmsg.NewFetchRequestForgottenTopic()
			ft.Topic, ft.TopicID, ft.Partitions = "t", id, []int32{2}
			forget.ForgottenTopics = append(forget.ForgottenTopics, ft)
			fetch(forget, "0:data", "1:data")

			wrong := none()
			wrong.SessionID, wrong.SessionEpoch = session, epoch+1
			if resp := do[*kmsg.FetchResponse](r, wrong, version); resp.ErrorCode != kerr.InvalidFetchSessionEpoch.Code || len(resp.Topics) != 0 {
				t.Fatalf("%+v", resp)
			}
			bye := fetchOf("t", id, 0, 0)
			bye.SessionID, bye.SessionEpoch = session, -1
			if resp := do[*kmsg.FetchResponse](r, bye, version); resp.SessionID != 0 || fmt.Sprint(told(resp)) != "[0:data]" {
				t.Fatalf("session %d: %v", resp.SessionID, told(resp))
			}
			gone := none()
			gone.SessionID, gone.SessionEpoch = session, epoch
			if resp := do[*kmsg.FetchResponse](r, gone, version); resp.ErrorCode != kerr.FetchSessionIDNotFound.Code {
				t.Fatalf("%+v", resp)
			}
			if n, p := len(b.fetches.byID), b.fetches.partitions; n != 0 || p != 0 {
				t.Fatalf("%d sessions of %d partitions are left", n, p)
			}
		})
	}
}

func TestFetchSessionEndsWhenItIsEmpty(t *testing.T) {
	s := newFetchSessions(10)
	req := sessionRequest(0, 2)
	if err := s.begin(req, false, time.Now()); err != nil || req.sessionID == 0 {
		t.Fatal(err)
	}
	end := &fetchRequest{sessionID: req.sessionID, epoch: 1, forgotten: []sessionKey{{"t", [16]byte{}, 0}, {"t", [16]byte{}, 1}}}
	if err := s.begin(end, false, time.Now()); err != nil || end.sessionID != 0 || len(s.byID) != 0 || s.partitions != 0 {
		t.Fatal(err, end.sessionID, s)
	}
}

func TestFetchSessionOfTheOtherKindOfTopics(t *testing.T) {
	s := newFetchSessions(10)
	req := sessionRequest(0, 1)
	_ = s.begin(req, false, time.Now())
	if err := s.begin(&fetchRequest{sessionID: req.sessionID, epoch: 1}, true, time.Now()); err != kerr.FetchSessionTopicIDError {
		t.Fatal(err)
	}
}

func TestFetchSessionEpochWraps(t *testing.T) {
	s := newFetchSessions(10)
	req := sessionRequest(0, 1)
	_ = s.begin(req, false, time.Now())
	s.byID[req.sessionID].epoch = 1<<31 - 1
	for _, epoch := range []int32{1<<31 - 1, 1, 2} {
		if err := s.begin(&fetchRequest{sessionID: req.sessionID, epoch: epoch}, false, time.Now()); err != nil {
			t.Fatal(epoch, err)
		}
	}
}

// sessionRequest wants a session of n partitions.
func sessionRequest(epoch int32, n int) *fetchRequest {
	req := &fetchRequest{epoch: epoch, topics: []topicHead{{name: "t", count: n}}}
	for i := range n {
		req.parts = append(req.parts, fetchPart{index: int32(i)})
	}
	return req
}

func TestFetchSessionsAreLimited(t *testing.T) {
	s := newFetchSessions(2)
	now := time.Now()
	ids := map[int32]bool{}
	begin := func(partitions int) int32 {
		req := sessionRequest(0, partitions)
		if err := s.begin(req, false, now); err != nil {
			t.Fatal(err)
		}
		return req.sessionID
	}
	first := begin(3)
	ids[first], ids[begin(4)] = true, true
	if id := begin(1); id != 0 {
		t.Fatalf("a third session has the id %d", id)
	}
	now = now.Add(sessionIdle)
	if err := s.begin(&fetchRequest{sessionID: first, epoch: 1}, false, now); err != nil {
		t.Fatal(err)
	}
	id := begin(1) // takes the place of the one that was not used
	if id == 0 || ids[id] || s.byID[first] == nil || len(s.byID) != 2 || s.partitions != 4 {
		t.Fatalf("id %d of %v, %d partitions", id, s.byID, s.partitions)
	}
	now = now.Add(sessionIdle)
	if id := begin(maxSessionPartitions + 1); id != 0 || s.partitions != 0 {
		t.Fatalf("session %d of too many partitions; %d partitions are left", id, s.partitions)
	}
	grow := begin(1)
	req := sessionRequest(1, maxSessionPartitions+1)
	req.sessionID = grow
	if err := s.begin(req, false, now); err != nil || s.partitions != maxSessionPartitions {
		t.Fatalf("%v; grown to %d", err, s.partitions)
	}
}

// A consumer with sessions sees every record, while others write and a topic is deleted.
func TestConsumerWithFetchSession(t *testing.T) {
	b := start(t, nil)
	for i := range 5 {
		createTopic(t, b, fmt.Sprint("t", i), 4)
	}
	cl := newClient(t, inProcessOpts(b), kgo.ConsumeTopics("t0", "t1", "t2", "t3", "t4"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for i := range 5 {
		for range 10 {
			produceEach(t, b, fmt.Sprint("t", i), 4, 0, 8)
		}
	}
	if got := consume(t, cl, 400); len(got) != 400 {
		t.Fatal(len(got))
	}
	b.fetches.mu.Lock()
	defer b.fetches.mu.Unlock()
	if len(b.fetches.byID) == 0 {
		t.Fatal("the client had no session")
	}
}
