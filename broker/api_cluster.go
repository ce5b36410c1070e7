package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/internal/vfs"
)

// DescribeLogDirs (key 35), versions 0–4: the one data directory, what each partition takes in it, and (v4) the size of its volume,
// -1 where the system does not tell. No topics mean all; partitions that do not exist are left out, as in Kafka.
func serveDescribeLogDirs(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeLogDirsRequest)
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir, dir.TotalBytes, dir.UsableBytes = b.cfg.Dir, -1, -1
	if fsys, ok := b.cfg.FS.(vfs.Spacious); ok {
		if total, usable, err := fsys.Space(b.cfg.Dir); err == nil {
			dir.TotalBytes, dir.UsableBytes = total, usable
		}
	}
	if req.Topics == nil {
		for _, t := range b.sortedTopics() {
			dir.Topics = append(dir.Topics, describedSizes(t, partitionNumbers(t)))
		}
	}
	for _, rt := range req.Topics {
		if t := b.topic(rt.Topic); t != nil {
			dir.Topics = append(dir.Topics, describedSizes(t, rt.Partitions))
		}
	}
	resp.Dirs = append(resp.Dirs, dir)
	return answer(resp), nil
}

// AlterReplicaLogDirs (key 34), versions 1–2: every partition is in the one directory already, to move it there is no change.
// Errors per partition: UNKNOWN_TOPIC_OR_PARTITION, LOG_DIR_NOT_FOUND.
func serveAlterReplicaLogDirs(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.AlterReplicaLogDirsRequest)
	resp := kmsg.NewPtrAlterReplicaLogDirsResponse()
	for _, d := range req.Dirs {
		for _, rt := range d.Topics {
			at := kmsg.NewAlterReplicaLogDirsResponseTopic()
			at.Topic = rt.Topic
			for _, p := range rt.Partitions {
				ap := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				ap.Partition = p
				if !b.partitionExists(rt.Topic, p) {
					ap.ErrorCode = kerr.UnknownTopicOrPartition.Code
				} else if d.Dir != b.cfg.Dir {
					ap.ErrorCode = kerr.LogDirNotFound.Code
				}
				at.Partitions = append(at.Partitions, ap)
			}
			resp.Topics = append(resp.Topics, at)
		}
	}
	return answer(resp), nil
}

// DescribeQuorum (key 55), versions 0–2: a quorum of one, this broker. What Kafka keeps in its __cluster_metadata is in the broker's own
// metadata log, whose end is told. Errors per partition: UNKNOWN_TOPIC_OR_PARTITION.
func serveDescribeQuorum(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeQuorumRequest)
	resp := kmsg.NewPtrDescribeQuorumResponse()
	for _, rt := range req.Topics {
		qt := kmsg.NewDescribeQuorumResponseTopic()
		qt.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			qp := kmsg.NewDescribeQuorumResponseTopicPartition()
			qp.Partition, qp.LeaderID, qp.LeaderEpoch, qp.HighWatermark = rp.Partition, -1, -1, -1
			if l, ok := b.partition(metadataTopic, 0); !ok || rt.Topic != clusterMetadata || rp.Partition != 0 {
				qp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			} else {
				self := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
				self.ReplicaID, self.LogEndOffset = b.cfg.NodeID, l.Bounds().HighWatermark
				qp.LeaderID, qp.LeaderEpoch, qp.HighWatermark = b.cfg.NodeID, l.LeaderEpoch(), self.LogEndOffset
				qp.CurrentVoters = append(qp.CurrentVoters, self)
			}
			qt.Partitions = append(qt.Partitions, qp)
		}
		resp.Topics = append(resp.Topics, qt)
	}
	node := kmsg.NewDescribeQuorumResponseNode()
	node.NodeID = b.cfg.NodeID
	resp.Nodes = append(resp.Nodes, node)
	return answer(resp), nil
}

// clusterMetadata is the topic under whose name clients ask about the quorum.
const clusterMetadata = "__cluster_metadata"

func partitionNumbers(t *topic) []int32 {
	all := make([]int32, len(t.parts))
	for p := range all {
		all[p] = int32(p)
	}
	return all
}

func describedSizes(t *topic, partitions []int32) kmsg.DescribeLogDirsResponseDirTopic {
	dt := kmsg.NewDescribeLogDirsResponseDirTopic()
	dt.Topic = t.Name
	for _, p := range partitions {
		if l, ok := t.partition(p); ok {
			dp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			dp.Partition, dp.Size = p, l.Size()
			dt.Partitions = append(dt.Partitions, dp)
		}
	}
	return dt
}

// ElectLeaders (key 43), versions 0–2. Every partition has its one leader, whatever the kind of election: asked for all, the answer is
// empty, as Kafka's is when there is nothing to do. Ignored: election type, timeout.
// Errors per partition: ELECTION_NOT_NEEDED, UNKNOWN_TOPIC_OR_PARTITION.
func serveElectLeaders(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.ElectLeadersRequest)
	resp := kmsg.NewPtrElectLeadersResponse()
	for _, rt := range req.Topics {
		et := kmsg.NewElectLeadersResponseTopic()
		et.Topic = rt.Topic
		for _, p := range rt.Partitions {
			err := refuse(kerr.ElectionNotNeeded, "broker %d is the only one and leads every partition", b.cfg.NodeID)
			if !b.partitionExists(rt.Topic, p) {
				err = refuse(kerr.UnknownTopicOrPartition, "topic %s has no partition %d", rt.Topic, p)
			}
			ep := kmsg.NewElectLeadersResponseTopicPartition()
			ep.Partition, ep.ErrorCode, ep.ErrorMessage = p, errorCode(err), errorText(err)
			et.Partitions = append(et.Partitions, ep)
		}
		resp.Topics = append(resp.Topics, et)
	}
	return answer(resp), nil
}
