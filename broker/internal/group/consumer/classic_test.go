package consumer

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestClassicMemberRecord: what Apache Kafka 4.3.1 writes (MessageUtil.toVersionPrefixedByteBuffer) for a classic member of a consumer group.
func TestClassicMemberRecord(t *testing.T) {
	const golden = "0000" + "0000" + "0263032f68" + "020269" + "00" + "0000ea60" + "00" + // as of any member
		"010012" + "01" + "0000afc8" + "02" + "0672616e6765" + "04000102" + "0000"
	m := &Member{
		client: Client{"c", "/h"}, names: []string{"i"}, patience: time.Minute,
		classic: &Classic{Session: 45 * time.Second, Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0, 1, 2}}}},
	}
	if got := hex.EncodeToString(m.metadata()); got != golden {
		t.Fatalf("%s, want\n%s", got, golden)
	}
	g := New("g", limits, 1)
	if err := g.Load(KeyMember, "m", m.metadata()); err != nil || !g.Classic("m") {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(g.members["m"].metadata()); got != golden {
		t.Fatalf("read and written again: %s", got)
	}
	for n := range len(m.metadata()) {
		_ = New("g", limits, 1).Load(KeyMember, "m", m.metadata()[:n]) // an error, not a panic
	}
}

// join is the JoinGroup of a member of the classic protocol, with what it owns.
func (m *fake) join() *kmsg.JoinGroupRequest {
	sub := kmsg.NewConsumerMemberMetadata()
	sub.Version, sub.Topics = 1, m.topics
	for _, t := range m.owned.topics() {
		name := strings.TrimRight(string(t[:]), "\x00")
		sub.OwnedPartitions = append(sub.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: name, Partitions: m.owned[t]})
	}
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 9, "g", m.id, "consumer", 30_000, 60_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "cooperative-sticky", Metadata: sub.AppendTo(nil)}}
	return req
}

// classicHeartbeat is one of the model's members: it does what the answer says.
func (m *model) classicHeartbeat(f *fake) {
	if f.epoch > 0 && !f.unanswered {
		switch err := m.g.ClassicHeartbeat(&kmsg.HeartbeatRequest{MemberID: f.id, Generation: f.epoch}, m.c, m.now); err {
		case nil:
			m.save()
			return
		case kerr.RebalanceInProgress:
		case kerr.UnknownMemberID, kerr.IllegalGeneration:
			f.epoch, f.owned = 0, Assignment{}
		default:
			m.t.Fatalf("%s: %v", f.id, err)
		}
	}
	m.rejoin(f)
}

func (m *model) rejoin(f *fake) {
	join, err := m.g.Join(f.join(), Client{"c", "/h"}, m.c, m.now)
	m.save()
	f.unanswered = false
	if err == kerr.UnknownMemberID { // it was removed
		f.epoch, f.owned = 0, Assignment{}
		return
	}
	if err != nil {
		m.t.Fatalf("%s joins: %v", f.id, err)
	}
	f.epoch = join.Generation
	sync, err := m.g.Sync(&kmsg.SyncGroupRequest{MemberID: f.id, Generation: f.epoch}, m.c, m.now)
	if err == kerr.RebalanceInProgress {
		return
	}
	has := kmsg.NewConsumerMemberAssignment()
	if err != nil || has.ReadFrom(sync.MemberAssignment) != nil {
		m.t.Fatalf("%s syncs: %v, %+v", f.id, err, sync)
	}
	f.owned = Assignment{}
	for _, t := range has.Topics {
		f.owned[id(t.Topic)] = t.Partitions
	}
}
