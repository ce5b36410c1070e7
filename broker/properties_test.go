package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
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
		case p.name == "auto.create.topics.enable":
			want = "false"
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
	for _, wrong := range [][2]string{{"group.min.session.timeout.ms", "x"}, {"log.retention.ms", "x"}, {"broker.id", "3000000000"}, {"auto.create.topics.enable", "maybe"}, {"no.such.name", "1"}, {"", "1"}} {
		if err := cfg.Set(wrong[0], wrong[1]); err == nil || !strings.Contains(err.Error(), wrong[0]) {
			t.Errorf("%q: got %v", wrong, err)
		}
	}
	if cfg.OffsetsRetention != 60001*time.Minute {
		t.Errorf("minutes are %s", cfg.OffsetsRetention)
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
	if c := config(kmsg.ConfigResourceTypeBroker, "1", "group.min.session.timeout.ms"); *c.Value != "100" || !c.ReadOnly {
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
