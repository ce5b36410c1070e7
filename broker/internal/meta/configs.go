package meta

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Type is the type of a configuration value, as Kafka numbers them in DescribeConfigs.
type Type int8

// The types in use.
const (
	Boolean Type = 1
	String  Type = 2
	Int     Type = 3
	Long    Type = 5
	Double  Type = 6
	List    Type = 7
)

// Definition describes one topic configuration.
type Definition struct {
	Name    string
	Type    Type
	Default string
	Doc     string
	// Broker is the broker configuration that this one overrides, "" if there is none.
	Broker string
	// Hidden ones are described only where they are set, as Kafka's internal ones.
	Hidden bool

	min, max float64  // of numbers
	allowed  []string // of strings and lists; nil: anything
	pattern  string   // of strings: a regular expression of what is allowed beside them; "": nothing
}

const forever = math.MaxInt64

var longMax = strconv.FormatInt(math.MaxInt64, 10)

// Definitions returns the table of topic configurations by name. It is Kafka's table: clients describe, set and compare these.
func Definitions() []Definition { return definitions }

var definitions = []Definition{
	{Name: "cleanup.policy", Type: List, Default: "delete", Broker: "log.cleanup.policy", allowed: []string{"delete", "compact"}, Doc: "What happens to old records: delete by age and size, compact to the latest per key, or both."},
	{Name: "compression.gzip.level", Type: Int, Default: "-1", Broker: "compression.gzip.level", min: -1, max: 9, Doc: "Kept for compatibility; the codec's own default is used."},
	{Name: "compression.lz4.level", Type: Int, Default: "9", Broker: "compression.lz4.level", min: 1, max: 17, Doc: "Kept for compatibility; the codec's own default is used."},
	{Name: "compression.type", Type: String, Default: "producer", Broker: "compression.type", allowed: []string{"producer", "uncompressed", "zstd", "lz4", "snappy", "gzip"}, Doc: "Codec of stored batches; producer keeps what the producer chose."},
	{Name: "compression.zstd.level", Type: Int, Default: "3", Broker: "compression.zstd.level", min: -131072, max: 22, Doc: "Kept for compatibility; the codec's own default is used."},
	{Name: "delete.retention.ms", Type: Long, Default: "86400000", Broker: "log.cleaner.delete.retention.ms", max: forever, Doc: "How long tombstones of compacted topics are kept."},
	{Name: "file.delete.delay.ms", Type: Long, Default: "60000", Broker: "log.segment.delete.delay.ms", max: forever, Doc: "Kept for compatibility; a deleted segment's file goes when the last read of it has ended."},
	{Name: "flush.messages", Type: Long, Default: longMax, Broker: "log.flush.interval.messages", min: 1, max: forever, Doc: "Kept for compatibility; the broker's flush policy decides."},
	{Name: "flush.ms", Type: Long, Default: longMax, Broker: "log.flush.interval.ms", max: forever, Doc: "Kept for compatibility; the broker's flush policy decides."},
	{Name: "index.interval.bytes", Type: Int, Default: "4096", Broker: "log.index.interval.bytes", max: math.MaxInt32, Doc: "Bytes of log between two index entries."},
	{Name: "internal.segment.bytes", Type: Int, Default: "0", Hidden: true, max: math.MaxInt32, Doc: "In force instead of segment.bytes where it is set; 0 is not set. Kafka's own tests use it, because its segment.bytes begins at 1 MiB."},
	{Name: "leat.key.schema.validation", Type: Boolean, Default: "false", Doc: "Refuse records whose keys carry no schema that is registered for the topic; needs a schema registry in the broker's process."},
	{Name: "leat.value.schema.validation", Type: Boolean, Default: "false", Doc: "Refuse records whose values carry no schema that is registered for the topic; needs a schema registry in the broker's process."},
	{Name: "max.compaction.lag.ms", Type: Long, Default: longMax, Broker: "log.cleaner.max.compaction.lag.ms", min: 1, max: forever, Doc: "Longest time a record stays uncompacted."},
	{Name: "max.message.bytes", Type: Int, Default: "1048588", Broker: "message.max.bytes", max: math.MaxInt32, Doc: "Largest batch, after compression."},
	{Name: "message.timestamp.after.max.ms", Type: Long, Default: "3600000", Broker: "log.message.timestamp.after.max.ms", max: forever, Doc: "How far ahead of the broker's clock a record's timestamp may be."},
	{Name: "message.timestamp.before.max.ms", Type: Long, Default: longMax, Broker: "log.message.timestamp.before.max.ms", max: forever, Doc: "How far behind the broker's clock a record's timestamp may be."},
	{Name: "message.timestamp.type", Type: String, Default: "CreateTime", Broker: "log.message.timestamp.type", allowed: []string{"CreateTime", "LogAppendTime"}, Doc: "Whose clock stamps records: the producer's or the broker's."},
	{Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", Broker: "log.cleaner.min.cleanable.ratio", max: 1, Doc: "Share of uncompacted log that starts a compaction."},
	{Name: "min.compaction.lag.ms", Type: Long, Default: "0", Broker: "log.cleaner.min.compaction.lag.ms", max: forever, Doc: "Shortest time a record stays uncompacted."},
	{Name: "min.insync.replicas", Type: Int, Default: "1", Broker: "min.insync.replicas", min: 1, max: math.MaxInt32, Doc: "Replicas that must have a record before acks=all is answered: 1, there is one node."},
	{Name: "preallocate", Type: Boolean, Default: "false", Broker: "log.preallocate", Doc: "Write zeros ahead of a segment's end from the first sync on; otherwise once much was synced in small pieces."},
	{Name: "retention.bytes", Type: Long, Default: "-1", Broker: "log.retention.bytes", min: -1, max: forever, Doc: "Largest size of a partition; -1 is no limit."},
	{Name: "retention.ms", Type: Long, Default: "604800000", Broker: "log.retention.ms", min: -1, max: forever, Doc: "How long records are kept; -1 is no limit."},
	{Name: "segment.bytes", Type: Int, Default: "1073741824", Broker: "log.segment.bytes", min: 14, max: math.MaxInt32, Doc: "Size at which a new segment file begins."},
	{Name: "segment.index.bytes", Type: Int, Default: "10485760", Broker: "log.index.size.max.bytes", min: 4, max: math.MaxInt32, Doc: "Kept for compatibility; an index is as large as its segment makes it."},
	{Name: "segment.jitter.ms", Type: Long, Default: "0", Broker: "log.roll.jitter.ms", max: forever, Doc: "Kept for compatibility."},
	{Name: "segment.ms", Type: Long, Default: "604800000", Broker: "log.roll.ms", min: 1, max: forever, Doc: "Age at which a new segment file begins."},
	{Name: "unclean.leader.election.enable", Type: Boolean, Default: "false", Broker: "unclean.leader.election.enable", Doc: "Kept for compatibility; there is one node."},
}

// Define finds a definition by name.
func Define(name string) (Definition, bool) { return find(definitions, name) }

// DefineGroup finds the definition of a configuration of groups by name.
func DefineGroup(name string) (Definition, bool) { return find(groupDefinitions, name) }

func find(table []Definition, name string) (Definition, bool) {
	i, ok := slices.BinarySearchFunc(table, name, func(d Definition, name string) int { return strings.Compare(d.Name, name) })
	if !ok {
		return Definition{}, false
	}
	return table[i], true
}

// CheckConfig says what is wrong with a topic configuration, nil if nothing is.
func CheckConfig(name, value string) error {
	d, ok := Define(name)
	if !ok {
		return fmt.Errorf("unknown topic config name: %s", name)
	}
	return d.Check(value)
}

// Check says what is wrong with a value, nil if nothing is.
func (d Definition) Check(value string) error {
	switch d.Type {
	case Boolean:
		if value != "true" && value != "false" {
			return fmt.Errorf("invalid value %q for configuration %s: want true or false", value, d.Name)
		}
	case Int, Long:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("invalid value %q for configuration %s: not a whole number", value, d.Name)
		}
		return d.checkRange(value, float64(n))
	case Double:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(n) {
			return fmt.Errorf("invalid value %q for configuration %s: not a number", value, d.Name)
		}
		return d.checkRange(value, n)
	case List:
		if value == "" {
			return nil
		}
		for v := range strings.SplitSeq(value, ",") {
			if err := d.checkAllowed(strings.TrimSpace(v)); err != nil {
				return err
			}
		}
	case String:
		return d.checkAllowed(value)
	}
	return nil
}

func (d Definition) checkRange(value string, n float64) error {
	if n < d.min || n > d.max {
		return fmt.Errorf("invalid value %s for configuration %s: must be from %s to %s", value, d.Name, bound(d.min), bound(d.max))
	}
	return nil
}

// bound writes the end of a range; the largest of whole numbers is none that a float has.
func bound(v float64) string {
	if v >= math.MaxInt64 {
		return longMax
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

func (d Definition) checkAllowed(value string) error {
	if d.allowed != nil && !slices.Contains(d.allowed, value) {
		if ok, err := regexp.MatchString(d.pattern, value); d.pattern != "" && ok && err == nil {
			return nil
		}
		return fmt.Errorf("invalid value %q for configuration %s: want one of %s", value, d.Name, strings.Join(d.allowed, ", "))
	}
	return nil
}

// Settings are configurations as set; what is missing is default.
type Settings map[string]string

// Text is the value in force.
func (s Settings) Text(name string) string {
	if v, ok := s[name]; ok {
		return v
	}
	d, ok := Define(name)
	if !ok {
		panic("meta: no configuration is named " + name)
	}
	return d.Default
}

// Long is the value in force of a number that has passed CheckConfig.
func (s Settings) Long(name string) int64 {
	n, err := strconv.ParseInt(s.Text(name), 10, 64)
	if err != nil {
		d, _ := Define(name)
		n, _ = strconv.ParseInt(d.Default, 10, 64)
	}
	return n
}

// Has reports whether the list in force holds the element.
func (s Settings) Has(name, element string) bool {
	for v := range strings.SplitSeq(s.Text(name), ",") {
		if strings.TrimSpace(v) == element {
			return true
		}
	}
	return false
}
