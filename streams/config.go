package streams

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/leatstream/leat/streams/internal/runtime"
)

// Guarantee says how often a record takes effect when instances crash.
type Guarantee int

const (
	// ExactlyOnce is the zero value: results, state and positions change together, in one Kafka transaction per commit.
	ExactlyOnce Guarantee = iota
	// AtLeastOnce is the same loop without transactions: after a crash the records since the last commit take effect again. An
	// instance that does not reach the brokers for half of Config.SessionTimeout begins again from its last commit.
	AtLeastOnce
)

// String names the guarantee.
func (g Guarantee) String() string {
	switch g {
	case ExactlyOnce:
		return "exactly once"
	case AtLeastOnce:
		return "at least once"
	}
	return fmt.Sprintf("Guarantee(%d)", int(g))
}

const transactionTimeout = 10 * time.Second

// leastSession leaves time for heartbeats on a machine that is busy; longest is what Kafka's protocol has room for, in whole days.
const (
	leastSession = time.Second
	longest      = 24 * 24 * time.Hour
)

// Config says how an application runs. AppID and Brokers are required; every other zero value is a good default.
type Config struct {
	// AppID names the application: its consumer group, and the prefix of its internal topics. Instances with the same
	// AppID share the work. Letters, digits, '.', '_' and '-', at most 100 bytes.
	AppID string
	// Brokers are addresses to begin with, host:port. May be empty if Client says how to connect.
	Brokers []string
	// Client holds further options for every Kafka client that the application makes: TLS, SASL, a dialer. They are
	// applied last. Options about groups, transactions and offsets are the application's own.
	Client []kgo.Opt
	// StateDir is where state is kept, in a directory named AppID within it; one process at a time may use that. Empty:
	// .leat/state in the working directory. Keep it over restarts: it holds the instance's identity, too.
	StateDir string
	// StateCleanup is the age at which the state of a task that another instance has by now is removed from StateDir: the time
	// since it was last written or, as far as this process has seen, used here. What a task of this instance has, or a copy
	// that it keeps, is never removed, nor what no changelog can bring back; and nothing before the instance has run for ten
	// minutes. 0: 24 h, as long as the brokers keep deletes in a changelog (delete.retention.ms): older state would be
	// rebuilt anyway if the task came back. Negative: it stays for ever.
	StateCleanup time.Duration
	// InstanceID names this instance among those of the application, as its pod does: under it an instance that died comes back
	// to its tasks at once, although its StateDir is gone. Of two that run under one name one ends with an error.
	// Letters, digits, '.', '_' and '-', at most 100 bytes. Empty: a random one, kept in StateDir.
	InstanceID string
	// SessionTimeout is how long the others wait for an instance that has died, or was stopped to come back, before they take its
	// tasks. 0: 45 s. The brokers bound it: by default Kafka's take no less than 6 s.
	SessionTimeout time.Duration
	// Guarantee is ExactlyOnce if left out.
	Guarantee Guarantee
	// CommitInterval is how often results become visible and positions permanent. 0: 100 ms. Longer intervals write less
	// where keys repeat. Exactly once, at most half of TransactionTimeout.
	CommitInterval time.Duration
	// TransactionTimeout is when the brokers abort a transaction: one of an instance that died, which readers of committed records
	// wait for, or one in which a function took too long with a record. 0: 10 s. The brokers bound it (transaction.max.timeout.ms).
	TransactionTimeout time.Duration
	// Workers is the number of goroutines that process, each a member of the group of its own. 0: 1; at most 1000.
	Workers int
	// Standbys is the number of further copies of each task's state, kept by other instances: the task of an instance that
	// dies goes to one of them, which has next to nothing to replay. The instance that leads the group decides, so all of
	// them should say the same.
	Standbys int
	// Rack says where the instance runs: copies go to other racks where there are such, and records are read from a
	// replica in the same one if the brokers know it (KIP-392). Empty: it does not say.
	Rack string
	// AcceptableLag is how many changelog records an instance may lack and still be given a task that runs elsewhere. One
	// that lacks more first gets a copy of its state, and the task goes on where it is until that has caught up. 0: 10,000.
	AcceptableLag int64
	// Warmups bounds the tasks that are copied at one time so that they can move. 0: 2.
	Warmups int
	// MemoryBytes bounds caches, memtables and block cache of this instance; records on their way, and what the garbage collector
	// has not got yet, come on top: set GOMEMLIMIT for the process. 0: a quarter of GOMEMLIMIT, or of the
	// machine's memory, at least 256 MiB.
	MemoryBytes int64
	// LeaveOnStop gives the instance's partitions to the others at once when it stops. Left out, a stopped instance stays a
	// member until its session has timed out (SessionTimeout), and comes back within that without a rebalance.
	LeaveOnStop bool
	// IdleAdvance lets stream time go on while no records come, so that windows close when traffic stops: once nothing has come
	// to a task for so long and its partitions are read to their ends, its stream time is the wall clock's less that, and so
	// is the observed time of its windows, suppressions and joins that have seen a record. Behind a repartition a task waits
	// as long again for each one before it. What comes then with an earlier time is late as after any record: choose more
	// than records are ever late by, and than what is upstream ever stands still. 0: time is that of records alone.
	IdleAdvance time.Duration
	// OnError decides on what goes wrong with one record; nil is Fail for everything. Any worker may call it.
	OnError func(context.Context, *RecordError) Decision
	// Wrap is asked once for every node of every task that the instance opens, sources and sinks included, and returns the
	// hook around it, or nil for none: to time, log, trace or drop what reaches the node. A hook belongs to its one task, and
	// may keep state without locks; Wrap may be called by several goroutines at a time. Between the topics of a foreign-key
	// join, where records are not yet typed, there are no hooks. Wrap nil: no node has one, which costs nothing.
	Wrap func(Node) Wrapper
	// OnState is called when the instance's state changes: one call at a time, in order, by goroutines of the application,
	// which wait for it. It may call the App's methods, but not wait for Run. nil: nobody asks.
	OnState func(State)
	// AcceptPlan lets the application start although its topology loses state of the one that ran before: the fingerprint
	// that the refusal names (ErrTopologyChanged, Plan.Fingerprint). It accepts that change and no other; it may stay.
	AcceptPlan string
	// Listen is the address, host:port, on which the instance answers health checks, the leat command and queries from
	// the other instances; port 0 is a free one. Views then read the whole store, wherever its tasks are. Empty: views
	// read what is here, and nothing listens. All instances should have one, or none.
	Listen string
	// Queries says more about Listen: a token, TLS, the address that others are told.
	Queries QueryConfig
	// MeterProvider gets what there is to measure (docs/telemetry.md lists it). Nil: nothing is measured, which costs nothing.
	MeterProvider metric.MeterProvider
	// TracerProvider makes spans of records whose context, in the W3C headers traceparent and tracestate, is sampled
	// (docs/telemetry.md). Nil: there are none, contexts pass as headers do, and it costs nothing.
	TracerProvider trace.TracerProvider
	// TraceLinks has the span of each record begin a trace of its own, with a link to the span that sent the record. Left out,
	// it is that span's child, so that a trace shows the record's whole way.
	TraceLinks bool
	// Logger gets what the application has to say. Nil: slog.Default() gets its warnings and errors, as when it waits for
	// brokers; slog.New(slog.DiscardHandler) silences it.
	Logger *slog.Logger
}

// Validate reports the first field that cannot be, and why. New calls it.
func (c Config) Validate() error {
	switch {
	case c.AppID == "":
		return errors.New("Config.AppID is empty: name the application; its group and internal topics are named by it")
	case len(c.AppID) > 100:
		return fmt.Errorf("Config.AppID has %d bytes, at most 100", len(c.AppID))
	case !validName(c.AppID):
		return fmt.Errorf("Config.AppID %q: only letters, digits, '.', '_' and '-', and not '.' or '..'", c.AppID)
	case len(c.InstanceID) > 100:
		return fmt.Errorf("Config.InstanceID has %d bytes, at most 100", len(c.InstanceID))
	case c.InstanceID != "" && !validName(c.InstanceID):
		return fmt.Errorf("Config.InstanceID %q: only letters, digits, '.', '_' and '-', and not '.' or '..'", c.InstanceID)
	case c.SessionTimeout != 0 && (c.SessionTimeout < leastSession || c.SessionTimeout > longest):
		return fmt.Errorf("Config.SessionTimeout is %s, want 0 (45 s) or between %s and %s", c.SessionTimeout, leastSession, longest)
	case len(c.Brokers) == 0 && len(c.Client) == 0:
		return errors.New("Config.Brokers is empty: name at least one broker, host:port")
	case c.Guarantee != ExactlyOnce && c.Guarantee != AtLeastOnce:
		return fmt.Errorf("Config.Guarantee is %s, want ExactlyOnce or AtLeastOnce", c.Guarantee)
	case c.CommitInterval < 0:
		return fmt.Errorf("Config.CommitInterval is %s, want 0 (100 ms) or more", c.CommitInterval)
	case c.TransactionTimeout != 0 && (c.TransactionTimeout < leastSession || c.TransactionTimeout > longest):
		return fmt.Errorf("Config.TransactionTimeout is %s, want 0 (10 s) or between %s and %s", c.TransactionTimeout, leastSession, longest)
	case c.Guarantee == ExactlyOnce && c.CommitInterval > cmp.Or(c.TransactionTimeout, transactionTimeout)/2:
		return fmt.Errorf("Config.CommitInterval is %s, at most %s exactly once: the brokers abort a transaction that takes %s",
			c.CommitInterval, cmp.Or(c.TransactionTimeout, transactionTimeout)/2, cmp.Or(c.TransactionTimeout, transactionTimeout))
	case c.Workers < 0 || c.Workers > runtime.MaxWorkers:
		return fmt.Errorf("Config.Workers is %d, want 0 (1) to %d", c.Workers, runtime.MaxWorkers)
	case c.Standbys < 0:
		return fmt.Errorf("Config.Standbys is %d, want 0 or more", c.Standbys)
	case c.AcceptableLag < 0:
		return fmt.Errorf("Config.AcceptableLag is %d, want 0 (10,000) or more", c.AcceptableLag)
	case c.Warmups < 0:
		return fmt.Errorf("Config.Warmups is %d, want 0 (2) or more", c.Warmups)
	case c.IdleAdvance < 0:
		return fmt.Errorf("Config.IdleAdvance is %s, want 0 (not at all) or more", c.IdleAdvance)
	case c.MemoryBytes < 0:
		return fmt.Errorf("Config.MemoryBytes is %d, want 0 (a quarter of the memory) or more", c.MemoryBytes)
	}
	return c.Queries.validate(c.Listen)
}

func (c Config) withDefaults() Config {
	if c.StateDir == "" {
		c.StateDir = filepath.Join(".leat", "state")
	}
	if c.CommitInterval == 0 {
		c.CommitInterval = 100 * time.Millisecond
	}
	c.TransactionTimeout = cmp.Or(c.TransactionTimeout, transactionTimeout)
	c.StateCleanup = cmp.Or(c.StateCleanup, 24*time.Hour)
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.AcceptableLag == 0 {
		c.AcceptableLag = 10_000
	}
	if c.Warmups == 0 {
		c.Warmups = 2
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = max(256<<20, memoryLimit()/4)
	}
	if c.Logger == nil {
		c.Logger = slog.New(warnings{slog.Default().Handler()})
	}
	return c
}

// warnings passes on warnings and errors.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

func validName(s string) bool {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		default:
			return false
		}
	}
	return s != "." && s != ".."
}

// memoryLimit is GOMEMLIMIT if that is set, else what the machine or the container has; 0 if nobody knows.
func memoryLimit() int64 {
	if l := debug.SetMemoryLimit(-1); l != math.MaxInt64 {
		return l
	}
	var least int64
	note := func(n int64, err error) {
		if err == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	if b, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		note(strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64))
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		if _, rest, ok := bytes.Cut(b, []byte("MemTotal:")); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				kb, err := strconv.ParseInt(string(f[0]), 10, 64)
				note(kb<<10, err)
			}
		}
	}
	return least
}
