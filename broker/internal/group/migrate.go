package group

import (
	"cmp"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group/consumer"
	"github.com/leatstream/leat/broker/internal/journal"
)

// A group that has members changes its type while they run (KIP-848, "online migration"): a classic group becomes one of the consumer protocol when
// somebody joins by that protocol, and a classic one again when the last who speaks it is gone. In between it has members of both.

// upgradeLocked makes a classic group that has members one of the consumer protocol. Who waits for an answer is told to join again.
func (g *group) upgradeLocked() *consumer.Refusal {
	refusal := func(why string) *consumer.Refusal {
		return &consumer.Refusal{Code: kerr.GroupIDNotFound, Text: "Cannot upgrade classic group " + g.id + " to consumer group because " + why}
	}
	switch {
	case g.c.cfg.KeepClassic:
		return refusal("online upgrade is disabled.")
	case g.protocolType != typeConsumer:
		return refusal("the group does not use the consumer embedded protocol.")
	case len(g.members) > g.c.cfg.MaxGroupSize:
		return refusal("the group size exceeds the consumer group maximum size.")
	}
	var members []consumer.ClassicMember
	for _, m := range g.sortedLocked() {
		members = append(members, consumer.ClassicMember{
			Classic: consumer.Classic{Session: m.sessionTimeout, Protocols: m.protocols},
			ID:      m.id, Instance: m.instance, Client: consumer.Client(m.client), Patience: m.rebalanceTimeout, Assignment: m.assignment,
		})
	}
	made, wrong := consumer.FromClassic(g.id, g.limits(), g.generation, members, g.c.cfg.Cluster(), time.Now())
	if wrong != "" {
		return refusal(wrong)
	}
	if err := g.dropClassicRecordLocked(); err != nil {
		return &consumer.Refusal{Code: storageError(err)}
	}
	for _, m := range g.sortedLocked() {
		g.dropLocked(m, kerr.RebalanceInProgress)
	}
	for id := range g.expected {
		g.forgetExpectedLocked(id)
	}
	g.stopRebalanceTimerLocked()
	g.stopSyncTimerLocked()
	g.initial, g.protocol, g.leader = false, "", ""
	g.toLocked(stateEmpty)
	g.consumer, g.protocolType = made, typeConsumer
	g.c.logger.Info("classic group becomes one of the consumer protocol", "group", g.id, "members", len(members))
	return nil
}

// dropClassicRecordLocked deletes what is stored of a classic group.
func (g *group) dropClassicRecordLocked() error {
	if g.storedAt < 0 {
		return nil
	}
	if _, err := g.append([]journal.Entry{{Key: groupKey(g.id)}}); err != nil {
		return err
	}
	g.storedAt = -1
	return nil
}

// downgradeLocked makes a group of the consumer protocol a classic one if all of its members speak the classic protocol. They join again, and
// their leader assigns; unless keeper is not "", a static member that took its own place, and all have what they shall have: then they keep it,
// and keeper leads them. What has changed so far must be saved.
func (g *group) downgradeLocked(keeper string) error {
	if g.consumer == nil || g.c.cfg.KeepConsumer || !g.consumer.ClassicOnly() {
		return nil
	}
	was, generation := g.consumer.ClassicMembers(g.c.cfg.Cluster()), g.consumer.Generation()
	settled := keeper != "" && g.consumer.Settled()
	if _, err := g.append(g.consumer.Tombstones()); err != nil {
		return err
	}
	g.stopConsumerLocked()
	g.generation, g.consumer, g.protocolType = generation, nil, typeConsumer
	for _, c := range was {
		m := &member{
			id: c.ID, instance: c.Instance, client: Client(c.Client), sessionTimeout: c.Session, rebalanceTimeout: c.Patience,
			protocolType: typeConsumer, protocols: c.Protocols, assignment: c.Assignment, synced: true,
		}
		g.members[m.id] = m
		if m.instance != nil {
			g.statics[*m.instance] = m.id
		}
		g.touchLocked(m)
	}
	g.leader, g.protocol = cmp.Or(keeper, was[0].ID), g.electProtocolLocked()
	g.toLocked(stateStable)
	g.c.logger.Info("group of the consumer protocol becomes a classic one", "group", g.id, "members", len(was))
	err := g.persistLocked()
	if err != nil || !settled {
		g.prepareRebalanceLocked("the group became a classic one")
	}
	return err
}

// savedLocked writes down what a request has changed in a group of the consumer protocol, which may be that it becomes a classic one (see
// downgradeLocked).
func (g *group) savedLocked(keeper string) *kerr.Error {
	if g.consumer.Empty() {
		g.since = time.Now()
	}
	if err := g.saveConsumerLocked(); err != nil {
		return storageError(err)
	}
	if err := g.downgradeLocked(keeper); err != nil {
		g.c.logger.Warn("a group that becomes a classic one could not be stored; the next change tries again", "group", g.id, "error", err)
	}
	if g.consumer != nil {
		g.armConsumerLocked()
	}
	return nil
}

// mixedLocked reports that requests of the classic protocol are for a group of the consumer protocol: one that has members.
func (g *group) mixedLocked() bool { return g.consumer != nil && !g.consumer.Empty() }

// joinMixedLocked serves JoinGroup of such a group.
func (g *group) joinMixedLocked(req *kmsg.JoinGroupRequest, from Client, reply joinReply) {
	if g.c.cfg.KeepClassic && g.c.cfg.KeepConsumer {
		reply.fail("", kerr.InconsistentGroupProtocol)
		return
	}
	g.consumer.SetLimits(g.limits())
	resp, err := g.consumer.Join(req, consumer.Client(from), g.c.cfg.Cluster(), time.Now())
	if err != nil {
		reply.fail("", err)
		return
	}
	if resp.ErrorCode == 0 {
		keeper := resp.MemberID
		if req.Version < 9 { // it cannot be told to lead without assigning (KIP-814), and somebody has to look after the topics
			keeper = ""
		}
		if err := g.savedLocked(keeper); err != nil {
			reply.fail("", err)
			return
		}
	}
	if g.consumer == nil { // it took its own place, and was the last of the other protocol
		if g.state == stateStable {
			g.answerJoinLocked(g.members[resp.MemberID], reply, true)
			return
		}
		resp.Generation = g.generation // its SyncGroup will say that the group rebalances
	}
	reply <- answered[*kmsg.JoinGroupResponse]{resp: resp, end: g.end}
}
