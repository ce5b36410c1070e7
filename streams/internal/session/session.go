// Package session is one member of a consumer group that processes exactly once: it reads records, writes records, and
// commits both sides in one Kafka transaction, over a plain kgo.Client.
//
// It is not kgo's GroupTransactSession, which commits what was polled rather than what was processed, and aborts after
// every rebalance. Here a rebalance waits for the commit instead:
//
//   - Poll holds rebalances back (BlockRebalanceOnPoll) and AllowRebalance lets them through. It is called right after a
//     Commit, and nothing may be processed between it and the next Poll. So partitions change hands only when everything
//     that was processed is committed, and the callbacks only note what has changed.
//   - Commit waits for every acknowledgement, adds the positions that the caller has *processed* to the transaction
//     (TxnOffsetCommit, fenced by member and generation) and ends it. A commit that wrote nothing is a plain OffsetCommit,
//     atomic by itself.
//   - Whatever leaves the outcome unknown, or aborts the transaction, takes one path: the caller drops what it has, closes
//     the session and opens it again. Open settles the old transaction (InitProducerId) before it joins the group, and the
//     group's offsets are then read as stable. A static member comes back to the same partitions without a rebalance.
//
// Without a TransactionalID the same loop is at-least-once: it flushes, then commits offsets. Nothing fences what it writes
// then; see Lease.
//
// A Session belongs to one goroutine; acknowledgements come from kgo's.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/leatstream/leat/streams/internal/failpoint"
)

// Config says who the member is. Group, Topics, Balancer and Logger are required.
type Config struct {
	Group    string
	Topics   []string
	Balancer kgo.GroupBalancer

	// TransactionalID makes the session exactly-once; empty is at-least-once.
	TransactionalID string
	// InstanceID makes the member static; empty is a dynamic one, which leaves the group when it closes.
	InstanceID string

	TransactionTimeout time.Duration // 0: 10 s
	SessionTimeout     time.Duration // 0: 45 s
	RebalanceTimeout   time.Duration // 0: 60 s
	HeartbeatInterval  time.Duration // 0: 250 ms, or a third of the session timeout if that is less: a rebalance is noticed by the next one

	Client []kgo.Opt // seed brokers, TLS, SASL; applied last, so they win
	Logger *slog.Logger

	// Adjust may change the offsets at which newly assigned partitions start; nil keeps the committed ones.
	Adjust func(ctx context.Context, committed map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error)
	// OnChange is called, from any goroutine, when a rebalance begins to wait for AllowRebalance, and when Changes has more:
	// time to come back from a Poll that waits. nil: nobody asks.
	OnChange func()
	// NoTopicCreation keeps the brokers from making the topics that are asked for and not there: those of Topics may be deleted
	// while they are read, and are not to come back for it.
	NoTopicCreation bool
	// PauseAssigned starts newly assigned partitions paused, for a caller that has to restore state first.
	PauseAssigned bool

	Failpoints *failpoint.Set // nil: none
}

func (c *Config) fill() {
	c.TransactionTimeout = cmp.Or(c.TransactionTimeout, 10*time.Second)
	c.SessionTimeout = cmp.Or(c.SessionTimeout, 45*time.Second)
	c.RebalanceTimeout = cmp.Or(c.RebalanceTimeout, time.Minute)
	c.HeartbeatInterval = cmp.Or(c.HeartbeatInterval, min(250*time.Millisecond, c.SessionTimeout/3))
}

// Partitions are partition numbers by topic.
type Partitions = map[string][]int32

// Change is one thing that the group decided. Exactly one field is set.
type Change struct {
	Assigned Partitions // newly ours; what we had stays
	Revoked  Partitions // no longer ours; everything processed from them was committed before
}

// Session is one open membership. See the package comment.
type Session struct {
	cfg    Config
	cl     *kgo.Client
	cancel context.CancelFunc // kills the client without waiting for the group
	txnal  bool
	v2     bool // the cluster runs transaction.version 2: no AddOffsetsToTxn, epochs rise with every transaction

	inTxn  bool
	held   bool // rebalances are held back
	wanted atomic.Bool
	failed atomic.Pointer[error]

	expired context.Context // always canceled: polling with it holds rebalances back without fetching

	opened time.Time
	heard  atomic.Int64 // when the last heartbeat was sent that the coordinator answered, in nanoseconds since opened
	lease  *time.Timer  // ends the client when the lease is over; nil: nothing is written under it

	mu struct {
		sync.Mutex
		member  string // whom the assignment was given to
		changes []Change
		broken  error // why this membership is over
	}
}

// Open settles the transaction that an earlier session of the same TransactionalID left open, and joins the group. It
// retries while the brokers are not reachable, saying so in the log, until ctx is done. ctx bounds Open alone.
func Open(ctx context.Context, cfg Config) (*Session, error) {
	cfg.fill()
	s := &Session{cfg: cfg, txnal: cfg.TransactionalID != "", opened: time.Now()}
	var cancel context.CancelFunc
	s.expired, cancel = context.WithCancel(context.Background())
	cancel()
	if s.txnal {
		var err error
		if s.v2, err = transactionV2(ctx, &cfg); err != nil {
			return nil, fmt.Errorf("ask %s for its features: %w", cfg.TransactionalID, err)
		}
	}
	life, kill := context.WithCancel(context.Background())
	s.cancel = kill
	cl, err := kgo.NewClient(append(s.options(), kgo.WithContext(life))...)
	if err != nil {
		kill()
		return nil, &Error{Op: "configure the client", Err: err, Fatal: true}
	}
	s.cl = cl
	if err := s.settle(ctx); err != nil {
		s.Kill()
		return nil, err
	}
	cl.AddConsumeTopics(cfg.Topics...)
	return s, nil
}

func (s *Session) options() []kgo.Opt {
	c := &s.cfg
	versions := kversion.Stable()
	// Positions are committed by topic name: the later versions want topic ids. Below transaction.version 2 the
	// coordinator takes later versions as a promise that we do not keep.
	versions.SetMaxKeyVersion(int16(kmsg.OffsetCommit), 9)
	versions.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 5)
	if s.txnal && !s.v2 {
		versions.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4)
	}
	opts := []kgo.Opt{
		kgo.MaxVersions(versions),
		kgo.ConsumerGroup(c.Group),
		kgo.Balancers(c.Balancer),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(s.onAssigned),
		kgo.OnPartitionsRevoked(s.onRevoked),
		kgo.OnPartitionsLost(s.onLost),
		kgo.OnPartitionsCallbackBlocked(s.onBlocked),
		kgo.WithHooks(lostHook{s}, leaseHook{s}),
		kgo.SessionTimeout(c.SessionTimeout),
		kgo.RebalanceTimeout(c.RebalanceTimeout),
		kgo.HeartbeatInterval(c.HeartbeatInterval),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(500 * time.Millisecond),
		// Where the group has no position a partition begins at its start. A position that the log does not have ends the
		// session instead: the next one decides, and commits what it has decided (Config.Adjust).
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.RecordPartitioner(newPartitioner()),
		kgo.ProducerLinger(0),
		kgo.MetadataMinAge(250 * time.Millisecond), // 5 s would be the price of every leader that moves
		kgo.MaxBufferedRecords(200_000),
		kgo.WithLogger(NewLogger(c.Logger)),
	}
	if !c.NoTopicCreation {
		opts = append(opts, kgo.AllowAutoTopicCreation()) // as Kafka's own producers; sources are known to be there
	}
	if c.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(c.InstanceID))
	}
	if s.txnal {
		opts = append(opts, kgo.TransactionalID(c.TransactionalID), kgo.TransactionTimeout(c.TransactionTimeout))
	}
	if c.Adjust != nil {
		opts = append(opts, kgo.AdjustFetchOffsetsFn(c.Adjust))
	}
	return append(opts, c.Client...)
}

// transactionV2 asks a broker whether the cluster runs transaction.version 2.
func transactionV2(ctx context.Context, cfg *Config) (bool, error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.WithLogger(NewLogger(cfg.Logger))}, cfg.Client...)...)
	if err != nil {
		return false, &Error{Op: "configure the client", Err: err, Fatal: true}
	}
	defer cl.Close()
	var v2 bool
	err = Retry(ctx, cfg.Logger, "the brokers", func() error {
		resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return err
		}
		for _, f := range resp.FinalizedFeatures {
			if f.Name == "transaction.version" && f.MaxVersionLevel >= 2 {
				v2 = true
			}
		}
		return nil
	})
	return v2, err
}

// settle takes over the transactional id: what was open under it is aborted, or its commit completed, before it returns. Without
// one it merely gets a producer id: with its first record kgo (v1.22.2) asks for it without a pause for as long as nobody answers.
func (s *Session) settle(ctx context.Context) error {
	err := Retry(ctx, s.cfg.Logger, "the transaction coordinator", func() error {
		_, _, err := s.cl.ProducerID(ctx)
		return err
	})
	switch {
	case err == nil:
		return nil
	case s.txnal:
		return fmt.Errorf("get the producer id of %q, and settle its transactions: %w", s.cfg.TransactionalID, err)
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return nil // who only reads may do without; else the first record tells
	}
	return fmt.Errorf("get a producer id: %w", err)
}

// Client is the client below, for requests that the session does not make itself. It is not to be closed, nor to be used
// for transactions, offsets or the group.
func (s *Session) Client() *kgo.Client { return s.cl }

// Member is the member that the assignment was given to, empty before the first one.
func (s *Session) Member() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.member
}

// Close ends the session after a last Commit. A static member stays in the group until its session times out, so that it
// can come back; a dynamic one leaves. What was sent and not committed is aborted by the next Open, or by its timeout.
func (s *Session) Close() {
	t := time.AfterFunc(5*time.Second, s.cancel) // a coordinator that is away must not keep us
	defer t.Stop()
	s.cl.CloseAllowingRebalance()
	s.cancel()
}

// Kill ends the session where it stands: nothing is committed, and nobody waits for the group.
func (s *Session) Kill() {
	s.cancel()
	s.cl.CloseAllowingRebalance()
}

// Leave removes a static member from its group, so that its partitions are given to others at once. The session of that
// member has to be closed before; cl is any other client.
func Leave(ctx context.Context, cl *kgo.Client, group string, instanceIDs ...string) error {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = group
	for _, id := range instanceIDs {
		m := kmsg.NewLeaveGroupRequestMember()
		m.InstanceID = kmsg.StringPtr(id)
		m.Reason = kmsg.StringPtr("the application asked for it")
		req.Members = append(req.Members, m)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("leave group %s: %w", group, err)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("leave group %s: %w", group, err)
	}
	for _, m := range resp.Members {
		if err := kerr.ErrorForCode(m.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownMemberID) {
			return fmt.Errorf("leave group %s: %w", group, err)
		}
	}
	return nil
}
