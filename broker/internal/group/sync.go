package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Sync serves SyncGroup. A follower's answer comes when the leader has sent the assignments and they are on disk.
func (c *Coordinator) Sync(req *kmsg.SyncGroupRequest) Pending[*kmsg.SyncGroupResponse] {
	if req.Group == "" {
		return known(syncError(kerr.InvalidGroupID))
	}
	g, err := c.lock(req.Group, false)
	if err != nil {
		return known(syncError(err))
	}
	if g == nil {
		return known(syncError(kerr.UnknownMemberID))
	}
	defer g.mu.Unlock()
	reply := make(syncReply, 1)
	if err := g.syncLocked(req, reply); err != nil {
		return known(syncError(err))
	}
	return awaitReply(c, reply, func(r *kmsg.SyncGroupResponse) { r.ErrorCode = kerr.CoordinatorNotAvailable.Code })
}

func syncError(err *kerr.Error) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode = err.Code
	resp.MemberAssignment = []byte{}
	return resp
}

func (g *group) answerSyncErrorLocked(m *member, err *kerr.Error) {
	if m.syncing == nil {
		return
	}
	m.syncing <- answered[*kmsg.SyncGroupResponse]{resp: syncError(err)}
	m.syncing = nil
	if g.members[m.id] == m {
		g.touchLocked(m)
	}
}

func (g *group) syncLocked(req *kmsg.SyncGroupRequest, reply syncReply) *kerr.Error {
	if g.mixedLocked() {
		resp, err := g.consumer.Sync(req, g.c.cfg.Cluster(), time.Now())
		if err == nil {
			g.armConsumerLocked()
			reply <- answered[*kmsg.SyncGroupResponse]{resp: resp, end: g.end}
		}
		return err
	}
	m, err := g.memberLocked(req.MemberID, req.InstanceID)
	if err != nil {
		return err
	}
	if req.Generation != g.generation {
		return kerr.IllegalGeneration
	}
	if req.ProtocolType != nil && *req.ProtocolType != g.protocolType || req.Protocol != nil && *req.Protocol != g.protocol {
		return kerr.InconsistentGroupProtocol
	}
	switch g.state {
	case statePreparing:
		return kerr.RebalanceInProgress
	case stateCompleting:
		if m.syncing != nil { // an earlier one whose connection broke
			g.answerSyncErrorLocked(m, kerr.UnknownMemberID)
		}
		m.syncing, m.syncVersion, m.synced = reply, req.Version, true
		if m.id == g.leader {
			g.assignLocked(req.GroupAssignment)
		}
		g.syncedLocked()
		return nil
	case stateStable:
		m.synced = true
		g.syncedLocked()
		g.touchLocked(m)
		g.answerSyncLocked(m, reply)
		return nil
	default:
		return kerr.UnknownMemberID
	}
}

// assignLocked takes the leader's assignments: the group is stable once they are stored. Members that the leader has not
// thought of get nothing (an empty assignment, never none).
func (g *group) assignLocked(as []kmsg.SyncGroupRequestGroupAssignment) {
	for _, m := range g.members {
		m.assignment = []byte{}
	}
	for _, a := range as {
		if m, ok := g.members[a.MemberID]; ok {
			m.assignment = append([]byte{}, a.MemberAssignment...)
		}
	}
	if err := g.persistLocked(); err != nil {
		g.c.logger.Error("a group's assignment could not be stored; it rebalances", "group", g.id, "error", err)
		for _, m := range g.sortedLocked() {
			g.answerSyncErrorLocked(m, kerr.CoordinatorNotAvailable)
		}
		g.prepareRebalanceLocked("the assignment could not be stored")
		return
	}
	g.toLocked(stateStable)
	for _, m := range g.sortedLocked() {
		if reply := m.syncing; reply != nil {
			m.syncing = nil
			g.touchLocked(m)
			g.answerSyncLocked(m, reply)
		}
	}
}

// syncedLocked stops waiting for members once all of them have sent SyncGroup.
func (g *group) syncedLocked() {
	for _, m := range g.members {
		if !m.synced {
			return
		}
	}
	if g.state == stateStable {
		g.stopSyncTimerLocked()
	}
}

func (g *group) answerSyncLocked(m *member, reply syncReply) {
	resp := kmsg.NewPtrSyncGroupResponse()
	protocolType, protocol := g.protocolType, g.protocol
	resp.ProtocolType, resp.Protocol = &protocolType, &protocol
	resp.MemberAssignment = m.assignment
	if resp.MemberAssignment == nil {
		resp.MemberAssignment = []byte{}
	}
	reply <- answered[*kmsg.SyncGroupResponse]{resp: resp, end: g.end}
}

// Heartbeat serves Heartbeat: it keeps the session and tells of rebalances.
func (c *Coordinator) Heartbeat(req *kmsg.HeartbeatRequest) *kmsg.HeartbeatResponse {
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.ErrorCode = codeOf(c.heartbeat(req))
	return resp
}

func (c *Coordinator) heartbeat(req *kmsg.HeartbeatRequest) *kerr.Error {
	if req.Group == "" {
		return kerr.InvalidGroupID
	}
	g, err := c.lock(req.Group, false)
	if err != nil {
		return err
	}
	if g == nil {
		return kerr.UnknownMemberID
	}
	defer g.mu.Unlock()
	if g.mixedLocked() {
		g.consumer.SetLimits(g.limits())
		err := g.consumer.ClassicHeartbeat(req, g.c.cfg.Cluster(), time.Now())
		if serr := g.savedLocked(""); serr != nil {
			return serr
		}
		return err
	}
	m, err := g.memberLocked(req.MemberID, req.InstanceID)
	if err != nil {
		return err
	}
	if req.Generation != g.generation {
		return kerr.IllegalGeneration
	}
	switch g.state {
	case stateEmpty, stateDead:
		return kerr.UnknownMemberID
	case statePreparing:
		g.touchLocked(m)
		return kerr.RebalanceInProgress
	default: // also while assignments are awaited: Kafka answers 0 there, and clients rely on it
		g.touchLocked(m)
		return nil
	}
}

// Leave serves LeaveGroup: one member (v0-2) or several, by member id or by instance id (v3+).
func (c *Coordinator) Leave(req *kmsg.LeaveGroupRequest) Pending[*kmsg.LeaveGroupResponse] {
	resp := kmsg.NewPtrLeaveGroupResponse()
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return known(resp)
	}
	members := req.Members
	if req.Version < 3 {
		members = []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}}
	}
	g, err := c.lock(req.Group, false)
	if err != nil {
		resp.ErrorCode = err.Code
		return known(resp)
	}
	for i := range members {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID = members[i].MemberID, members[i].InstanceID
		if g == nil {
			rm.ErrorCode = kerr.UnknownMemberID.Code
		} else {
			rm.ErrorCode = codeOf(g.leaveLocked(&members[i]))
		}
		resp.Members = append(resp.Members, rm)
	}
	if req.Version < 3 && len(resp.Members) == 1 {
		resp.ErrorCode = resp.Members[0].ErrorCode
		resp.Members = nil
	}
	if g == nil {
		return known(resp)
	}
	end := g.end
	g.mu.Unlock()
	return durable(c, resp, end, func() { resp.ErrorCode = kerr.CoordinatorNotAvailable.Code })
}

func (g *group) leaveLocked(who *kmsg.LeaveGroupRequestMember) *kerr.Error {
	if g.consumer != nil { // a member of the classic protocol leaves, or an administrator removes one
		err := g.consumer.Remove(who.MemberID, who.InstanceID, g.c.cfg.Cluster())
		if err == nil {
			err = g.savedLocked("")
		}
		return err
	}
	id := who.MemberID
	if id == "" && who.InstanceID != nil { // an administrator removes a static member, whoever it is now
		id = g.statics[*who.InstanceID]
	}
	if g.forgetExpectedLocked(id) {
		g.maybeCompleteJoinLocked()
		return nil
	}
	m, err := g.memberLocked(id, who.InstanceID)
	if err != nil {
		return err
	}
	g.removeLocked(m, "left")
	return nil
}
