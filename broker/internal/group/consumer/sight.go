package consumer

import "slices"

// Sees tells whether somebody may see a topic. It is asked long after the request that it came with, and from any goroutine.
type Sees func(topic string) bool

// SetSight says what the sender of the next Heartbeat may see; nil: everything. A pattern matches, for each member, the topics that
// it may see. Apache Kafka takes the rights of the one member whose heartbeat resolved the pattern for all of the group (KAFKA-18813).
func (g *Group) SetSight(sees Sees) { g.sees = sees }

// matched is the topics that m reads because of its pattern, sorted.
func (g *Group) matched(m *Member) []string {
	if m.seen != nil {
		return m.seen
	}
	if p := g.patterns[m.pattern]; p != nil {
		return p.topics
	}
	return nil
}

// look notes what m may see of the topics that its pattern matches. Rights change without a word to the group: every heartbeat asks.
func (g *Group) look(m *Member) {
	p := g.patterns[m.pattern]
	switch {
	case p == nil || m.heard && m.sees == nil:
		m.seen = nil
	case m.heard:
		seen := make([]string, 0, len(p.topics))
		for _, name := range p.topics {
			if m.sees(name) {
				seen = append(seen, name)
			}
		}
		m.seen = seen
	}
}

// recall takes what members with patterns may see, of whom nothing has been heard since a start, for what the group read before it:
// more could give them what they may not see, less would move everything twice.
func (g *Group) recall(cluster Cluster) {
	var known []string
	for _, a := range g.target {
		for id := range a {
			if t, ok := cluster.TopicByID(id); ok {
				known = append(known, t.Name)
			}
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	for _, m := range g.members {
		p := g.patterns[m.pattern]
		if m.heard || p == nil {
			continue
		}
		m.seen = []string{}
		for _, name := range p.topics {
			if _, ok := slices.BinarySearch(known, name); ok {
				m.seen = append(m.seen, name)
			}
		}
	}
}
