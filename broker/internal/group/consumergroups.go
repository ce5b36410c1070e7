package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group/consumer"
)

// A group is of one of two types: classic, or "consumer" (KIP-848) if group.consumer is set; its classic state is then Empty. Offsets
// are the same for both. A group changes its type when somebody joins by the other protocol: at once if it has no members, else as in migrate.go.

// The names of the types in ListGroups.
const (
	typeClassic  = "classic"
	typeConsumer = "consumer"
)

// ConsumerHeartbeat serves ConsumerGroupHeartbeat. The answer waits until what it tells is on disk. sees tells which topics the
// client may see, for its pattern; nil: all.
func (c *Coordinator) ConsumerHeartbeat(req *kmsg.ConsumerGroupHeartbeatRequest, from Client, sees consumer.Sees) Pending[*kmsg.ConsumerGroupHeartbeatResponse] {
	if r := consumer.CheckRequest(req); r != nil {
		return known(heartbeatRefusal(r))
	}
	joins := req.MemberEpoch == 0
	g, err := c.lock(req.Group, joins)
	if err != nil {
		return known(heartbeatRefusal(&consumer.Refusal{Code: err}))
	}
	if g == nil {
		return known(heartbeatRefusal(&consumer.Refusal{Code: kerr.GroupIDNotFound, Text: "Group " + req.Group + " not found."}))
	}
	defer g.mu.Unlock()
	if r := g.becomeConsumerLocked(joins); r != nil {
		return known(heartbeatRefusal(r))
	}
	g.consumer.SetLimits(g.limits())
	g.consumer.SetSight(sees)
	resp, r := g.consumer.Heartbeat(req, consumer.Client(from), c.cfg.Cluster(), time.Now())
	if r != nil {
		resp = heartbeatRefusal(r)
	}
	if err := g.savedLocked(""); err != nil {
		return known(heartbeatRefusal(&consumer.Refusal{Code: err}))
	}
	return durable(c, resp, g.end, func() { *resp = *heartbeatRefusal(&consumer.Refusal{Code: kerr.CoordinatorNotAvailable}) })
}

func heartbeatRefusal(r *consumer.Refusal) *kmsg.ConsumerGroupHeartbeatResponse {
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.ErrorCode = r.Code.Code
	text := r.Text
	if text == "" {
		text = r.Code.Description
	}
	resp.ErrorMessage = &text
	return resp
}

// becomeConsumerLocked makes the group one of the new protocol, if it is not and somebody joins.
func (g *group) becomeConsumerLocked(joins bool) *consumer.Refusal {
	if g.consumer != nil {
		return nil
	}
	if !joins {
		return &consumer.Refusal{Code: kerr.GroupIDNotFound, Text: "Group " + g.id + " is not a consumer group."}
	}
	if len(g.members) > 0 {
		return g.upgradeLocked()
	}
	for id := range g.expected { // who was sent away for an id comes back with it
		g.forgetExpectedLocked(id)
	}
	g.stopRebalanceTimerLocked()
	g.initial = false
	g.toLocked(stateEmpty)
	if err := g.dropClassicRecordLocked(); err != nil {
		return &consumer.Refusal{Code: storageError(err)}
	}
	g.newConsumerLocked(max(g.generation, 1)) // a member's first epoch is 2, as in Kafka since KIP-1263
	return nil
}

func (g *group) newConsumerLocked(epoch int32) {
	g.consumer = consumer.New(g.id, g.limits(), epoch)
	g.protocolType = "consumer"
}

// limits are those of the group's members at this moment.
func (g *group) limits() consumer.Limits {
	session, heartbeat, assignment := g.c.cfg.ConsumerTimes(g.id)
	return consumer.Limits{Session: session, Heartbeat: heartbeat, Assignment: assignment, Members: g.c.cfg.MaxGroupSize}
}

// becomeClassicLocked is the way back.
func (g *group) becomeClassicLocked() *kerr.Error {
	if g.consumer == nil {
		return nil
	}
	if !g.consumer.Empty() {
		return kerr.InconsistentGroupProtocol
	}
	if _, err := g.append(g.consumer.Tombstones()); err != nil {
		return storageError(err)
	}
	g.stopConsumerLocked()
	g.generation, g.consumer, g.protocolType = g.consumer.Epoch(), nil, ""
	return nil
}

// saveConsumerLocked writes down what has changed. What could not be written is tried again with the next request, before anything
// is answered.
func (g *group) saveConsumerLocked() error {
	for chunk := range slices.Chunk(g.consumer.Unsaved(), rewriteBatch) {
		if _, err := g.append(chunk); err != nil {
			return err
		}
	}
	g.consumer.Saved()
	return nil
}

// armConsumerLocked sees to it that members that say nothing are removed. The timer is only moved when it would fire too late: a heartbeat
// costs none.
func (g *group) armConsumerLocked() {
	at := g.consumer.Deadline()
	if at.IsZero() || !g.consumerAt.IsZero() && !at.Before(g.consumerAt) {
		return
	}
	g.stopConsumerLocked()
	g.consumerAt = at
	seq := g.consumerSeq
	g.consumerTimer = time.AfterFunc(time.Until(at), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.c.closed.Load() || g.state == stateDead || g.consumer == nil || g.consumerSeq != seq {
			return
		}
		g.expireMembersLocked()
	})
}

func (g *group) stopConsumerLocked() {
	g.consumerSeq++
	g.consumerAt = time.Time{}
	if g.consumerTimer != nil {
		g.consumerTimer.Stop()
		g.consumerTimer = nil
	}
}

func (g *group) expireMembersLocked() {
	g.stopConsumerLocked()
	for _, id := range g.consumer.Expire(g.c.cfg.Cluster(), time.Now()) {
		g.c.logger.Info("consumer group member is removed: it was silent, or did not give up partitions in time", "group", g.id, "member", id)
		g.since = time.Now()
	}
	if err := g.savedLocked(""); err != nil {
		g.c.logger.Warn("a consumer group could not be stored; the next request tries again", "group", g.id, "error", err)
	}
}

// DescribeConsumer serves ConsumerGroupDescribe for one group. Classic groups are GROUP_ID_NOT_FOUND: Java's admin client then asks with
// DescribeGroups.
func (c *Coordinator) DescribeConsumer(id string) kmsg.ConsumerGroupDescribeResponseGroup {
	refuse := func(err *kerr.Error, text string) kmsg.ConsumerGroupDescribeResponseGroup {
		dg := kmsg.NewConsumerGroupDescribeResponseGroup()
		dg.Group, dg.ErrorCode, dg.ErrorMessage = id, err.Code, kmsg.StringPtr(text)
		return dg
	}
	if id == "" {
		return refuse(kerr.InvalidGroupID, "The group id is empty.")
	}
	g, err := c.lock(id, false)
	text := "Group " + id + " not found."
	switch {
	case g != nil:
		defer g.mu.Unlock()
		if g.consumer != nil {
			return g.consumer.Describe(c.cfg.Cluster())
		}
		err, text = kerr.GroupIDNotFound, "Group "+id+" is not a consumer group."
	case err == nil:
		err = kerr.GroupIDNotFound
	default:
		text = err.Description
	}
	return refuse(err, text)
}

// emptyLocked says that the group has no members, whatever its type.
func (g *group) emptyLocked() bool {
	return g.state == stateEmpty && (g.consumer == nil || g.consumer.Empty())
}

// kindLocked is the group's state and type as ListGroups names them.
func (g *group) kindLocked() (state, kind string) {
	if g.consumer != nil {
		return g.consumer.State(), typeConsumer
	}
	return g.state.String(), typeClassic
}

// loadConsumer takes back a record of a consumer group.
func (c *Coordinator) loadConsumer(key, value []byte) error {
	kind, id, member, err := consumer.ParseKey(key)
	if err != nil {
		return err
	}
	g, kerror := c.lock(id, value != nil)
	if kerror != nil {
		return kerror
	}
	if g == nil {
		return nil
	}
	defer g.mu.Unlock()
	switch {
	case value == nil && g.consumer == nil:
		return nil
	case value == nil && kind == consumer.KeyGroup:
		g.generation, g.consumer, g.protocolType = g.consumer.Epoch(), nil, ""
		c.loadedTombstone(g)
		return nil
	case g.consumer == nil:
		g.newConsumerLocked(0)
	}
	return g.consumer.Load(kind, member, value)
}
