package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/internal/vfs"
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

// String is the policy's name on a command line.
func (f Flush) String() string {
	switch f {
	case FlushAlways:
		return "always"
	case FlushOS:
		return "os"
	}
	return fmt.Sprintf("Flush(%d)", int(f))
}

// policy is the same for the logs.
func (f Flush) policy() log.FlushPolicy {
	if f == FlushOS {
		return log.FlushOS
	}
	return log.FlushAlways
}

// NodeZero is the Config.NodeID of a broker that has the id 0, for programs that ask for that one by its id.
const NodeZero int32 = -1

// Config configures a Broker. The zero value of each field is its default.
type Config struct {
	// Dir is the data directory, created if missing and locked while the broker runs. Required.
	Dir string
	// FS is where Dir lies. Nil: the operating system's files. Tests give one that crashes or fails.
	FS vfs.FS
	// Listen are TCP addresses, "host:port"; port 0 takes a free one. No addresses here and in Listeners: in-process connections
	// only (Broker.Dial). Whoever connects to one of these is User:ANONYMOUS: unless Security says otherwise, an address other than
	// loopback lets anyone who reaches it read and write everything.
	Listen []string
	// Listeners are further addresses, with TLS or SASL.
	Listeners []Listener
	// Security says who may do what. Its zero value: everyone may do everything.
	Security Security
	// Advertise is the "host:port" that clients of the addresses in Listen are told to connect to. Empty: the address each client connected to.
	Advertise string
	// NodeID is the id of the one broker. 0 means 1, NodeZero means 0.
	NodeID int32

	// DisableAutoCreateTopics refuses unknown topics instead of creating them on first use.
	DisableAutoCreateTopics bool
	// DisableDeleteTopics refuses to delete topics, with TOPIC_DELETION_DISABLED.
	DisableDeleteTopics bool
	// DisableConsumerProtocol refuses KIP-848 consumer groups, with UNSUPPORTED_VERSION: groups are classic.
	DisableConsumerProtocol bool
	// KeepClassicGroups refuses members of the consumer protocol to a classic group that has members, with GROUP_ID_NOT_FOUND;
	// KeepConsumerGroups leaves a group to the consumer protocol also when all of its members are classic. Otherwise groups change their protocol
	// while they run, as their members do. With both, classic members are refused to a group of the consumer protocol, with INCONSISTENT_GROUP_PROTOCOL.
	KeepClassicGroups, KeepConsumerGroups bool
	// DefaultPartitions is the partition count of topics that do not ask for one. 0 means 1.
	DefaultPartitions int32
	// ClampReplicationFactor accepts any replication factor and min.insync.replicas and uses 1, instead of refusing more than 1:
	// for test suites that were written for three brokers. Nothing is replicated either way.
	ClampReplicationFactor bool
	// Flush is when a record counts as written. Default FlushAlways.
	Flush Flush
	// InitialRebalanceDelay is how long a new consumer group waits for more members before its first assignment. 0: not at all.
	InitialRebalanceDelay time.Duration
	// ConsumerSessionTimeout is how long a member of a KIP-848 consumer group may be silent before its partitions go to others, and
	// ConsumerHeartbeatInterval how often members are asked to say something. 0 means 45 s and 5 s, as in Kafka. A group may be given its
	// own at run time (consumer.session.timeout.ms, consumer.heartbeat.interval.ms).
	ConsumerSessionTimeout, ConsumerHeartbeatInterval time.Duration
	// ConsumerAssignmentInterval is how long after an assignment of a KIP-848 group the next one is computed at the earliest: what changes
	// in between is gathered (KIP-1263), and fewer partitions move when many members come at once. 0: nothing waits (Kafka: 1 s). A group
	// may be given its own at run time (consumer.assignment.interval.ms).
	ConsumerAssignmentInterval time.Duration

	// MinSessionTimeout and MaxSessionTimeout bound what a member of a classic consumer group may ask for; outside is
	// INVALID_SESSION_TIMEOUT. 0 means 6 s and 30 minutes, as in Kafka.
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// OffsetsRetention is how long committed offsets outlive the last member of their group, or the commit where the group never had
	// any; OffsetsCheckInterval is how often that is looked at. 0 means 7 days and 10 minutes, as in Kafka.
	OffsetsRetention, OffsetsCheckInterval time.Duration
	// MaxTransactionTimeout is the longest transaction timeout a producer may ask for; above is INVALID_TRANSACTION_TIMEOUT. 0 means 15
	// minutes, as in Kafka.
	MaxTransactionTimeout time.Duration
	// TransactionalIDExpiration is how long a transactional id without a transaction is remembered; TransactionalIDCheckInterval is how
	// often that is looked at. 0 means 7 days and 1 hour, as in Kafka.
	TransactionalIDExpiration, TransactionalIDCheckInterval time.Duration
	// ProducerIDExpiration is how long a partition remembers an idle idempotent producer; ProducerIDCheckInterval is how often that is
	// looked at. 0 means 24 hours and 10 minutes, as in Kafka.
	ProducerIDExpiration, ProducerIDCheckInterval time.Duration

	// TopicDefaults are configurations of topics that do not have their own, by their names ("retention.ms"). What was set at run
	// time for the broker (log.retention.ms) goes before.
	TopicDefaults map[string]string

	// RetentionInterval is how often logs are looked at for segments that retention lets go. 0 means 5 minutes, as Kafka's
	// log.retention.check.interval.ms.
	RetentionInterval time.Duration
	// CompactionInterval is how often compacted topics are looked at for something to gain. 0 means 15 s, as Kafka's
	// log.cleaner.backoff.ms.
	CompactionInterval time.Duration

	// CheckSchema says why a key or value may not be written to a topic whose configuration leat.key.schema.validation or
	// leat.value.schema.validation is true: registry.Server.CheckRecord, for example. header is that header of the record in
	// which serializers name schemas, nil if it has none. It must not wait, and may be called by several goroutines. Nil
	// refuses everything that such topics are sent.
	CheckSchema func(topic string, key bool, data, header []byte) error

	// MaxConnections is how many connections may be open at once; more are closed as they come. 0 means 1000.
	MaxConnections int
	// MaxRequestBytes is the largest produce request. 0 means 100 MiB, as Kafka's socket.request.max.bytes.
	MaxRequestBytes int64
	// MaxRequestPartitions is how many topics, and how many partitions of all of them together, one produce or fetch request may
	// name. 0 means 20,000.
	MaxRequestPartitions int
	// MaxControlRequestBytes is the largest request of any other kind. Decoded, it may take 128 times as much. 0 means 1 MiB.
	MaxControlRequestBytes int64
	// MaxInFlightBytes is what requests being read and served may hold together, those up to 64 KiB apart, and once more what they may
	// become when they are decoded; connections wait when it is used up. 0 means 256 MiB; it is never below MaxRequestBytes.
	MaxInFlightBytes int64
	// MaxResponseBytes is what fetched records being sent may hold together. 0 means 256 MiB.
	MaxResponseBytes int64
	// MaxFetchBytes is the most that one fetch response holds, whatever the client asks for. 0 means 55 MiB, as Kafka's
	// fetch.max.bytes.
	MaxFetchBytes int
	// MaxFetchSessions is how many incremental fetch sessions (KIP-227) are kept; consumers beyond that send whole requests. A session
	// that is not used for two minutes makes room for another. 0 means 1000, as Kafka's max.incremental.fetch.session.cache.slots.
	MaxFetchSessions int
	// MaxTopics and MaxPartitions bound what clients can create. 0 means 10,000 topics and 20,000 partitions.
	MaxTopics, MaxPartitions int
	// IdleTimeout closes connections that send nothing. 0 means 10 minutes.
	IdleTimeout time.Duration
	// Limits bound what clients make the broker remember, or unpack.
	Limits Limits

	// MeterProvider gets the broker's OpenTelemetry instruments. Nil: nothing is measured, and nothing spent on it.
	MeterProvider metric.MeterProvider
	// Logger gets the broker's log. Nil: discarded.
	Logger *slog.Logger
}

// withDefaults returns the configuration in force, or an error that names the field and says what is wrong with it.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Dir == "" {
		return cfg, fmt.Errorf("broker: Config.Dir is empty: give the directory that is to hold the data")
	}
	if cfg.FS == nil {
		cfg.FS = vfs.OS{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Flush != FlushAlways && cfg.Flush != FlushOS {
		return cfg, fmt.Errorf("broker: Config.Flush is %d: want FlushAlways or FlushOS", cfg.Flush)
	}
	if err := cfg.Security.withDefaults(); err != nil {
		return cfg, err
	}
	if err := cfg.Limits.withDefaults(); err != nil {
		return cfg, err
	}
	if err := cfg.gatherListeners(); err != nil {
		return cfg, err
	}
	if setDefault(&cfg.NodeID, 1); cfg.NodeID == NodeZero {
		cfg.NodeID = 0
	}
	setDefault(&cfg.DefaultPartitions, 1)
	setDefault(&cfg.RetentionInterval, 5*time.Minute)
	setDefault(&cfg.CompactionInterval, 15*time.Second)
	setDefault(&cfg.ConsumerSessionTimeout, 45*time.Second)
	setDefault(&cfg.ConsumerHeartbeatInterval, 5*time.Second)
	setDefault(&cfg.MinSessionTimeout, 6*time.Second)
	setDefault(&cfg.MaxSessionTimeout, 30*time.Minute)
	setDefault(&cfg.OffsetsRetention, 7*24*time.Hour)
	setDefault(&cfg.OffsetsCheckInterval, 10*time.Minute)
	setDefault(&cfg.MaxTransactionTimeout, 15*time.Minute)
	setDefault(&cfg.TransactionalIDExpiration, 7*24*time.Hour)
	setDefault(&cfg.TransactionalIDCheckInterval, time.Hour)
	setDefault(&cfg.ProducerIDExpiration, 24*time.Hour)
	setDefault(&cfg.ProducerIDCheckInterval, 10*time.Minute)
	setDefault(&cfg.MaxConnections, 1000)
	setDefault(&cfg.MaxRequestBytes, 100<<20)
	setDefault(&cfg.MaxRequestPartitions, 20_000)
	setDefault(&cfg.MaxControlRequestBytes, 1<<20)
	setDefault(&cfg.MaxInFlightBytes, 256<<20)
	setDefault(&cfg.MaxResponseBytes, 256<<20)
	setDefault(&cfg.MaxFetchBytes, 55<<20)
	setDefault(&cfg.MaxFetchSessions, 1000)
	setDefault(&cfg.MaxTopics, 10_000)
	setDefault(&cfg.MaxPartitions, 20_000)
	setDefault(&cfg.IdleTimeout, 10*time.Minute)
	cfg.MaxInFlightBytes = max(cfg.MaxInFlightBytes, cfg.MaxRequestBytes)
	for name, v := range map[string]int64{
		"NodeID": int64(cfg.NodeID) + 1, "DefaultPartitions": int64(cfg.DefaultPartitions), "MaxConnections": int64(cfg.MaxConnections),
		"MaxRequestBytes": cfg.MaxRequestBytes, "MaxRequestPartitions": int64(cfg.MaxRequestPartitions), "MaxControlRequestBytes": cfg.MaxControlRequestBytes, "MaxResponseBytes": cfg.MaxResponseBytes,
		"MaxFetchBytes": int64(cfg.MaxFetchBytes), "MaxFetchSessions": int64(cfg.MaxFetchSessions), "MaxTopics": int64(cfg.MaxTopics), "MaxPartitions": int64(cfg.MaxPartitions),
		"RetentionInterval": int64(cfg.RetentionInterval), "CompactionInterval": int64(cfg.CompactionInterval), "ConsumerSessionTimeout": int64(cfg.ConsumerSessionTimeout), "ConsumerHeartbeatInterval": int64(cfg.ConsumerHeartbeatInterval),
		"MinSessionTimeout": int64(cfg.MinSessionTimeout), "MaxSessionTimeout": int64(cfg.MaxSessionTimeout), "OffsetsRetention": int64(cfg.OffsetsRetention), "OffsetsCheckInterval": int64(cfg.OffsetsCheckInterval),
		"MaxTransactionTimeout": int64(cfg.MaxTransactionTimeout), "TransactionalIDExpiration": int64(cfg.TransactionalIDExpiration), "TransactionalIDCheckInterval": int64(cfg.TransactionalIDCheckInterval),
		"ProducerIDExpiration": int64(cfg.ProducerIDExpiration), "ProducerIDCheckInterval": int64(cfg.ProducerIDCheckInterval),
		"IdleTimeout": int64(cfg.IdleTimeout), "InitialRebalanceDelay": int64(cfg.InitialRebalanceDelay) + 1,
		"ConsumerAssignmentInterval": int64(cfg.ConsumerAssignmentInterval) + 1,
	} {
		if v < 1 {
			return cfg, fmt.Errorf("broker: Config.%s is negative", name)
		}
	}
	return cfg, cfg.checkTopicDefaults()
}

// gatherListeners checks the listeners and adds the addresses in Listen, which come first.
func (cfg *Config) gatherListeners() error {
	all := make([]Listener, 0, len(cfg.Listen)+len(cfg.Listeners))
	for _, addr := range cfg.Listen {
		all = append(all, Listener{Addr: addr, Advertise: cfg.Advertise})
	}
	cfg.Listeners = append(all, cfg.Listeners...)
	if cfg.Advertise != "" && len(cfg.Listen) == 0 { // it is said to in-process clients, too
		all = append(all, Listener{Advertise: cfg.Advertise})
	}
	for _, l := range append(all, cfg.Listeners...) {
		if l.Advertise != "" {
			host, port, err := net.SplitHostPort(l.Advertise)
			if n, perr := strconv.ParseUint(port, 10, 16); err == nil && (perr != nil || n == 0 || host == "") {
				err = errors.New("the host is missing, or the port is no number from 1 to 65535")
			}
			if err != nil {
				return fmt.Errorf("broker: Config.Advertise %q: want host:port: %w", l.Advertise, err)
			}
		}
		if err := l.check(); err != nil {
			return err
		}
	}
	return nil
}

func setDefault[T int | int32 | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
