package broker

import (
	"maps"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/meta"
)

// topic is a topic with its open partitions. It never changes; a changed topic is a new value in the table.
type topic struct {
	meta.Topic
	parts []*log.Log
}

// partition returns a partition's log.
func (t *topic) partition(p int32) (*log.Log, bool) {
	if t == nil || p < 0 || int(p) >= len(t.parts) {
		return nil, false
	}
	return t.parts[p], true
}

// topicTable is all topics. Readers load it from an atomic pointer and never lock; each change publishes a new table.
type topicTable struct {
	byName     map[string]*topic
	byID       map[meta.ID]*topic
	partitions int
}

// with returns the table with t put in place of what has its name.
func (tt *topicTable) with(t *topic) *topicTable {
	n := tt.without(t.Name)
	n.byName[t.Name], n.byID[t.ID] = t, t
	n.partitions += len(t.parts)
	return n
}

// without returns the table without the topic of that name.
func (tt *topicTable) without(name string) *topicTable {
	n := &topicTable{maps.Clone(tt.byName), maps.Clone(tt.byID), tt.partitions}
	if old := n.byName[name]; old != nil {
		delete(n.byName, name)
		delete(n.byID, old.ID)
		n.partitions -= len(old.parts)
	}
	return n
}

// topic finds a topic by name; nil if there is none.
func (b *Broker) topic(name string) *topic { return b.topics.Load().byName[name] }

// topicByID finds a topic by id; nil if there is none.
func (b *Broker) topicByID(id [16]byte) *topic { return b.topics.Load().byID[id] }

// partition returns the log of a partition.
func (b *Broker) partition(name string, p int32) (*log.Log, bool) { return b.topic(name).partition(p) }

// topicID returns the id of a topic.
func (b *Broker) topicID(name string) (id [16]byte, ok bool) {
	if t := b.topic(name); t != nil {
		return t.ID, true
	}
	return id, false
}

// topicName returns the name of a topic.
func (b *Broker) topicName(id [16]byte) (string, bool) {
	if t := b.topicByID(id); t != nil {
		return t.Name, true
	}
	return "", false
}
