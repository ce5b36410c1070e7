package consumer

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// While a group changes its protocol, some of its members speak the classic one (KIP-848, "online migration"). They join, sync and send
// heartbeats as ever, and are led by the same steps as the others: what they own is in what they say when they join, a step is taken with each
// join, the assignment is what a sync returns, and where there is another step to take, the answer to a heartbeat is that the group rebalances.

// Classic is what a member of the classic protocol said of itself.
type Classic struct {
	Session   time.Duration
	Protocols []kmsg.JoinGroupRequestProtocol // the bytes belong to the group
}

// ClassicMember is a member on its way from or to a classic group.
type ClassicMember struct {
	Classic
	ID       string
	Instance *string
	Client   Client
	Patience time.Duration // for rejoining
	// Assignment is what the member has, as a leader writes it; empty if it has nothing yet.
	Assignment []byte
}

// protocolType is the only one whose members a consumer group can lead.
const protocolType = "consumer"

// subscription is what a member's first protocol says; all say the same but for what their assignors add.
func (c *Classic) subscription() (*kmsg.ConsumerMemberMetadata, bool) {
	if len(c.Protocols) == 0 {
		return nil, false
	}
	sub := kmsg.NewConsumerMemberMetadata()
	return &sub, sub.ReadFrom(c.Protocols[0].Metadata) == nil
}

// FromClassic makes a group of the members of a classic one. They keep what they have, and their generation is their epoch. wrong says why that
// cannot be, "" if it can: only protocols of consumers whose assignments say nothing but partitions are understood.
func FromClassic(id string, limits Limits, generation int32, members []ClassicMember, cluster Cluster, now time.Time) (g *Group, wrong string) {
	g = New(id, limits, generation)
	g.cluster = cluster
	for _, c := range members {
		sub, ok := c.subscription()
		has := kmsg.NewConsumerMemberAssignment()
		if !ok || len(c.Assignment) > 0 && has.ReadFrom(c.Assignment) != nil {
			return nil, "the embedded consumer protocol is malformed."
		}
		if len(has.UserData) > 0 {
			return nil, "an unsupported custom assignor is in use. " +
				"Please refer to the documentation or switch to a default assignor before re-attempting the upgrade."
		}
		m := &Member{id: c.ID, instance: c.Instance, rack: sub.Rack, client: c.Client, names: names(sub.Topics), patience: c.Patience,
			classic: &c.Classic, epoch: generation, previous: generation, revoking: Assignment{}, session: now.Add(c.Session)}
		m.assigned = Assignment{}
		for _, t := range has.Topics {
			if topic, ok := cluster.Topic(t.Topic); ok {
				a, _ := Assignment{topic.ID: slices.Sorted(slices.Values(t.Partitions))}.split(func(p partition) bool { _, held := g.owners[p]; return !held })
				a.each(func(p partition) { g.owners[p] = owner{m.id, generation} })
				m.assigned = m.assigned.with(a)
			}
		}
		g.members[m.id], g.target[m.id] = m, m.assigned
		if m.instance != nil {
			g.statics[*m.instance] = m.id
		}
	}
	g.hash = g.topicsHash()
	g.SaveAll()
	return g, ""
}

// ClassicOnly reports that there are members and all of them speak the classic protocol: the group can become a classic one again.
func (g *Group) ClassicOnly() bool {
	for _, m := range g.members {
		if m.classic == nil {
			return false
		}
	}
	return !g.Empty()
}

// Generation is the latest epoch that a member has been told, and so the generation of a classic group that they become.
func (g *Group) Generation() (latest int32) {
	for _, m := range g.members {
		latest = max(latest, m.epoch)
	}
	return latest
}

// ClassicMembers are the members of a group that is ClassicOnly, with what they have.
func (g *Group) ClassicMembers(cluster Cluster) (out []ClassicMember) {
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		m := g.members[id]
		out = append(out, ClassicMember{Classic: *m.classic, ID: id, Instance: m.instance, Client: m.client, Patience: m.patience, Assignment: m.bytes(cluster)})
	}
	return out
}

// bytes is a classic member's assignment as its leader would have written it.
func (m *Member) bytes(cluster Cluster) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	if sub, ok := m.classic.subscription(); ok {
		a.Version = sub.Version
	}
	for _, id := range m.assigned.topics() {
		if t, ok := cluster.TopicByID(id); ok {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: t.Name, Partitions: m.assigned[id]})
		}
	}
	return a.AppendTo(nil)
}

// Join serves JoinGroup of a group that has members. It never waits: the answer has the member's epoch for a generation, no leader, and what it
// is to have comes with its SyncGroup, for which it has as long as for rejoining.
func (g *Group) Join(req *kmsg.JoinGroupRequest, from Client, cluster Cluster, now time.Time) (*kmsg.JoinGroupResponse, *kerr.Error) {
	said := Classic{Session: time.Duration(req.SessionTimeoutMillis) * time.Millisecond}
	for _, p := range req.Protocols { // the request's bytes belong to its frame
		said.Protocols = append(said.Protocols, kmsg.JoinGroupRequestProtocol{Name: p.Name, Metadata: slices.Clone(p.Metadata)})
	}
	if req.ProtocolType != protocolType || !g.knowProtocol(req.MemberID, said.Protocols) {
		return nil, kerr.InconsistentGroupProtocol
	}
	if g.members[req.MemberID] == nil && len(g.members) >= g.limits.Members {
		return nil, kerr.GroupMaxSizeReached
	}
	resp := kmsg.NewPtrJoinGroupResponse()
	if req.MemberID == "" && req.InstanceID == nil && req.Version >= 4 {
		resp.MemberID, resp.ErrorCode, resp.Generation = from.ID+"-"+uuid.NewString(), kerr.MemberIDRequired.Code, -1
		resp.Protocol = new(string) // nullable only from v7 on
		return resp, nil
	}
	sub, ok := said.subscription()
	if !ok {
		return nil, kerr.InconsistentGroupProtocol
	}
	reported := ownedByName(sub, cluster)
	m, changed, err := g.admitClassic(req, from, reported)
	if err != nil {
		return nil, err
	}
	m.classic = &said
	patience := req.RebalanceTimeoutMillis
	if req.Version == 0 || patience <= 0 {
		patience = req.SessionTimeoutMillis
	}
	resubscribed, _ := m.update(&kmsg.ConsumerGroupHeartbeatRequest{RackID: sub.Rack, RebalanceTimeoutMillis: patience,
		SubscribedTopicNames: append([]string{}, sub.Topics...), SubscribedTopicRegex: new(string)}, from)
	g.unsaved.members[m.id] = true
	if g.refresh(cluster) || resubscribed || changed {
		g.advance()
	}
	g.retarget(now)
	g.reconcile(m, reported)
	m.session, m.revoke = now.Add(said.Session), now.Add(m.patience)
	kind := protocolType
	resp.MemberID, resp.Generation, resp.ProtocolType, resp.Protocol = m.id, m.epoch, &kind, &m.classic.Protocols[0].Name
	return resp, nil
}

// knowProtocol reports whether one of the protocols is known to all other classic members.
func (g *Group) knowProtocol(memberID string, protocols []kmsg.JoinGroupRequestProtocol) bool {
	return slices.ContainsFunc(protocols, func(p kmsg.JoinGroupRequestProtocol) bool {
		for id, m := range g.members {
			if id == memberID || m.classic == nil {
				continue
			}
			if !slices.ContainsFunc(m.classic.Protocols, func(o kmsg.JoinGroupRequestProtocol) bool { return o.Name == p.Name }) {
				return false
			}
		}
		return true
	})
}

// admitClassic finds the member that a JoinGroup is from, or makes it. Who says that it has partitions was removed: others may have them by now.
func (g *Group) admitClassic(req *kmsg.JoinGroupRequest, from Client, reported Assignment) (m *Member, changed bool, err *kerr.Error) {
	id := req.MemberID
	if req.InstanceID != nil {
		current, known := g.statics[*req.InstanceID]
		switch {
		case known && id == "":
			return g.replace(g.members[current], *req.InstanceID+"-"+uuid.NewString()), false, nil
		case known && current != id:
			return nil, false, kerr.FencedInstanceID
		case !known && id != "":
			return nil, false, kerr.UnknownMemberID
		case !known:
			id = *req.InstanceID + "-" + uuid.NewString()
		}
	}
	if id == "" {
		id = from.ID + "-" + uuid.NewString()
	}
	if m = g.members[id]; m != nil {
		return m, false, nil
	}
	if len(reported) > 0 {
		return nil, false, kerr.UnknownMemberID
	}
	return g.newMember(id, req.InstanceID), true, nil
}

// ownedByName is what a subscription says its member owns; that of a protocol without such a field owns nothing when it joins.
func ownedByName(sub *kmsg.ConsumerMemberMetadata, cluster Cluster) Assignment {
	a := Assignment{}
	for _, o := range sub.OwnedPartitions {
		if t, ok := cluster.Topic(o.Topic); ok && len(o.Partitions) > 0 {
			a[t.ID] = slices.Sorted(slices.Values(o.Partitions))
		}
	}
	return a
}

// Sync serves SyncGroup of a group that has members.
func (g *Group) Sync(req *kmsg.SyncGroupRequest, cluster Cluster, now time.Time) (*kmsg.SyncGroupResponse, *kerr.Error) {
	m, err := g.classicMember(req.MemberID, req.InstanceID, req.Generation)
	if err != nil {
		return nil, err
	}
	kind, protocol := protocolType, m.classic.Protocols[0].Name
	if req.ProtocolType != nil && *req.ProtocolType != kind || req.Protocol != nil && *req.Protocol != protocol {
		return nil, kerr.InconsistentGroupProtocol
	}
	if g.targetEpoch > m.epoch && m.state != unrevoked {
		return nil, kerr.RebalanceInProgress
	}
	m.session = now.Add(m.classic.Session)
	if m.revoke = (time.Time{}); m.state == unrevoked { // it gives up what it has to by rejoining
		m.revoke = now.Add(m.patience)
	}
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ProtocolType, resp.Protocol, resp.MemberAssignment = &kind, &protocol, m.bytes(cluster)
	return resp, nil
}

// ClassicHeartbeat serves Heartbeat of a group that has members: REBALANCE_IN_PROGRESS tells one to join for its next step.
func (g *Group) ClassicHeartbeat(req *kmsg.HeartbeatRequest, cluster Cluster, now time.Time) *kerr.Error {
	m, err := g.classicMember(req.MemberID, req.InstanceID, req.Generation)
	if err != nil {
		return err
	}
	if g.refresh(cluster) {
		g.advance()
	}
	g.retarget(now)
	m.session = now.Add(m.classic.Session)
	if m.epoch >= g.targetEpoch && m.state != unrevoked && (m.state != unreleased || g.waits(m)) {
		return nil
	}
	if m.revoke.IsZero() {
		m.revoke = now.Add(m.patience)
	}
	return kerr.RebalanceInProgress
}

// waits reports whether others hold something of a member's target.
func (g *Group) waits(m *Member) bool {
	_, taken := g.target[m.id].split(func(p partition) bool { o, held := g.owners[p]; return !held || o.member == m.id })
	return len(taken) > 0
}

func (g *Group) classicMember(id string, instance *string, generation int32) (*Member, *kerr.Error) {
	if instance != nil {
		switch current, ok := g.statics[*instance]; {
		case !ok:
			return nil, kerr.UnknownMemberID
		case current != id:
			return nil, kerr.FencedInstanceID
		}
	}
	m := g.members[id]
	switch {
	case m == nil || m.classic == nil:
		return nil, kerr.UnknownMemberID
	case m.epoch != generation:
		return nil, kerr.IllegalGeneration
	}
	return m, nil
}
