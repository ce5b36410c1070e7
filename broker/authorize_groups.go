package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/auth"
	"github.com/leatstream/leat/broker/internal/group/consumer"
)

// groupGuards are those of the APIs about groups.
func groupGuards() map[int16]guard {
	return map[int16]guard{
		10: guardFindCoordinator,
		11: whole(func(a access, q *kmsg.JoinGroupRequest) bool { return a.group(opRead, q.Group) }, func(*kmsg.JoinGroupRequest) kmsg.Response {
			r := kmsg.NewPtrJoinGroupResponse()
			r.ErrorCode, r.Generation = groupDenied, -1
			return r
		}),
		12: whole(func(a access, q *kmsg.HeartbeatRequest) bool { return a.group(opRead, q.Group) }, func(*kmsg.HeartbeatRequest) kmsg.Response {
			return &kmsg.HeartbeatResponse{ErrorCode: groupDenied}
		}),
		13: whole(func(a access, q *kmsg.LeaveGroupRequest) bool { return a.group(opRead, q.Group) }, func(*kmsg.LeaveGroupRequest) kmsg.Response {
			return &kmsg.LeaveGroupResponse{ErrorCode: groupDenied}
		}),
		14: whole(func(a access, q *kmsg.SyncGroupRequest) bool { return a.group(opRead, q.Group) }, func(*kmsg.SyncGroupRequest) kmsg.Response {
			return &kmsg.SyncGroupResponse{ErrorCode: groupDenied}
		}),
		15: each(func(q *kmsg.DescribeGroupsRequest) *[]string { return &q.Groups },
			func(a access, id *string) bool { return a.group(opDescribe, *id) },
			func(r *kmsg.DescribeGroupsResponse, id string) {
				g := kmsg.NewDescribeGroupsResponseGroup()
				g.Group, g.ErrorCode, g.AuthorizedOperations = id, groupDenied, noOperations
				r.Groups = append(r.Groups, g)
			}),
		16: only[*kmsg.ListGroupsRequest](func(r *kmsg.ListGroupsResponse) *[]kmsg.ListGroupsResponseGroup { return &r.Groups },
			func(a access, g *kmsg.ListGroupsResponseGroup) bool {
				return a.cluster(opDescribe) || a.group(opDescribe, g.Group)
			}),
		42: each(func(q *kmsg.DeleteGroupsRequest) *[]string { return &q.Groups },
			func(a access, id *string) bool { return a.group(opDelete, *id) },
			func(r *kmsg.DeleteGroupsResponse, id string) {
				g := kmsg.NewDeleteGroupsResponseGroup()
				g.Group, g.ErrorCode = id, groupDenied
				r.Groups = append(r.Groups, g)
			}),
		68: guardConsumerGroupHeartbeat,
		69: everyGuard(hideGroupTopics, each(func(q *kmsg.ConsumerGroupDescribeRequest) *[]string { return &q.Groups },
			func(a access, id *string) bool { return a.group(opDescribe, *id) },
			func(r *kmsg.ConsumerGroupDescribeResponse, id string) {
				g := kmsg.NewConsumerGroupDescribeResponseGroup()
				g.Group, g.ErrorCode, g.AuthorizedOperations = id, groupDenied, noOperations
				r.Groups = append(r.Groups, g)
			})),
	}
}

// offsetGuards are those of the APIs about committed offsets.
func offsetGuards() map[int16]guard {
	return map[int16]guard{
		8: everyGuard(whole(func(a access, q *kmsg.OffsetCommitRequest) bool { return a.group(opRead, q.Group) }, func(q *kmsg.OffsetCommitRequest) kmsg.Response {
			r := kmsg.NewPtrOffsetCommitResponse()
			for _, t := range q.Topics {
				refuseCommit(r, t, groupDenied)
			}
			return r
		}), each(func(q *kmsg.OffsetCommitRequest) *[]kmsg.OffsetCommitRequestTopic { return &q.Topics },
			func(a access, t *kmsg.OffsetCommitRequestTopic) bool {
				if t.Topic == "" {
					return a.topicByID(opRead, t.TopicID)
				}
				return a.topic(opRead, t.Topic)
			},
			func(r *kmsg.OffsetCommitResponse, t kmsg.OffsetCommitRequestTopic) { refuseCommit(r, t, topicDenied) })),
		9: guardOffsetFetch,
		47: everyGuard(whole(func(a access, q *kmsg.OffsetDeleteRequest) bool { return a.group(opDelete, q.Group) }, func(*kmsg.OffsetDeleteRequest) kmsg.Response {
			return &kmsg.OffsetDeleteResponse{ErrorCode: groupDenied}
		}), each(func(q *kmsg.OffsetDeleteRequest) *[]kmsg.OffsetDeleteRequestTopic { return &q.Topics },
			func(a access, t *kmsg.OffsetDeleteRequestTopic) bool { return a.topic(opRead, t.Topic) },
			func(r *kmsg.OffsetDeleteResponse, t kmsg.OffsetDeleteRequestTopic) {
				rt := kmsg.NewOffsetDeleteResponseTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rt.Partitions = append(rt.Partitions, kmsg.OffsetDeleteResponseTopicPartition{Partition: p.Partition, ErrorCode: topicDenied})
				}
				r.Topics = append(r.Topics, rt)
			})),
	}
}

func refuseCommit(r *kmsg.OffsetCommitResponse, t kmsg.OffsetCommitRequestTopic, code int16) {
	rt := kmsg.NewOffsetCommitResponseTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	for _, p := range t.Partitions {
		rt.Partitions = append(rt.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: code})
	}
	r.Topics = append(r.Topics, rt)
}

// hideGroupTopics: a group with a topic assigned that the client may not Describe is not described, as in Kafka: who may see the group
// would learn the topic's name.
func hideGroupTopics(a access, _ kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	return nil, func(resp kmsg.Response) {
		r := resp.(*kmsg.ConsumerGroupDescribeResponse)
		for i := range r.Groups {
			if g := &r.Groups[i]; g.ErrorCode == 0 && !a.seesAssignments(g.Members) {
				hidden := kmsg.NewConsumerGroupDescribeResponseGroup()
				hidden.Group, hidden.ErrorCode, hidden.AuthorizedOperations = g.Group, topicDenied, noOperations
				hidden.ErrorMessage = kmsg.StringPtr("The group has described topic(s) that the client is not authorized to describe.")
				*g = hidden
			}
		}
	}
}

// seesAssignments reports whether the client may Describe every topic that is assigned to a member, or is to be.
func (a access) seesAssignments(members []kmsg.ConsumerGroupDescribeResponseGroupMember) bool {
	seen := map[string]bool{}
	for i := range members {
		for _, as := range []*kmsg.Assignment{&members[i].Assignment, &members[i].TargetAssignment} {
			for _, tp := range as.TopicPartitions {
				if !seen[tp.Topic] && !a.topic(opDescribe, tp.Topic) {
					return false
				}
				seen[tp.Topic] = true
			}
		}
	}
	return true
}

// guardConsumerGroupHeartbeat: Read on the group and Describe on the topics that the member names.
func guardConsumerGroupHeartbeat(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	q := req.(*kmsg.ConsumerGroupHeartbeatRequest)
	r := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	if !a.group(opRead, q.Group) {
		r.ErrorCode = groupDenied
		return r, nil
	}
	for _, t := range q.SubscribedTopicNames {
		if !a.topic(opDescribe, t) {
			r.ErrorCode = topicDenied
			return r, nil
		}
	}
	return nil, nil
}

// sees is which topics a client's pattern may match: those it may Describe; nil: all. It does not keep the connection.
func (b *Broker) sees(c *conn) consumer.Sees {
	if b.authorizer == nil || c.who.trusted {
		return nil
	}
	rules, principal, host := b.authorizer, c.who.principal, c.who.host
	return func(topic string) bool {
		return rules.Allowed(principal, host, opDescribe, auth.Resource{Type: kmsg.ACLResourceTypeTopic, Name: topic})
	}
}

// guardFindCoordinator: Describe on the group or the transactional id.
func guardFindCoordinator(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	q := req.(*kmsg.FindCoordinatorRequest)
	may, denied := a.group, kerr.GroupAuthorizationFailed
	if q.CoordinatorType == 1 {
		may, denied = a.txn, kerr.TransactionalIDAuthorizationFailed
	}
	if q.Version < 4 {
		if may(opDescribe, q.CoordinatorKey) {
			return nil, nil
		}
		r := kmsg.NewPtrFindCoordinatorResponse()
		r.ErrorCode, r.ErrorMessage, r.NodeID, r.Port = denied.Code, kmsg.StringPtr(denied.Description), -1, -1
		return r, nil
	}
	return each(func(q *kmsg.FindCoordinatorRequest) *[]string { return &q.CoordinatorKeys },
		func(_ access, key *string) bool { return may(opDescribe, *key) },
		func(r *kmsg.FindCoordinatorResponse, key string) {
			rc := kmsg.NewFindCoordinatorResponseCoordinator()
			rc.Key, rc.NodeID, rc.Port, rc.ErrorCode, rc.ErrorMessage = key, -1, -1, denied.Code, kmsg.StringPtr(denied.Description)
			r.Coordinators = append(r.Coordinators, rc)
		})(a, req)
}

// guardOffsetFetch: Describe on each group, and on each topic. Those who ask for all topics are answered with those they may see.
func guardOffsetFetch(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	q := req.(*kmsg.OffsetFetchRequest)
	if q.Version < 8 {
		return guardOffsetFetchSingle(a, q)
	}
	var denied []kmsg.OffsetFetchRequestGroup
	q.Groups, denied = split(q.Groups, func(g *kmsg.OffsetFetchRequestGroup) bool { return a.group(opDescribe, g.Group) })
	refused := make([][]kmsg.OffsetFetchRequestGroupTopic, len(q.Groups))
	for i := range q.Groups {
		g := &q.Groups[i]
		g.Topics, refused[i] = split(g.Topics, func(t *kmsg.OffsetFetchRequestGroupTopic) bool {
			if t.Topic == "" {
				return a.topicByID(opDescribe, t.TopicID)
			}
			return a.topic(opDescribe, t.Topic)
		})
	}
	return nil, func(resp kmsg.Response) {
		r := resp.(*kmsg.OffsetFetchResponse)
		for i := range r.Groups {
			g := &r.Groups[i]
			g.Topics, _ = split(g.Topics, func(t *kmsg.OffsetFetchResponseGroupTopic) bool { return t.Topic == "" || a.topic(opDescribe, t.Topic) })
			for _, t := range refused[i] {
				rt := kmsg.NewOffsetFetchResponseGroupTopic()
				rt.Topic, rt.TopicID = t.Topic, t.TopicID
				for _, p := range t.Partitions {
					rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
					rp.Partition, rp.Offset, rp.ErrorCode, rp.Metadata = p, -1, topicDenied, kmsg.StringPtr("")
					rt.Partitions = append(rt.Partitions, rp)
				}
				g.Topics = append(g.Topics, rt)
			}
		}
		for _, g := range denied {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group, rg.ErrorCode = g.Group, groupDenied
			r.Groups = append(r.Groups, rg)
		}
	}
}

func guardOffsetFetchSingle(a access, q *kmsg.OffsetFetchRequest) (kmsg.Response, func(kmsg.Response)) {
	refuse := func(r *kmsg.OffsetFetchResponse, t kmsg.OffsetFetchRequestTopic, code int16) {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.ErrorCode, rp.Metadata = p, -1, code, kmsg.StringPtr("")
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	if !a.group(opDescribe, q.Group) {
		r := kmsg.NewPtrOffsetFetchResponse()
		r.ErrorCode = groupDenied
		for _, t := range q.Topics {
			if q.Version < 2 { // which has no place for the group's error
				refuse(r, t, groupDenied)
			}
		}
		return r, nil
	}
	var denied []kmsg.OffsetFetchRequestTopic
	q.Topics, denied = split(q.Topics, func(t *kmsg.OffsetFetchRequestTopic) bool { return a.topic(opDescribe, t.Topic) })
	return nil, func(resp kmsg.Response) {
		r := resp.(*kmsg.OffsetFetchResponse)
		r.Topics, _ = split(r.Topics, func(t *kmsg.OffsetFetchResponseTopic) bool { return a.topic(opDescribe, t.Topic) })
		for _, t := range denied {
			refuse(r, t, topicDenied)
		}
	}
}
