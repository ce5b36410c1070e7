package runtime

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/streams/internal/engine"
)

// metadataBench is a cluster with the topics in and stranger, of which the brokers tell only an error for those in broken.
func metadataBench(t *testing.T, broken ...string) *topics {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "in", "stranger"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	fake.ControlKey(int16(kmsg.Metadata), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if len(broken) == 0 || len(req.Topics) > 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		b := kmsg.NewMetadataResponseBroker()
		host, port, _ := strings.Cut(fake.ListenAddrs()[0], ":")
		b.Host = host
		for _, c := range port {
			b.Port = b.Port*10 + c - '0'
		}
		resp.Brokers = append(resp.Brokers, b)
		for _, name := range []string{"in", "stranger"} {
			one := kmsg.NewMetadataResponseTopic()
			one.Topic, one.TopicID = kmsg.StringPtr(name), [16]byte{1}
			if slices.Contains(broken, name) {
				one.ErrorCode = kerr.LeaderNotAvailable.Code
			} else {
				one.Partitions = append(one.Partitions, kmsg.NewMetadataResponseTopicPartition())
			}
			resp.Topics = append(resp.Topics, one)
		}
		return resp, nil, true
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return newTopics(cl, nil)
}

func reads(src *engine.SourceSpec) *Config {
	return &Config{AppID: "app", Logger: slog.New(slog.DiscardHandler),
		Plan: &engine.Plan{Subs: []*engine.Sub{{Sources: []*engine.SourceSpec{src}}}}}
}

// What the brokers cannot say of somebody else's topic keeps nobody from starting; what they cannot say of ours may pass.
func TestTheTopicsOfOthersDoNotMatter(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]*engine.SourceSpec{
		"by name":    {Node: "a", Topics: []engine.Topic{{Name: "in"}}, Group: -1},
		"by pattern": {Node: "a", Pattern: "in|out", Group: -1},
	} {
		tops := metadataBench(t, "stranger")
		if l, err := tops.layout(t.Context(), reads(src)); err != nil || l.Tasks[0] != 1 {
			t.Errorf("%s, with a stranger's topic that has no leader: %+v, %v; want one task", name, l, err)
		}
		tops = metadataBench(t, "in")
		if _, err := tops.layout(t.Context(), reads(src)); !errors.Is(err, kerr.LeaderNotAvailable) || errors.Is(err, engine.ErrMissingTopic) {
			t.Errorf("%s, with a topic of its own that has no leader: %v, want that", name, err)
		}
	}
}

// Whoever sends records to a topic that is not there does not ask the brokers about each of them.
func TestAMissingTopicIsNotAskedForWithEveryRecord(t *testing.T) {
	t.Parallel()
	tops := metadataBench(t)
	asked := func() time.Time {
		if n := tops.partitions("missing"); n != 0 {
			t.Fatalf("it has %d partitions", n)
		}
		tops.mu.Lock()
		defer tops.mu.Unlock()
		return tops.mu.absent["missing"]
	}
	first := asked()
	tops.mu.Lock()
	tops.mu.absent["missing"] = first.Add(time.Hour) // as if no time went by
	tops.mu.Unlock()
	if again := asked(); !again.Equal(first.Add(time.Hour)) {
		t.Error("it is asked for again at once")
	}
	tops.mu.Lock()
	tops.mu.absent["missing"] = first.Add(-absentAge)
	tops.mu.Unlock()
	if again := asked(); again.Before(first) {
		t.Error("it is never asked for again")
	}
	if n := tops.partitions("in"); n != 2 {
		t.Errorf("a topic that is there has %d partitions, want 2", n)
	}
}
