package broker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// inProcess are the options of a client that talks to b without TCP.
func inProcessOpts(b *Broker) []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer()), kgo.MetadataMinAge(10 * time.Millisecond)}
}

// produceEach sends n records, record i to partition i mod partitions with value i.
func produceEach(t testing.TB, b *Broker, topic string, partitions int32, from, n int) {
	t.Helper()
	cl := newClient(t, inProcessOpts(b), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := from; i < from+n; i++ {
		r := &kgo.Record{Topic: topic, Partition: int32(i) % partitions, Value: fmt.Append(nil, i)}
		cl.Produce(t.Context(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	if err := cl.Flush(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
}

// seen collects the values that consumers got.
type seen struct {
	mu sync.Mutex
	n  map[string]int
}

func (s *seen) add(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		s.n = map[string]int{}
	}
	s.n[v]++
}

func (s *seen) distinct() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.n)
}

// pollAll polls in the background until ctx ends or the client is closed, of which every poll would say so at once.
func pollAll(ctx context.Context, wg *sync.WaitGroup, cl *kgo.Client, s *seen) {
	wg.Go(func() {
		for ctx.Err() == nil {
			fs := cl.PollFetches(ctx)
			if fs.IsClientClosed() {
				return
			}
			fs.EachRecord(func(r *kgo.Record) { s.add(string(r.Value)) })
		}
	})
}

// eventually polls a condition; the limit is for broken code only.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}

// groupState describes a group.
func groupState(t testing.TB, b *Broker, id string) kmsg.DescribeGroupsResponseGroup {
	t.Helper()
	return b.groups.Describe(id, 5)
}

func TestConsumerGroup(t *testing.T) {
	for _, balancer := range []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.CooperativeStickyBalancer()} {
		t.Run(balancer.ProtocolName(), func(t *testing.T) {
			b := start(t, nil)
			createTopic(t, b, "in", 6)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			var got seen
			var clients []*kgo.Client
			for range 3 {
				cl := newClient(t, inProcessOpts(b), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"), kgo.Balancers(balancer),
					kgo.HeartbeatInterval(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(100*time.Millisecond))
				clients = append(clients, cl)
				pollAll(ctx, &wg, cl, &got)
			}
			eventually(t, "three members are stable", func() bool {
				g := groupState(t, b, "g")
				return g.State == "Stable" && len(g.Members) == 3
			})
			produceEach(t, b, "in", 6, 0, 60)
			eventually(t, "all records are read", func() bool { return got.distinct() == 60 })
			clients[0].LeaveGroup()
			eventually(t, "two members are stable", func() bool {
				g := groupState(t, b, "g")
				return g.State == "Stable" && len(g.Members) == 2
			})
			produceEach(t, b, "in", 6, 60, 60)
			eventually(t, "all records are read by the rest", func() bool { return got.distinct() == 120 })
			adm := kadm.NewClient(newClient(t, inProcessOpts(b)))
			eventually(t, "all is committed", func() bool {
				offsets, err := adm.FetchOffsets(within(t, time.Minute), "g")
				sum := int64(0)
				offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
				return err == nil && sum == 120
			})
		})
	}
}

func TestStaticMemberRestartsWithoutRebalance(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "in", 4)
	produceEach(t, b, "in", 4, 0, 4)
	member := func(id string) *kgo.Client {
		cl, err := kgo.NewClient(append(inProcessOpts(b), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"), kgo.InstanceID(id), kgo.Balancers(kgo.RangeBalancer()),
			kgo.HeartbeatInterval(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var got seen
	a, c := member("a"), member("c")
	defer a.Close()
	pollAll(ctx, &wg, a, &got)
	ctx2, stop := context.WithCancel(ctx)
	pollAll(ctx2, &wg, c, &got)
	var generation int32
	eventually(t, "two members, which both know it", func() bool { // the group can be stable before a member has read the answer to its JoinGroup
		g := groupState(t, b, "g")
		_, of := c.GroupMetadata()
		_, generation = a.GroupMetadata()
		return g.State == "Stable" && len(g.Members) == 2 && generation == of && of >= 0
	})
	stop()
	c.Close() // a static member does not leave when it closes
	c = member("c")
	defer c.Close()
	pollAll(ctx, &wg, c, &got)
	eventually(t, "the member is back", func() bool { _, g := c.GroupMetadata(); return g >= 0 })
	if _, g := c.GroupMetadata(); g != generation {
		t.Errorf("generation %d after the restart, was %d", g, generation)
	}
	if s := groupState(t, b, "g"); s.State != "Stable" || len(s.Members) != 2 {
		t.Errorf("group is %s with %d members", s.State, len(s.Members))
	}
}

func TestGroupSurvivesBrokerRestart(t *testing.T) {
	dir := t.TempDir()
	b, err := Start(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	createTopic(t, b, "in", 2)
	r := dialRaw(t, b)
	join := newJoin("g", 9)
	join.InstanceID = kmsg.StringPtr("one")
	joined := do[*kmsg.JoinGroupResponse](r, join, 9)
	if joined.ErrorCode != 0 {
		t.Fatalf("join: %v", kerr.ErrorForCode(joined.ErrorCode))
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.Generation, sync.MemberID, sync.InstanceID = "g", joined.Generation, joined.MemberID, join.InstanceID
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte("mine")}}
	if resp := do[*kmsg.SyncGroupResponse](r, sync, 5); resp.ErrorCode != 0 || string(resp.MemberAssignment) != "mine" {
		t.Fatalf("sync: %v %q", kerr.ErrorForCode(resp.ErrorCode), resp.MemberAssignment)
	}
	commit := newCommit("g", "in", 0, 42)
	commit.Generation, commit.MemberID, commit.InstanceID = joined.Generation, joined.MemberID, join.InstanceID
	if resp := do[*kmsg.OffsetCommitResponse](r, commit, 9); resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("commit: %v", kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = startWith(t, Config{Dir: dir})
	r = dialRaw(t, b)
	hb := kmsg.NewPtrHeartbeatRequest()
	hb.Group, hb.Generation, hb.MemberID, hb.InstanceID = "g", joined.Generation, joined.MemberID, join.InstanceID
	if resp := do[*kmsg.HeartbeatResponse](r, hb, 4); resp.ErrorCode != 0 {
		t.Errorf("heartbeat after the restart: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	sync.GroupAssignment = nil
	if resp := do[*kmsg.SyncGroupResponse](r, sync, 5); resp.ErrorCode != 0 || string(resp.MemberAssignment) != "mine" {
		t.Errorf("assignment after the restart: %v %q", kerr.ErrorForCode(resp.ErrorCode), resp.MemberAssignment)
	}
	if o := fetchOffset(r, "g", "in", 0); o != 42 {
		t.Errorf("offset %d after the restart, want 42", o)
	}
}

func newJoin(group string, version int16) *kmsg.JoinGroupRequest {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = version, group, 10_000, 10_000, "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte{0, 0}
	join.Protocols = append(join.Protocols, p)
	return join
}

func newCommit(group, topic string, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = group
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = topic, []kmsg.OffsetCommitRequestTopicPartition{p}
	req.Topics = append(req.Topics, rt)
	return req
}

// fetchOffset asks with RequireStable and waits while the offset is not.
func fetchOffset(r *raw, group, topic string, partition int32) int64 {
	r.t.Helper()
	offset := int64(-2)
	eventually(r.t, "the offset is stable", func() bool {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.RequireStable = true
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = group
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, Partitions: []int32{partition}}}
		req.Groups = append(req.Groups, g)
		p := do[*kmsg.OffsetFetchResponse](r, req, 9).Groups[0].Topics[0].Partitions[0]
		offset = p.Offset
		return p.ErrorCode == 0
	})
	return offset
}

func TestOffsetErrors(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "in", 1)
	r := dialRaw(t, b)
	code := func(req *kmsg.OffsetCommitRequest, version int16) int16 {
		return do[*kmsg.OffsetCommitResponse](r, req, version).Topics[0].Partitions[0].ErrorCode
	}
	if o := fetchOffset(r, "nobody", "in", 0); o != -1 {
		t.Errorf("offset of an unknown group is %d, want -1 and no error", o)
	}
	if c := code(newCommit("simple", "in", 0, 7), 8); c != 0 {
		t.Errorf("simple commit: code %d", c)
	}
	if o := fetchOffset(r, "simple", "in", 0); o != 7 {
		t.Errorf("offset %d, want 7", o)
	}
	if c := code(newCommit("simple", "nosuch", 0, 7), 8); c != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("commit for an unknown topic: code %d", c)
	}
	long := newCommit("simple", "in", 0, 7)
	long.Topics[0].Partitions[0].Metadata = kmsg.StringPtr(string(make([]byte, 4097)))
	if c := code(long, 8); c != kerr.OffsetMetadataTooLarge.Code {
		t.Errorf("metadata too long: code %d", c)
	}
	member := newCommit("new", "in", 0, 7)
	member.Generation, member.MemberID = 3, "m"
	if c := code(member, 8); c != kerr.IllegalGeneration.Code {
		t.Errorf("commit of a member of no group: code %d", c)
	}
	if c := code(member, 9); c != kerr.GroupIDNotFound.Code {
		t.Errorf("v9 commit of a member of no group: code %d", c)
	}
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Groups = []string{"simple", "nobody"}
	resp := do[*kmsg.DeleteGroupsResponse](r, del, 2)
	if resp.Groups[0].ErrorCode != 0 || resp.Groups[1].ErrorCode != kerr.GroupIDNotFound.Code {
		t.Errorf("delete groups: %+v", resp.Groups)
	}
	if o := fetchOffset(r, "simple", "in", 0); o != -1 {
		t.Errorf("offset %d of a deleted group", o)
	}
}
