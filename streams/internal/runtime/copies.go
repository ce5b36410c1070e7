package runtime

import (
	"cmp"
	"slices"
)

// copyRules say how the leader gives out copies of state.
type copyRules struct {
	standbys int // copies of each task that has state
	// acceptable is how many changelog records a member may lack and still be given a task that runs elsewhere. One that
	// lacks more gets a copy first and asks again when it has caught up: the task goes on where it is (KIP-441).
	acceptable int64
	warmups    int // tasks that are copied at one time so that they can move
	// ends are the sums of the ends of the tasks' changelogs, by task; of a source topic that serves as one, of what the task
	// has processed. Nil, or an error: nobody is held to lack anything.
	ends func() (map[string]int64, error)
}

// stateful reports whether the tasks have state that copies can be kept of.
func (s *subTopology) stateful() bool { return len(s.changelogs) > 0 || len(s.sourced) > 0 }

// placeCopies keeps tasks with their owners while those that are to have them would have to replay much, and says who
// keeps copies. Instances, not members, hold state: the workers of one share a directory.
func (b *balancer) placeCopies(jobs []*job, members []*candidate) {
	b.warm(jobs)
	if b.rules.standbys == 0 {
		return
	}
	for _, j := range jobs {
		if j.to == nil || !j.sub.stateful() {
			continue
		}
		taken := []*candidate{j.to}
		for _, m := range members {
			if slices.ContainsFunc(m.copies, func(c standbyCopy) bool { return c.task == j.id }) {
				taken = append(taken, m)
			}
		}
		for range b.rules.standbys {
			m := pickStandby(members, j, taken)
			if m == nil {
				break
			}
			m.copies = append(m.copies, standbyCopy{j.id, standby})
			taken = append(taken, m)
		}
	}
}

// warm turns moves that would wait for a long replay into warm-ups.
func (b *balancer) warm(jobs []*job) {
	var ends map[string]int64
	left := b.rules.warmups
	for _, j := range jobs {
		moves := j.owner != nil && j.to != nil && j.to != j.owner && j.to.instance != j.owner.instance
		if !moves || !j.sub.stateful() || b.rules.ends == nil {
			continue
		}
		if ends == nil {
			var err error
			if ends, err = b.rules.ends(); err != nil {
				return
			}
		}
		if ends[j.id]-j.to.state[j.id] <= b.rules.acceptable {
			continue
		}
		if left > 0 {
			left--
			j.to.copies = append(j.to.copies, standbyCopy{j.id, warmup})
		}
		j.give(j.owner)
	}
}

// pickStandby returns the member that is to keep a copy of j beside those that have it: on another instance, in another
// rack if there is one, rather where state is, and with few copies.
func pickStandby(members []*candidate, j *job, taken []*candidate) *candidate {
	type rank struct{ rack, state, load int }
	var best *candidate
	var is rank
	for _, m := range members {
		r := rank{load: len(m.copies)}
		here := false
		for _, o := range taken {
			here = here || m == o || m.instance == o.instance
			if m.rack != "" && m.rack == o.rack {
				r.rack = 1
			}
		}
		if here || !j.runnable(m) {
			continue
		}
		if !m.holds(j.id) {
			r.state = 1
		}
		if best == nil || cmp.Or(r.rack-is.rack, r.state-is.state, r.load-is.load) < 0 {
			best, is = m, r
		}
	}
	return best
}
