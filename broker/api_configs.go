package broker

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/meta"
)

// configEntry is one configuration of a topic as it is in force.
type configEntry struct {
	def    meta.Definition
	value  string
	source kmsg.ConfigSource
	fixed  bool // while the broker runs
	// levels are the values of which the first is in force, the default last.
	levels []configLevel
}

// hidden reports whether a configuration is left out of descriptions.
func (e configEntry) hidden() bool { return e.def.Hidden && e.source == kmsg.ConfigSourceDefaultConfig }

type configLevel struct {
	name, value string
	source      kmsg.ConfigSource
}

// topicConfigs is every configuration of a topic, by name.
func (b *Broker) topicConfigs(m meta.Topic) []configEntry {
	dynamic := b.meta.BrokerConfigs()
	out := make([]configEntry, 0, len(meta.Definitions()))
	for _, d := range meta.Definitions() {
		e := configEntry{def: d}
		if v, ok := m.Configs[d.Name]; ok {
			e.levels = append(e.levels, configLevel{d.Name, v, kmsg.ConfigSourceDynamicTopicConfig})
		}
		e.levels = append(e.levels, b.levels(d, dynamic)...)
		e.value, e.source = e.levels[0].value, e.levels[0].source
		out = append(out, e)
	}
	return out
}

// levels are what a topic that says nothing inherits. A configuration that only topics have keeps its name.
func (b *Broker) levels(d meta.Definition, dynamic map[string]string) (levels []configLevel) {
	if d.Broker == "" {
		return []configLevel{{d.Name, d.Default, kmsg.ConfigSourceDefaultConfig}}
	}
	if v, ok := dynamic[d.Broker]; ok {
		levels = append(levels, configLevel{d.Broker, v, kmsg.ConfigSourceDynamicDefaultBrokerConfig})
	}
	if v, ok := b.cfg.TopicDefaults[d.Name]; ok {
		levels = append(levels, configLevel{d.Broker, v, kmsg.ConfigSourceStaticBrokerConfig})
	}
	return append(levels, configLevel{d.Broker, d.Default, kmsg.ConfigSourceDefaultConfig})
}

// brokerConfigs is every configuration of the broker: those that topics inherit, and a few that clients look for.
func (b *Broker) brokerConfigs() []configEntry {
	dynamic := b.meta.BrokerConfigs()
	var out []configEntry
	for _, d := range meta.Definitions() {
		if d.Broker == "" {
			continue
		}
		levels := b.levels(d, dynamic)
		d.Name = d.Broker
		out = append(out, configEntry{d, levels[0].value, levels[0].source, false, levels})
	}
	for _, p := range properties {
		levels := b.propertyLevels(p)
		_, live := p.live()
		out = append(out, configEntry{meta.Definition{Name: p.name, Type: p.kind}, levels[0].value, levels[0].source, !live, levels})
	}
	slices.SortFunc(out, func(x, y configEntry) int { return strings.Compare(x.def.Name, y.def.Name) })
	return out
}

// propertyLevels are a property's value, as Kafka says it: what has been set at run time, static if it is not the default, and the default.
func (b *Broker) propertyLevels(p property) (levels []configLevel) {
	if _, live := p.live(); live {
		if v, ok := b.meta.BrokerConfigs()[p.name]; ok {
			levels = append(levels, configLevel{p.name, v, kmsg.ConfigSourceDynamicDefaultBrokerConfig})
		}
	}
	value, usual := p.get(&b.cfg), p.get(&b.usual)
	if value != usual {
		levels = append(levels, configLevel{p.name, value, kmsg.ConfigSourceStaticBrokerConfig})
	}
	if value == usual || usual != "" { // directories and addresses have no default
		levels = append(levels, configLevel{p.name, usual, kmsg.ConfigSourceDefaultConfig})
	}
	return levels
}

// DescribeConfigs (key 32), versions 0–4. Topics (2), the broker (4, by its id or, for the defaults of all brokers, "") and groups (32).
// No names mean all, defaults included. Other resource types have no configurations here: client metrics (16) are answered
// empty, the rest INVALID_REQUEST. Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION, INVALID_REQUEST.
func serveDescribeConfigs(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeConfigsRequest)
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for _, rr := range req.Resources {
		dr := kmsg.NewDescribeConfigsResponseResource()
		dr.ResourceType, dr.ResourceName = rr.ResourceType, rr.ResourceName
		entries, err := b.describeResource(rr.ResourceType, rr.ResourceName)
		dr.ErrorCode, dr.ErrorMessage = errorCode(err), errorText(err)
		for _, e := range entries {
			if e.hidden() {
				continue
			}
			if len(rr.ConfigNames) == 0 || slices.Contains(rr.ConfigNames, e.def.Name) {
				dr.Configs = append(dr.Configs, describedConfig(e, req))
			}
		}
		resp.Resources = append(resp.Resources, dr)
	}
	return answer(resp), nil
}

func (b *Broker) describeResource(t kmsg.ConfigResourceType, name string) ([]configEntry, error) {
	switch t {
	case kmsg.ConfigResourceTypeTopic:
		if err := meta.CheckName(name); err != nil {
			return nil, refuse(kerr.InvalidTopicException, "%s", err)
		}
		t := b.topic(name)
		if t == nil {
			return nil, kerr.UnknownTopicOrPartition
		}
		return b.topicConfigs(t.Topic), nil
	case kmsg.ConfigResourceTypeBroker:
		if err := b.checkBrokerName(name); err != nil {
			return nil, err
		}
		all := b.brokerConfigs()
		if name == "" {
			all = slices.DeleteFunc(all, func(e configEntry) bool { return e.source != kmsg.ConfigSourceDynamicDefaultBrokerConfig })
		}
		return all, nil
	case kmsg.ConfigResourceTypeGroupConfig:
		if name == "" {
			return nil, refuse(kerr.InvalidRequest, "Default group resources are not allowed.")
		}
		return b.groupConfigs(name), nil
	case kmsg.ConfigResourceTypeClientMetrics:
		return nil, nil
	}
	return nil, refuse(kerr.InvalidRequest, "resource type %d has no configurations", t)
}

func (b *Broker) checkBrokerName(name string) error {
	if name != "" && name != strconv.Itoa(int(b.cfg.NodeID)) {
		return refuse(kerr.InvalidRequest, "Unexpected broker id, expected %d or empty string, but received %s", b.cfg.NodeID, name)
	}
	return nil
}

func describedConfig(e configEntry, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	dc := kmsg.NewDescribeConfigsResponseResourceConfig()
	dc.Name, dc.Value, dc.Source = e.def.Name, kmsg.StringPtr(e.value), e.source
	dc.IsDefault = e.source == kmsg.ConfigSourceDefaultConfig
	dc.ReadOnly = e.fixed
	dc.ConfigType = kmsg.ConfigType(e.def.Type)
	if req.IncludeSynonyms {
		for _, l := range e.levels {
			s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			s.Name, s.Value, s.Source = l.name, kmsg.StringPtr(l.value), l.source
			dc.ConfigSynonyms = append(dc.ConfigSynonyms, s)
		}
	}
	if req.IncludeDocumentation {
		dc.Documentation = kmsg.StringPtr(e.def.Doc)
	}
	return dc
}

// configResource is what configurations are of.
type configResource struct {
	kind kmsg.ConfigResourceType
	name string
}

// configChange is one step of an incremental change.
type configChange struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value *string
}

// AlterConfigs (key 33), versions 0–2. Replaces everything that is set on a topic, the broker or a group.
// Errors per resource: as IncrementalAlterConfigs.
func serveAlterConfigs(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.AlterConfigsRequest)
	resp := kmsg.NewPtrAlterConfigsResponse()
	for rr, err := range eachOnce(req.Resources, func(r *kmsg.AlterConfigsRequestResource) configResource {
		return configResource{r.ResourceType, r.ResourceName}
	}) {
		var steps []configChange
		for _, rc := range rr.Configs {
			steps = append(steps, configChange{rc.Name, kmsg.IncrementalAlterConfigOpSet, rc.Value})
		}
		if err == nil {
			err = b.alterResource(rr.ResourceType, rr.ResourceName, steps, true, req.ValidateOnly)
		}
		ar := kmsg.NewAlterConfigsResponseResource()
		ar.ResourceType, ar.ResourceName = rr.ResourceType, rr.ResourceName
		ar.ErrorCode, ar.ErrorMessage = errorCode(err), errorText(err)
		resp.Resources = append(resp.Resources, ar)
	}
	return answer(resp), nil
}

// IncrementalAlterConfigs (key 44), versions 0–1. SET and DELETE for every configuration, APPEND and SUBTRACT for lists.
// Errors per resource: UNKNOWN_TOPIC_OR_PARTITION, INVALID_CONFIG, INVALID_REPLICATION_FACTOR (min.insync.replicas), INVALID_REQUEST,
// POLICY_VIOLATION (more groups with configurations than Limits.Groups).
func serveIncrementalAlterConfigs(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.IncrementalAlterConfigsRequest)
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	for rr, err := range eachOnce(req.Resources, func(r *kmsg.IncrementalAlterConfigsRequestResource) configResource {
		return configResource{r.ResourceType, r.ResourceName}
	}) {
		var steps []configChange
		for _, rc := range rr.Configs {
			steps = append(steps, configChange{rc.Name, rc.Op, rc.Value})
		}
		if err == nil {
			err = b.alterResource(rr.ResourceType, rr.ResourceName, steps, false, req.ValidateOnly)
		}
		ar := kmsg.NewIncrementalAlterConfigsResponseResource()
		ar.ResourceType, ar.ResourceName = rr.ResourceType, rr.ResourceName
		ar.ErrorCode, ar.ErrorMessage = errorCode(err), errorText(err)
		resp.Resources = append(resp.Resources, ar)
	}
	return answer(resp), nil
}

// alterResource changes the configurations of a topic, the broker or a group, all steps or none. Nobody changes others beside it:
// what is set is made of what was, and would take their changes back.
func (b *Broker) alterResource(t kmsg.ConfigResourceType, name string, steps []configChange, replace, validateOnly bool) error {
	b.changes.Lock()
	defer b.changes.Unlock()
	entries, err := b.describeResource(t, name)
	if err != nil {
		return err
	}
	own := kmsg.ConfigSourceDynamicTopicConfig
	switch t {
	case kmsg.ConfigResourceTypeTopic:
	case kmsg.ConfigResourceTypeBroker:
		own = kmsg.ConfigSourceDynamicDefaultBrokerConfig
		entries = b.brokerConfigs()
	case kmsg.ConfigResourceTypeGroupConfig:
		own = kmsg.ConfigSourceGroupConfig
	default:
		return refuse(kerr.InvalidRequest, "resource type %d cannot be configured", t)
	}
	set, known := map[string]string{}, map[string]configEntry{}
	for _, e := range entries {
		known[e.def.Name] = e
		if e.source == own && !replace {
			set[e.def.Name] = e.value
		}
	}
	for s, err := range eachOnce(steps, func(s *configChange) string { return s.name }) {
		if err != nil {
			return err
		}
		e, ok := known[s.name]
		if !ok {
			return refuse(kerr.InvalidConfig, "unknown config name: %s", s.name)
		}
		if e.fixed {
			return refuse(kerr.InvalidRequest, "cannot change %s while the broker runs", s.name)
		}
		if err := b.applyStep(set, e, *s); err != nil {
			return err
		}
	}
	switch t {
	case kmsg.ConfigResourceTypeGroupConfig:
		err = b.checkGroupConfigs(name, set)
	case kmsg.ConfigResourceTypeTopic:
		err = b.checkLags(set)
	}
	if err != nil {
		return err
	}
	switch {
	case validateOnly:
		return nil
	case t == kmsg.ConfigResourceTypeTopic:
		return b.setConfigsLocked(name, set)
	case t == kmsg.ConfigResourceTypeGroupConfig:
		return b.setGroupConfigs(name, set)
	}
	return b.setBrokerConfigsLocked(set)
}

// applyStep makes one step on set.
func (b *Broker) applyStep(set map[string]string, e configEntry, s configChange) error {
	if s.op == kmsg.IncrementalAlterConfigOpDelete {
		delete(set, s.name)
		return nil
	}
	if s.value == nil {
		return refuse(kerr.InvalidRequest, "configuration %s has no value", s.name)
	}
	value := *s.value
	if s.op == kmsg.IncrementalAlterConfigOpAppend || s.op == kmsg.IncrementalAlterConfigOpSubtract {
		if e.def.Type != meta.List {
			return refuse(kerr.InvalidConfig, "configuration %s is no list: it can be set or deleted only", s.name)
		}
		current, ok := set[s.name]
		if !ok {
			current = e.value
		}
		value = changeList(current, value, s.op == kmsg.IncrementalAlterConfigOpAppend)
	} else if s.op != kmsg.IncrementalAlterConfigOpSet {
		return refuse(kerr.InvalidRequest, "unknown operation %d", s.op)
	}
	if err := b.checkValue(e.def, value); err != nil {
		return err
	}
	set[s.name] = value
	return nil
}

// checkValue checks a value of a topic's, the broker's or a group's configuration.
func (b *Broker) checkValue(def meta.Definition, value string) error {
	for _, d := range meta.Definitions() { // a broker configuration is checked as the topic configuration that inherits it
		if d.Name == def.Name || d.Broker == def.Name {
			return b.checkConfig(d.Name, value)
		}
	}
	for _, p := range properties {
		if p.name == def.Name {
			return b.checkLive(p, value)
		}
	}
	if err := def.Check(value); err != nil {
		return refuse(kerr.InvalidConfig, "%s", err)
	}
	return nil
}

// changeList adds elements to a comma-separated list or takes them out.
func changeList(list, elements string, add bool) string {
	var have []string
	for v := range strings.SplitSeq(list, ",") {
		if v = strings.TrimSpace(v); v != "" {
			have = append(have, v)
		}
	}
	for v := range strings.SplitSeq(elements, ",") {
		v = strings.TrimSpace(v)
		i := slices.Index(have, v)
		switch {
		case add && i < 0 && v != "":
			have = append(have, v)
		case !add && i >= 0:
			have = slices.Delete(have, i, i+1)
		}
	}
	return strings.Join(have, ",")
}

// setBrokerConfigsLocked replaces what is configured on the broker and tells every log.
func (b *Broker) setBrokerConfigsLocked(configs map[string]string) error {
	if err := b.meta.SetBrokerConfigs(maps.Clone(configs)); err != nil {
		return err
	}
	b.relive()
	for _, t := range b.topics.Load().byName {
		if err := b.configureLogs(t); err != nil {
			return err
		}
	}
	return nil
}
