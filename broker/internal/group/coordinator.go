package group

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/broker/internal/group/consumer"
	"github.com/leatstream/leat/broker/internal/journal"
)

// Journal is the partition of __consumer_offsets that the coordinator keeps its state in.
type Journal interface {
	// Append appends the entries as one batch and returns the offset after it. It does not wait for the disk.
	Append(entries []journal.Entry) (end int64, err error)
	// AppendTxn is Append inside of a producer's transaction. verify runs when no marker can come between it and the append.
	AppendTxn(p journal.Producer, entries []journal.Entry, verify func() error) (end int64, err error)
	// WaitSynced waits until everything below end is as durable as the broker promises.
	WaitSynced(ctx context.Context, end int64) error
}

// Config holds the coordinator's limits. Every field has to be set; see Defaults.
type Config struct {
	// MinSessionTimeout and MaxSessionTimeout bound what a member may ask for; outside is INVALID_SESSION_TIMEOUT.
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// InitialRebalanceDelay is how long an empty group waits for more members after the first; 0 does not wait.
	InitialRebalanceDelay time.Duration
	// ConsumerTimes is how long a member of a KIP-848 group may be silent, how often it is asked to say something, and how long after an
	// assignment the next is computed at the earliest. It is asked at each heartbeat, under the group's lock.
	ConsumerTimes func(group string) (session, heartbeat, assignment time.Duration)
	// Cluster is the topics of this moment, for KIP-848 groups.
	Cluster func() consumer.Cluster
	// KeepClassic and KeepConsumer keep groups that have members from changing to the consumer protocol, and back.
	KeepClassic, KeepConsumer bool
	// MaxGroupSize is the most members a group may have, above is GROUP_MAX_SIZE_REACHED.
	MaxGroupSize int
	// MaxGroups is the most groups the broker keeps, above is COORDINATOR_NOT_AVAILABLE for new ones.
	MaxGroups int
	// MaxMetadataBytes is the longest metadata of a committed offset, above is OFFSET_METADATA_TOO_LARGE.
	MaxMetadataBytes int
	// OffsetsRetention is how long committed offsets outlive the last member of their group, or the commit where the group
	// never had any.
	OffsetsRetention time.Duration
	// ExpiryInterval is how often offsets are looked through for those that are too old.
	ExpiryInterval time.Duration
	// Logger gets what an operator may want to know. It must not be nil.
	Logger *slog.Logger
}

// Defaults are Apache Kafka's, except that nobody is waited for: the initial rebalance delay is 0 instead of 3 s, and the time between
// assignments 0 instead of 1 s. cluster is Config.Cluster.
func Defaults(logger *slog.Logger, cluster func() consumer.Cluster) Config {
	return Config{
		MinSessionTimeout: 6 * time.Second, MaxSessionTimeout: 30 * time.Minute,
		ConsumerTimes: func(string) (session, heartbeat, assignment time.Duration) {
			return 45 * time.Second, 5 * time.Second, 0
		},
		MaxGroupSize: 10_000, MaxGroups: 100_000, MaxMetadataBytes: 4096,
		OffsetsRetention: 7 * 24 * time.Hour, ExpiryInterval: 10 * time.Minute,
		Logger: logger, Cluster: cluster,
	}
}

// Coordinator holds all groups. Its methods are safe for concurrent use. It starts no goroutine that outlives a timer's call;
// Close stops the timers and waits for calls under way.
type Coordinator struct {
	cfg     Config
	logger  *slog.Logger
	journal Journal
	closed  atomic.Bool

	mu struct {
		sync.Mutex // protects following fields; never held while a group's mutex is waited for
		groups     map[string]*group
		// open says which groups a producer's open transaction has written offsets for.
		open   map[int64]map[string]struct{}
		expiry *time.Timer
	}
}

// New makes a coordinator without groups. Play the journal back with Visitor, then Start it.
func New(cfg Config, j Journal) *Coordinator {
	c := &Coordinator{cfg: cfg, logger: cfg.Logger, journal: j}
	c.mu.groups = map[string]*group{}
	c.mu.open = map[int64]map[string]struct{}{}
	return c
}

// Close stops all timers and waits for those that are running. Parked requests end with their contexts. It is idempotent.
func (c *Coordinator) Close() {
	if c.closed.Swap(true) {
		return
	}
	c.mu.Lock()
	if c.mu.expiry != nil {
		c.mu.expiry.Stop()
	}
	c.mu.Unlock()
	for _, g := range c.all() {
		g.mu.Lock()
		g.stopTimersLocked()
		g.mu.Unlock()
	}
}

// all are the groups at this moment.
func (c *Coordinator) all() []*group {
	c.mu.Lock()
	defer c.mu.Unlock()
	gs := make([]*group, 0, len(c.mu.groups))
	for _, g := range c.mu.groups {
		gs = append(gs, g)
	}
	return gs
}

// lock returns the group with its mutex held, or nil if there is none and create is false.
func (c *Coordinator) lock(id string, create bool) (*group, *kerr.Error) {
	for {
		if c.closed.Load() {
			return nil, kerr.CoordinatorNotAvailable
		}
		c.mu.Lock()
		g := c.mu.groups[id]
		if g == nil {
			if !create {
				c.mu.Unlock()
				return nil, nil
			}
			if len(c.mu.groups) >= c.cfg.MaxGroups {
				c.mu.Unlock()
				c.logger.Warn("too many groups", "limit", c.cfg.MaxGroups, "refused", id)
				return nil, kerr.CoordinatorNotAvailable
			}
			g = newGroup(c, id)
			c.mu.groups[id] = g
		}
		c.mu.Unlock()
		g.mu.Lock()
		if g.state != stateDead {
			return g, nil
		}
		g.mu.Unlock() // deleted between the two locks: look again
	}
}

// buryLocked takes a group out of the map; the caller holds its mutex and has stored its end.
func (c *Coordinator) buryLocked(g *group) {
	g.stopTimersLocked()
	g.toLocked(stateDead)
	c.mu.Lock()
	if c.mu.groups[g.id] == g {
		delete(c.mu.groups, g.id)
	}
	c.mu.Unlock()
}

// append writes entries of one group and notes how far the journal must be synced before anything newer is told.
func (g *group) append(entries []journal.Entry) (end int64, err error) {
	end, err = g.c.journal.Append(entries)
	if err != nil {
		return 0, err
	}
	g.end = max(g.end, end)
	return end, nil
}

// known is an answer that waits for nothing.
func known[R any](resp R) Pending[R] {
	return func(context.Context) (R, error) { return resp, nil }
}

// durable is an answer that waits for the journal; failed changes it if the disk has failed.
func durable[R any](c *Coordinator, resp R, end int64, failed func()) Pending[R] {
	return func(ctx context.Context) (R, error) {
		if err := c.waitSynced(ctx, end); err != nil {
			if ctx.Err() != nil {
				return resp, ctx.Err()
			}
			failed()
		}
		return resp, nil
	}
}

// awaitReply waits for what the group will send through reply, and then for the journal.
func awaitReply[R any, C ~chan answered[R]](c *Coordinator, reply C, failed func(R)) Pending[R] {
	return func(ctx context.Context) (R, error) {
		var none R
		select {
		case a := <-reply:
			return durable(c, a.resp, a.end, func() { failed(a.resp) })(ctx)
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
}

func (c *Coordinator) waitSynced(ctx context.Context, end int64) error {
	if end == 0 {
		return nil
	}
	return c.journal.WaitSynced(ctx, end)
}

// codeOf is the code of an error that may be nil.
func codeOf(err *kerr.Error) int16 {
	if err == nil {
		return 0
	}
	return err.Code
}
