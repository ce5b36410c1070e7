package group

import (
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/journal"
)

// Describe serves DescribeGroups for one group. A group that is not known is "Dead"; from v6 on it is also an error.
func (c *Coordinator) Describe(id string, version int16) kmsg.DescribeGroupsResponseGroup {
	resp := kmsg.NewDescribeGroupsResponseGroup()
	resp.Group = id
	g, err := c.lock(id, false)
	if err != nil {
		resp.ErrorCode = err.Code
		return resp
	}
	text := "Group " + id + " not found."
	if g != nil && g.consumer != nil { // the other API describes it
		g.mu.Unlock()
		g, text = nil, "Group "+id+" is not a classic group."
	}
	if g == nil {
		resp.State = stateDead.String()
		if version >= 6 {
			resp.ErrorCode, resp.ErrorMessage = kerr.GroupIDNotFound.Code, &text
		}
		return resp
	}
	defer g.mu.Unlock()
	resp.State = g.state.String()
	resp.ProtocolType = g.protocolType
	stable := g.state == stateStable
	if stable {
		resp.Protocol = g.protocol
	}
	for _, m := range g.sortedLocked() {
		rm := kmsg.NewDescribeGroupsResponseGroupMember()
		rm.MemberID, rm.InstanceID = m.id, m.instance
		rm.ClientID, rm.ClientHost = m.client.ID, m.client.Host
		rm.ProtocolMetadata, rm.MemberAssignment = []byte{}, []byte{}
		if stable {
			rm.ProtocolMetadata = m.metadataFor(g.protocol)
			rm.MemberAssignment = append(rm.MemberAssignment, m.assignment...)
		}
		resp.Members = append(resp.Members, rm)
	}
	return resp
}

// List serves ListGroups: all groups, or those of the states and types asked for (in any case of letters).
func (c *Coordinator) List(states, types []string) []kmsg.ListGroupsResponseGroup {
	var out []kmsg.ListGroupsResponseGroup
	for _, g := range c.all() {
		g.mu.Lock()
		state, kind := g.kindLocked()
		if g.state != stateDead && among(state, states) && among(kind, types) {
			lg := kmsg.NewListGroupsResponseGroup()
			lg.Group, lg.ProtocolType, lg.GroupState, lg.GroupType = g.id, g.protocolType, state, kind
			out = append(out, lg)
		}
		g.mu.Unlock()
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Group < out[j].Group })
	return out
}

func among(s string, filter []string) bool {
	for _, f := range filter {
		if strings.EqualFold(s, f) {
			return true
		}
	}
	return len(filter) == 0
}

// Delete serves DeleteGroups for one group; it must have no members and no transaction that may still commit offsets to it.
func (c *Coordinator) Delete(id string) Pending[*kmsg.DeleteGroupsResponseGroup] {
	resp := kmsg.NewDeleteGroupsResponseGroup()
	resp.Group = id
	g, err := c.lock(id, false)
	if err == nil && g == nil {
		err = kerr.GroupIDNotFound
	}
	if err != nil {
		resp.ErrorCode = err.Code
		return known(&resp)
	}
	defer g.mu.Unlock()
	if !g.emptyLocked() || len(g.pending) > 0 {
		resp.ErrorCode = kerr.NonEmptyGroup.Code
		return known(&resp)
	}
	if err := g.deleteLocked(); err != nil {
		resp.ErrorCode = storageError(err).Code
		return known(&resp)
	}
	return durable(c, &resp, g.end, func() { resp.ErrorCode = kerr.CoordinatorNotAvailable.Code })
}

// deleteLocked writes tombstones for all that the journal holds of the group and takes it out.
func (g *group) deleteLocked() error {
	entries := make([]journal.Entry, 0, len(g.offsets)+1)
	for tp := range g.offsets {
		entries = append(entries, journal.Entry{Key: offsetKey(g.id, tp)})
	}
	if g.consumer != nil {
		entries = append(entries, g.consumer.Tombstones()...)
	}
	entries = append(entries, journal.Entry{Key: groupKey(g.id)}) // last: read back, it ends what there is
	if _, err := g.append(entries); err != nil {
		return err
	}
	g.c.buryLocked(g)
	return nil
}

// TopicDeleted forgets the offsets that groups have committed for a topic that is gone: a topic created later under the same
// name starts anew.
func (c *Coordinator) TopicDeleted(topic string) {
	for _, g := range c.all() {
		g.mu.Lock()
		var gone []topicPartition
		for tp := range g.allOffsetsLocked() {
			if tp.topic == topic {
				gone = append(gone, tp)
			}
		}
		if err := g.forgetOffsetsLocked(gone); err != nil {
			c.logger.Warn("offsets of a deleted topic stay", "group", g.id, "topic", topic, "error", err)
		}
		g.mu.Unlock()
	}
}

func (c *Coordinator) expireAndRearm() {
	c.expire(time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed.Load() {
		c.mu.expiry.Reset(c.cfg.ExpiryInterval)
	}
}

// expire deletes offsets that are too old, and groups of which nothing is left.
func (c *Coordinator) expire(now time.Time) {
	for _, g := range c.all() {
		if c.closed.Load() {
			return
		}
		g.mu.Lock()
		g.expireLocked(now)
		g.mu.Unlock()
	}
}

func (g *group) expireLocked(now time.Time) {
	if g.state == stateDead {
		return
	}
	var gone []topicPartition
	subscribed, all := g.subscriptionsLocked()
	for tp, o := range g.offsets {
		if _, in := subscribed[tp.topic]; in || all || g.unstableLocked(tp) {
			continue
		}
		from := time.UnixMilli(o.commitMs)
		if g.emptyLocked() && g.protocolType != "" && g.since.After(from) {
			from = g.since // since the last member left
		}
		if o.expireMs >= 0 && now.UnixMilli() >= o.expireMs || o.expireMs < 0 && now.Sub(from) >= g.c.cfg.OffsetsRetention {
			gone = append(gone, tp)
		}
	}
	if err := g.forgetOffsetsLocked(gone); err != nil {
		g.c.logger.Warn("expired offsets stay", "group", g.id, "error", err)
		return
	}
	// A group that never had offsets is kept as long as offsets would be, so that its generation does not start anew under
	// clients that are only pausing.
	if g.emptyLocked() && len(g.offsets) == 0 && len(g.pending) == 0 && len(g.expected) == 0 && now.Sub(g.since) >= g.c.cfg.OffsetsRetention {
		if err := g.deleteLocked(); err != nil {
			g.c.logger.Warn("an expired group stays", "group", g.id, "error", err)
		}
	}
}
