package broker

import (
	"encoding/binary"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/auth"
	"github.com/leatstream/leat/internal/vfs"
)

// Clients that are too old to be told how long their session lasts are cut off all the same.
func TestSessionsOfOldClientsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Start(t.Context(), Config{Dir: "/data", FS: vfs.NewMem(), Security: Security{MaxSession: time.Minute, Users: map[string]Secret{"a": "b"}}})
		if err != nil {
			t.Fatal(err)
		}
		token := []byte("\x00a\x00b")
		for handshake := range int16(2) { // 0: bare tokens follow; 1: SaslAuthenticate, here in its version 0
			r := dialRaw(t, b)
			_ = r.nc.SetDeadline(time.Time{})
			do[*kmsg.SASLHandshakeResponse](r, &kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"}, handshake)
			if handshake == 1 {
				do[*kmsg.SASLAuthenticateResponse](r, &kmsg.SASLAuthenticateRequest{SASLAuthBytes: token}, 0)
			} else {
				var size [4]byte
				if _, err := r.nc.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(r.nc, size[:]); err != nil || size != [4]byte{} {
					t.Fatal(size, err)
				}
			}
			time.Sleep(59 * time.Second)
			do[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 9)
			time.Sleep(2 * time.Second)
			r.send(kmsg.NewPtrMetadataRequest(), 9)
			if !r.closed() {
				t.Errorf("handshake version %d: the session goes on for ever", handshake)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// However many clients send passwords, at most half of the processors hash them.
func TestPasswordsAreHashedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Start(t.Context(), Config{Dir: "/data", FS: vfs.NewMem(), Security: Security{Users: map[string]Secret{"a": "b"}}})
		if err != nil {
			t.Fatal(err)
		}
		for range cap(b.hashing) {
			b.hashing <- struct{}{}
		}
		r := dialRaw(t, b)
		do[*kmsg.SASLHandshakeResponse](r, &kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"}, 1)
		done := make(chan int16, 1)
		go func() {
			done <- do[*kmsg.SASLAuthenticateResponse](r, &kmsg.SASLAuthenticateRequest{SASLAuthBytes: []byte("\x00a\x00b")}, 1).ErrorCode
		}()
		synctest.Wait()
		if len(done) > 0 {
			t.Error("hashed beside all others")
		}
		for range cap(b.hashing) {
			<-b.hashing
		}
		if code := <-done; code != 0 {
			t.Error(kerr.ErrorForCode(code))
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Who may read every topic may not read the credentials of all users, which are in the broker's own.
func TestReadingEverythingIsNotReadingCredentials(t *testing.T) {
	b, r := authorized(t)
	id, _ := b.topicID(metadataTopic)
	everything := may(opRead, kmsg.ACLResourceTypeTopic, "*")
	for _, c := range []struct {
		acls []auth.Binding
		want int16
	}{
		{[]auth.Binding{everything}, topicDenied},
		{[]auth.Binding{everything, onKafka(opClusterAction)}, 0},
	} {
		b.authorizer.Change(c.acls, nil)
		for _, version := range []int16{11, 16} {
			resp := do[*kmsg.FetchResponse](r, fetchOf(metadataTopic, id, 0, 0), version)
			if got := resp.Topics[0].Partitions[0]; got.ErrorCode != c.want || (len(got.RecordBatches) > 0) != (c.want == 0) {
				t.Errorf("version %d with %d entries: %v, %d bytes", version, len(c.acls), kerr.ErrorForCode(got.ErrorCode), len(got.RecordBatches))
			}
		}
	}
}

// Who may see a group and not its topics is not told their names.
func TestAGroupDoesNotTellOfHiddenTopics(t *testing.T) {
	b, r := authorized(t)
	root := login(t, b, "root", "r")
	do[*kmsg.CreateTopicsResponse](root, &kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "t", NumPartitions: 1, ReplicationFactor: 1}}}, 7)
	join := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	join.Group, join.MemberID, join.RebalanceTimeoutMillis = "g", "member", 60_000
	join.SubscribedTopicNames, join.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if resp := do[*kmsg.ConsumerGroupHeartbeatResponse](root, join, 1); resp.ErrorCode != 0 || resp.Assignment == nil {
		t.Fatalf("%+v", resp)
	}
	describe := &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"g"}}
	b.authorizer.Change([]auth.Binding{onGroup(opDescribe)}, nil)
	if g := do[*kmsg.ConsumerGroupDescribeResponse](r, describe, 0).Groups[0]; g.ErrorCode != topicDenied || len(g.Members) > 0 {
		t.Errorf("a group with a hidden topic: %+v", g)
	}
	b.authorizer.Change([]auth.Binding{onTopic(opDescribe)}, nil)
	if g := do[*kmsg.ConsumerGroupDescribeResponse](r, describe, 0).Groups[0]; g.ErrorCode != 0 || len(g.Members) != 1 {
		t.Errorf("a group with a topic that one may see: %+v", g)
	}
}
