package consumer

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// The assignors.
const (
	// Uniform gives each member the same number of partitions, as near as subscriptions allow, and moves as few as that takes.
	Uniform = "uniform"
	// Range gives each member the same stretch of every topic, so that equal keys of topics with equal partition counts meet.
	Range = "range"
)

// assignor is the one that most members prefer; those without a preference do not count. Of equals the first by name.
func (g *Group) assignor() string {
	votes := map[string]int{}
	for _, m := range g.members {
		if m.assignor != "" {
			votes[m.assignor]++
		}
	}
	best := Uniform
	for _, name := range slices.Sorted(maps.Keys(votes)) {
		if votes[name] > votes[best] || votes[best] == 0 {
			best = name
		}
	}
	return best
}

// subscriber is a member as assignors see it.
type subscriber struct {
	id    string
	count int
	got   Assignment
}

// subscribed is a topic with those who read it.
type subscribed struct {
	Topic
	by []*subscriber
}

// assign computes a target for the members there are.
func (g *Group) assign() map[string]Assignment {
	subs := make([]*subscriber, 0, len(g.members))
	topics := map[string]*subscribed{}
	for _, m := range g.inOrder() {
		s := &subscriber{id: m.id, got: Assignment{}}
		subs = append(subs, s)
		for _, name := range g.subscription(m) {
			if topics[name] == nil {
				t, ok := g.cluster.Topic(name)
				if !ok {
					continue
				}
				topics[name] = &subscribed{Topic: t}
			}
			topics[name].by = append(topics[name].by, s)
		}
	}
	sorted := slices.SortedFunc(maps.Values(topics), func(x, y *subscribed) int {
		return cmp.Or(cmp.Compare(len(x.by), len(y.by)), strings.Compare(x.Name, y.Name)) // the least choice first
	})
	if g.assignor() == Range {
		assignRange(sorted)
	} else {
		g.assignUniform(sorted)
	}
	target := make(map[string]Assignment, len(subs))
	for _, s := range subs {
		for _, ps := range s.got {
			slices.Sort(ps)
		}
		target[s.id] = s.got
	}
	return target
}

// inOrder are the members in an order that outlives them where they are static.
func (g *Group) inOrder() []*Member {
	key := func(m *Member) string {
		if m.instance != nil {
			return *m.instance
		}
		return m.id
	}
	return slices.SortedFunc(maps.Values(g.members), func(x, y *Member) int {
		return cmp.Or(strings.Compare(key(x), key(y)), strings.Compare(x.id, y.id))
	})
}

func assignRange(topics []*subscribed) {
	for _, t := range topics {
		share, more := int(t.Partitions)/len(t.by), int(t.Partitions)%len(t.by)
		next := int32(0)
		for i, s := range t.by {
			n := share
			if i < more {
				n++
			}
			for range n {
				s.give(t.ID, next)
				next++
			}
		}
	}
}

func (s *subscriber) give(topic TopicID, p int32) {
	s.got[topic] = append(s.got[topic], p)
	s.count++
}

func (s *subscriber) take(topic TopicID, p int32) {
	ps := s.got[topic]
	i := slices.Index(ps, p)
	if s.got[topic] = slices.Delete(ps, i, i+1); len(ps) == 1 {
		delete(s.got, topic)
	}
	s.count--
}

// assignUniform keeps what members have of the target before, gives what nobody has to those who have least, and then moves
// partitions from those who have at least two more than another that could have them.
func (g *Group) assignUniform(topics []*subscribed) {
	held := map[partition]*subscriber{}
	for _, t := range topics {
		for _, s := range t.by {
			for _, p := range g.target[s.id][t.ID] {
				if p < t.Partitions && held[partition{t.ID, p}] == nil {
					held[partition{t.ID, p}] = s
					s.give(t.ID, p)
				}
			}
		}
	}
	for _, t := range topics {
		for p := range t.Partitions {
			if held[partition{t.ID, p}] == nil {
				s := t.least()
				held[partition{t.ID, p}] = s
				s.give(t.ID, p)
			}
		}
	}
	for moved := true; moved; { // each move brings two counts nearer to each other: it ends
		moved = false
		for _, t := range topics {
			for p := t.Partitions - 1; p >= 0; p-- {
				from, to := held[partition{t.ID, p}], t.least()
				if from.count > to.count+1 {
					from.take(t.ID, p)
					to.give(t.ID, p)
					held[partition{t.ID, p}] = to
					moved = true
				}
			}
		}
	}
}

// least is the subscriber that has least, the first of equals.
func (t *subscribed) least() *subscriber {
	return slices.MinFunc(t.by, func(x, y *subscriber) int { return cmp.Compare(x.count, y.count) })
}
