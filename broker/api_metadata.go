package broker

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/meta"
)

// noOperations says that authorized operations were not asked for.
const noOperations = -2147483648

// Metadata (key 3), versions 0–13. Unknown topics are created and returned at once if the request and the configuration allow it
// (before v4 a request cannot forbid it). Topics by id from v12 on. All topics: an empty list in v0, null later.
// Ignored: authorized operations. Errors per topic: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_TOPIC_EXCEPTION.
func serveMetadata(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.MetadataRequest)
	resp := kmsg.NewPtrMetadataResponse()
	id, host, port := b.node(c)
	broker := kmsg.NewMetadataResponseBroker()
	broker.NodeID, broker.Host, broker.Port = id, host, port
	resp.Brokers = append(resp.Brokers, broker)
	resp.ClusterID = kmsg.StringPtr(b.meta.ClusterID())
	resp.ControllerID = id
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for _, t := range b.listedTopics() {
			resp.Topics = append(resp.Topics, b.topicMetadata(t))
		}
		return answer(resp), nil
	}
	for _, rt := range req.Topics {
		resp.Topics = append(resp.Topics, b.requestedTopic(rt, req.AllowAutoTopicCreation))
	}
	return answer(resp), nil
}

func (b *Broker) sortedTopics() []*topic {
	return slices.SortedFunc(maps.Values(b.topics.Load().byName), func(x, y *topic) int { return strings.Compare(x.Name, y.Name) })
}

// listedTopics are the topics that a client sees who asks for all: as with Apache Kafka neither the broker's own metadata
// (there __cluster_metadata), nor a coordinator's topic before it is used (there it is created by that): idempotent producers without
// transactions do not use __transaction_state. Who names one is answered.
func (b *Broker) listedTopics() []*topic {
	return slices.DeleteFunc(b.sortedTopics(), func(t *topic) bool {
		return t.Name == metadataTopic || t.Internal && t.parts[0].Bounds().End == 0 || t.Name == transactionsTopic && !b.txns.Used()
	})
}

// byID reports whether a topic is asked for by its id. Java's client sends an empty name beside the id, and not null.
func byID(t *kmsg.MetadataRequestTopic) bool { return t.Topic == nil || t.TopicID != [16]byte{} }

func (b *Broker) requestedTopic(rt kmsg.MetadataRequestTopic, create bool) kmsg.MetadataResponseTopic {
	if byID(&rt) {
		if t := b.topicByID(rt.TopicID); t != nil {
			return b.topicMetadata(t)
		}
		return missingTopic(nil, rt.TopicID, kerr.UnknownTopicID.Code)
	}
	name := *rt.Topic
	t := b.topic(name)
	if t != nil {
		return b.topicMetadata(t)
	}
	if err := meta.CheckName(name); err != nil {
		return missingTopic(rt.Topic, rt.TopicID, kerr.InvalidTopicException.Code)
	}
	if !create || b.cfg.DisableAutoCreateTopics || strings.HasPrefix(name, "__") && internalNames[name] {
		return missingTopic(rt.Topic, rt.TopicID, kerr.UnknownTopicOrPartition.Code)
	}
	t, err := b.createTopic(meta.Topic{Name: name, Partitions: b.cfg.DefaultPartitions})
	if errors.Is(err, kerr.TopicAlreadyExists) {
		if t = b.topic(name); t != nil { // somebody else was faster
			return b.topicMetadata(t)
		}
		return missingTopic(rt.Topic, rt.TopicID, kerr.UnknownTopicOrPartition.Code) // it is being deleted
	}
	if err != nil {
		b.logger.Warn("topic cannot be created on first use", "topic", name, "err", err)
		return missingTopic(rt.Topic, rt.TopicID, errorCode(err))
	}
	return b.topicMetadata(t)
}

// internalNames are topics that only the broker creates.
var internalNames = map[string]bool{metadataTopic: true, "__consumer_offsets": true, "__transaction_state": true}

func missingTopic(name *string, id [16]byte, code int16) kmsg.MetadataResponseTopic {
	mt := kmsg.NewMetadataResponseTopic()
	mt.Topic, mt.TopicID, mt.ErrorCode = name, id, code
	mt.AuthorizedOperations = noOperations
	return mt
}

func (b *Broker) topicMetadata(t *topic) kmsg.MetadataResponseTopic {
	mt := missingTopic(kmsg.StringPtr(t.Name), t.ID, 0)
	mt.IsInternal = t.Internal
	mt.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.parts))
	nodes := []int32{b.cfg.NodeID}
	for p, l := range t.parts {
		mp := kmsg.NewMetadataResponseTopicPartition()
		mp.Partition = int32(p)
		mp.Leader, mp.LeaderEpoch = b.cfg.NodeID, l.LeaderEpoch()
		mp.Replicas, mp.ISR = nodes, nodes
		if l.Online() != nil { // so that producers without keys turn to other partitions
			mp.ErrorCode, mp.Leader, mp.LeaderEpoch, mp.OfflineReplicas = kerr.LeaderNotAvailable.Code, -1, -1, nodes
		}
		mt.Partitions[p] = mp
	}
	return mt
}

// DescribeCluster (key 60), versions 0–2. Ignored: authorized operations, fenced brokers (there are none).
// Errors: MISMATCHED_ENDPOINT_TYPE for controllers, UNSUPPORTED_ENDPOINT_TYPE for what is neither.
func serveDescribeCluster(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeClusterRequest)
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.ClusterID = b.meta.ClusterID()
	resp.ClusterAuthorizedOperations = noOperations
	if req.Version >= 1 && req.EndpointType != 1 {
		resp.ErrorCode = kerr.UnsupportedEndpointType.Code
		if req.EndpointType == 2 { // controllers
			resp.ErrorCode = kerr.MismatchedEndpointType.Code
		}
		resp.ErrorMessage = kmsg.StringPtr("there are no controllers to describe")
		return answer(resp), nil
	}
	id, host, port := b.node(c)
	node := kmsg.NewDescribeClusterResponseBroker()
	node.NodeID, node.Host, node.Port = id, host, port
	resp.ControllerID = id
	resp.Brokers = append(resp.Brokers, node)
	return answer(resp), nil
}

// DescribeTopicPartitions (key 75), version 0. Topics by name, from the cursor on, at most ResponsePartitionLimit partitions; what
// is left is named by the next cursor. Errors per topic: UNKNOWN_TOPIC_OR_PARTITION.
func serveDescribeTopicPartitions(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeTopicPartitionsRequest)
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	var names []string
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	if len(names) == 0 {
		for _, t := range b.listedTopics() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	left := int(req.ResponsePartitionLimit)
	if left <= 0 || left > 2000 {
		left = 2000
	}
	for _, name := range slices.Compact(names) {
		from := int32(0)
		if cur := req.Cursor; cur != nil {
			if name < cur.Topic {
				continue
			}
			if name == cur.Topic {
				from = max(cur.Partition, 0)
			}
		}
		if left == 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: from}
			break
		}
		dt := b.describedTopic(name, from, left)
		left -= len(dt.Partitions)
		resp.Topics = append(resp.Topics, dt)
		if next := from + int32(len(dt.Partitions)); left == 0 && b.topic(name) != nil && int(next) < len(b.topic(name).parts) {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: next}
			break
		}
	}
	return answer(resp), nil
}

func (b *Broker) describedTopic(name string, from int32, limit int) kmsg.DescribeTopicPartitionsResponseTopic {
	dt := kmsg.NewDescribeTopicPartitionsResponseTopic()
	dt.Topic = kmsg.StringPtr(name)
	dt.AuthorizedOperations = noOperations
	t := b.topic(name)
	if t == nil {
		dt.ErrorCode = kerr.UnknownTopicOrPartition.Code
		return dt
	}
	dt.TopicID, dt.IsInternal = t.ID, t.Internal
	nodes := []int32{b.cfg.NodeID}
	for p := from; int(p) < len(t.parts) && limit > 0; p, limit = p+1, limit-1 {
		dp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		dp.Partition, dp.LeaderID, dp.LeaderEpoch = p, b.cfg.NodeID, t.parts[p].LeaderEpoch()
		dp.Replicas, dp.ISR = nodes, nodes
		if t.parts[p].Online() != nil {
			dp.ErrorCode, dp.LeaderID, dp.LeaderEpoch, dp.OfflineReplicas = kerr.LeaderNotAvailable.Code, -1, -1, nodes
		}
		dp.EligibleLeaderReplicas, dp.LastKnownELR = []int32{}, []int32{} // Java's tools do not stand the null that the schema allows
		dt.Partitions = append(dt.Partitions, dp)
	}
	return dt
}
