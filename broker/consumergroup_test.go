package broker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/internal/vfs"
)

// describeConsumers is how a KIP-848 group stands: its state, and how many partitions each member has.
func describeConsumers(t testing.TB, b *Broker, id string) (state string, sizes []int) {
	t.Helper()
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{id}
	g := do[*kmsg.ConsumerGroupDescribeResponse](dialRaw(t, b), req, 1).Groups[0]
	for _, m := range g.Members {
		n := 0
		for _, tp := range m.Assignment.TopicPartitions {
			n += len(tp.Partitions)
		}
		sizes = append(sizes, n)
	}
	return g.State, sizes
}

// franz-go's consumers by the KIP-848 protocol: they share, one leaves, one comes, a topic grows; every record is read.
func TestConsumerGroupClients(t *testing.T) {
	for _, balancer := range []kgo.GroupBalancer{kgo.CooperativeStickyBalancer(), kgo.RangeBalancer()} {
		t.Run(balancer.ProtocolName(), func(t *testing.T) {
			b := start(t, func(c *Config) { c.ConsumerHeartbeatInterval = 20 * time.Millisecond })
			createTopic(t, b, "t", 6)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			var got seen
			join := func() *kgo.Client {
				cl := newClient(t, inProcessOpts(b), kgo.ServerSideBalancer(), kgo.Balancers(balancer), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"),
					kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(100*time.Millisecond), kgo.HeartbeatInterval(50*time.Millisecond))
				pollAll(ctx, &wg, cl, &got)
				return cl
			}
			join()
			second := join()
			eventually(t, "two share", func() bool {
				state, sizes := describeConsumers(t, b, "g")
				return state == "Stable" && fmt.Sprint(sizes) == "[3 3]"
			})
			produceEach(t, b, "t", 6, 0, 60)
			eventually(t, "60 records", func() bool { return got.distinct() == 60 })
			second.Close()
			produceEach(t, b, "t", 6, 60, 60)
			eventually(t, "120 records", func() bool { return got.distinct() == 120 })
			join()
			if err := b.growTopic(&kmsg.CreatePartitionsRequestTopic{Topic: "t", Count: 8}, false); err != nil {
				t.Fatal(err)
			}
			produceEach(t, b, "t", 8, 120, 80)
			eventually(t, "200 records", func() bool { return got.distinct() == 200 })
			eventually(t, "two share eight", func() bool {
				state, sizes := describeConsumers(t, b, "g")
				return state == "Stable" && fmt.Sprint(sizes) == "[4 4]"
			})
		})
	}
}

// TestGroupChangesItsProtocolUnderClients: franz-go's consumers are replaced one by one by those of the other protocol, and back; every record is read.
func TestGroupChangesItsProtocolUnderClients(t *testing.T) {
	for _, balancer := range []kgo.GroupBalancer{kgo.CooperativeStickyBalancer(), kgo.RangeBalancer()} {
		t.Run(balancer.ProtocolName(), func(t *testing.T) {
			b := start(t, func(c *Config) { c.ConsumerHeartbeatInterval = 20 * time.Millisecond })
			createTopic(t, b, "t", 6)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			var got seen
			produced := 0
			more := func() {
				t.Helper()
				produceEach(t, b, "t", 6, produced, 60)
				produced += 60
				eventually(t, fmt.Sprintf("%d records", produced), func() bool { return got.distinct() == produced })
			}
			join := func(opts ...kgo.Opt) *kgo.Client {
				cl := newClient(t, inProcessOpts(b), append(opts, kgo.Balancers(balancer), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"),
					kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(100*time.Millisecond), kgo.HeartbeatInterval(20*time.Millisecond))...)
				pollAll(ctx, &wg, cl, &got)
				return cl
			}
			share := func(want string) {
				t.Helper()
				eventually(t, want, func() bool { state, sizes := describeConsumers(t, b, "g"); return state+fmt.Sprint(sizes) == want })
			}
			first, second := join(), join()
			more()
			third := join(kgo.ServerSideBalancer())
			share("Stable[2 2 2]")
			more()
			first.Close()
			fourth := join(kgo.ServerSideBalancer())
			share("Stable[2 2 2]")
			more()
			second.Close()
			share("Stable[3 3]")
			fifth := join()
			share("Stable[2 2 2]")
			more()
			third.Close()
			fourth.Close()
			eventually(t, "a classic group", func() bool {
				gs := b.groups.List(nil, nil)
				return len(gs) == 1 && gs[0].GroupType == "classic" && gs[0].GroupState == "Stable"
			})
			more()
			fifth.Close()
		})
	}
}

// A power cut and a restart: members go on with their epochs and commits.
func TestConsumerGroupSurvivesAPowerCut(t *testing.T) {
	mem := vfs.NewMem()
	b := startWith(t, Config{Dir: "/data", FS: mem})
	createTopic(t, b, "t", 4)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var got seen
	cl := newClient(t, inProcessOpts(b), kgo.ServerSideBalancer(), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	pollAll(ctx, &wg, cl, &got)
	produceEach(t, b, "t", 4, 0, 40)
	eventually(t, "40 records", func() bool { return got.distinct() == 40 })
	if err := cl.CommitUncommittedOffsets(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	again := startWith(t, Config{Dir: "/data", FS: mem.CrashClone(0, nil)})
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{"g"}
	before := do[*kmsg.ConsumerGroupDescribeResponse](dialRaw(t, b), req, 1).Groups[0]
	after := do[*kmsg.ConsumerGroupDescribeResponse](dialRaw(t, again), req, 1).Groups[0]
	if len(after.Members) != 1 || fmt.Sprint(before.Epoch, before.State, before.Members[0].MemberID, before.Members[0].MemberEpoch, before.Members[0].Assignment) !=
		fmt.Sprint(after.Epoch, after.State, after.Members[0].MemberID, after.Members[0].MemberEpoch, after.Members[0].Assignment) {
		t.Fatalf("before %+v\nafter %+v", before, after)
	}
	var there seen
	next := newClient(t, inProcessOpts(again), kgo.ServerSideBalancer(), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	hb := kmsg.NewPtrConsumerGroupHeartbeatRequest() // the old member leaves: the client that it was is with the other broker
	hb.Group, hb.MemberID, hb.MemberEpoch = "g", after.Members[0].MemberID, -1
	if resp := do[*kmsg.ConsumerGroupHeartbeatResponse](dialRaw(t, again), hb, 1); resp.ErrorCode != 0 {
		t.Fatalf("%+v", resp)
	}
	pollAll(ctx, &wg, next, &there)
	produceEach(t, again, "t", 4, 100, 4)
	eventually(t, "the 4 new records", func() bool { return there.distinct() == 4 })
}

func TestPatternsMatchKafkasInternalTopics(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	var names []string
	b.topics.Load().Names(func(name string) { names = append(names, name) })
	slices.Sort(names)
	if fmt.Sprint(names) != "[__consumer_offsets __transaction_state t]" {
		t.Fatal(names)
	}
}
