// Package consumer is a consumer group of KIP-848, in which the broker decides who reads what, as a state machine without time,
// disk or network: whoever holds a [Group] passes in requests and the clock, and writes down what [Group.Unsaved] says before it tells
// anybody the answers.
//
// The parts of the state: the group's epoch counts what changed it (members, subscriptions, partitions of topics). The target
// is who should read what; the next heartbeat computes it anew for the latest epoch, with as few moves as balance allows. Each member is led
// from what it has to its target, on its own and in two steps: it is first told to give up what is no longer its own, and says by what it
// reports as owned that it did; only then does it get the target's epoch, and of the new partitions those that nobody else still
// holds. So a partition never has two owners, and members that keep what they have never stop.
//
// What is saved, in Apache Kafka's record formats, is in records.go; docs/format/offsets.md describes it.
package consumer

import (
	"hash/fnv"
	"iter"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TopicID is the id of a topic.
type TopicID = [16]byte

// Topic is a topic as groups see it.
type Topic struct {
	Name       string
	ID         TopicID
	Partitions int32
}

// Cluster is the topics at one moment. Two that are == hold the same topics.
type Cluster interface {
	// Topic finds a topic by name.
	Topic(name string) (Topic, bool)
	// TopicByID finds a topic by id.
	TopicByID(id TopicID) (Topic, bool)
	// Names calls f for the name of each topic that patterns may match.
	Names(f func(name string))
}

// Limits are what the group's owner allows. All fields have to be set.
type Limits struct {
	// Session is how long a member may be silent; Heartbeat how often it is asked to say something.
	Session, Heartbeat time.Duration
	// Assignment is how long after a target the next one is computed at the earliest, so that changes which come together make one of them
	// (KIP-1263). 0: none waits.
	Assignment time.Duration
	// Members is the most members a group may have, above is GROUP_MAX_SIZE_REACHED.
	Members int
}

// Client says who sent a request.
type Client struct{ ID, Host string }

// Refusal is an error that goes into a response.
type Refusal struct {
	Code *kerr.Error
	Text string
}

func refuse(code *kerr.Error, text string) *Refusal { return &Refusal{code, text} }

// What a member sends in place of an epoch.
const (
	joining       = 0
	leaving       = -1
	leavingAWhile = -2 // a static member that will be back
)

// Group is one consumer group. It is not safe for concurrent use.
type Group struct {
	id     string
	limits Limits

	epoch       int32
	hash        int64                 // of the topics subscribed to, at that epoch
	targetEpoch int32                 // behind epoch while a new target is due
	target      map[string]Assignment // by member id
	assignedAt  time.Time             // when the target was computed; zero if that was long ago, or never
	members     map[string]*Member
	statics     map[string]string   // instance id -> member id
	owners      map[partition]owner // who holds a partition or has not given it up yet
	patterns    map[string]*pattern // resolved, by text
	cluster     Cluster             // that all of this was computed from; nil before the first request after a start
	sees        Sees                // see SetSight

	unsaved unsaved
}

type partition struct {
	topic TopicID
	index int32
}

// owner is a member that holds a partition, and the epoch in which it was given it.
type owner struct {
	member string
	since  int32
}

// pattern is a subscription by regular expression and the topics it matches.
type pattern struct {
	re     *regexp.Regexp
	topics []string
}

// New makes a group without members whose next epoch is the one after epoch.
func New(id string, limits Limits, epoch int32) *Group {
	return &Group{
		id: id, limits: limits, epoch: epoch, targetEpoch: epoch,
		target: map[string]Assignment{}, members: map[string]*Member{}, statics: map[string]string{}, owners: map[partition]owner{},
		patterns: map[string]*pattern{}, unsaved: newUnsaved(),
	}
}

// SetLimits changes the limits. A session that has begun ends when it would have; the next heartbeat begins one of the new length.
func (g *Group) SetLimits(limits Limits) { g.limits = limits }

// Empty reports that the group has no members.
func (g *Group) Empty() bool { return len(g.members) == 0 }

// Epoch is the group's epoch. It never goes back.
func (g *Group) Epoch() int32 { return g.epoch }

// Names of the states of a group, as ListGroups has them.
const (
	stateEmpty       = "Empty"
	stateAssigning   = "Assigning" // a new target is due
	stateReconciling = "Reconciling"
	stateStable      = "Stable"
)

// State is the name of the group's state.
func (g *Group) State() string {
	if g.Empty() {
		return stateEmpty
	}
	if g.targetEpoch != g.epoch {
		return stateAssigning
	}
	for _, m := range g.members {
		if m.state != stable || m.epoch != g.targetEpoch {
			return stateReconciling
		}
	}
	return stateStable
}

// Settled reports that all members have what they shall have.
func (g *Group) Settled() bool { return g.State() == stateStable }

// Topics are the topics that members are subscribed to, by name or pattern.
func (g *Group) Topics() map[string]struct{} {
	all := map[string]struct{}{}
	for _, m := range g.members {
		for _, t := range g.subscription(m) {
			all[t] = struct{}{}
		}
	}
	return all
}

// Check is whether a member is in the epoch that it gives.
func (g *Group) Check(memberID string, epoch int32) *kerr.Error {
	m := g.members[memberID]
	switch {
	case m == nil:
		return kerr.UnknownMemberID
	case m.epoch != epoch:
		return kerr.StaleMemberEpoch
	}
	return nil
}

// CheckCommit is whether a member may commit offsets of partitions, which are given by the names of their topics. An epoch that the member has
// left is as good as its own while it holds all of them since then (KIP-1251): its heartbeat and its commit may have crossed.
func (g *Group) CheckCommit(memberID string, epoch int32, partitions iter.Seq2[string, int32], cluster Cluster) *kerr.Error {
	err := g.Check(memberID, epoch)
	if err != kerr.StaleMemberEpoch {
		return err
	}
	if g.members[memberID].classic != nil {
		err = kerr.IllegalGeneration // what such clients know
	}
	if epoch > g.members[memberID].epoch {
		return err
	}
	for name, index := range partitions {
		t, ok := cluster.Topic(name)
		if o := g.owners[partition{t.ID, index}]; !ok || o.member != memberID || o.since > epoch {
			return err
		}
	}
	return nil
}

// Classic reports whether a member speaks the classic protocol.
func (g *Group) Classic(memberID string) bool {
	m := g.members[memberID]
	return m != nil && m.classic != nil
}

// refresh takes note of changed topics. It reports whether those that members read are among them.
func (g *Group) refresh(cluster Cluster) bool {
	if g.cluster == cluster {
		return false
	}
	if g.cluster == nil { // the first request after a start
		for _, m := range g.members {
			_ = g.addPattern(m.pattern, cluster) // it was good when it was saved
		}
		g.recall(cluster)
	}
	g.cluster = cluster
	for _, p := range g.patterns {
		p.resolve(cluster)
	}
	for _, m := range g.members {
		g.look(m)
	}
	return g.topicsHash() != g.hash
}

// topicsHash is a hash of the topics subscribed to, their ids and partition counts.
func (g *Group) topicsHash() int64 {
	h := fnv.New64a()
	for _, name := range slices.Sorted(maps.Keys(g.Topics())) {
		t, ok := g.cluster.Topic(name)
		if !ok {
			continue
		}
		_, _ = h.Write(t.ID[:])
		_, _ = h.Write([]byte{byte(t.Partitions >> 24), byte(t.Partitions >> 16), byte(t.Partitions >> 8), byte(t.Partitions)})
	}
	return int64(h.Sum64())
}

// advance begins a new epoch. Its target is due with the next heartbeat, except that a group without members has the empty one.
func (g *Group) advance() {
	g.epoch++
	g.dropPatterns()
	g.hash = g.topicsHash()
	g.unsaved.group = true
	if g.Empty() {
		g.setTarget(map[string]Assignment{}, time.Time{}) // the first who comes back waits for nothing
	}
}

// retarget computes the target if it is due, and the one before is old enough.
func (g *Group) retarget(now time.Time) {
	if g.targetEpoch == g.epoch {
		return
	}
	if age := now.Sub(g.assignedAt); age >= 0 && age < g.limits.Assignment { // negative if the clock was set back
		return
	}
	g.setTarget(g.assign(), now)
}

func (g *Group) setTarget(target map[string]Assignment, now time.Time) {
	for id, a := range target {
		if !a.equal(g.target[id]) || g.target[id] == nil {
			g.unsaved.targets[id] = true
		}
	}
	for id := range g.target {
		if target[id] == nil {
			g.unsaved.targets[id] = true
		}
	}
	g.target, g.targetEpoch, g.assignedAt = target, g.epoch, now
	g.unsaved.target = true
}

// subscription is the topics a member is subscribed to, sorted, each once.
func (g *Group) subscription(m *Member) []string {
	matched := g.matched(m)
	if len(matched) == 0 {
		return m.names
	}
	all := slices.Concat(m.names, matched)
	slices.Sort(all)
	return slices.Compact(all)
}

// longestPattern bounds the text of a pattern; compiled it may take a thousand times as much.
const longestPattern = 1024

// addPattern compiles a pattern unless it is known. Its syntax is RE2's, as in Kafka, and it must match whole names.
func (g *Group) addPattern(text string, cluster Cluster) *Refusal {
	if text == "" || g.patterns[text] != nil {
		return nil
	}
	if len(text) > longestPattern {
		return refuse(kerr.InvalidRegularExpression, "the pattern of topics is longer than 1024 bytes")
	}
	re, err := regexp.Compile("^(?:" + text + ")$")
	if err != nil {
		return refuse(kerr.InvalidRegularExpression, "SubscribedTopicRegex: "+err.Error())
	}
	p := &pattern{re: re}
	p.resolve(cluster)
	g.patterns[text] = p
	return nil
}

func (p *pattern) resolve(cluster Cluster) {
	p.topics = nil
	cluster.Names(func(name string) {
		if p.re.MatchString(name) {
			p.topics = append(p.topics, name)
		}
	})
	slices.Sort(p.topics)
}

// dropPatterns forgets those that nobody uses any more.
func (g *Group) dropPatterns() {
	used := map[string]bool{}
	for _, m := range g.members {
		used[m.pattern] = true
	}
	maps.DeleteFunc(g.patterns, func(text string, _ *pattern) bool { return !used[text] })
}

// Deadline is when Expire has something to do next; the zero time if never.
func (g *Group) Deadline() (t time.Time) {
	for _, m := range g.members {
		for _, d := range []time.Time{m.session, m.revoke} {
			if !d.IsZero() && (t.IsZero() || d.Before(t)) {
				t = d
			}
		}
	}
	return t
}

// Expire removes members that were silent for too long, and those that did not give up partitions in time. It returns their ids.
func (g *Group) Expire(cluster Cluster, now time.Time) (gone []string) {
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		m := g.members[id]
		if !now.Before(m.session) || !m.revoke.IsZero() && !now.Before(m.revoke) {
			g.remove(m)
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 { // else what changed in the cluster is left for somebody who advances
		g.refresh(cluster)
		g.advance()
	}
	return gone
}

// Remove takes out a member for an administrator: by its id, or by its instance id if id is "".
func (g *Group) Remove(id string, instance *string, cluster Cluster) *kerr.Error {
	if instance != nil {
		current, ok := g.statics[*instance]
		if !ok {
			return kerr.UnknownMemberID
		}
		if id != "" && id != current {
			return kerr.FencedInstanceID
		}
		id = current
	}
	m := g.members[id]
	if m == nil {
		return kerr.UnknownMemberID
	}
	g.refresh(cluster) // not before: what has changed would be seen by nobody who advances
	g.remove(m)
	g.advance()
	return nil
}

// Resume begins the sessions of members that were read back, after the last Load.
func (g *Group) Resume(now time.Time) {
	for _, m := range g.members {
		m.session = now.Add(g.limits.Session)
		if m.classic != nil {
			m.session = now.Add(m.classic.Session)
		}
		if m.state == unrevoked {
			m.revoke = now.Add(m.patience)
		}
	}
	maps.DeleteFunc(g.target, func(id string, _ Assignment) bool { return g.members[id] == nil })
}

// Describe fills in what ConsumerGroupDescribe says.
func (g *Group) Describe(cluster Cluster) kmsg.ConsumerGroupDescribeResponseGroup {
	dg := kmsg.NewConsumerGroupDescribeResponseGroup()
	dg.Group, dg.State, dg.Epoch, dg.AssignmentEpoch, dg.AssignorName = g.id, g.State(), g.epoch, g.targetEpoch, g.assignor()
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		m := g.members[id]
		dm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		dm.MemberID, dm.InstanceID, dm.RackID, dm.MemberEpoch = m.id, m.instance, m.rack, m.epoch
		dm.ClientID, dm.ClientHost, dm.SubscribedTopics = m.client.ID, m.client.Host, m.names
		dm.SubscribedTopicRegex = kmsg.StringPtr(m.pattern) // empty, not null, of a member without
		if dm.MemberType = 1; m.classic != nil {            // 1 of the consumer protocol, 0 of the classic one
			dm.MemberType = 0
		}
		dm.Assignment.TopicPartitions = m.assigned.describe(cluster)
		dm.TargetAssignment.TopicPartitions = g.target[id].describe(cluster)
		dg.Members = append(dg.Members, dm)
	}
	return dg
}
