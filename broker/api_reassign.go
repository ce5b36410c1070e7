package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments (key 45), versions 0–1: to this broker, where every partition is, is no change and succeeds. With
// Config.ClampReplicationFactor further brokers may be named beside it. Ignored: timeout, AllowReplicationFactorChange.
// Errors per partition: UNKNOWN_TOPIC_OR_PARTITION, INVALID_REPLICA_ASSIGNMENT, NO_REASSIGNMENT_IN_PROGRESS (there is none to cancel).
func serveAlterPartitionReassignments(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	for _, rt := range req.Topics {
		at := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		at.Topic = rt.Topic
		for _, p := range rt.Partitions {
			err := b.checkReassignment(rt.Topic, p)
			ap := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			ap.Partition, ap.ErrorCode, ap.ErrorMessage = p.Partition, errorCode(err), errorText(err)
			at.Partitions = append(at.Partitions, ap)
		}
		resp.Topics = append(resp.Topics, at)
	}
	return answer(resp), nil
}

func (b *Broker) checkReassignment(topic string, p kmsg.AlterPartitionAssignmentsRequestTopicPartition) error {
	switch {
	case !b.partitionExists(topic, p.Partition):
		return refuse(kerr.UnknownTopicOrPartition, "topic %s has no partition %d", topic, p.Partition)
	case p.Replicas == nil:
		return kerr.NoReassignmentInProgress
	case !slices.Contains(p.Replicas, b.cfg.NodeID), len(p.Replicas) > 1 && !b.cfg.ClampReplicationFactor:
		return refuse(kerr.InvalidReplicaAssignment, "replicas %v: broker %d is the only one", p.Replicas, b.cfg.NodeID)
	}
	return nil
}

// ListPartitionReassignments (key 46), version 0: there is nothing to reassign to, so none is under way. Kafka's TopicCommand asks
// before it describes a topic.
func serveListPartitionReassignments(*Broker, *conn, *request) (response, error) {
	return answer(kmsg.NewPtrListPartitionReassignmentsResponse()), nil
}
