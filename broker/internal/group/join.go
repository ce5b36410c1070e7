package group

import (
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Join serves JoinGroup. The answer comes when the rebalance that the join takes part in has gathered its members.
func (c *Coordinator) Join(req *kmsg.JoinGroupRequest, from Client) Pending[*kmsg.JoinGroupResponse] {
	refuse := func(err *kerr.Error) Pending[*kmsg.JoinGroupResponse] {
		resp := joinError(req.MemberID, err)
		return known(resp)
	}
	if req.Group == "" {
		return refuse(kerr.InvalidGroupID)
	}
	session := time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	if session < c.cfg.MinSessionTimeout || session > c.cfg.MaxSessionTimeout {
		return refuse(kerr.InvalidSessionTimeout)
	}
	g, err := c.lock(req.Group, req.MemberID == "")
	if err != nil {
		return refuse(err)
	}
	if g == nil {
		return refuse(kerr.UnknownMemberID)
	}
	defer g.mu.Unlock()
	reply := make(joinReply, 1)
	g.joinLocked(req, from, reply)
	return awaitReply(c, reply, func(r *kmsg.JoinGroupResponse) { r.ErrorCode = kerr.CoordinatorNotAvailable.Code })
}

func joinError(memberID string, err *kerr.Error) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.ErrorCode = err.Code
	resp.Generation = -1
	resp.MemberID = memberID
	empty := ""
	resp.Protocol = &empty // nullable only from v7 on
	return resp
}

func (r joinReply) fail(memberID string, err *kerr.Error) {
	r <- answered[*kmsg.JoinGroupResponse]{resp: joinError(memberID, err)}
}

// joinLocked decides what a JoinGroup means and answers reply, now or when the rebalance is complete.
func (g *group) joinLocked(req *kmsg.JoinGroupRequest, from Client, reply joinReply) {
	if g.mixedLocked() {
		g.joinMixedLocked(req, from, reply)
		return
	}
	if err := g.becomeClassicLocked(); err != nil {
		reply.fail(req.MemberID, err)
		return
	}
	if !g.acceptsProtocolsLocked(req) {
		reply.fail(req.MemberID, kerr.InconsistentGroupProtocol)
		return
	}
	if req.MemberID == "" {
		g.joinNewLocked(req, from, reply)
		return
	}
	if g.forgetExpectedLocked(req.MemberID) {
		if req.InstanceID != nil { // static members are never asked to come back with an id
			reply.fail(req.MemberID, kerr.UnknownMemberID)
			return
		}
		g.addAndRebalanceLocked(g.newMember(req.MemberID, req, from), reply, req.Version)
		return
	}
	m, err := g.memberLocked(req.MemberID, req.InstanceID)
	if err != nil {
		reply.fail(req.MemberID, err)
		return
	}
	g.rejoinLocked(m, req, from, reply)
}

// acceptsProtocolsLocked says whether the request's protocols leave the group one that everybody knows.
func (g *group) acceptsProtocolsLocked(req *kmsg.JoinGroupRequest) bool {
	if req.ProtocolType == "" || len(req.Protocols) == 0 {
		return false
	}
	others := 0
	for _, m := range g.members {
		if m.id != req.MemberID {
			others++
		}
	}
	if others == 0 {
		return true
	}
	if g.protocolType != "" && g.protocolType != req.ProtocolType {
		return false
	}
	for i := range req.Protocols {
		all := true
		for _, m := range g.members {
			all = all && (m.id == req.MemberID || m.supports(req.Protocols[i].Name))
		}
		if all {
			return true
		}
	}
	return false
}

// joinNewLocked admits somebody without a member id: a static member that is back, or somebody new.
func (g *group) joinNewLocked(req *kmsg.JoinGroupRequest, from Client, reply joinReply) {
	if req.InstanceID != nil {
		id := *req.InstanceID + "-" + uuid.NewString()
		if old, ok := g.statics[*req.InstanceID]; ok {
			g.replaceStaticLocked(g.members[old], id, req, from, reply)
			return
		}
		if g.fullLocked() {
			reply.fail("", kerr.GroupMaxSizeReached)
			return
		}
		g.addAndRebalanceLocked(g.newMember(id, req, from), reply, req.Version)
		return
	}
	if g.fullLocked() {
		reply.fail("", kerr.GroupMaxSizeReached)
		return
	}
	id := from.ID + "-" + uuid.NewString()
	if req.Version >= 4 {
		g.expectLocked(id, time.Duration(req.SessionTimeoutMillis)*time.Millisecond)
		reply.fail(id, kerr.MemberIDRequired)
		return
	}
	g.addAndRebalanceLocked(g.newMember(id, req, from), reply, req.Version)
}

func (g *group) fullLocked() bool {
	return len(g.members)+len(g.expected) >= g.c.cfg.MaxGroupSize
}

func (g *group) newMember(id string, req *kmsg.JoinGroupRequest, from Client) *member {
	m := &member{id: id, instance: req.InstanceID, client: from}
	m.update(req)
	return m
}

// update takes over what a JoinGroup says. Protocols are copied: the request's bytes belong to its frame.
func (m *member) update(req *kmsg.JoinGroupRequest) {
	m.sessionTimeout = time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	m.rebalanceTimeout = time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	if req.Version == 0 || req.RebalanceTimeoutMillis <= 0 {
		m.rebalanceTimeout = m.sessionTimeout
	}
	m.protocolType = req.ProtocolType
	m.protocols = make([]kmsg.JoinGroupRequestProtocol, len(req.Protocols))
	for i, p := range req.Protocols {
		m.protocols[i].Name = p.Name
		m.protocols[i].Metadata = append([]byte{}, p.Metadata...)
	}
}

func (g *group) addAndRebalanceLocked(m *member, reply joinReply, version int16) {
	g.members[m.id] = m
	if m.instance != nil {
		g.statics[*m.instance] = m.id
	}
	if g.protocolType == "" || len(g.members) == 1 {
		g.protocolType = m.protocolType
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.late = true
	g.parkLocked(m, reply, version)
	g.prepareRebalanceLocked("new member " + m.id)
}

// parkLocked makes reply the one that the coming generation is told to. An earlier JoinGroup of the same member that is still
// parked (its connection broke) is let go.
func (g *group) parkLocked(m *member, reply joinReply, version int16) {
	if m.joining != nil {
		m.joining.fail(m.id, kerr.UnknownMemberID)
	}
	m.joining, m.joinVersion = reply, version
}

// rejoinLocked is a JoinGroup of a member that the group knows.
func (g *group) rejoinLocked(m *member, req *kmsg.JoinGroupRequest, from Client, reply joinReply) {
	same := m.sameProtocols(req.Protocols)
	m.client = from
	switch g.state {
	case statePreparing:
		m.update(req)
		g.parkLocked(m, reply, req.Version)
		g.maybeCompleteJoinLocked()
	case stateCompleting:
		if same { // its answer was lost: tell it again
			g.touchLocked(m)
			g.answerJoinLocked(m, reply, false)
			return
		}
		m.update(req)
		g.parkLocked(m, reply, req.Version)
		g.prepareRebalanceLocked("member " + m.id + " changed its protocols")
	case stateStable:
		if same && m.id != g.leader {
			g.touchLocked(m)
			g.answerJoinLocked(m, reply, false)
			return
		}
		m.update(req) // a leader joins again because it wants a rebalance: topics have changed
		g.parkLocked(m, reply, req.Version)
		g.prepareRebalanceLocked("member " + m.id + " joined again")
	default:
		reply.fail(req.MemberID, kerr.UnknownMemberID)
	}
}

// replaceStaticLocked gives a static member that is back its old place under a new member id. In a stable group whose protocol
// stays the same nothing is rebalanced: that is what static membership is for.
func (g *group) replaceStaticLocked(old *member, id string, req *kmsg.JoinGroupRequest, from Client, reply joinReply) {
	oldLeader := g.leader
	m := g.newMember(id, req, from)
	m.assignment = old.assignment
	g.dropLocked(old, kerr.FencedInstanceID)
	g.members[id] = m
	g.statics[*m.instance] = id
	if oldLeader == old.id {
		g.leader = id
	}
	switch g.state {
	case stateStable:
		if g.electProtocolLocked() != g.protocol {
			g.parkLocked(m, reply, req.Version)
			g.prepareRebalanceLocked("static member " + *m.instance + " came back with other protocols")
			return
		}
		if err := g.persistLocked(); err != nil {
			g.parkLocked(m, reply, req.Version)
			g.prepareRebalanceLocked("static member " + *m.instance + " could not be stored")
			return
		}
		g.touchLocked(m)
		if req.Version < 9 {
			// Without SkipAssignment the only way to keep a leader from assigning anew is not to tell it that it leads.
			g.answerStaticLocked(m, reply, oldLeader)
			return
		}
		g.answerJoinLocked(m, reply, m.id == g.leader)
	case stateCompleting:
		g.parkLocked(m, reply, req.Version)
		g.prepareRebalanceLocked("static member " + *m.instance + " came back during a rebalance")
	case statePreparing:
		g.parkLocked(m, reply, req.Version)
		g.maybeCompleteJoinLocked()
	default:
		g.parkLocked(m, reply, req.Version)
		g.prepareRebalanceLocked("static member " + *m.instance + " came back")
	}
}

func (g *group) answerStaticLocked(m *member, reply joinReply, leader string) {
	resp := g.joinResponseLocked(m)
	resp.LeaderID = leader
	reply <- answered[*kmsg.JoinGroupResponse]{resp: resp, end: g.end}
}

// answerJoinLocked tells a member the current generation. Only the leader gets the members, to assign them.
func (g *group) answerJoinLocked(m *member, reply joinReply, skip bool) {
	resp := g.joinResponseLocked(m)
	resp.SkipAssignment = skip
	if m.id == g.leader {
		for _, o := range g.sortedLocked() {
			jm := kmsg.NewJoinGroupResponseMember()
			jm.MemberID, jm.InstanceID = o.id, o.instance
			jm.ProtocolMetadata = o.metadataFor(g.protocol)
			resp.Members = append(resp.Members, jm)
		}
	}
	reply <- answered[*kmsg.JoinGroupResponse]{resp: resp, end: g.end}
}

func (g *group) joinResponseLocked(m *member) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Generation = g.generation
	protocolType, protocol := g.protocolType, g.protocol
	resp.ProtocolType, resp.Protocol = &protocolType, &protocol
	resp.LeaderID = g.leader
	resp.MemberID = m.id
	return resp
}

// memberLocked finds a member by its id, and checks that a static member's instance is still its own.
func (g *group) memberLocked(id string, instance *string) (*member, *kerr.Error) {
	if instance != nil {
		current, ok := g.statics[*instance]
		if !ok {
			return nil, kerr.UnknownMemberID
		}
		if current != id {
			return nil, kerr.FencedInstanceID
		}
	}
	m, ok := g.members[id]
	if !ok {
		return nil, kerr.UnknownMemberID
	}
	return m, nil
}
