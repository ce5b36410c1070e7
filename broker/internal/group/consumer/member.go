package consumer

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// memberState is where a member is on its way to the target, numbered as in Kafka's records.
type memberState int8

const (
	stable     memberState = iota // it has its target of the epoch it is in
	unrevoked                     // it has to give up partitions before it gets to the target's epoch
	unreleased                    // it waits for partitions that others have not given up
)

// Member is a member of a group.
type Member struct {
	id       string
	instance *string
	rack     *string
	client   Client
	names    []string // sorted
	pattern  string
	assignor string
	patience time.Duration // for giving up partitions
	classic  *Classic      // what it said if it speaks the classic protocol; nil if not
	heard    bool          // since the start
	sees     Sees          // of who sent its last heartbeat
	seen     []string      // what its pattern matches and it may see; nil: all that it matches

	epoch, previous int32
	state           memberState
	assigned        Assignment
	revoking        Assignment // not assigned any more, and not given up yet

	session time.Time // when it is gone unless something is heard
	revoke  time.Time // when it is gone unless it gives up what it has to; zero outside of unrevoked
}

// Heartbeat serves ConsumerGroupHeartbeat: joining, leaving, changes of subscriptions, and the steps to the target. The answer may be
// sent when what is unsaved is saved.
func (g *Group) Heartbeat(req *kmsg.ConsumerGroupHeartbeatRequest, from Client, cluster Cluster, now time.Time) (*kmsg.ConsumerGroupHeartbeatResponse, *Refusal) {
	if req.MemberEpoch < joining {
		return g.leave(req, cluster, now)
	}
	reported := owned(req.Topics)
	if r := g.addPattern(textOf(req.SubscribedTopicRegex), cluster); r != nil {
		return nil, r
	}
	m, changed, r := g.admit(req, reported)
	if r != nil {
		return nil, r
	}
	if m.classic != nil {
		m.classic = nil // a static member is back with the new protocol
		g.unsaved.members[m.id] = true
	}
	before := m.assigned
	resubscribed, unsaved := m.update(req, from)
	if unsaved {
		g.unsaved.members[m.id] = true
	}
	stale, read := g.refresh(cluster), g.matched(m)
	m.heard, m.sees = true, g.sees
	if g.look(m); stale || resubscribed || changed || !slices.Equal(read, g.matched(m)) {
		g.advance()
	}
	g.retarget(now)
	g.reconcile(m, reported)
	m.session = now.Add(g.limits.Session)
	switch {
	case m.state != unrevoked:
		m.revoke = time.Time{}
	case m.revoke.IsZero():
		m.revoke = now.Add(m.patience)
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = kmsg.StringPtr(m.id), m.epoch
	resp.HeartbeatIntervalMillis = int32(g.limits.Heartbeat.Milliseconds())
	full := req.MemberEpoch == joining || req.Topics != nil && req.RebalanceTimeoutMillis != -1 && (req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil)
	if full || !before.equal(m.assigned) { // null means unchanged, which is not the same as empty
		resp.Assignment = m.assigned.response()
	}
	return resp, nil
}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// CheckRequest refuses what is wrong whatever the group is.
func CheckRequest(req *kmsg.ConsumerGroupHeartbeatRequest) *Refusal {
	invalid := func(text string) *Refusal { return refuse(kerr.InvalidRequest, text) }
	empty := func(s *string) bool { return s != nil && *s == "" }
	switch {
	case req.Group == "":
		return invalid("GroupId can't be empty.")
	case req.MemberID == "" && (req.Version >= 1 || req.MemberEpoch != joining):
		return invalid("MemberId can't be empty.")
	case empty(req.InstanceID):
		return invalid("InstanceId can't be empty.")
	case empty(req.RackID):
		return invalid("RackId can't be empty.")
	case req.MemberEpoch < leavingAWhile:
		return invalid("MemberEpoch is invalid.")
	case req.MemberEpoch == leavingAWhile && req.InstanceID == nil:
		return invalid("InstanceId can't be null.")
	case req.ServerAssignor != nil && *req.ServerAssignor != Uniform && *req.ServerAssignor != Range:
		return refuse(kerr.UnsupportedAssignor, "ServerAssignor "+*req.ServerAssignor+" is not supported. Supported assignors: uniform, range.")
	}
	if req.MemberEpoch != joining {
		return nil
	}
	switch {
	case req.RebalanceTimeoutMillis <= 0:
		return invalid("RebalanceTimeoutMs must be provided in first request.")
	case req.Topics == nil || len(req.Topics) > 0:
		return invalid("TopicPartitions must be empty when (re-)joining.")
	case req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil: // empty is another thing: a member that reads nothing yet
		return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	}
	return nil
}

// admit finds the member that a request is from, or makes it. changed says that the group has another member than before.
func (g *Group) admit(req *kmsg.ConsumerGroupHeartbeatRequest, reported Assignment) (m *Member, changed bool, r *Refusal) {
	if req.InstanceID != nil {
		current, ok := g.statics[*req.InstanceID]
		switch {
		case ok && current == req.MemberID:
		case ok && req.MemberEpoch == joining:
			if g.members[current].epoch != leavingAWhile && g.members[current].classic == nil {
				return nil, false, refuse(kerr.UnreleasedInstanceID, "Static member "+current+" with instance id "+*req.InstanceID+" has not left the group.")
			}
			return g.replace(g.members[current], req.MemberID), false, nil
		case ok:
			return nil, false, refuse(kerr.FencedInstanceID, "Instance id "+*req.InstanceID+" belongs to member "+current+" now.")
		case req.MemberEpoch != joining:
			return nil, false, refuse(kerr.UnknownMemberID, "Instance id "+*req.InstanceID+" is unknown.")
		}
	}
	m = g.members[req.MemberID]
	switch {
	case m != nil && req.MemberEpoch == joining:
		if m.epoch == leavingAWhile { // a static member is back under its old id
			g.setEpoch(m, joining)
		}
		return m, false, nil
	case m != nil:
		return m, false, m.checkEpoch(req.MemberEpoch, reported)
	case req.MemberEpoch != joining:
		return nil, false, refuse(kerr.UnknownMemberID, "Member "+req.MemberID+" is not a member of group "+g.id+".")
	case len(g.members) >= g.limits.Members:
		return nil, false, refuse(kerr.GroupMaxSizeReached, "The consumer group has reached its maximum capacity.")
	}
	id := req.MemberID
	if id == "" {
		id = uuid.NewString() // v0
	}
	return g.newMember(id, req.InstanceID), true, nil
}

func (g *Group) newMember(id string, instance *string) *Member {
	m := &Member{id: id, instance: instance, names: []string{}, assigned: Assignment{}, revoking: Assignment{}}
	g.members[id] = m
	if instance != nil {
		g.statics[*instance] = id
	}
	g.unsaved.members[id], g.unsaved.current[id] = true, true
	return m
}

// checkEpoch refuses members that are behind: except by the one step whose answer may have been lost, which they show by
// owning nothing but what they were given.
func (m *Member) checkEpoch(epoch int32, reported Assignment) *Refusal {
	if epoch == m.epoch {
		return nil
	}
	if epoch == m.previous && epoch < m.epoch && reported != nil {
		if _, more := reported.split(m.assigned.has); len(more) == 0 {
			return nil
		}
	}
	return refuse(kerr.FencedMemberEpoch, "The consumer group member has another epoch than the one known by the group coordinator. "+
		"The member must abandon all its partitions and rejoin.")
}

// replace gives a static member that is back a new id, and all that it had.
func (g *Group) replace(old *Member, id string) *Member {
	m := *old
	if id == "" {
		id = uuid.NewString()
	}
	target, owners := g.target[old.id], maps.Clone(g.owners)
	g.remove(old)
	m.id = id
	g.members[id] = &m
	g.statics[*m.instance] = id
	g.target[id] = target
	m.assigned.with(m.revoking).each(func(p partition) { g.owners[p] = owner{id, owners[p].since} })
	g.setEpoch(&m, joining)
	g.unsaved.members[id], g.unsaved.targets[id] = true, true
	return &m
}

// update takes over what the request says. changed says that the subscription is another one, unsaved that anything is.
func (m *Member) update(req *kmsg.ConsumerGroupHeartbeatRequest, from Client) (changed, unsaved bool) {
	if m.client != from {
		m.client, unsaved = from, true
	}
	if req.RackID != nil && textOf(m.rack) != *req.RackID {
		m.rack, unsaved = req.RackID, true
	}
	if p := time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond; p > 0 && p != m.patience {
		m.patience, unsaved = p, true
	}
	if req.ServerAssignor != nil && m.assignor != *req.ServerAssignor {
		m.assignor, changed = *req.ServerAssignor, true
	}
	if req.SubscribedTopicNames != nil {
		if all := names(req.SubscribedTopicNames); !slices.Equal(all, m.names) {
			m.names, changed = all, true
		}
	}
	if p := req.SubscribedTopicRegex; p != nil && *p != m.pattern {
		m.pattern, changed = *p, true
	}
	return changed, changed || unsaved
}

// names are topics, sorted, each once; never nil.
func names(topics []string) []string {
	return append([]string{}, slices.Compact(slices.Sorted(slices.Values(topics)))...)
}

// leave takes a member out, or notes that a static one will be back.
func (g *Group) leave(req *kmsg.ConsumerGroupHeartbeatRequest, cluster Cluster, now time.Time) (*kmsg.ConsumerGroupHeartbeatResponse, *Refusal) {
	m := g.members[req.MemberID]
	if req.InstanceID != nil {
		current, ok := g.statics[*req.InstanceID]
		if !ok {
			return nil, refuse(kerr.UnknownMemberID, "Instance id "+*req.InstanceID+" is not one of group "+g.id+".")
		}
		if current != req.MemberID {
			return nil, refuse(kerr.FencedInstanceID, "Instance id "+*req.InstanceID+" belongs to member "+current+" now.")
		}
	}
	if m == nil {
		return nil, refuse(kerr.UnknownMemberID, "Member "+req.MemberID+" is not a member of group "+g.id+".")
	}
	if req.MemberEpoch == leavingAWhile && m.instance != nil {
		g.setEpoch(m, leavingAWhile)
		m.session = now.Add(g.limits.Session)
	} else {
		g.refresh(cluster)
		g.remove(m)
		g.advance()
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = kmsg.StringPtr(req.MemberID), req.MemberEpoch
	return resp, nil
}

func (g *Group) setEpoch(m *Member, epoch int32) {
	m.previous, m.epoch = m.epoch, epoch
	g.unsaved.current[m.id] = true
}

// remove forgets a member. Its partitions are free at once: it is gone or fenced.
func (g *Group) remove(m *Member) {
	delete(g.members, m.id)
	delete(g.target, m.id)
	if m.instance != nil && g.statics[*m.instance] == m.id {
		delete(g.statics, *m.instance)
	}
	maps.DeleteFunc(g.owners, func(_ partition, o owner) bool { return o.member == m.id })
	g.unsaved.members[m.id], g.unsaved.targets[m.id], g.unsaved.current[m.id] = true, true, true
}

// reconcile leads a member a step towards its target. reported is what it says it owns, nil if it does not say.
func (g *Group) reconcile(m *Member, reported Assignment) {
	if m.state == stable && m.epoch == g.targetEpoch {
		return
	}
	if m.state == unrevoked && (reported == nil || reported.touches(m.revoking)) {
		return // it has not given up what it has to
	}
	target := g.target[m.id]
	kept, lost := m.assigned.split(target.has)
	if len(lost) > 0 && (reported == nil || reported.touches(lost)) {
		g.move(m, unrevoked, m.epoch, kept, lost)
		return
	}
	_, wanted := target.split(kept.has)
	free, taken := wanted.split(func(p partition) bool { o, held := g.owners[p]; return !held || o.member == m.id })
	state := stable
	if len(taken) > 0 {
		state = unreleased
	}
	g.move(m, state, g.targetEpoch, kept.with(free), Assignment{})
}

// move puts a member where it is now.
func (g *Group) move(m *Member, state memberState, epoch int32, assigned, revoking Assignment) {
	if m.state == state && m.epoch == epoch && m.assigned.equal(assigned) && m.revoking.equal(revoking) {
		return
	}
	held := map[partition]owner{}
	for _, a := range []Assignment{assigned, revoking} {
		a.each(func(p partition) {
			o, has := g.owners[p]
			if !has || o.member != m.id {
				o = owner{m.id, epoch}
			}
			held[p] = o
		})
	}
	for _, a := range []Assignment{m.assigned, m.revoking} {
		a.each(func(p partition) { delete(g.owners, p) })
	}
	maps.Copy(g.owners, held)
	m.state, m.assigned, m.revoking = state, assigned, revoking
	if epoch != m.epoch {
		m.previous, m.epoch = m.epoch, epoch
	}
	g.unsaved.current[m.id] = true
}
