package broker

import (
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func groupConfigs(r *raw, group string) map[string]kmsg.DescribeConfigsResponseResourceConfig {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms = true
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: group}}
	out := map[string]kmsg.DescribeConfigsResponseResourceConfig{}
	for _, c := range do[*kmsg.DescribeConfigsResponse](r, req, 4).Resources[0].Configs {
		out[c.Name] = c
	}
	return out
}

func alterGroup(r *raw, group, name string, value *string) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	c := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Value: value}
	if value == nil {
		c.Op = kmsg.IncrementalAlterConfigOpDelete
	}
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: group, Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{c}}}
	return kerr.ErrorForCode(do[*kmsg.IncrementalAlterConfigsResponse](r, req, 1).Resources[0].ErrorCode)
}

// TestGroupConfigs: KIP-848's configurations of one group hold from its members' next heartbeats on, and outlive a restart.
func TestGroupConfigs(t *testing.T) {
	dir := t.TempDir()
	here := func(c *Config) { c.Dir, c.ConsumerSessionTimeout, c.Limits.Groups = dir, 40*time.Second, 1 }
	b := start(t, here)
	r := dialRaw(t, b)
	heartbeat := func(epoch int32) (interval int32) {
		t.Helper()
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch = "g", "m", epoch
		if epoch == 0 {
			req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = 1000, []string{}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}
		resp := do[*kmsg.ConsumerGroupHeartbeatResponse](r, req, 1)
		if resp.ErrorCode != 0 {
			t.Fatalf("heartbeat: %d %s", resp.ErrorCode, *resp.ErrorMessage)
		}
		return resp.HeartbeatIntervalMillis
	}
	if got := heartbeat(0); got != 5000 {
		t.Errorf("%d ms at first", got)
	}
	for _, c := range []struct {
		group, name, value string
		want               error
	}{
		{"g", groupHeartbeat, "10000", nil},
		{"g", groupSession, "10000", kerr.InvalidConfig}, // as long as the interval
		{"g", groupSession, "5999", kerr.InvalidConfig},  // below what members may ask for
		{"g", groupSession, "30m", kerr.InvalidConfig},
		{"g", "connect.session.timeout.ms", "45000", kerr.InvalidConfig},
		{"", groupSession, "30000", kerr.InvalidRequest},
		{"another", groupSession, "30000", kerr.PolicyViolation},
	} {
		if err := alterGroup(r, c.group, c.name, &c.value); err != c.want { //nolint:errorlint // kerr's own values
			t.Errorf("%+v: %v", c, err)
		}
	}
	if got := heartbeat(2); got != 10000 {
		t.Errorf("%d ms after the change", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, here)
	r = dialRaw(t, b)
	if got := heartbeat(2); got != 10000 {
		t.Errorf("%d ms after a restart", got)
	}
	got := groupConfigs(r, "g")
	if c := got[groupHeartbeat]; *c.Value != "10000" || c.Source != kmsg.ConfigSourceGroupConfig || len(c.ConfigSynonyms) != 2 ||
		c.ConfigSynonyms[1].Name != "group.consumer.heartbeat.interval.ms" || c.ConfigSynonyms[1].Source != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("the interval: %+v", c)
	}
	if c := got[groupSession]; *c.Value != strconv.Itoa(40_000) || c.Source != kmsg.ConfigSourceStaticBrokerConfig || len(c.ConfigSynonyms) != 2 {
		t.Errorf("the session: %+v", c)
	}
	list := kmsg.NewPtrListConfigResourcesRequest()
	list.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeGroupConfig)}
	if rs := do[*kmsg.ListConfigResourcesResponse](r, list, 1).ConfigResources; len(rs) != 1 || rs[0].Name != "g" {
		t.Errorf("listed: %+v", rs)
	}
	if err := alterGroup(r, "g", groupHeartbeat, nil); err != nil {
		t.Error(err)
	}
	if got := heartbeat(2); got != 5000 {
		t.Errorf("%d ms after the deletion", got)
	}
	if rs := do[*kmsg.ListConfigResourcesResponse](r, list, 1).ConfigResources; len(rs) != 0 {
		t.Errorf("listed: %+v", rs)
	}
}

// TestAssignmentIntervalOfAGroup: a group's own time between assignments holds from the next heartbeat on.
func TestAssignmentIntervalOfAGroup(t *testing.T) {
	r := dialRaw(t, start(t, func(c *Config) {
		if err := c.Set("group.consumer.assignment.interval.ms", "3600000"); err != nil {
			t.Fatal(err)
		}
	}))
	heartbeat := func(member string, epoch, want int32) {
		t.Helper()
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch = "g", member, epoch
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = 1000, []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if resp := do[*kmsg.ConsumerGroupHeartbeatResponse](r, req, 1); resp.ErrorCode != 0 || resp.MemberEpoch != want {
			t.Errorf("%s: error %d, epoch %d, want %d", member, resp.ErrorCode, resp.MemberEpoch, want)
		}
	}
	heartbeat("a", 0, 2)
	heartbeat("b", 0, 2) // comes too soon
	if err := alterGroup(r, "g", groupAssignment, kmsg.StringPtr("0")); err != nil {
		t.Fatal(err)
	}
	heartbeat("b", 2, 3)
	if c := groupConfigs(r, "g")[groupAssignment]; *c.Value != "0" || len(c.ConfigSynonyms) != 3 || *c.ConfigSynonyms[1].Value != "3600000" {
		t.Errorf("%+v", c)
	}
}

func TestIdleProducersAreForgotten(t *testing.T) {
	b := start(t, func(c *Config) { c.ProducerIDExpiration, c.ProducerIDCheckInterval = time.Hour, time.Millisecond })
	mustTopic(t, dialRaw(t, b), "t", 1)
	cl := newClient(t, []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())})
	if err := cl.ProduceSync(within(t, 10*time.Second), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	p, _ := b.partition("t", 0)
	if len(p.Producers()) != 1 {
		t.Fatalf("producers %+v", p.Producers())
	}
	cfg := p.Config()
	cfg.ProducerExpiry = time.Millisecond
	if err := p.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the producer is forgotten", func() bool { return len(p.Producers()) == 0 })
}

// TestPropertiesThatChangeAtRunTime: a few properties of the broker may be changed while it runs. They hold at once, and after a restart.
func TestPropertiesThatChangeAtRunTime(t *testing.T) {
	dir := t.TempDir()
	here := func(c *Config) { c.Dir, c.ProducerIDExpiration = dir, time.Hour }
	b := start(t, here)
	r := dialRaw(t, b)
	alter := func(name, value string) error {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1",
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: name, Value: &value}}}}
		return kerr.ErrorForCode(do[*kmsg.IncrementalAlterConfigsResponse](r, req, 1).Resources[0].ErrorCode)
	}
	mustTopic(t, r, "t", 1)
	for _, c := range []struct {
		name, value string
		want        error
	}{
		{"producer.id.expiration.ms", "0", kerr.InvalidConfig},
		{"producer.id.expiration.ms", "soon", kerr.InvalidConfig},
		{"producer.id.expiration.ms", "9223372036854775807", kerr.InvalidConfig},
		{"group.consumer.assignment.interval.ms", "-1", kerr.InvalidConfig},
		{"producer.id.expiration.check.interval.ms", "1000", kerr.InvalidRequest}, // not this one
		{"producer.id.expiration.ms", "2000", nil},
		{"group.consumer.assignment.interval.ms", "0", nil},
		{"group.consumer.assignment.interval.ms", "3000", nil},
		{"log.cleaner.backoff.ms", "1", nil},
	} {
		if err := alter(c.name, c.value); err != c.want { //nolint:errorlint // kerr's own values
			t.Errorf("%+v: %v", c, err)
		}
	}
	for range 2 {
		if got := b.current(); got.ProducerIDExpiration != 2*time.Second || got.ConsumerAssignmentInterval != 3*time.Second || got.CompactionInterval != time.Millisecond {
			t.Errorf("in force: %v, %v, %v", got.ProducerIDExpiration, got.ConsumerAssignmentInterval, got.CompactionInterval)
		}
		p, _ := b.partition("t", 0)
		if got := p.Config().ProducerExpiry; got != 2*time.Second {
			t.Errorf("in the log: %v", got)
		}
		if _, _, interval := b.groupTimes("g"); interval != 3*time.Second {
			t.Errorf("for groups: %v", interval)
		}
		c := groupConfigs(dialRaw(t, b), "g")[groupAssignment]
		if *c.Value != "3000" || c.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig || len(c.ConfigSynonyms) != 2 {
			t.Errorf("described: %+v", c)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = start(t, here)
	}
}

// TestGroupConfigsOfOtherProtocols: tools set what share and streams groups have, whatever protocol the members then use. It is kept, described and
// without effect.
func TestGroupConfigsOfOtherProtocols(t *testing.T) {
	r := dialRaw(t, start(t, nil))
	for _, c := range []struct {
		name, value string
		want        error
	}{
		{"streams.num.standby.replicas", "1", nil},
		{"streams.initial.rebalance.delay.ms", "0", nil},
		{"streams.initial.rebalance.delay.ms", "-1", kerr.InvalidConfig},
		{"streams.heartbeat.interval.ms", "45000", kerr.InvalidConfig}, // as long as the session
		{"streams.heartbeat.interval.ms", "1000", nil},
		{"streams.session.timeout.ms", "1000", kerr.InvalidConfig}, // as short as the interval that is set
		{"share.session.timeout.ms", "5000", kerr.InvalidConfig},
		{"share.delivery.count.limit", "1", kerr.InvalidConfig},
		{"share.auto.offset.reset", "earliest", nil},
		{"share.auto.offset.reset", "by_duration:PT1H30M", nil},
		{"share.auto.offset.reset", "by_duration:-PT1H", kerr.InvalidConfig},
		{"share.isolation.level", "serializable", kerr.InvalidConfig},
		{groupAssignment, "3000", nil},
	} {
		if err := alterGroup(r, "g", c.name, &c.value); err != c.want { //nolint:errorlint // kerr's own values
			t.Errorf("%+v: %v", c, err)
		}
	}
	got := groupConfigs(r, "g")
	for name, want := range map[string]string{"streams.num.standby.replicas": "1", "streams.session.timeout.ms": "45000", "share.auto.offset.reset": "by_duration:PT1H30M"} {
		if c := got[name]; c.Value == nil || *c.Value != want {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if s := got["share.auto.offset.reset"].ConfigSynonyms; len(s) != 2 || s[1].Name != "share.auto.offset.reset" || s[1].Source != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("synonyms %+v", s)
	}
	if s := got[groupAssignment].ConfigSynonyms; len(s) != 2 || s[1].Name != "group.consumer.assignment.interval.ms" || *s[1].Value != "0" {
		t.Errorf("synonyms %+v", s)
	}
}
