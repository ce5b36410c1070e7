package session

import "github.com/twmb/franz-go/pkg/kgo"

// partitioner takes the partition that a record asks for. Without one (-1) the key decides, as in Kafka's own clients
// (murmur2), and without a key partitions are filled batch by batch.
type partitioner struct{ rest kgo.Partitioner }

func newPartitioner() partitioner { return partitioner{kgo.StickyKeyPartitioner(nil)} }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return &topicPartitioner{p.rest.ForTopic(topic)}
}

type topicPartitioner struct{ rest kgo.TopicPartitioner }

func (p *topicPartitioner) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || p.rest.RequiresConsistency(r)
}

func (p *topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return p.rest.Partition(r, n)
}

// OnNewBatch lets the partitioner for records without a key move on.
func (p *topicPartitioner) OnNewBatch() {
	if n, ok := p.rest.(kgo.TopicPartitionerOnNewBatch); ok {
		n.OnNewBatch()
	}
}
