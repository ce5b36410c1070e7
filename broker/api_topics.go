package broker

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/meta"
)

// CreateTopics (key 19), versions 0–7. -1 partitions or replicas mean the broker's defaults. Answers with what was created and its
// configuration (v5+), and its id (v7+). Ignored: timeout (a topic exists when the answer is sent).
// Errors per topic: TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION (name, or collision of '.' and '_'), INVALID_PARTITIONS,
// INVALID_REPLICATION_FACTOR (more than one, unless clamped), INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG, INVALID_REQUEST (twice in
// one request), POLICY_VIOLATION (limits).
func serveCreateTopics(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.CreateTopicsRequest)
	resp := kmsg.NewPtrCreateTopicsResponse()
	for rt, err := range eachOnce(req.Topics, func(t *kmsg.CreateTopicsRequestTopic) string { return t.Topic }) {
		ct := kmsg.NewCreateTopicsResponseTopic()
		ct.Topic = rt.Topic
		ct.NumPartitions, ct.ReplicationFactor = -1, -1
		var m meta.Topic
		if err == nil {
			m, err = b.newTopic(rt)
		}
		if err == nil {
			m, err = b.createOrValidate(m, req.ValidateOnly)
		}
		ct.ErrorCode, ct.ErrorMessage = errorCode(err), errorText(err)
		if err == nil {
			ct.TopicID, ct.NumPartitions, ct.ReplicationFactor = m.ID, m.Partitions, 1
			ct.Configs = b.createdConfigs(m)
		}
		resp.Topics = append(resp.Topics, ct)
	}
	return answer(resp), nil
}

func (b *Broker) createOrValidate(m meta.Topic, validateOnly bool) (meta.Topic, error) {
	if validateOnly {
		return m, b.mayCreate(b.topics.Load(), m)
	}
	t, err := b.createTopic(m)
	if err != nil {
		return m, err
	}
	return t.Topic, nil
}

// newTopic checks a topic to be created as far as that can be done without looking at the others.
func (b *Broker) newTopic(rt *kmsg.CreateTopicsRequestTopic) (meta.Topic, error) {
	m := meta.Topic{Name: rt.Topic, Partitions: rt.NumPartitions}
	if err := meta.CheckName(rt.Topic); err != nil {
		return m, refuse(kerr.InvalidTopicException, "%s", err)
	}
	if b.topic(rt.Topic) != nil { // said before anything else is looked at; createTopic looks again, with nobody beside it
		return m, refuse(kerr.TopicAlreadyExists, "Topic '%s' already exists.", rt.Topic)
	}
	replicas := int(rt.ReplicationFactor)
	if len(rt.ReplicaAssignment) > 0 {
		if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
			return m, refuse(kerr.InvalidRequest, "give a replica assignment, or a partition count and a replication factor, not both")
		}
		var err error
		if replicas, err = b.checkAssignment(rt.ReplicaAssignment); err != nil {
			return m, err
		}
		m.Partitions = int32(len(rt.ReplicaAssignment))
	}
	if m.Partitions == -1 {
		m.Partitions = b.cfg.DefaultPartitions
	}
	if m.Partitions < 1 {
		return m, refuse(kerr.InvalidPartitions, "a topic needs at least one partition, not %d", m.Partitions)
	}
	if replicas == 0 || replicas < -1 {
		return m, refuse(kerr.InvalidReplicationFactor, "the replication factor must be 1, not %d", replicas)
	}
	if replicas > 1 && !b.cfg.ClampReplicationFactor {
		return m, refuse(kerr.InvalidReplicationFactor, "a replication factor of %d needs as many brokers; this is a single node: use 1, or -1 for the default", replicas)
	}
	var err error
	m.Configs, err = b.checkConfigs(rt.Configs)
	return m, err
}

func (b *Broker) checkAssignment(as []kmsg.CreateTopicsRequestTopicReplicaAssignment) (replicas int, err error) {
	seen := make([]bool, len(as))
	for _, a := range as {
		if a.Partition < 0 || int(a.Partition) >= len(as) || seen[a.Partition] {
			return 0, refuse(kerr.InvalidReplicaAssignment, "the assigned partitions are not 0 to %d, each once", len(as)-1)
		}
		seen[a.Partition] = true
		replicas = max(replicas, len(a.Replicas))
		if len(a.Replicas) == 0 || a.Replicas[0] != b.cfg.NodeID && !b.cfg.ClampReplicationFactor {
			return 0, refuse(kerr.InvalidReplicaAssignment, "partition %d must be assigned to broker %d, the only one", a.Partition, b.cfg.NodeID)
		}
	}
	return replicas, nil
}

func (b *Broker) checkConfigs(cs []kmsg.CreateTopicsRequestTopicConfig) (map[string]string, error) {
	configs := make(map[string]string, len(cs))
	for _, c := range cs {
		if c.Value == nil {
			return nil, refuse(kerr.InvalidConfig, "configuration %s has no value", c.Name)
		}
		if err := b.checkConfig(c.Name, *c.Value); err != nil {
			return nil, err
		}
		configs[c.Name] = *c.Value
	}
	return configs, b.checkLags(configs)
}

// checkLags refuses configurations of a topic by which records are to be kept from compaction for longer than they may wait for it.
func (b *Broker) checkLags(configs map[string]string) error {
	lag := map[string]int64{}
	for _, e := range b.topicConfigs(meta.Topic{Configs: configs}) {
		if n, err := strconv.ParseInt(e.value, 10, 64); err == nil {
			lag[e.def.Name] = n
		}
	}
	if least, most := lag["min.compaction.lag.ms"], lag["max.compaction.lag.ms"]; least > most {
		return refuse(kerr.InvalidConfig, "min.compaction.lag.ms=%d is more than max.compaction.lag.ms=%d", least, most)
	}
	return nil
}

// checkConfig checks one topic configuration.
func (b *Broker) checkConfig(name, value string) error {
	if err := meta.CheckConfig(name, value); err != nil {
		return refuse(kerr.InvalidConfig, "%s", err)
	}
	if name == "min.insync.replicas" && value != "1" && !b.cfg.ClampReplicationFactor {
		return refuse(kerr.InvalidReplicationFactor, "min.insync.replicas=%s can never be met by a single node: use 1", value)
	}
	return nil
}

// createdConfigs is a new topic's configuration as CreateTopics returns it.
func (b *Broker) createdConfigs(m meta.Topic) []kmsg.CreateTopicsResponseTopicConfig {
	all := slices.DeleteFunc(b.topicConfigs(m), configEntry.hidden)
	out := make([]kmsg.CreateTopicsResponseTopicConfig, len(all))
	for i, e := range all {
		out[i] = kmsg.NewCreateTopicsResponseTopicConfig()
		out[i].Name, out[i].Value, out[i].Source = e.def.Name, kmsg.StringPtr(e.value), int8(e.source)
	}
	return out
}

// DeleteTopics (key 20), versions 0–6. v6 names topics or gives their ids, and is answered with both. The files are gone when the
// answer is sent. Errors per topic: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_REQUEST (internal topics, or a topic named twice),
// TOPIC_DELETION_DISABLED (v3+; before: INVALID_REQUEST).
func serveDeleteTopics(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DeleteTopicsRequest)
	topics := req.Topics
	for _, name := range req.TopicNames {
		topics = append(topics, kmsg.DeleteTopicsRequestTopic{Topic: kmsg.StringPtr(name)})
	}
	resp := kmsg.NewPtrDeleteTopicsResponse()
	for rt, err := range eachOnce(topics, b.toBeDeleted) {
		dt := kmsg.NewDeleteTopicsResponseTopic()
		dt.Topic, dt.TopicID = rt.Topic, rt.TopicID
		switch {
		case err != nil:
		case b.cfg.DisableDeleteTopics && req.Version < 3:
			err = refuse(kerr.InvalidRequest, "this broker does not delete topics (delete.topic.enable=false)")
		case b.cfg.DisableDeleteTopics:
			err = refuse(kerr.TopicDeletionDisabled, "this broker does not delete topics (delete.topic.enable=false)")
		case rt.Topic != nil && rt.TopicID != [16]byte{}:
			err = refuse(kerr.InvalidRequest, "give a topic's name or its id, not both")
		case rt.Topic != nil:
			dt.TopicID, _ = b.topicID(*rt.Topic)
			err = b.deleteTopic(*rt.Topic)
		default:
			var name string
			if name, err = b.deleteTopicByID(rt.TopicID); name != "" {
				dt.Topic = kmsg.StringPtr(name)
			}
		}
		dt.ErrorCode, dt.ErrorMessage = errorCode(err), errorText(err)
		resp.Topics = append(resp.Topics, dt)
	}
	return answer(resp), nil
}

// toBeDeleted is the topic that an entry of DeleteTopics means: its name, or the id if there is no such topic.
func (b *Broker) toBeDeleted(rt *kmsg.DeleteTopicsRequestTopic) string {
	if rt.Topic != nil {
		return *rt.Topic
	}
	if name, ok := b.topicName(rt.TopicID); ok {
		return name
	}
	return string(rt.TopicID[:])
}

// CreatePartitions (key 37), versions 0–3. One answer per topic. Ignored: timeout, and the brokers in an assignment (there is one).
// Errors per topic: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS (not more than there are), INVALID_REPLICA_ASSIGNMENT,
// INVALID_REQUEST (internal topics, or a topic named twice), POLICY_VIOLATION (limits).
func serveCreatePartitions(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.CreatePartitionsRequest)
	resp := kmsg.NewPtrCreatePartitionsResponse()
	for rt, err := range eachOnce(req.Topics, func(t *kmsg.CreatePartitionsRequestTopic) string { return t.Topic }) {
		if err == nil {
			err = b.growTopic(rt, req.ValidateOnly)
		}
		ct := kmsg.NewCreatePartitionsResponseTopic()
		ct.Topic, ct.ErrorCode, ct.ErrorMessage = rt.Topic, errorCode(err), errorText(err)
		resp.Topics = append(resp.Topics, ct)
	}
	return answer(resp), nil
}

// mayGrow checks a request for more partitions of t, nil if it is not there.
func mayGrow(t *topic, rt *kmsg.CreatePartitionsRequestTopic) error {
	switch {
	case t == nil:
		return kerr.UnknownTopicOrPartition
	case t.Internal:
		return refuse(kerr.InvalidRequest, "topic %s is internal: its partition count is fixed", t.Name)
	case rt.Count <= t.Partitions:
		return refuse(kerr.InvalidPartitions, "Topic currently has %d partitions, which is not less than the requested %d.", t.Partitions, rt.Count)
	case rt.Assignment != nil && int64(len(rt.Assignment)) != int64(rt.Count)-int64(t.Partitions):
		return refuse(kerr.InvalidReplicaAssignment, "%d new partitions need as many assignments, not %d", rt.Count-t.Partitions, len(rt.Assignment))
	}
	return nil
}

// DeleteRecords (key 21), versions 0–2. Moves the log start; -1 means the high watermark; an offset at or below the log start changes
// nothing and is no error. Records of acks=1 that are not on disk yet are waited for. Ignored: timeout. Errors per partition:
// UNKNOWN_TOPIC_OR_PARTITION, OFFSET_OUT_OF_RANGE.
func serveDeleteRecords(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DeleteRecordsRequest)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := kmsg.NewPtrDeleteRecordsResponse()
		for _, rt := range req.Topics {
			dt := kmsg.NewDeleteRecordsResponseTopic()
			dt.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				dp := kmsg.NewDeleteRecordsResponseTopicPartition()
				dp.Partition, dp.LowWatermark = rp.Partition, -1
				start, err := b.deleteRecords(ctx, rt.Topic, rp.Partition, rp.Offset)
				if dp.ErrorCode = errorCode(err); err == nil {
					dp.LowWatermark = start
				}
				dt.Partitions = append(dt.Partitions, dp)
			}
			resp.Topics = append(resp.Topics, dt)
		}
		return resp, nil
	}), nil
}

// deleteRecords deletes what has been acknowledged: records of acks=1 may not be on disk yet, and are waited for.
func (b *Broker) deleteRecords(ctx context.Context, topic string, partition int32, to int64) (int64, error) {
	t := b.topic(topic)
	l, ok := t.partition(partition)
	switch {
	case !ok:
		return 0, kerr.UnknownTopicOrPartition
	case t.Internal:
		return 0, refuse(kerr.InvalidTopicException, "topic %s is internal", topic)
	case to < -1 || to > math.MaxInt64-1:
		return 0, kerr.OffsetOutOfRange
	}
	until := l.Bounds().End
	if to >= 0 {
		until = min(until, to)
	}
	if err := l.WaitSynced(ctx, until); err != nil {
		return 0, err
	}
	var start int64
	err := b.makingRoom(func() (err error) { start, err = l.DeleteRecords(to); return err })
	if err != nil {
		return 0, fmt.Errorf("delete records of %s-%d: %w", topic, partition, err)
	}
	return start, nil
}
