package group

import (
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// sortedLocked are the members by id, so that answers do not depend on the order of a map.
func (g *group) sortedLocked() []*member {
	ms := make([]*member, 0, len(g.members))
	for _, m := range g.members {
		ms = append(ms, m)
	}
	sort.Slice(ms, func(i, j int) bool { return ms[i].id < ms[j].id })
	return ms
}

// prepareRebalanceLocked begins a rebalance, or looks whether the one under way is complete.
func (g *group) prepareRebalanceLocked(reason string) {
	if g.state == statePreparing {
		g.maybeCompleteJoinLocked()
		return
	}
	if g.state == stateCompleting {
		g.stopSyncTimerLocked()
		for _, m := range g.members {
			m.assignment = nil
			g.answerSyncErrorLocked(m, kerr.RebalanceInProgress)
		}
	}
	g.c.logger.Debug("group rebalances", "group", g.id, "generation", g.generation, "reason", reason)
	fromEmpty := g.state == stateEmpty
	g.toLocked(statePreparing)
	if fromEmpty && g.c.cfg.InitialRebalanceDelay > 0 {
		g.initial, g.late = true, false
		delay := min(g.c.cfg.InitialRebalanceDelay, g.rebalanceTimeoutLocked())
		g.settling = max(0, g.rebalanceTimeoutLocked()-delay)
		g.armRebalanceLocked(delay)
		return
	}
	g.armRebalanceLocked(g.rebalanceTimeoutLocked())
	g.maybeCompleteJoinLocked()
}

// rebalanceTimeoutLocked is how long members have to join: what the most patient one asked for.
func (g *group) rebalanceTimeoutLocked() time.Duration {
	var t time.Duration
	for _, m := range g.members {
		t = max(t, m.rebalanceTimeout)
	}
	return t
}

func (g *group) armRebalanceLocked(d time.Duration) {
	g.stopRebalanceTimerLocked()
	seq := g.rebalanceSeq
	g.rebalance = time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.c.closed.Load() || g.state != statePreparing || g.rebalanceSeq != seq {
			return
		}
		if g.initial && g.late && g.settling > 0 { // somebody came: wait a little for the next
			g.late = false
			delay := min(g.c.cfg.InitialRebalanceDelay, g.settling)
			g.settling -= delay
			g.armRebalanceLocked(delay)
			return
		}
		g.completeJoinLocked()
	})
}

// maybeCompleteJoinLocked completes the gathering once everybody who is known or announced has joined.
func (g *group) maybeCompleteJoinLocked() {
	if g.state != statePreparing || g.initial || len(g.expected) > 0 {
		return
	}
	for _, m := range g.members {
		if m.joining == nil {
			return
		}
	}
	g.completeJoinLocked()
}

// completeJoinLocked starts the next generation with those who have joined. Dynamic members that have not are dropped; static
// ones stay until their session ends, they may just be restarting.
func (g *group) completeJoinLocked() {
	g.initial = false
	for _, m := range g.sortedLocked() {
		if m.joining == nil && m.instance == nil {
			g.dropLocked(m, kerr.UnknownMemberID)
		}
	}
	if len(g.members) == 0 {
		g.becomeEmptyLocked()
		return
	}
	if !g.electLeaderLocked() { // only absent static members: nobody could assign
		g.armRebalanceLocked(g.rebalanceTimeoutLocked())
		return
	}
	g.stopRebalanceTimerLocked()
	g.generation++
	g.protocol = g.electProtocolLocked()
	g.toLocked(stateCompleting)
	for _, m := range g.sortedLocked() {
		m.synced = m.joining == nil // an absent static member owes no SyncGroup
		if m.joining == nil {
			continue
		}
		reply := m.joining
		m.joining = nil
		g.touchLocked(m)
		g.answerJoinLocked(m, reply, false)
	}
	g.armSyncLocked()
}

// becomeEmptyLocked is the end of the last member. The generation stays, so that it is never used twice.
func (g *group) becomeEmptyLocked() {
	g.stopRebalanceTimerLocked()
	g.stopSyncTimerLocked()
	g.initial = false
	g.generation++
	g.protocol, g.leader = "", ""
	g.toLocked(stateEmpty)
	if err := g.persistLocked(); err != nil {
		g.c.logger.Warn("an empty group could not be stored; after a restart its members seem to be there until their sessions end",
			"group", g.id, "error", err)
	}
}

// electLeaderLocked keeps the leader if it has joined, else takes somebody who has.
func (g *group) electLeaderLocked() bool {
	if m, ok := g.members[g.leader]; ok && m.joining != nil {
		return true
	}
	for _, m := range g.sortedLocked() {
		if m.joining != nil {
			g.leader = m.id
			return true
		}
	}
	return false
}

// electProtocolLocked counts votes: each member's is the first of its protocols that all members know. Of equals the first by
// name wins.
func (g *group) electProtocolLocked() string {
	votes := map[string]int{}
	for _, m := range g.members {
		for i := range m.protocols {
			if g.allSupportLocked(m.protocols[i].Name) {
				votes[m.protocols[i].Name]++
				break
			}
		}
	}
	best := ""
	for name, n := range votes {
		if best == "" || n > votes[best] || n == votes[best] && name < best {
			best = name
		}
	}
	return best
}

func (g *group) allSupportLocked(protocol string) bool {
	for _, m := range g.members {
		if !m.supports(protocol) {
			return false
		}
	}
	return true
}

// armSyncLocked gives the members of a new generation the rebalance timeout to fetch their assignment.
func (g *group) armSyncLocked() {
	g.stopSyncTimerLocked()
	seq := g.syncSeq
	g.syncWait = time.AfterFunc(g.rebalanceTimeoutLocked(), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.c.closed.Load() || g.syncSeq != seq || g.state != stateCompleting && g.state != stateStable {
			return
		}
		g.syncWait = nil
		late := false
		for _, m := range g.sortedLocked() {
			if !m.synced {
				late = true
				g.dropLocked(m, kerr.UnknownMemberID)
			}
		}
		if late {
			g.prepareRebalanceLocked("members did not fetch their assignment")
		}
	})
}

// dropLocked takes a member out, and answers what it may be waiting for with err.
func (g *group) dropLocked(m *member, err *kerr.Error) {
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
	if m.joining != nil {
		m.joining.fail(m.id, err)
		m.joining = nil
	}
	delete(g.members, m.id)
	g.answerSyncErrorLocked(m, err)
	if m.instance != nil && g.statics[*m.instance] == m.id {
		delete(g.statics, *m.instance)
	}
	if g.leader == m.id {
		g.leader = ""
	}
}

// removeLocked takes a member out for good and rebalances the rest.
func (g *group) removeLocked(m *member, reason string) {
	g.dropLocked(m, kerr.UnknownMemberID)
	switch g.state {
	case stateStable, stateCompleting:
		g.prepareRebalanceLocked("member " + m.id + " is gone: " + reason)
	case statePreparing:
		if g.initial && len(g.members) > 0 {
			return
		}
		g.initial = false
		g.maybeCompleteJoinLocked()
	}
}
