package broker

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/leatstream/leat/broker/internal/meta"
)

// property is a setting that is fixed while the broker runs, except where live says otherwise, under the name that Apache Kafka's server.properties has for it.
type property struct {
	name string
	kind meta.Type
	get  func(*Config) string
	set  func(*Config, string) error // nil: it is what it is
}

// properties are what clients look for with DescribeConfigs, and what Config.Set takes, beside the defaults of topics.
var properties = []property{
	nodeID("broker.id"),
	nodeID("node.id"),
	{"log.dirs", meta.String, func(c *Config) string { return c.Dir }, func(c *Config, v string) error { c.Dir = v; return nil }},
	{"listeners", meta.List, func(c *Config) string { return listenerNames(c, func(l Listener) string { return l.Addr }) }, nil},
	{"advertised.listeners", meta.List, func(c *Config) string {
		return listenerNames(c, func(l Listener) string { return cmp.Or(l.Advertise, l.Addr) })
	}, nil},
	enabled("auto.create.topics.enable", func(c *Config) *bool { return &c.DisableAutoCreateTopics }),
	enabled("delete.topic.enable", func(c *Config) *bool { return &c.DisableDeleteTopics }),
	number("num.partitions", func(c *Config) *int32 { return &c.DefaultPartitions }),
	fixed("default.replication.factor", meta.Int, "1"),
	fixed("offsets.topic.num.partitions", meta.Int, "1"),
	fixed("offsets.topic.replication.factor", meta.Int, "1"),
	fixed("transaction.state.log.num.partitions", meta.Int, "1"),
	fixed("transaction.state.log.replication.factor", meta.Int, "1"),
	fixed("transaction.state.log.min.isr", meta.Int, "1"),
	{"group.coordinator.rebalance.protocols", meta.List, rebalanceProtocols, setRebalanceProtocols},
	{"group.consumer.migration.policy", meta.String, migrationPolicy, setMigrationPolicy},
	fixed("group.consumer.assignors", meta.List, "uniform,range"),
	duration("group.consumer.assignment.interval.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.ConsumerAssignmentInterval }),
	duration("group.initial.rebalance.delay.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.InitialRebalanceDelay }),
	leastSession(),
	duration("group.max.session.timeout.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.MaxSessionTimeout }),
	number("group.max.size", func(c *Config) *int { return &c.Limits.GroupMembers }),
	number("group.consumer.max.size", func(c *Config) *int { return &c.Limits.GroupMembers }),
	number("offset.metadata.max.bytes", func(c *Config) *int { return &c.Limits.OffsetMetadataBytes }),
	duration("group.consumer.session.timeout.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.ConsumerSessionTimeout }),
	duration("group.consumer.heartbeat.interval.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.ConsumerHeartbeatInterval }),
	duration("offsets.retention.minutes", time.Minute, func(c *Config) *time.Duration { return &c.OffsetsRetention }),
	duration("offsets.retention.check.interval.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.OffsetsCheckInterval }),
	duration("transaction.max.timeout.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.MaxTransactionTimeout }),
	duration("transactional.id.expiration.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.TransactionalIDExpiration }),
	duration("transaction.remove.expired.transaction.cleanup.interval.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.TransactionalIDCheckInterval }),
	duration("producer.id.expiration.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.ProducerIDExpiration }),
	duration("producer.id.expiration.check.interval.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.ProducerIDCheckInterval }),
	duration("log.retention.check.interval.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.RetentionInterval }),
	duration("log.cleaner.backoff.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.CompactionInterval }),
	number("max.incremental.fetch.session.cache.slots", func(c *Config) *int { return &c.MaxFetchSessions }),
	number("fetch.max.bytes", func(c *Config) *int { return &c.MaxFetchBytes }),
	number("socket.request.max.bytes", func(c *Config) *int64 { return &c.MaxRequestBytes }),
	number("max.connections", func(c *Config) *int { return &c.MaxConnections }),
	number("max.connections.per.ip", func(c *Config) *int { return &c.Security.MaxConnectionsPerIP }),
	duration("connections.max.idle.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.IdleTimeout }),
}

// Set sets what name stands for in Apache Kafka's server.properties: "group.min.session.timeout.ms", for example, sets
// MinSessionTimeout, and "log.retention.ms" is the retention.ms of topics that do not have their own. An error names what it
// does not know, or the value that it cannot take; the values that no broker could work with are found by Start.
func (cfg *Config) Set(name, value string) error {
	for _, p := range properties {
		if p.name != name {
			continue
		}
		if p.set == nil {
			if p.get(cfg) == value {
				return nil
			}
			return fmt.Errorf("broker: %s=%s: it is %s here, and cannot be changed", name, value, p.get(cfg))
		}
		if err := p.set(cfg, value); err != nil {
			return fmt.Errorf("broker: %s=%s: %w", name, value, err)
		}
		return nil
	}
	name, value, err := finest(name, value)
	if err != nil {
		return err
	}
	for _, d := range meta.Definitions() {
		if d.Broker != name || name == "" {
			continue
		}
		if err := meta.CheckConfig(d.Name, value); err != nil {
			return fmt.Errorf("broker: %s=%s: %w", name, value, err)
		}
		if cfg.TopicDefaults == nil {
			cfg.TopicDefaults = map[string]string{}
		}
		cfg.TopicDefaults[d.Name] = value
		return nil
	}
	return fmt.Errorf("broker: %s is no setting of this broker: leat config get broker 1 --all lists them", name)
}

// finest turns what server.properties says in hours or minutes into the milliseconds that are described and kept. Of several units of one
// setting the last that is set holds.
func finest(name, value string) (string, string, error) {
	ms, unit := "", time.Duration(0)
	switch name {
	case "log.retention.hours":
		ms, unit = "log.retention.ms", time.Hour
	case "log.retention.minutes":
		ms, unit = "log.retention.ms", time.Minute
	case "log.roll.hours":
		ms, unit = "log.roll.ms", time.Hour
	case "log.roll.jitter.hours":
		ms, unit = "log.roll.jitter.ms", time.Hour
	default:
		return name, value, nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return "", "", fmt.Errorf("broker: %s=%s: want a number of %s units", name, value, unit)
	}
	if n < 0 { // no limit
		return ms, "-1", nil
	}
	return ms, strconv.FormatInt(n*unit.Milliseconds(), 10), nil
}

// enabled is a property that is true unless a field disables it.
func enabled(name string, disabled func(*Config) *bool) property {
	set := func(c *Config, v string) error {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("want true or false")
		}
		*disabled(c) = !on
		return nil
	}
	return property{name, meta.Boolean, func(c *Config) string { return strconv.FormatBool(!*disabled(c)) }, set}
}

func rebalanceProtocols(c *Config) string {
	if c.DisableConsumerProtocol {
		return "classic"
	}
	return "classic,consumer"
}

func setRebalanceProtocols(c *Config, v string) error {
	switch strings.ReplaceAll(v, " ", "") {
	case "classic":
		c.DisableConsumerProtocol = true
	case "classic,consumer", "consumer,classic":
		c.DisableConsumerProtocol = false
	default:
		return fmt.Errorf("want classic, or classic,consumer")
	}
	return nil
}

func migrationPolicy(c *Config) string {
	switch {
	case c.KeepClassicGroups && c.KeepConsumerGroups:
		return "disabled"
	case c.KeepClassicGroups:
		return "downgrade"
	case c.KeepConsumerGroups:
		return "upgrade"
	}
	return "bidirectional"
}

func setMigrationPolicy(c *Config, v string) error {
	switch strings.ToLower(v) {
	case "bidirectional":
		c.KeepClassicGroups, c.KeepConsumerGroups = false, false
	case "upgrade":
		c.KeepClassicGroups, c.KeepConsumerGroups = false, true
	case "downgrade":
		c.KeepClassicGroups, c.KeepConsumerGroups = true, false
	case "disabled":
		c.KeepClassicGroups, c.KeepConsumerGroups = true, true
	default:
		return fmt.Errorf("want bidirectional, upgrade, downgrade or disabled")
	}
	return nil
}

func fixed(name string, kind meta.Type, value string) property {
	return property{name, kind, func(*Config) string { return value }, nil}
}

func number[T int | int32 | int64](name string, field func(*Config) *T) property {
	var zero T
	kind, bits := meta.Int, 32
	if _, wide := any(zero).(int64); wide {
		kind, bits = meta.Long, 64
	}
	set := func(c *Config, v string) error {
		n, err := strconv.ParseInt(v, 10, bits)
		if err != nil {
			return fmt.Errorf("want a number of at most %d bits", bits)
		}
		*field(c) = T(n)
		return nil
	}
	return property{name, kind, func(c *Config) string { return strconv.FormatInt(int64(*field(c)), 10) }, set}
}

// nodeID is a number from 0, which is NodeZero in Config.
func nodeID(name string) property {
	p := number(name, func(c *Config) *int32 { return &c.NodeID })
	set := p.set
	p.set = func(c *Config, v string) error {
		if err := set(c, v); err != nil {
			return err
		}
		if c.NodeID == 0 {
			c.NodeID = NodeZero
		} else if c.NodeID < 0 {
			return fmt.Errorf("want a number from 0")
		}
		return nil
	}
	return p
}

// duration is a property that counts in units.
func duration(name string, unit time.Duration, field func(*Config) *time.Duration) property {
	set := func(c *Config, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n > int64((1<<63-1)/unit) {
			return fmt.Errorf("want a number of %s units", unit)
		}
		*field(c) = time.Duration(n) * unit
		return nil
	}
	return property{name, meta.Long, func(c *Config) string { return strconv.FormatInt(int64(*field(c)/unit), 10) }, set}
}

// leastSession is a duration that may be 0, as in Kafka: any. In Config, where 0 is the default, that is the least that is more.
func leastSession() property {
	p := duration("group.min.session.timeout.ms", time.Millisecond, func(c *Config) *time.Duration { return &c.MinSessionTimeout })
	set := p.set
	p.set = func(c *Config, v string) error {
		if err := set(c, v); err != nil {
			return err
		}
		setDefault(&c.MinSessionTimeout, time.Nanosecond)
		return nil
	}
	return p
}

// listenerNames writes listeners as Kafka does, "SASL_SSL://host:9093,PLAINTEXT://host:9092".
func listenerNames(cfg *Config, addr func(Listener) string) string {
	var out []string
	for _, l := range cfg.Listeners {
		protocol := "PLAINTEXT"
		if l.TLS != nil {
			protocol = "SSL"
		}
		if len(l.SASL) > 0 {
			protocol = "SASL_" + protocol
		}
		out = append(out, protocol+"://"+addr(l))
	}
	return strings.Join(out, ",")
}

// checkTopicDefaults checks TopicDefaults as if a topic were created with them.
func (cfg *Config) checkTopicDefaults() error {
	for name, value := range cfg.TopicDefaults {
		if err := meta.CheckConfig(name, value); err != nil {
			return fmt.Errorf("broker: Config.TopicDefaults: %w", err)
		}
		if name == "min.insync.replicas" && value != "1" && !cfg.ClampReplicationFactor {
			return fmt.Errorf("broker: Config.TopicDefaults: min.insync.replicas=%s can never be met by a single node: use 1", value)
		}
	}
	return nil
}
