package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group/consumer"
	"github.com/leatstream/leat/broker/internal/meta"
)

// ConsumerGroupHeartbeat (key 68), versions 0–1: KIP-848 groups; v1 brings patterns and ids that the client makes. Answered when what
// it tells is on disk. Ignored: rack (there is one node).
// Errors: INVALID_REQUEST, GROUP_ID_NOT_FOUND (also a classic group with members), UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH,
// UNRELEASED_INSTANCE_ID, FENCED_INSTANCE_ID, UNSUPPORTED_ASSIGNOR, INVALID_REGULAR_EXPRESSION, GROUP_MAX_SIZE_REACHED,
// COORDINATOR_NOT_AVAILABLE, UNSUPPORTED_VERSION (Config.DisableConsumerProtocol).
func serveConsumerGroupHeartbeat(b *Broker, c *conn, r *request) (response, error) {
	if b.cfg.DisableConsumerProtocol {
		return answer(&kmsg.ConsumerGroupHeartbeatResponse{Version: r.body.GetVersion(), ErrorCode: kerr.UnsupportedVersion.Code}), nil
	}
	return pending(b.groups.ConsumerHeartbeat(r.body.(*kmsg.ConsumerGroupHeartbeatRequest), groupClient(c, r), b.sees(c))), nil
}

// ConsumerGroupDescribe (key 69), versions 0–1. Ignored: authorized operations. Errors per group: GROUP_ID_NOT_FOUND (also for classic
// groups, upon which Java's admin client asks with DescribeGroups), INVALID_GROUP_ID, UNSUPPORTED_VERSION (Config.DisableConsumerProtocol).
func serveConsumerGroupDescribe(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.ConsumerGroupDescribeRequest)
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	for _, id := range req.Groups {
		if b.cfg.DisableConsumerProtocol {
			g := kmsg.NewConsumerGroupDescribeResponseGroup()
			g.Group, g.ErrorCode = id, kerr.UnsupportedVersion.Code
			resp.Groups = append(resp.Groups, g)
			continue
		}
		g := b.groups.DescribeConsumer(id)
		g.AuthorizedOperations = noOperations
		resp.Groups = append(resp.Groups, g)
	}
	return answer(resp), nil
}

// Topic implements consumer.Cluster.
func (tt *topicTable) Topic(name string) (consumer.Topic, bool) { return tt.byName[name].seen() }

// TopicByID implements consumer.Cluster.
func (tt *topicTable) TopicByID(id consumer.TopicID) (consumer.Topic, bool) {
	return tt.byID[meta.ID(id)].seen()
}

// Names implements consumer.Cluster. As in Kafka a pattern matches __consumer_offsets, too; the broker's own metadata topic, which
// Kafka does not have, it does not match.
func (tt *topicTable) Names(f func(name string)) {
	for name := range tt.byName {
		if name != metadataTopic {
			f(name)
		}
	}
}

// seen is the topic as consumer groups see it; t may be nil.
func (t *topic) seen() (consumer.Topic, bool) {
	if t == nil {
		return consumer.Topic{}, false
	}
	return consumer.Topic{Name: t.Name, ID: t.ID, Partitions: int32(len(t.parts))}, true
}
