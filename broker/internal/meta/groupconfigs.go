package meta

import "math"

// GroupDefinitions returns the table of the configurations of groups by name. It is Kafka's table. Broker is the property of the broker
// that holds where a group says nothing, "" if there is none; Default is that property's own.
//
// Those of share and streams groups are kept and described, and change nothing: such groups are not offered. Kafka's admin tools and tests set them whatever protocol the members then use.
func GroupDefinitions() []Definition { return groupDefinitions }

const (
	ofShareGroups   = "Kept for compatibility; share groups are not offered."
	ofStreamsGroups = "Kept for compatibility; streams groups are not offered."

	isoDuration = `^by_duration:P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$`
)

var groupDefinitions = []Definition{
	{Name: "consumer.assignment.interval.ms", Type: Int, Default: "0", Broker: "group.consumer.assignment.interval.ms", max: math.MaxInt32, Doc: "How long after an assignment of the consumer protocol the next one is computed at the earliest."},
	{Name: "consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Broker: "group.consumer.heartbeat.interval.ms", min: 100, max: math.MaxInt32, Doc: "How often members of the consumer protocol are asked for a heartbeat."},
	{Name: "consumer.session.timeout.ms", Type: Int, Default: "45000", Broker: "group.consumer.session.timeout.ms", min: 100, max: math.MaxInt32, Doc: "How long a member of the consumer protocol may be silent before its partitions go to others."},
	{Name: "share.assignment.interval.ms", Type: Int, Default: "1000", max: math.MaxInt32, Doc: ofShareGroups},
	{Name: "share.auto.offset.reset", Type: String, Default: "latest", allowed: []string{"latest", "earliest"}, pattern: isoDuration, Doc: ofShareGroups},
	{Name: "share.delivery.count.limit", Type: Int, Default: "5", min: 2, max: math.MaxInt32, Doc: ofShareGroups},
	{Name: "share.heartbeat.interval.ms", Type: Int, Default: "5000", min: 1, max: math.MaxInt32, Doc: ofShareGroups},
	{Name: "share.isolation.level", Type: String, Default: "read_uncommitted", allowed: []string{"read_committed", "read_uncommitted"}, Doc: ofShareGroups},
	{Name: "share.partition.max.record.locks", Type: Int, Default: "2000", min: 100, max: math.MaxInt32, Doc: ofShareGroups},
	{Name: "share.record.lock.duration.ms", Type: Int, Default: "30000", min: 1000, max: math.MaxInt32, Doc: ofShareGroups},
	{Name: "share.renew.acknowledge.enable", Type: Boolean, Default: "true", Doc: ofShareGroups},
	{Name: "share.session.timeout.ms", Type: Int, Default: "45000", min: 1, max: math.MaxInt32, Doc: ofShareGroups},
	{Name: "streams.assignment.interval.ms", Type: Int, Default: "1000", max: math.MaxInt32, Doc: ofStreamsGroups},
	{Name: "streams.heartbeat.interval.ms", Type: Int, Default: "5000", min: 1, max: math.MaxInt32, Doc: ofStreamsGroups},
	{Name: "streams.initial.rebalance.delay.ms", Type: Int, Default: "3000", max: math.MaxInt32, Doc: ofStreamsGroups},
	{Name: "streams.num.standby.replicas", Type: Int, Default: "0", max: math.MaxInt32, Doc: ofStreamsGroups},
	{Name: "streams.session.timeout.ms", Type: Int, Default: "45000", min: 1, max: math.MaxInt32, Doc: ofStreamsGroups},
}
