package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/auth"
	"github.com/leatstream/leat/broker/internal/record"
)

// guards says what each API needs, by key, as Apache Kafka does: an operation on a resource. The keys of produce and fetch are not
// here; see authorizeProduce and authorizeFetch. A row without a guard is a mistake that a test finds.
func guards() map[int16]guard {
	all := map[int16]guard{
		keyAPIVersions: anyone, keySASLHandshake: anyone, keySASLAuthenticate: anyone,
		60: anyone, // DescribeCluster: only the authorized operations in it ask
	}
	for _, more := range []map[int16]guard{topicGuards(), groupGuards(), offsetGuards(), txnGuards(), configGuards(), adminGuards()} {
		for key, g := range more {
			all[key] = g
		}
	}
	return all
}

var (
	topicDenied   = kerr.TopicAuthorizationFailed.Code
	groupDenied   = kerr.GroupAuthorizationFailed.Code
	txnDenied     = kerr.TransactionalIDAuthorizationFailed.Code
	clusterDenied = kerr.ClusterAuthorizationFailed.Code
)

// topicGuards are those of the APIs about topics and their partitions.
func topicGuards() map[int16]guard {
	return map[int16]guard{
		2: each(func(q *kmsg.ListOffsetsRequest) *[]kmsg.ListOffsetsRequestTopic { return &q.Topics },
			func(a access, t *kmsg.ListOffsetsRequestTopic) bool { return a.topic(opDescribe, t.Topic) },
			func(r *kmsg.ListOffsetsResponse, t kmsg.ListOffsetsRequestTopic) {
				rt := kmsg.NewListOffsetsResponseTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewListOffsetsResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p.Partition, topicDenied
					rt.Partitions = append(rt.Partitions, rp)
				}
				r.Topics = append(r.Topics, rt)
			}),
		3:  guardMetadata,
		19: everyGuard(guardCreateTopics, hideCreatedConfigs),
		20: everyGuard(guardDeleteTopicNames, guardDeleteTopics),
		21: each(func(q *kmsg.DeleteRecordsRequest) *[]kmsg.DeleteRecordsRequestTopic { return &q.Topics },
			func(a access, t *kmsg.DeleteRecordsRequestTopic) bool { return a.topic(opDelete, t.Topic) },
			func(r *kmsg.DeleteRecordsResponse, t kmsg.DeleteRecordsRequestTopic) {
				rt := kmsg.NewDeleteRecordsResponseTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewDeleteRecordsResponseTopicPartition()
					rp.Partition, rp.LowWatermark, rp.ErrorCode = p.Partition, -1, topicDenied
					rt.Partitions = append(rt.Partitions, rp)
				}
				r.Topics = append(r.Topics, rt)
			}),
		23: each(func(q *kmsg.OffsetForLeaderEpochRequest) *[]kmsg.OffsetForLeaderEpochRequestTopic { return &q.Topics },
			func(a access, t *kmsg.OffsetForLeaderEpochRequestTopic) bool { // ClusterAction, which followers have, is enough
				return a.allowed(opClusterAction, auth.Cluster.Type, auth.Cluster.Name) || a.topic(opDescribe, t.Topic)
			},
			func(r *kmsg.OffsetForLeaderEpochResponse, t kmsg.OffsetForLeaderEpochRequestTopic) {
				rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p.Partition, topicDenied
					rt.Partitions = append(rt.Partitions, rp)
				}
				r.Topics = append(r.Topics, rt)
			}),
		37: each(func(q *kmsg.CreatePartitionsRequest) *[]kmsg.CreatePartitionsRequestTopic { return &q.Topics },
			func(a access, t *kmsg.CreatePartitionsRequestTopic) bool { return a.topic(opAlter, t.Topic) },
			func(r *kmsg.CreatePartitionsResponse, t kmsg.CreatePartitionsRequestTopic) {
				rt := kmsg.NewCreatePartitionsResponseTopic()
				rt.Topic, rt.ErrorCode = t.Topic, topicDenied
				r.Topics = append(r.Topics, rt)
			}),
		61: each(func(q *kmsg.DescribeProducersRequest) *[]kmsg.DescribeProducersRequestTopic { return &q.Topics },
			func(a access, t *kmsg.DescribeProducersRequestTopic) bool { return a.topic(opRead, t.Topic) },
			func(r *kmsg.DescribeProducersResponse, t kmsg.DescribeProducersRequestTopic) {
				rt := kmsg.NewDescribeProducersResponseTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewDescribeProducersResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p, topicDenied
					rt.Partitions = append(rt.Partitions, rp)
				}
				r.Topics = append(r.Topics, rt)
			}),
		75: guardDescribeTopicPartitions,
	}
}

// guardMetadata: Describe on each topic; to create one on first use, Create on it or on the cluster. Those who ask for all topics
// see the ones they may; a topic by id that they may not see does not exist.
func guardMetadata(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	q := req.(*kmsg.MetadataRequest)
	if q.Topics == nil || q.Version == 0 && len(q.Topics) == 0 {
		return only[*kmsg.MetadataRequest](func(r *kmsg.MetadataResponse) *[]kmsg.MetadataResponseTopic { return &r.Topics },
			func(a access, t *kmsg.MetadataResponseTopic) bool {
				return t.Topic == nil || a.topic(opDescribe, *t.Topic)
			})(a, req)
	}
	kept, denied := split(q.Topics, func(t *kmsg.MetadataRequestTopic) bool {
		if byID(t) {
			return a.topicByID(opDescribe, t.TopicID)
		}
		mayCreate := !q.AllowAutoTopicCreation || a.b.topic(*t.Topic) != nil || a.cluster(opCreate) || a.topic(opCreate, *t.Topic)
		return mayCreate && a.topic(opDescribe, *t.Topic)
	})
	q.Topics = kept
	return nil, func(resp kmsg.Response) {
		r := resp.(*kmsg.MetadataResponse)
		if len(kept) == 0 {
			r.Topics = nil // an empty list of version 0 asked for all
		}
		for _, t := range denied {
			if byID(&t) {
				r.Topics = append(r.Topics, missingTopic(nil, t.TopicID, kerr.UnknownTopicID.Code))
				continue
			}
			r.Topics = append(r.Topics, missingTopic(t.Topic, t.TopicID, topicDenied))
		}
	}
}

// guardDescribeTopicPartitions: Describe on each topic; no topics mean those that the client may see.
func guardDescribeTopicPartitions(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	q := req.(*kmsg.DescribeTopicPartitionsRequest)
	if len(q.Topics) == 0 {
		for _, t := range a.b.listedTopics() {
			if a.topic(opDescribe, t.Name) {
				q.Topics = append(q.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: t.Name})
			}
		}
		if len(q.Topics) == 0 {
			return kmsg.NewPtrDescribeTopicPartitionsResponse(), nil
		}
		return nil, nil
	}
	kept, denied := split(q.Topics, func(t *kmsg.DescribeTopicPartitionsRequestTopic) bool { return a.topic(opDescribe, t.Topic) })
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	add := func(r kmsg.Response) {
		for _, t := range denied {
			rt := kmsg.NewDescribeTopicPartitionsResponseTopic()
			rt.Topic, rt.ErrorCode, rt.AuthorizedOperations = kmsg.StringPtr(t.Topic), topicDenied, noOperations
			r.(*kmsg.DescribeTopicPartitionsResponse).Topics = append(r.(*kmsg.DescribeTopicPartitionsResponse).Topics, rt)
		}
	}
	if q.Topics = kept; len(kept) == 0 {
		add(resp)
		return resp, nil
	}
	return nil, add
}

// guardCreateTopics: Create on the cluster or on the topic.
func guardCreateTopics(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	return each(func(q *kmsg.CreateTopicsRequest) *[]kmsg.CreateTopicsRequestTopic { return &q.Topics },
		func(a access, t *kmsg.CreateTopicsRequestTopic) bool {
			return a.cluster(opCreate) || a.topic(opCreate, t.Topic)
		},
		func(r *kmsg.CreateTopicsResponse, t kmsg.CreateTopicsRequestTopic) {
			rt := kmsg.NewCreateTopicsResponseTopic()
			rt.Topic, rt.ErrorCode, rt.ErrorMessage = t.Topic, topicDenied, kmsg.StringPtr("Authorization failed.")
			rt.NumPartitions, rt.ReplicationFactor = -1, -1
			if !slices.ContainsFunc(r.Topics, func(o kmsg.CreateTopicsResponseTopic) bool { return o.Topic == t.Topic }) {
				r.Topics = append(r.Topics, rt)
			}
		})(a, req)
}

// hideCreatedConfigs: what a created topic is like is told to those with DescribeConfigs on it.
func hideCreatedConfigs(a access, _ kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	return nil, func(resp kmsg.Response) {
		r := resp.(*kmsg.CreateTopicsResponse)
		for i := range r.Topics {
			if t := &r.Topics[i]; t.ErrorCode == 0 && !a.topic(opDescribeConfigs, t.Topic) {
				t.ConfigErrorCode, t.Configs, t.NumPartitions, t.ReplicationFactor = topicDenied, nil, -1, -1
			}
		}
	}
}

// guardDeleteTopicNames: Delete on each topic, up to version 5.
func guardDeleteTopicNames(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	return each(func(q *kmsg.DeleteTopicsRequest) *[]string { return &q.TopicNames },
		func(a access, name *string) bool { return a.topic(opDelete, *name) },
		func(r *kmsg.DeleteTopicsResponse, name string) {
			rt := kmsg.NewDeleteTopicsResponseTopic()
			rt.Topic, rt.ErrorCode = kmsg.StringPtr(name), topicDenied
			r.Topics = append(r.Topics, rt)
		})(a, req)
}

// guardDeleteTopics: the same from version 6 on. The name of a topic by id is told to those with Describe on it.
func guardDeleteTopics(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
	return each(func(q *kmsg.DeleteTopicsRequest) *[]kmsg.DeleteTopicsRequestTopic { return &q.Topics },
		func(a access, t *kmsg.DeleteTopicsRequestTopic) bool {
			if t.Topic != nil {
				return a.topic(opDelete, *t.Topic)
			}
			return a.topicByID(opDelete, t.TopicID)
		},
		func(r *kmsg.DeleteTopicsResponse, t kmsg.DeleteTopicsRequestTopic) {
			rt := kmsg.NewDeleteTopicsResponseTopic()
			rt.Topic, rt.TopicID, rt.ErrorCode = t.Topic, t.TopicID, topicDenied
			if name, ok := a.b.topicName(t.TopicID); t.Topic == nil && ok && a.topic(opDescribe, name) {
				rt.Topic = kmsg.StringPtr(name)
			}
			r.Topics = append(r.Topics, rt)
		})(a, req)
}

// authorizeProduce notes what the client may not do: Write on each topic and, if a batch is transactional, whatever the request
// says about itself (CVE-2018-17196), Write on the transactional id.
func (b *Broker) authorizeProduce(c *conn, req *produceRequest) {
	if b.authorizer == nil || c.who.trusted {
		return
	}
	a := access{b, c}
	for i := range req.topics {
		t := &req.topics[i]
		name := t.name
		if t.topic != nil {
			name = t.topic.Name
		}
		t.denied = (t.topic != nil || req.version < 13) && !a.topic(opWrite, name)
	}
	transactional := slices.ContainsFunc(req.parts, func(p producePart) bool {
		return len(p.records) >= record.HeaderBytes && record.Batch(p.records).Transactional()
	})
	req.denied = transactional && req.transactional != nil && !a.txn(opWrite, string(req.transactional))
}

// authorizeFetch answers for the topics that the client may not Read. The broker's own metadata, which Kafka's brokers let nobody
// fetch, has the credentials of all users in it: a Read of every topic is no Read of that one, it takes ClusterAction on the cluster, too.
// byName: topics are asked for by name, as below v13; an id that no topic has is UNKNOWN_TOPIC_ID.
func (b *Broker) authorizeFetch(c *conn, table *topicTable, req *fetchRequest, byName bool) {
	if b.authorizer == nil || c.who.trusted {
		return
	}
	a, parts := access{b, c}, req.parts
	for i := range req.topics {
		ft := &req.topics[i]
		name := ft.name
		t := table.byID[ft.id]
		if name == "" && t != nil {
			name = t.Name
		}
		if (byName || name != "") && (!a.topic(opRead, name) || name == metadataTopic && !a.cluster(opClusterAction)) {
			for j := range parts[:ft.count] {
				parts[j].code, parts[j].log, req.failed = topicDenied, nil, true
			}
		}
		parts = parts[ft.count:]
	}
}
