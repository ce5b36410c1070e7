package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/streams/internal/engine"
)

// protocolName is the group protocol. Members of another protocol cannot be in the group.
const protocolName = "leat"

// balancer gives tasks, not partitions, to members: all partitions of one number of a sub-topology's topics go to one
// member. A task stays with its owner while that is fair; else it goes where its state is: to a member that says so, or to
// another worker of the same instance. It is cooperative: a task that moves is withheld until its owner has given it up.
//
// A static member that comes back is given what it had, without a rebalance (Kafka's rule). Two things can be wrong with
// that, and it asks for a rebalance then. It may have another topology now: an assignment says which layout of the member it
// was made for. And it may have died between giving tasks up and joining again, for which others wait: an assignment says
// that the member has to do so, and one that has just begun has nothing to give up.
type balancer struct {
	plan     []subTopology
	instance string                            // of this member, for neighbours that share the state directory
	rack     string                            // where it runs; empty: it does not say
	address  string                            // where it answers queries; empty: it does not
	state    func() []held                     // tasks that this instance has state of, sorted; nil: none
	rules    copyRules                         // for the copies of state that the leader gives out
	mixed    func(others int, unread []string) // told by a leader that so many members have another topology, with topics that it does not give out; nil: nobody asks

	joined atomic.Bool                   // an assignment has come
	stale  atomic.Bool                   // the first or any later one is not to be kept to: ask for another
	copies atomic.Pointer[[]standbyCopy] // what we were given to keep copies of; nil: looked at
	asks   atomic.Uint32                 // how often we asked: the coordinator ignores a member that says nothing new
}

// layout is a number for the plan: equal plans have equal ones.
func (b *balancer) layout() uint64 {
	h := fnv.New64a()
	for _, s := range b.plan {
		for _, topic := range slices.Sorted(maps.Keys(s.topics)) {
			fmt.Fprintf(h, "%d %s %d\n", s.id, topic, s.topics[topic])
		}
	}
	return h.Sum64()
}

// takeStale reports, once, that a rebalance is to be asked for.
func (b *balancer) takeStale() bool {
	if !b.stale.Swap(false) {
		return false
	}
	b.asks.Add(1)
	return true
}

// subTopology is what the balancer knows of one: its topics with their partition counts.
type subTopology struct {
	id         int
	topics     map[string]int32
	found      map[string]bool // those of topics that a pattern has found
	changelogs []string        // of its stores, but for source topics that serve as such
	sourced    []string        // its source topics that serve as changelogs
}

func (s *subTopology) tasks() int32 {
	var n int32
	for _, p := range s.topics {
		n = max(n, p)
	}
	return n
}

// partitions are those of task n.
func (s *subTopology) partitions(n int32) map[string][]int32 {
	m := map[string][]int32{}
	for topic, count := range s.topics {
		if n < count {
			m[topic] = []int32{n}
		}
	}
	return m
}

func (b *balancer) ProtocolName() string { return protocolName }

func (b *balancer) IsCooperative() bool { return true }

// JoinGroupMetadata is what a member says of itself: topics, what it owns, and as user data its instance and state.
func (b *balancer) JoinGroupMetadata(topics []string, owned map[string][]int32, generation int32) []byte {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version = 2
	meta.Topics = topics
	meta.Generation = generation
	for topic, partitions := range owned {
		o := kmsg.NewConsumerMemberMetadataOwnedPartition()
		o.Topic, o.Partitions = topic, partitions
		meta.OwnedPartitions = append(meta.OwnedPartitions, o)
	}
	sort.Slice(meta.OwnedPartitions, func(i, j int) bool { return meta.OwnedPartitions[i].Topic < meta.OwnedPartitions[j].Topic })
	var state []held
	if b.state != nil {
		state = b.state()
	}
	meta.UserData = userData{layout: b.layout(), asks: b.asks.Load(), instance: b.instance, rack: b.rack, state: state, address: b.address}.append(nil)
	return meta.AppendTo(nil)
}

func (b *balancer) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(assignment); err != nil {
		return nil, fmt.Errorf("assignment: %w", err)
	}
	if extra, err := parseExtra(a.UserData); err == nil { // else the leader is no member of ours that had anything to say
		first := !b.joined.Swap(true)
		b.stale.Store(extra.layout != b.layout() || first && extra.gives)
		b.copies.Store(&extra.copies)
	}
	m := make(map[string][]int32, len(a.Topics))
	for _, t := range a.Topics {
		m[t.Topic] = t.Partitions
	}
	return m, nil
}

// takeCopies returns the copies that the member is to keep, once after each assignment.
func (b *balancer) takeCopies() ([]standbyCopy, bool) {
	c := b.copies.Swap(nil)
	if c == nil {
		return nil, false
	}
	return *c, true
}

// plan is what the leader gives out: as user data what a member is told beside its partitions.
type plan struct {
	*kgo.BalancePlan
	extras map[string]extra // by member
}

// IntoSyncAssignment implements kgo.IntoSyncAssignment.
func (p plan) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment {
	all := p.BalancePlan.IntoSyncAssignment()
	for i := range all {
		extra, ok := p.extras[all[i].MemberID]
		var a kmsg.ConsumerMemberAssignment
		if !ok || a.ReadFrom(all[i].MemberAssignment) != nil {
			continue
		}
		a.UserData = extra.append(nil)
		all[i].MemberAssignment = a.AppendTo(nil)
	}
	return all
}

func (b *balancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	c, err := kgo.NewConsumerBalancer(b, members)
	if err != nil {
		return nil, nil, err
	}
	return c, c.MemberTopics(), nil
}

// candidate is a member while tasks are given out.
type candidate struct {
	member   *kmsg.JoinGroupResponseMember
	meta     *kmsg.ConsumerMemberMetadata
	instance string
	rack     string
	state    map[string]int64 // how far its state of a task reaches
	topics   map[string]bool
	tasks    int
	perSub   map[int]int
	plan     map[string][]int32
	copies   []standbyCopy
}

func (m *candidate) holds(task string) bool { _, ok := m.state[task]; return ok }

type job struct {
	sub   *subTopology
	n     int32
	id    string
	owner *candidate // who has it now
	to    *candidate
}

// Balance implements kgo.ConsumerBalancerBalance. The plan's own partition counts count, not those of the metadata: the
// internal topics were made for them.
func (b *balancer) Balance(c *kgo.ConsumerBalancer, _ map[string]int32) kgo.IntoSyncAssignment {
	var members []*candidate
	extras := map[string]extra{}
	c.EachMember(func(m *kmsg.JoinGroupResponseMember, meta *kmsg.ConsumerMemberMetadata) {
		cand := &candidate{member: m, meta: meta, state: map[string]int64{}, topics: map[string]bool{}, perSub: map[int]int{}, plan: map[string][]int32{}}
		if u, err := parseUserData(meta.UserData); err == nil {
			cand.instance, cand.rack = u.instance, u.rack
			extras[m.MemberID] = extra{layout: u.layout}
			for _, h := range u.state {
				cand.state[h.task] = h.reaches
			}
		}
		for _, t := range meta.Topics {
			cand.topics[t] = true
		}
		members = append(members, cand)
	})
	if len(members) == 0 {
		c.SetError(errors.New("a group without members"))
		return nil
	}
	b.tellMixed(members, extras)
	jobs := b.jobs(members)
	assign(jobs, members, b.rules.acceptable)
	b.placeCopies(jobs, members)
	for _, j := range jobs {
		if j.to == nil {
			continue // nobody can run it
		}
		if j.owner != nil && j.owner != j.to { // who has to give it up first
			if e, ok := extras[j.owner.member.MemberID]; ok {
				e.gives = true
				extras[j.owner.member.MemberID] = e
			}
			continue
		}
		for topic, ps := range j.sub.partitions(j.n) {
			j.to.plan[topic] = append(j.to.plan[topic], ps...)
		}
	}
	out := c.NewPlan()
	for _, m := range members {
		for topic, ps := range m.plan {
			slices.Sort(ps)
			out.AddPartitions(m.member, topic, slices.Compact(ps))
		}
		if e, ok := extras[m.member.MemberID]; ok {
			e.copies = m.copies
			extras[m.member.MemberID] = e
		}
	}
	return plan{out, extras}
}

// tellMixed says what members want of the group that this leader knows nothing of.
func (b *balancer) tellMixed(members []*candidate, extras map[string]extra) {
	if b.mixed == nil {
		return
	}
	others, unread := 0, map[string]bool{}
	for _, m := range members {
		if e, ok := extras[m.member.MemberID]; ok && e.layout == b.layout() {
			continue
		}
		others++
		for topic := range m.topics {
			if !slices.ContainsFunc(b.plan, func(s subTopology) bool { return s.topics[topic] > 0 }) {
				unread[topic] = true
			}
		}
	}
	if others > 0 {
		b.mixed(others, slices.Sorted(maps.Keys(unread)))
	}
}

// jobs lists every task with the member that owns it: the one that claims any of its partitions, at the highest generation
// if several do.
func (b *balancer) jobs(members []*candidate) []*job {
	type tp struct {
		topic string
		p     int32
	}
	owners := map[tp]*candidate{}
	for _, m := range members {
		for _, o := range m.meta.OwnedPartitions {
			for _, p := range o.Partitions {
				if other := owners[tp{o.Topic, p}]; other == nil || other.meta.Generation < m.meta.Generation {
					owners[tp{o.Topic, p}] = m
				}
			}
		}
	}
	var jobs []*job
	for i := range b.plan {
		sub := &b.plan[i]
		for n := range sub.tasks() {
			j := &job{sub: sub, n: n, id: engine.TaskID{Sub: sub.id, Partition: n}.String()}
			for topic := range sub.partitions(n) {
				if o := owners[tp{topic, n}]; o != nil && (j.owner == nil || j.owner.meta.Generation < o.meta.Generation) {
					j.owner = o
				}
			}
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// runnable reports whether m can run the task: it reads the topics. Of those that patterns find it may hear only now.
func (j *job) runnable(m *candidate) bool {
	for topic := range j.sub.topics {
		if !m.topics[topic] && !j.sub.found[topic] {
			return false
		}
	}
	return true
}

// assign gives every job to a member. It begins with who has what, gives out what nobody has, and then moves single tasks
// as long as that makes the members more even: in all, and for each sub-topology. Every move lowers the sum of the squares
// of what the members have, so it ends, and a group that is even is left alone. The members' order decides ties, so that
// every leader decides alike.
func assign(jobs []*job, members []*candidate, acceptable int64) {
	for _, j := range jobs {
		if j.owner != nil && j.runnable(j.owner) {
			j.give(j.owner)
		}
	}
	a := &allotment{jobs: jobs, members: members, acceptable: acceptable, perSub: map[int]int{}}
	for _, j := range jobs {
		a.perSub[j.sub.id]++
	}
	for _, likes := range []func(*job, *candidate) bool{
		func(j *job, m *candidate) bool { return m.holds(j.id) && a.fits(j, m) },
		(*job).runnable,
	} {
		for _, j := range jobs {
			if j.to == nil {
				j.give(a.pick(j, likes))
			}
		}
	}
	for a.move() || a.swap() {
	}
}

// allotment is a plan in the making.
type allotment struct {
	jobs    []*job
	members []*candidate
	perSub  map[int]int // tasks by sub-topology

	acceptable int64 // changelog records of difference between two members' state that do not count
}

func ceil(n, of int) int { return (n + of - 1) / of }

// fits reports whether m can have j and still have no more than its share.
func (a *allotment) fits(j *job, m *candidate) bool {
	n := len(a.members)
	return j.runnable(m) && m.tasks < ceil(len(a.jobs), n) && m.perSub[j.sub.id] < ceil(a.perSub[j.sub.id], n)
}

// move gives one task to somebody who has at least two fewer. Of the tasks it takes the one whose sub-topology gains most,
// rather one that the other has state of, or shares a directory with.
func (a *allotment) move() bool {
	var best *job
	var to *candidate
	most := 0
	for _, j := range a.jobs {
		for _, m := range a.members {
			if j.to == nil || m == j.to || !j.runnable(m) || j.to.tasks-m.tasks < 2 {
				continue
			}
			gain := 8*(j.to.tasks-m.tasks) + 8*(j.to.perSub[j.sub.id]-m.perSub[j.sub.id]) + near(j, m)
			if best == nil || gain > most {
				best, to, most = j, m, gain
			}
		}
	}
	if best != nil {
		best.give(to)
	}
	return best != nil
}

// swap exchanges two tasks of different sub-topologies, if both become more even by it.
func (a *allotment) swap() bool {
	for _, j := range a.jobs {
		for _, m := range a.members {
			if j.to == nil || m == j.to || !j.runnable(m) || j.to.perSub[j.sub.id]-m.perSub[j.sub.id] < 2 {
				continue
			}
			if j.to.tasks > m.tasks {
				j.give(m)
				return true
			}
			for _, o := range a.jobs {
				if o.to == m && o.sub != j.sub && o.runnable(j.to) && m.perSub[o.sub.id] > j.to.perSub[o.sub.id] {
					other := j.to
					j.give(m)
					o.give(other)
					return true
				}
			}
		}
	}
	return false
}

// near is how much better it is to move j to m than to a stranger.
func near(j *job, m *candidate) int {
	switch {
	case m.holds(j.id):
		return 2
	case j.to.instance == m.instance && m.instance != "":
		return 1
	}
	return 0
}

// give moves j to m; nil takes it from its member.
func (j *job) give(m *candidate) {
	if j.to != nil {
		j.to.tasks--
		j.to.perSub[j.sub.id]--
	}
	j.to = m
	if m != nil {
		m.tasks++
		m.perSub[j.sub.id]++
	}
}

// pick returns the member with the least to do of those that may have j; nil if there is none. Members that would have to
// replay much more than another one come last.
func (a *allotment) pick(j *job, may func(*job, *candidate) bool) *candidate {
	var furthest int64
	for _, m := range a.members {
		if may(j, m) {
			furthest = max(furthest, m.state[j.id])
		}
	}
	behind := func(m *candidate) int {
		if furthest-m.state[j.id] > a.acceptable {
			return 1
		}
		return 0
	}
	var best *candidate
	for _, m := range a.members {
		if !may(j, m) {
			continue
		}
		if best == nil || cmp.Or(behind(m)-behind(best), cmp.Compare(m.perSub[j.sub.id], best.perSub[j.sub.id]), cmp.Compare(m.tasks, best.tasks)) < 0 {
			best = m
		}
	}
	return best
}
