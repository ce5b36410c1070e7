package meta

import "math"

// GroupDefinitions returns the table of the configurations of consumer groups by name. Broker is the property of the broker that holds
// where a group says nothing; Default is that property's own.
func GroupDefinitions() []Definition { return groupDefinitions }

var groupDefinitions = []Definition{
	{Name: "consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Broker: "group.consumer.heartbeat.interval.ms", min: 100, max: math.MaxInt32, Doc: "How often members of the consumer protocol are asked for a heartbeat."},
	{Name: "consumer.session.timeout.ms", Type: Int, Default: "45000", Broker: "group.consumer.session.timeout.ms", min: 100, max: math.MaxInt32, Doc: "How long a member of the consumer protocol may be silent before its partitions go to others."},
}
