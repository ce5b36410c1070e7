package broker

import (
	"log/slog"
	"time"
)

// Flush says when a record counts as written.
type Flush int

const (
	// FlushAlways (the default) answers produce requests with acks=all, offset commits and transactions once they are on disk:
	// nothing acknowledged is lost when the power fails. Syncs are shared by all partitions and clients.
	FlushAlways Flush = iota
	// FlushOS answers once the operating system has the data, like Apache Kafka: a kill of the process loses nothing, a power
	// cut may lose what the system had not written back yet (seconds).
	FlushOS
)

// Config configures a Broker. The zero value of each field is its default.
type Config struct {
	// Dir is the data directory, created if missing and locked while the broker runs. Required.
	Dir string
	// Listen are TCP addresses, "host:port"; port 0 takes a free one. Empty: in-process connections only (Broker.Dial).
	Listen []string
	// Advertise is the "host:port" that clients are told to connect to. Empty: the address each client connected to.
	Advertise string
	// NodeID is the id of the one broker. Default 1; use a value above 0.
	NodeID int32
	// DisableAutoCreateTopics refuses unknown topics instead of creating them on first use.
	DisableAutoCreateTopics bool
	// DefaultPartitions is the partition count of topics that do not ask for one. Default 1.
	DefaultPartitions int32
	// ClampReplicationFactor accepts any replication factor and uses 1, instead of refusing more than 1.
	ClampReplicationFactor bool
	// Flush is when a record counts as written. Default FlushAlways.
	Flush Flush
	// InitialRebalanceDelay is how long a new group waits for more members. Default 0.
	InitialRebalanceDelay time.Duration
	// Logger gets the broker's log. Nil: discarded.
	Logger *slog.Logger
}
