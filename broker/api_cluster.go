package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/internal/vfs"
)

// DescribeLogDirs (key 35), versions 0–4: the one data directory, what each partition takes in it, and (v4) the size of its volume,
// -1 where the system does not tell. No topics mean all; partitions that do not exist are left out, as in Kafka.
// AlterReplicaLogDirs (34) is not served: there is no second directory.
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
