package broker

import "github.com/leatstream/leat/broker/internal/wire"

// topicHead is a topic of a produce or fetch request, which are decoded by hand: its name as the client wrote it, or its id, and how
// many of the request's partitions are its.
type topicHead struct {
	name  string
	id    [16]byte
	count int
}

// topicShape is what produce and fetch requests of a version differ in.
type topicShape struct {
	request        string // for errors
	flexible, byID bool
	partitionBytes int // at least, on the wire
	most           int // topics, and partitions of all of them together
}

// decodeTopics reads a request's topics: part is called for each partition, then topic with what they belong to.
func decodeTopics(rd *wire.Reader, s topicShape, part func(), topic func(topicHead)) error {
	n := rd.Count(s.flexible, 3)
	if n > s.most {
		return tooMany(s.request, "topics", n, s.most)
	}
	partitions := 0
	for range n {
		t := decodeTopicName(rd, s.flexible, s.byID)
		t.count = rd.Count(s.flexible, s.partitionBytes)
		if partitions += t.count; partitions > s.most {
			return tooMany(s.request, "partitions", partitions, s.most)
		}
		for range t.count {
			part()
		}
		if s.flexible {
			rd.SkipTags()
		}
		if rd.Err() != nil {
			return rd.Err()
		}
		topic(t)
	}
	return rd.Err()
}

func decodeTopicName(rd *wire.Reader, flexible, byID bool) (t topicHead) {
	if byID {
		t.id = rd.UUID()
		return t
	}
	name, _ := rd.String(flexible)
	t.name = string(name)
	return t
}
