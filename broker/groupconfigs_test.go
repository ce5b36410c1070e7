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
		{"g", "share.session.timeout.ms", "45000", kerr.InvalidConfig},
		{"", groupSession, "30000", kerr.InvalidRequest},
		{"another", groupSession, "30000", kerr.PolicyViolation},
	} {
		if err := alterGroup(r, c.group, c.name, &c.value); err != c.want { //nolint:errorlint // kerr's own values
			t.Errorf("%+v: %v", c, err)
		}
	}
	if got := heartbeat(1); got != 10000 {
		t.Errorf("%d ms after the change", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, here)
	r = dialRaw(t, b)
	if got := heartbeat(1); got != 10000 {
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
	if got := heartbeat(1); got != 5000 {
		t.Errorf("%d ms after the deletion", got)
	}
	if rs := do[*kmsg.ListConfigResourcesResponse](r, list, 1).ConfigResources; len(rs) != 0 {
		t.Errorf("listed: %+v", rs)
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
