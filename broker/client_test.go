package broker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produce sends n records to a topic, in partition order, and fails the test unless all are acknowledged.
func produce(t testing.TB, cl *kgo.Client, topic string, n int, value func(i int) string) {
	t.Helper()
	ctx := within(t, time.Minute)
	for i := range n {
		cl.Produce(ctx, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: []byte(value(i))}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// consume reads n records.
func consume(t testing.TB, cl *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	ctx := within(t, time.Minute)
	var all []*kgo.Record
	for len(all) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(all), n, err)
		}
		all = append(all, fs.Records()...)
	}
	if len(all) != n {
		t.Fatalf("%d records came, %d were sent", len(all), n)
	}
	return all
}

func TestProduceAndConsumeEveryCodec(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, opts []kgo.Opt) {
		for name, codec := range map[string]kgo.CompressionCodec{
			"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
		} {
			topic := "codec-" + name
			p := newClient(t, opts, kgo.ProducerBatchCompression(codec), kgo.AllowAutoTopicCreation())
			value := func(i int) string { return strings.Repeat(fmt.Sprint(name, i, " "), 20) }
			produce(t, p, topic, 500, value)
			c := newClient(t, opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			seen := map[string]bool{}
			for _, r := range consume(t, c, 500) {
				var i int
				if _, err := fmt.Sscan(string(r.Key), &i); err != nil || string(r.Value) != value(i) || seen[string(r.Key)] {
					t.Fatalf("%s: record %q twice or wrong: %v", name, r.Key, err)
				}
				seen[string(r.Key)] = true
			}
		}
	})
}

func TestAcks(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, opts []kgo.Opt) {
		for name, acks := range map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
			more := []kgo.Opt{kgo.RequiredAcks(acks), kgo.AllowAutoTopicCreation()}
			if name != "all" {
				more = append(more, kgo.DisableIdempotentWrite())
			}
			produce(t, newClient(t, opts, more...), "acks-"+name, 50, func(i int) string { return fmt.Sprint(i) })
			c := newClient(t, opts, kgo.ConsumeTopics("acks-"+name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			for i, r := range consume(t, c, 50) {
				if r.Offset != int64(i) || string(r.Value) != fmt.Sprint(i) {
					t.Fatalf("acks=%s: offset %d holds %q", name, r.Offset, r.Value)
				}
			}
		}
	})
}

func TestRestartKeepsDataIDsAndConfigs(t *testing.T) {
	for _, flush := range []Flush{FlushAlways, FlushOS} {
		t.Run(flush.String(), func(t *testing.T) {
			cfg := Config{Dir: t.TempDir(), Flush: flush, DefaultPartitions: 3}
			var before kadm.TopicDetails
			var cluster string
			for round := range 3 {
				b, err := Start(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				opts := []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}
				cl := newClient(t, opts, kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("kept"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
				adm := kadm.NewClient(cl)
				ctx := within(t, time.Minute)
				if round == 0 {
					if _, err := adm.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": kadm.StringPtr("12345")}, "configured"); err != nil {
						t.Fatal(err)
					}
				}
				produce(t, cl, "kept", 30, func(i int) string { return fmt.Sprint(round) })
				consume(t, cl, 30*(round+1))
				details, err := adm.ListTopics(ctx)
				if err != nil {
					t.Fatal(err)
				}
				md, err := adm.BrokerMetadata(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if round > 0 {
					for name, d := range before {
						if details[name].ID != d.ID || len(details[name].Partitions) != len(d.Partitions) {
							t.Errorf("topic %s changed: %v, %v", name, d, details[name])
						}
					}
					if md.Cluster != cluster {
						t.Errorf("cluster id %s became %s", cluster, md.Cluster)
					}
				}
				before, cluster = details, md.Cluster
				if len(details["kept"].Partitions) != 3 {
					t.Errorf("%d partitions, want the default of 3", len(details["kept"].Partitions))
				}
				if got := configOf(t, adm, "configured", "retention.ms"); got != "12345" {
					t.Errorf("retention.ms is %q after round %d", got, round)
				}
				cl.Close()
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func configOf(t testing.TB, adm *kadm.Client, topic, name string) string {
	t.Helper()
	rcs, err := adm.DescribeTopicConfigs(within(t, time.Minute), topic)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := rcs.On(topic, nil)
	if err != nil || rc.Err != nil {
		t.Fatal(err, rc.Err)
	}
	for _, c := range rc.Configs {
		if c.Key == name {
			return c.MaybeValue()
		}
	}
	t.Fatalf("%s has no configuration %s", topic, name)
	return ""
}

func TestDeleteAndRecreate(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, opts []kgo.Opt) {
		cl := newClient(t, opts, kgo.AllowAutoTopicCreation())
		adm := kadm.NewClient(cl)
		ctx := within(t, time.Minute)
		produce(t, cl, "t", 20, func(int) string { return "old" })
		old, _ := b.topicID("t")
		if _, err := adm.DeleteTopic(ctx, "t"); err != nil {
			t.Fatal(err)
		}
		if _, err := adm.DeleteTopic(ctx, "t"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Fatalf("second delete: %v", err)
		}
		if _, err := adm.CreateTopic(ctx, 1, -1, nil, "t"); err != nil {
			t.Fatal(err)
		}
		now, ok := b.topicID("t")
		if !ok || now == old {
			t.Fatalf("the new topic has the id of the old one")
		}
		ends, err := adm.ListEndOffsets(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		if o, _ := ends.Lookup("t", 0); o.Offset != 0 || o.Err != nil {
			t.Fatalf("the new topic ends at %d, %v", o.Offset, o.Err)
		}
	})
}

func TestListOffsets(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, opts []kgo.Opt) {
		cl := newClient(t, opts, kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("t"))
		adm := kadm.NewClient(cl)
		ctx := within(t, time.Minute)
		base := time.Now().Add(-time.Hour).Truncate(time.Second)
		for i := range 10 {
			r := &kgo.Record{Value: []byte("v"), Timestamp: base.Add(time.Duration(i) * time.Minute)}
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			name string
			ask  func() (kadm.ListedOffsets, error)
			want int64
		}{
			{"start", func() (kadm.ListedOffsets, error) { return adm.ListStartOffsets(ctx, "t") }, 0},
			{"end", func() (kadm.ListedOffsets, error) { return adm.ListEndOffsets(ctx, "t") }, 10},
			{"committed", func() (kadm.ListedOffsets, error) { return adm.ListCommittedOffsets(ctx, "t") }, 10},
			{"exact time", func() (kadm.ListedOffsets, error) {
				return adm.ListOffsetsAfterMilli(ctx, base.Add(4*time.Minute).UnixMilli(), "t")
			}, 4},
			{"between", func() (kadm.ListedOffsets, error) {
				return adm.ListOffsetsAfterMilli(ctx, base.Add(4*time.Minute+1).UnixMilli()+1, "t")
			}, 5},
			{"before all", func() (kadm.ListedOffsets, error) { return adm.ListOffsetsAfterMilli(ctx, 1, "t") }, 0},
			{"max timestamp", func() (kadm.ListedOffsets, error) { return adm.ListMaxTimestampOffsets(ctx, "t") }, 9},
		} {
			got, err := c.ask()
			if err != nil {
				t.Fatal(c.name, err)
			}
			if o, _ := got.Lookup("t", 0); o.Offset != c.want || o.Err != nil {
				t.Errorf("%s: offset %d, %v; want %d", c.name, o.Offset, o.Err, c.want)
			}
		}
		if _, err := adm.DeleteRecords(ctx, kadm.Offsets{"t": {0: {Topic: "t", Partition: 0, At: 6}}}); err != nil {
			t.Fatal(err)
		}
		starts, err := adm.ListStartOffsets(ctx, "t")
		if o, _ := starts.Lookup("t", 0); err != nil || o.Offset != 6 {
			t.Errorf("after DeleteRecords the log starts at %d, %v", o.Offset, err)
		}
	})
}

func TestTopicAdministration(t *testing.T) {
	b := start(t, nil)
	opts := []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}
	adm := kadm.NewClient(newClient(t, opts))
	ctx := within(t, time.Minute)
	create := func(partitions int32, replicas int16, configs map[string]*string, name string) error {
		_, err := adm.CreateTopic(ctx, partitions, replicas, configs, name)
		return err
	}
	for _, c := range []struct {
		name       string
		partitions int32
		replicas   int16
		configs    map[string]*string
		want       error
	}{
		{"ok", 2, 1, nil, nil},
		{"ok", 2, 1, nil, kerr.TopicAlreadyExists},
		{"defaults", -1, -1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, nil},
		{"three-replicas", 1, 3, nil, kerr.InvalidReplicationFactor},
		{"insync", 1, 1, map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}, kerr.InvalidReplicationFactor},
		{"no-partitions", 0, 1, nil, kerr.InvalidPartitions},
		{"too-many", 1 << 20, 1, nil, kerr.PolicyViolation},
		{"unknown-config", 1, 1, map[string]*string{"nonsense": kadm.StringPtr("1")}, kerr.InvalidConfig},
		{"bad-config", 1, 1, map[string]*string{"retention.ms": kadm.StringPtr("soon")}, kerr.InvalidConfig},
		{"a/b", 1, 1, nil, kerr.InvalidTopicException},
		{strings.Repeat("x", 250), 1, 1, nil, kerr.InvalidTopicException},
		{"a.b", 1, 1, nil, nil},
		{"a_b", 1, 1, nil, kerr.InvalidTopicException},
		{"ok", 0, 3, map[string]*string{"nonsense": kadm.StringPtr("1")}, kerr.TopicAlreadyExists},
		{"__consumer_offsets", 50, 3, nil, kerr.TopicAlreadyExists},
	} {
		if err := create(c.partitions, c.replicas, c.configs, c.name); !errors.Is(err, c.want) {
			t.Errorf("create %q: got %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := adm.CreatePartitions(ctx, 3, "ok"); err != nil {
		t.Error(err)
	}
	if rs, err := adm.UpdatePartitions(ctx, 1, "ok"); err != nil || !errors.Is(rs["ok"].Err, kerr.InvalidPartitions) {
		t.Errorf("shrink: %v, %v", err, rs["ok"].Err)
	}
	if ds, err := adm.ListTopics(ctx, "ok", "missing"); err != nil || len(ds["ok"].Partitions) != 5 || !errors.Is(ds["missing"].Err, kerr.UnknownTopicOrPartition) {
		t.Errorf("list: %v, %+v", err, ds)
	}
	if rs, err := adm.DeleteTopics(ctx, metadataTopic); err != nil || !errors.Is(rs[metadataTopic].Err, kerr.InvalidRequest) {
		t.Errorf("delete internal topic: %v, %v", err, rs[metadataTopic].Err)
	}
	alter := func(op kadm.IncrementalOp, name, value string) error {
		rs, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: name, Value: &value}}, "defaults")
		if err != nil {
			return err
		}
		return rs[0].Err
	}
	for _, c := range []struct {
		op          kadm.IncrementalOp
		name, value string
		want        error
		then        string
	}{
		{kadm.AppendConfig, "cleanup.policy", "delete", nil, "compact,delete"},
		{kadm.SubtractConfig, "cleanup.policy", "compact", nil, "delete"},
		{kadm.AppendConfig, "retention.ms", "1", kerr.InvalidConfig, "604800000"},
		{kadm.SetConfig, "retention.ms", "777", nil, "777"},
		{kadm.SetConfig, "retention.ms", "x", kerr.InvalidConfig, "777"},
		{kadm.DeleteConfig, "retention.ms", "", nil, "604800000"},
	} {
		if err := alter(c.op, c.name, c.value); !errors.Is(err, c.want) {
			t.Errorf("alter %s %s: got %v, want %v", c.name, c.value, err, c.want)
		}
		if got := configOf(t, adm, "defaults", c.name); got != c.then {
			t.Errorf("%s is %q, want %q", c.name, got, c.then)
		}
	}
}

func TestAllTopicsLeaveOutWhatApacheKafkaWould(t *testing.T) {
	b := start(t, nil)
	client := func() *kadm.Client { // a new one each time: they keep what they saw for a while
		return kadm.NewClient(newClient(t, []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}))
	}
	adm := client()
	list := func() []string {
		topics, err := client().ListTopicsWithInternal(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return topics.Names()
	}
	if _, err := adm.CreateTopic(within(t, time.Minute), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	if got := list(); !slices.Equal(got, []string{"t"}) {
		t.Errorf("a new broker has %q", got)
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset("t", 0, 0, -1)
	if err := adm.CommitAllOffsets(within(t, time.Minute), "g", offsets); err != nil {
		t.Fatal(err)
	}
	if got := list(); !slices.Equal(got, []string{"__consumer_offsets", "t"}) {
		t.Errorf("with a group there are %q", got)
	}
	opts := []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}
	if err := newClient(t, opts).ProduceSync(within(t, time.Minute), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := list(); !slices.Equal(got, []string{"__consumer_offsets", "t"}) {
		t.Errorf("with an idempotent producer there are %q", got)
	}
	if _, _, err := newClient(t, opts, kgo.TransactionalID("x")).ProducerID(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := list(); !slices.Equal(got, []string{"__consumer_offsets", "__transaction_state", "t"}) {
		t.Errorf("with a transactional id there are %q", got)
	}
}

// The limit of what clients may write does not keep the broker from remembering things, such as another limit.
func TestSmallestMessagesLeaveTheBrokerAtWork(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Flush: FlushOS}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	set := func(op kadm.IncrementalOp) {
		t.Helper()
		adm := kadm.NewClient(newClient(t, []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}))
		resp, err := adm.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{Op: op, Name: "message.max.bytes", Value: kadm.StringPtr("1")}}, 1)
		if err != nil || resp[0].Err != nil {
			t.Fatal(err, resp)
		}
		adm.Close()
	}
	set(kadm.SetConfig)
	createTopic(t, b, "t", 1)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation = "g", -1
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}}}
	if resp := do[*kmsg.OffsetCommitResponse](dialRaw(t, b), commit, 8); resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Error("commit:", kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = startWith(t, cfg)
	write := func() int16 {
		return do[*kmsg.ProduceResponse](dialRaw(t, b), produceRequest1("t", 0, -1, batch("x")), 9).Topics[0].Partitions[0].ErrorCode
	}
	if got := write(); got != kerr.MessageTooLarge.Code {
		t.Error("a batch beyond the limit:", kerr.ErrorForCode(got))
	}
	set(kadm.DeleteConfig)
	if got := write(); got != 0 {
		t.Error("a batch within the limit:", kerr.ErrorForCode(got))
	}
}

func TestClampedReplicationFactor(t *testing.T) {
	b := start(t, func(c *Config) { c.ClampReplicationFactor = true })
	adm := kadm.NewClient(newClient(t, []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}))
	_, err := adm.CreateTopic(within(t, time.Minute), 1, 3, map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}, "t")
	if err != nil {
		t.Fatal(err)
	}
}

func TestAutoCreateCanBeForbidden(t *testing.T) {
	b := start(t, func(c *Config) { c.DisableAutoCreateTopics = true })
	cl := newClient(t, []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	err := cl.ProduceSync(within(t, time.Minute), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr()
	if !errors.Is(err, kerr.UnknownTopicOrPartition) || b.topic("t") != nil {
		t.Fatalf("got %v", err)
	}
}

func TestCloseEndsClientsAndGoroutines(t *testing.T) {
	b := start(t, func(c *Config) { c.Listen = []string{"127.0.0.1:0"} })
	cl := newClient(t, []kgo.Opt{kgo.SeedBrokers(b.Addr())}, kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("t"))
	produce(t, cl, "t", 1, func(int) string { return "v" })
	consume(t, cl, 1) // and now it polls
	done := make(chan error, 1)
	go func() { done <- b.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("Close hangs on a connection that polls")
	}
	if _, err := b.Dial(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatalf("dial after close: %v", err)
	}
}

// TestInternalSegmentBytes: Kafka's internal configuration is in force instead of segment.bytes, and described only where it is set.
func TestInternalSegmentBytes(t *testing.T) {
	dir := t.TempDir()
	b := start(t, func(c *Config) { c.Dir = dir })
	cl := newClient(t, []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer()), kgo.ProducerBatchCompression(kgo.NoCompression())})
	small := "2000"
	adm := kadm.NewClient(cl)
	for name, configs := range map[string]map[string]*string{"small": {"internal.segment.bytes": &small}, "usual": nil} {
		created, err := adm.CreateTopic(t.Context(), 1, 1, configs, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, has := created.Configs["internal.segment.bytes"]; has != (configs != nil) {
			t.Errorf("%s: the answer to its creation has the configuration: %v", name, has)
		}
		for range 5 {
			produce(t, cl, name, 1, func(int) string { return strings.Repeat("x", 900) })
		}
		described, err := adm.DescribeTopicConfigs(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		has := slices.ContainsFunc(described[0].Configs, func(c kadm.Config) bool { return c.Key == "internal.segment.bytes" })
		segments, err := filepath.Glob(filepath.Join(dir, name+"-0", "*.log"))
		if err != nil || has != (configs != nil) || (len(segments) > 1) != (configs != nil) {
			t.Errorf("%s: %d segments, described: %v, %v", name, len(segments), has, err)
		}
	}
}
