package consumer

import (
	"bytes"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Assignment is partitions by topic, sorted, each once; no topic is without partitions. Once made, one is never changed.
type Assignment map[TopicID][]int32

func (a Assignment) has(p partition) bool {
	_, ok := slices.BinarySearch(a[p.topic], p.index)
	return ok
}

func (a Assignment) equal(b Assignment) bool { return maps.EqualFunc(a, b, slices.Equal[[]int32]) }

// each calls f for every partition, in order.
func (a Assignment) each(f func(p partition)) {
	for _, id := range a.topics() {
		for _, index := range a[id] {
			f(partition{id, index})
		}
	}
}

func (a Assignment) topics() []TopicID {
	return slices.SortedFunc(maps.Keys(a), func(x, y TopicID) int { return bytes.Compare(x[:], y[:]) })
}

// split parts a by what keep says.
func (a Assignment) split(keep func(p partition) bool) (kept, rest Assignment) {
	kept, rest = Assignment{}, Assignment{}
	a.each(func(p partition) {
		to := rest
		if keep(p) {
			to = kept
		}
		to[p.topic] = append(to[p.topic], p.index)
	})
	return kept, rest
}

// with is a and b together; they share nothing.
func (a Assignment) with(b Assignment) Assignment {
	all := maps.Clone(a)
	for id, ps := range b {
		all[id] = slices.Sorted(slices.Values(slices.Concat(all[id], ps)))
	}
	return all
}

// touches reports whether a and b share a partition.
func (a Assignment) touches(b Assignment) bool {
	for id, ps := range a {
		for _, p := range ps {
			if b.has(partition{id, p}) {
				return true
			}
		}
	}
	return false
}

// owned is what a member reports. nil means that it says nothing, not that it has nothing.
func owned(topics []kmsg.ConsumerGroupHeartbeatRequestTopic) Assignment {
	if topics == nil {
		return nil
	}
	a := Assignment{}
	for _, t := range topics {
		if len(t.Partitions) > 0 {
			a[t.TopicID] = append(a[t.TopicID], t.Partitions...)
		}
	}
	for _, ps := range a {
		slices.Sort(ps)
	}
	return a
}

func (a Assignment) response() *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	out := &kmsg.ConsumerGroupHeartbeatResponseAssignment{Topics: []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{}}
	for _, id := range a.topics() {
		out.Topics = append(out.Topics, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{TopicID: id, Partitions: a[id]})
	}
	return out
}

// describe names the topics; those that are gone are left out.
func (a Assignment) describe(cluster Cluster) (out []kmsg.AssignmentTopicPartition) {
	for _, id := range a.topics() {
		if t, ok := cluster.TopicByID(id); ok {
			tp := kmsg.NewAssignmentTopicPartition()
			tp.TopicID, tp.Topic, tp.Partitions = id, t.Name, a[id]
			out = append(out, tp)
		}
	}
	return out
}
