package broker

import (
	"cmp"
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group"
)

// JoinGroup (key 11), versions 0–9. Parked until the rebalance has gathered its members. Ignored: the reason (v8).
// Errors: MEMBER_ID_REQUIRED (v4+), UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, INCONSISTENT_GROUP_PROTOCOL, INVALID_SESSION_TIMEOUT,
// GROUP_MAX_SIZE_REACHED, INVALID_GROUP_ID, COORDINATOR_NOT_AVAILABLE.
func serveJoinGroup(b *Broker, c *conn, r *request) (response, error) {
	return pending(b.groups.Join(r.body.(*kmsg.JoinGroupRequest), groupClient(c, r))), nil
}

// SyncGroup (key 14), versions 0–5. Parked until the leader has sent the assignments and they are on disk.
// Errors: UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS, FENCED_INSTANCE_ID, INCONSISTENT_GROUP_PROTOCOL (v5),
// COORDINATOR_NOT_AVAILABLE.
func serveSyncGroup(b *Broker, _ *conn, r *request) (response, error) {
	return pending(b.groups.Sync(r.body.(*kmsg.SyncGroupRequest))), nil
}

// Heartbeat (key 12), versions 0–4.
// Errors: UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS, FENCED_INSTANCE_ID.
func serveHeartbeat(b *Broker, _ *conn, r *request) (response, error) {
	return answer(b.groups.Heartbeat(r.body.(*kmsg.HeartbeatRequest))), nil
}

// LeaveGroup (key 13), versions 0–5; several members from v3 on, by member id or instance id. Ignored: the reason (v5).
// Errors per member: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
func serveLeaveGroup(b *Broker, _ *conn, r *request) (response, error) {
	return pending(b.groups.Leave(r.body.(*kmsg.LeaveGroupRequest))), nil
}

// DescribeGroups (key 15), versions 0–6. A group that is not known is Dead, from v6 on also GROUP_ID_NOT_FOUND.
// Ignored: authorized operations.
func serveDescribeGroups(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeGroupsRequest)
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, id := range req.Groups {
		resp.Groups = append(resp.Groups, b.groups.Describe(id, req.Version))
	}
	return answer(resp), nil
}

// ListGroups (key 16), versions 0–5; filters by state (v4) and type (v5).
func serveListGroups(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.ListGroupsRequest)
	resp := kmsg.NewPtrListGroupsResponse()
	resp.Groups = b.groups.List(req.StatesFilter, req.TypesFilter)
	return answer(resp), nil
}

// DeleteGroups (key 42), versions 0–2. Errors per group: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP (also while a transaction may still
// commit offsets to it), COORDINATOR_NOT_AVAILABLE.
func serveDeleteGroups(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DeleteGroupsRequest)
	var waits []group.Pending[*kmsg.DeleteGroupsResponseGroup]
	for id := range eachOnce(req.Groups, func(id *string) string { return *id }) {
		waits = append(waits, b.groups.Delete(*id))
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := kmsg.NewPtrDeleteGroupsResponse()
		for _, wait := range waits {
			g, err := wait(ctx)
			if err != nil {
				return nil, err
			}
			resp.Groups = append(resp.Groups, *g)
		}
		return resp, nil
	}), nil
}

// OffsetDelete (key 47), version 0. Errors: INVALID_GROUP_ID, GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP (members that are no consumers); per partition
// GROUP_SUBSCRIBED_TO_TOPIC, UNKNOWN_TOPIC_OR_PARTITION.
func serveOffsetDelete(b *Broker, _ *conn, r *request) (response, error) {
	return pending(b.groups.DeleteOffsets(r.body.(*kmsg.OffsetDeleteRequest), b.partitionExists)), nil
}

// maxGroupsPerFetch bounds the groups of one OffsetFetch.
const maxGroupsPerFetch = 10_000

// OffsetFetch (key 9), versions 0–10; several groups from v8 on, topics by id from v10 on. A group or partition without a committed offset is no error: offset
// -1. Answers nothing that is not on disk. Member id and epoch (v9) are those of KIP-848 groups.
// Errors per group: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH (v9+).
// Errors per partition: UNSTABLE_OFFSET_COMMIT (RequireStable, v7+), UNKNOWN_TOPIC_ID (v10).
func serveOffsetFetch(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.OffsetFetchRequest)
	if req.Version < 8 {
		var topics []kmsg.OffsetFetchRequestGroupTopic
		if req.Topics != nil || req.Version < 2 {
			topics = []kmsg.OffsetFetchRequestGroupTopic{}
		}
		for _, t := range req.Topics {
			topics = append(topics, kmsg.OffsetFetchRequestGroupTopic{Topic: t.Topic, Partitions: t.Partitions})
		}
		wait := b.groups.Fetch(req.Group, nil, -1, topics, req.RequireStable)
		return later(func(ctx context.Context) (kmsg.Response, error) {
			g, err := wait(ctx)
			if err != nil {
				return nil, err
			}
			return offsetFetchSingle(g), nil
		}), nil
	}
	if len(req.Groups) > maxGroupsPerFetch {
		return nil, refuse(kerr.InvalidRequest, "offsets of %d groups in one request, at most %d", len(req.Groups), maxGroupsPerFetch)
	}
	waits := make([]group.Pending[*kmsg.OffsetFetchResponseGroup], len(req.Groups))
	for i, g := range req.Groups {
		if req.Version >= 10 {
			for j := range g.Topics {
				g.Topics[j].Topic, _ = b.topicName(g.Topics[j].TopicID)
			}
			// Kafka answers what it cannot look up after what it can.
			slices.SortStableFunc(g.Topics, func(x, y kmsg.OffsetFetchRequestGroupTopic) int {
				return cmp.Compare(min(len(y.Topic), 1), min(len(x.Topic), 1))
			})
		}
		waits[i] = b.groups.Fetch(g.Group, g.MemberID, g.MemberEpoch, g.Topics, req.RequireStable)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := kmsg.NewPtrOffsetFetchResponse()
		for _, wait := range waits {
			g, err := wait(ctx)
			if err != nil {
				return nil, err
			}
			if req.Version >= 10 {
				b.addTopicIDs(g)
			}
			resp.Groups = append(resp.Groups, *g)
		}
		return resp, nil
	}), nil
}

// addTopicIDs gives the topics of an answer that says all offsets of a group their ids. A topic that has none any more is left out.
func (b *Broker) addTopicIDs(g *kmsg.OffsetFetchResponseGroup) {
	kept := g.Topics[:0]
	for _, t := range g.Topics {
		if t.TopicID == [16]byte{} && t.Topic != "" {
			t.TopicID, _ = b.topicID(t.Topic)
			if t.TopicID == [16]byte{} {
				continue
			}
		}
		kept = append(kept, t)
	}
	g.Topics = kept
}

// offsetFetchSingle is the answer of the versions that ask for one group.
func offsetFetchSingle(g *kmsg.OffsetFetchResponseGroup) *kmsg.OffsetFetchResponse {
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.ErrorCode = g.ErrorCode
	for _, gt := range g.Topics {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = gt.Topic
		for _, gp := range gt.Partitions {
			p := kmsg.NewOffsetFetchResponseTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = gp.Partition, gp.Offset, gp.LeaderEpoch, gp.Metadata, gp.ErrorCode
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// OffsetCommit (key 8), versions 0–10; topics by id from v10 on. Answered when it is on disk. Generation -1 without a member is a simple commit, for groups
// without members. Errors: ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS, GROUP_ID_NOT_FOUND (v9),
// COORDINATOR_NOT_AVAILABLE; per partition OFFSET_METADATA_TOO_LARGE, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID (v10).
func serveOffsetCommit(b *Broker, _ *conn, r *request) (response, error) {
	req := r.body.(*kmsg.OffsetCommitRequest)
	if req.Version < 1 {
		req.Generation, req.MemberID = -1, ""
	}
	if req.Version >= 10 {
		for i := range req.Topics {
			req.Topics[i].Topic, _ = b.topicName(req.Topics[i].TopicID)
		}
	}
	return pending(b.groups.Commit(req, b.partitionExists)), nil
}
