// Package group is the coordinator of consumer groups: who is in a group, who reads what, and which offsets are committed. What is
// described here are classic groups; those of KIP-848 are package consumer's, and kept here, see consumergroups.go.
//
// The types: [Coordinator] holds all groups of the broker and the journal they are kept in. A group is a state machine
// (Empty, PreparingRebalance, CompletingRebalance, Stable, Dead) owned by whoever holds its mutex: requests and timers take
// it, change the state, append to the journal (a write into the page cache) and let go. Nobody waits for the disk or for
// another member under it: what has to wait is handed back as a [Pending], which waits outside. Groups share nothing, so none
// holds up another.
//
// What survives a restart: committed offsets, transactional commits that have no marker yet, and of each group its generation,
// its members and their assignments as of the last completed rebalance. Members get a fresh session timeout then. A rebalance
// that was under way is forgotten: its members are told ILLEGAL_GENERATION and join again.
//
// Requests and responses are the protocol's own structs (kmsg): this package is the meaning of those messages.
package group

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group/consumer"
)

// Pending is an answer that may not be known yet. It is called once and blocks until the answer is known and everything it
// tells is on disk, or until ctx ends, whose error it then returns.
type Pending[R any] func(ctx context.Context) (R, error)

// Client says who sent a request.
type Client struct {
	ID   string // the client id of the request header
	Host string // the address it came from, as "/192.0.2.1"
}

// state of a group.
type state int8

const (
	stateEmpty state = iota
	statePreparing
	stateCompleting
	stateStable
	stateDead
)

// String is the name that DescribeGroups and ListGroups use.
func (s state) String() string {
	switch s {
	case stateEmpty:
		return "Empty"
	case statePreparing:
		return "PreparingRebalance"
	case stateCompleting:
		return "CompletingRebalance"
	case stateStable:
		return "Stable"
	default:
		return "Dead"
	}
}

// answered is what goes through a parked request's channel: the response, and how far the journal must be on disk before it
// may be sent.
type answered[R any] struct {
	resp R
	end  int64
}

type (
	joinReply chan answered[*kmsg.JoinGroupResponse]
	syncReply chan answered[*kmsg.SyncGroupResponse]
)

// group is one consumer group. Everything below mu belongs to its holder.
type group struct {
	c  *Coordinator
	id string

	mu           sync.Mutex
	state        state
	generation   int32
	protocolType string
	protocol     string // chosen for this generation; "" if none
	leader       string // member id
	members      map[string]*member
	statics      map[string]string // instance id -> member id
	// expected are member ids that were handed out by MEMBER_ID_REQUIRED and have not joined yet. A rebalance waits for them,
	// otherwise each new member would cost two.
	expected  map[string]*time.Timer
	since     time.Time // when the current state of the group began, for the expiry of offsets
	rebalance *time.Timer
	// rebalanceSeq tells a timer that has fired whether it is still the one that is waited for.
	rebalanceSeq int
	// settling is what is left of the initial rebalance delay's extension; initial is true while it runs.
	initial  bool
	settling time.Duration
	late     bool // somebody joined since the initial timer was armed
	syncWait *time.Timer
	syncSeq  int

	// consumer is the group's members if it is of the KIP-848 protocol, nil if it is classic.
	consumer      *consumer.Group
	consumerTimer *time.Timer
	consumerAt    time.Time // when the timer fires; zero if it is not set
	consumerSeq   int

	offsets map[topicPartition]committed
	pending map[int64]map[topicPartition]committed // producer id -> offsets of its open transaction
	end     int64                                  // the journal must be on disk up to here before the group's state is told
	// storedAt is the journal offset of the group's metadata, -1 if there is none. What it says is the last completed rebalance.
	storedAt int64
}

// member of a group. It belongs to the holder of the group's mutex.
type member struct {
	id               string
	instance         *string
	client           Client
	sessionTimeout   time.Duration
	rebalanceTimeout time.Duration
	protocolType     string
	protocols        []kmsg.JoinGroupRequestProtocol
	assignment       []byte

	joining     joinReply // parked JoinGroup; the session timer rests meanwhile
	joinVersion int16
	syncing     syncReply // parked SyncGroup; the same
	syncVersion int16
	synced      bool // sent SyncGroup in this generation

	timer    *time.Timer
	firesAt  time.Time
	deadline time.Time // when the session ends unless something is heard
}

func newGroup(c *Coordinator, id string) *group {
	return &group{
		c: c, id: id,
		members: map[string]*member{}, statics: map[string]string{}, expected: map[string]*time.Timer{},
		offsets: map[topicPartition]committed{}, pending: map[int64]map[topicPartition]committed{},
		since: time.Now(), storedAt: -1,
	}
}

// metadataFor is the member's subscription under a protocol, empty (not nil) if it does not know the protocol.
func (m *member) metadataFor(protocol string) []byte {
	for i := range m.protocols {
		if m.protocols[i].Name == protocol {
			return m.protocols[i].Metadata
		}
	}
	return []byte{}
}

func (m *member) supports(protocol string) bool {
	for i := range m.protocols {
		if m.protocols[i].Name == protocol {
			return true
		}
	}
	return false
}

// sameProtocols says whether a rejoin changes nothing.
func (m *member) sameProtocols(ps []kmsg.JoinGroupRequestProtocol) bool {
	if len(m.protocols) != len(ps) {
		return false
	}
	for i := range ps {
		if m.protocols[i].Name != ps[i].Name || string(m.protocols[i].Metadata) != string(ps[i].Metadata) {
			return false
		}
	}
	return true
}

// parked says whether the member waits for an answer of ours: its silence is ours then.
func (m *member) parked() bool { return m.joining != nil || m.syncing != nil }

// touchLocked starts the member's session anew. The timer is only moved when it would fire too late; when it fires too early it
// looks at the deadline and goes on, so that a heartbeat costs no timer.
func (g *group) touchLocked(m *member) {
	now := time.Now()
	m.deadline = now.Add(m.sessionTimeout)
	switch {
	case m.timer == nil:
		m.firesAt = m.deadline
		m.timer = time.AfterFunc(m.sessionTimeout, func() { g.sessionFired(m) })
	case m.deadline.Before(m.firesAt):
		m.firesAt = m.deadline
		m.timer.Reset(m.sessionTimeout)
	}
}

func (g *group) sessionFired(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.c.closed.Load() || g.state == stateDead || g.members[m.id] != m || m.timer == nil {
		return
	}
	if m.parked() {
		m.timer.Stop()
		m.timer = nil // touchLocked starts it again when the answer goes out
		return
	}
	if left := time.Until(m.deadline); left > 0 {
		m.firesAt = m.deadline
		m.timer.Reset(left)
		return
	}
	g.c.logger.Info("group member's session has timed out", "group", g.id, "member", m.id, "timeout", m.sessionTimeout)
	g.removeLocked(m, "session timed out")
}

// expectLocked remembers a member id that was handed out.
func (g *group) expectLocked(id string, patience time.Duration) {
	g.expected[id] = time.AfterFunc(patience, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if _, ok := g.expected[id]; !ok || g.c.closed.Load() || g.state == stateDead {
			return
		}
		delete(g.expected, id)
		g.maybeCompleteJoinLocked()
	})
}

func (g *group) forgetExpectedLocked(id string) bool {
	t, ok := g.expected[id]
	if ok {
		t.Stop()
		delete(g.expected, id)
	}
	return ok
}

// stopTimersLocked is for groups that go away.
func (g *group) stopTimersLocked() {
	for _, m := range g.members {
		if m.timer != nil {
			m.timer.Stop()
		}
	}
	for id := range g.expected {
		g.forgetExpectedLocked(id)
	}
	g.stopRebalanceTimerLocked()
	g.stopSyncTimerLocked()
	g.stopConsumerLocked()
}

func (g *group) stopRebalanceTimerLocked() {
	g.rebalanceSeq++
	if g.rebalance != nil {
		g.rebalance.Stop()
		g.rebalance = nil
	}
}

func (g *group) stopSyncTimerLocked() {
	g.syncSeq++
	if g.syncWait != nil {
		g.syncWait.Stop()
		g.syncWait = nil
	}
}

// toLocked changes the state.
func (g *group) toLocked(s state) {
	g.state = s
	g.since = time.Now()
}
