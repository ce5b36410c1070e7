package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/meta"
)

func TestPropertiesAreKafkasNamesOfConfig(t *testing.T) {
	var cfg Config
	for _, p := range properties {
		want := p.get(&cfg)
		switch {
		case p.set == nil:
			if err := cfg.Set(p.name, want+"0"); err == nil || !strings.Contains(err.Error(), "cannot be changed") {
				t.Errorf("%s can be changed: %v", p.name, err)
			}
			continue
		case p.name == "log.dirs":
			want = "d"
		case p.kind == meta.Boolean:
			want = "false"
		case p.name == "group.coordinator.rebalance.protocols":
			want = "classic"
		case p.name == "group.consumer.migration.policy":
			want = "upgrade"
		default:
			want = "60001"
		}
		if err := cfg.Set(p.name, want); err != nil {
			t.Error(err)
		}
		if got := p.get(&cfg); got != want {
			t.Errorf("%s is %q, want %q", p.name, got, want)
		}
	}
	for _, wrong := range [][2]string{{"group.min.session.timeout.ms", "x"}, {"log.retention.ms", "x"}, {"broker.id", "3000000000"}, {"node.id", "-1"}, {"auto.create.topics.enable", "maybe"}, {"group.consumer.migration.policy", "maybe"}, {"no.such.name", "1"}, {"", "1"}} {
		if err := cfg.Set(wrong[0], wrong[1]); err == nil || !strings.Contains(err.Error(), wrong[0]) {
			t.Errorf("%q: got %v", wrong, err)
		}
	}
	if cfg.OffsetsRetention != 60001*time.Minute {
		t.Errorf("minutes are %s", cfg.OffsetsRetention)
	}
	if err := cfg.Set("group.min.session.timeout.ms", "0"); err != nil || cfg.MinSessionTimeout <= 0 || cfg.MinSessionTimeout >= time.Millisecond {
		t.Errorf("a session of any length: %s, %v", cfg.MinSessionTimeout, err)
	}
	for _, unit := range [][4]string{{"log.retention.hours", "2", "retention.ms", "7200000"}, {"log.retention.minutes", "2", "retention.ms", "120000"}, {"log.retention.hours", "-1", "retention.ms", "-1"}, {"log.roll.hours", "1", "segment.ms", "3600000"}} {
		if err := cfg.Set(unit[0], unit[1]); err != nil || cfg.TopicDefaults[unit[2]] != unit[3] {
			t.Errorf("%q: %v, %v", unit, err, cfg.TopicDefaults)
		}
	}
}

// TestBrokerOfTheIDZero: server.properties may say node.id=0, and so may clients.
func TestBrokerOfTheIDZero(t *testing.T) {
	r := dialRaw(t, start(t, func(c *Config) {
		if err := c.Set("node.id", "0"); err != nil {
			t.Fatal(err)
		}
	}))
	mustTopic(t, r, "t", 1)
	meta := do[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 12)
	if meta.ControllerID != 0 || len(meta.Brokers) != 1 || meta.Brokers[0].NodeID != 0 || meta.Topics[0].Partitions[0].Leader != 0 {
		t.Errorf("%+v", meta)
	}
	configs := kmsg.NewPtrDescribeConfigsRequest()
	configs.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "0", ConfigNames: []string{"node.id"}}}
	if d := do[*kmsg.DescribeConfigsResponse](r, configs, 4).Resources[0]; d.ErrorCode != 0 || len(d.Configs) != 1 || *d.Configs[0].Value != "0" {
		t.Errorf("%+v", d)
	}
}

func TestMigrationPolicies(t *testing.T) {
	for policy, want := range map[string][2]bool{"bidirectional": {false, false}, "UPGRADE": {false, true}, "downgrade": {true, false}, "disabled": {true, true}} {
		cfg := Config{KeepClassicGroups: !want[0], KeepConsumerGroups: !want[1]}
		if err := cfg.Set("group.consumer.migration.policy", policy); err != nil || cfg.KeepClassicGroups != want[0] || cfg.KeepConsumerGroups != want[1] ||
			migrationPolicy(&cfg) != strings.ToLower(policy) {
			t.Errorf("%s: %+v, %s, %v", policy, want, migrationPolicy(&cfg), err)
		}
	}
}

func TestWhatIsDisabledIsRefused(t *testing.T) {
	b := start(t, func(c *Config) {
		for _, name := range []string{"delete.topic.enable=false", "group.coordinator.rebalance.protocols=classic"} {
			name, value, _ := strings.Cut(name, "=")
			if err := c.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	})
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	for version, want := range map[int16]*kerr.Error{1: kerr.InvalidRequest, 3: kerr.TopicDeletionDisabled} {
		if got := do[*kmsg.DeleteTopicsResponse](r, &kmsg.DeleteTopicsRequest{TopicNames: []string{"t"}}, version).Topics[0].ErrorCode; got != want.Code {
			t.Errorf("v%d: delete answers %d, want %s", version, got, want.Message)
		}
	}
	if b.topic("t") == nil {
		t.Error("the topic is gone")
	}
	if got := do[*kmsg.ConsumerGroupHeartbeatResponse](r, kmsg.NewPtrConsumerGroupHeartbeatRequest(), 1).ErrorCode; got != kerr.UnsupportedVersion.Code {
		t.Errorf("heartbeat: %d", got)
	}
	if got := do[*kmsg.ConsumerGroupDescribeResponse](r, &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"g"}}, 1).Groups[0].ErrorCode; got != kerr.UnsupportedVersion.Code {
		t.Errorf("describe: %d", got)
	}
}

func TestStaticDefaultsOfTopicsAreInForceAndSaySo(t *testing.T) {
	b := start(t, func(c *Config) {
		for name, value := range map[string]string{"log.retention.ms": "12345", "group.min.session.timeout.ms": "100"} {
			if err := c.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	})
	r := dialRaw(t, b)
	mustTopic(t, r, "t", 1)
	config := func(kind kmsg.ConfigResourceType, resource, name string) kmsg.DescribeConfigsResponseResourceConfig {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: resource, ConfigNames: []string{name}}}
		return do[*kmsg.DescribeConfigsResponse](r, req, 4).Resources[0].Configs[0]
	}
	if c := config(kmsg.ConfigResourceTypeTopic, "t", "retention.ms"); *c.Value != "12345" || c.Source != kmsg.ConfigSourceStaticBrokerConfig || c.ReadOnly {
		t.Errorf("retention.ms of the topic: %+v", c)
	}
	if c := config(kmsg.ConfigResourceTypeBroker, "1", "group.max.session.timeout.ms"); *c.Value != "1800000" || c.Source != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("group.max.session.timeout.ms of the broker: %+v", c)
	}
	if c := config(kmsg.ConfigResourceTypeBroker, "1", "group.min.session.timeout.ms"); *c.Value != "100" || !c.ReadOnly || c.Source != kmsg.ConfigSourceStaticBrokerConfig {
		t.Errorf("group.min.session.timeout.ms of the broker: %+v", c)
	}
	alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
	value := "777"
	alter.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1",
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "log.retention.ms", Value: &value}}}}
	if got := do[*kmsg.IncrementalAlterConfigsResponse](r, alter, 1).Resources[0]; got.ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
	if c := config(kmsg.ConfigResourceTypeTopic, "t", "retention.ms"); *c.Value != "777" || c.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig {
		t.Errorf("what is set at run time does not go before: %+v", c)
	}
	p, ok := b.partition("t", 0)
	if !ok || p.Config().RetentionAge != 777*time.Millisecond {
		t.Error("the log was not told")
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", "consumer", 99, 1000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	if got := do[*kmsg.JoinGroupResponse](r, join, 3).ErrorCode; got != kerr.InvalidSessionTimeout.Code {
		t.Errorf("a session of 99 ms: %d", got)
	}
	join.SessionTimeoutMillis = 100
	if got := do[*kmsg.JoinGroupResponse](r, join, 3).ErrorCode; got != 0 {
		t.Errorf("a session of 100 ms: %d", got)
	}
}
