package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// adminGuards are those of the APIs about access, credentials, quotas and the cluster.
func adminGuards() map[int16]guard {
	return map[int16]guard{
		29: onCluster(opDescribe, func(_ *kmsg.DescribeACLsRequest, code int16) kmsg.Response {
			return &kmsg.DescribeACLsResponse{ErrorCode: code}
		}),
		30: onCluster(opAlter, func(q *kmsg.CreateACLsRequest, code int16) kmsg.Response {
			r := kmsg.NewPtrCreateACLsResponse()
			for range q.Creations {
				r.Results = append(r.Results, kmsg.CreateACLsResponseResult{ErrorCode: code})
			}
			return r
		}),
		31: onCluster(opAlter, func(q *kmsg.DeleteACLsRequest, code int16) kmsg.Response {
			r := kmsg.NewPtrDeleteACLsResponse()
			for range q.Filters {
				r.Results = append(r.Results, kmsg.DeleteACLsResponseResult{ErrorCode: code})
			}
			return r
		}),
		34: onCluster(opAlter, denyAlterLogDirs),
		35: onCluster(opDescribe, func(_ *kmsg.DescribeLogDirsRequest, code int16) kmsg.Response {
			return &kmsg.DescribeLogDirsResponse{ErrorCode: code}
		}),
		43: onCluster(opAlter, denyElectLeaders),
		45: onCluster(opAlter, func(_ *kmsg.AlterPartitionAssignmentsRequest, code int16) kmsg.Response {
			return &kmsg.AlterPartitionAssignmentsResponse{ErrorCode: code}
		}),
		46: onCluster(opDescribe, func(_ *kmsg.ListPartitionReassignmentsRequest, code int16) kmsg.Response {
			return &kmsg.ListPartitionReassignmentsResponse{ErrorCode: code}
		}),
		48: onCluster(opDescribeConfigs, func(_ *kmsg.DescribeClientQuotasRequest, code int16) kmsg.Response {
			return &kmsg.DescribeClientQuotasResponse{ErrorCode: code}
		}),
		49: onCluster(opAlterConfigs, func(q *kmsg.AlterClientQuotasRequest, code int16) kmsg.Response {
			r := kmsg.NewPtrAlterClientQuotasResponse()
			for _, e := range q.Entries {
				r.Entries = append(r.Entries, quotaResult(e, code, nil))
			}
			return r
		}),
		50: onCluster(opDescribe, func(_ *kmsg.DescribeUserSCRAMCredentialsRequest, code int16) kmsg.Response {
			return &kmsg.DescribeUserSCRAMCredentialsResponse{ErrorCode: code}
		}),
		51: onCluster(opAlter, func(q *kmsg.AlterUserSCRAMCredentialsRequest, code int16) kmsg.Response {
			r := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
			for _, d := range q.Deletions {
				r.Results = append(r.Results, kmsg.AlterUserSCRAMCredentialsResponseResult{User: d.Name, ErrorCode: code})
			}
			for _, u := range q.Upsertions {
				r.Results = append(r.Results, kmsg.AlterUserSCRAMCredentialsResponseResult{User: u.Name, ErrorCode: code})
			}
			return r
		}),
		55: onCluster(opDescribe, func(_ *kmsg.DescribeQuorumRequest, code int16) kmsg.Response {
			return &kmsg.DescribeQuorumResponse{ErrorCode: code}
		}),
		57: onCluster(opAlter, func(_ *kmsg.UpdateFeaturesRequest, code int16) kmsg.Response {
			return &kmsg.UpdateFeaturesResponse{ErrorCode: code}
		}),
	}
}

// denyElectLeaders answers with the error in every partition, too: version 0 has no other place for it.
func denyElectLeaders(q *kmsg.ElectLeadersRequest, code int16) kmsg.Response {
	r := &kmsg.ElectLeadersResponse{ErrorCode: code}
	for _, t := range q.Topics {
		et := kmsg.ElectLeadersResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			et.Partitions = append(et.Partitions, kmsg.ElectLeadersResponseTopicPartition{Partition: p, ErrorCode: code})
		}
		r.Topics = append(r.Topics, et)
	}
	return r
}

// configGuards are those of the APIs about configurations.
func configGuards() map[int16]guard {
	return map[int16]guard{
		32: each(func(q *kmsg.DescribeConfigsRequest) *[]kmsg.DescribeConfigsRequestResource { return &q.Resources },
			func(a access, res *kmsg.DescribeConfigsRequestResource) bool {
				return a.configs(opDescribeConfigs, res.ResourceType, res.ResourceName)
			},
			func(r *kmsg.DescribeConfigsResponse, res kmsg.DescribeConfigsRequestResource) {
				rr := kmsg.NewDescribeConfigsResponseResource()
				rr.ResourceType, rr.ResourceName, rr.ErrorCode = res.ResourceType, res.ResourceName, configsDenied(res.ResourceType)
				r.Resources = append(r.Resources, rr)
			}),
		33: each(func(q *kmsg.AlterConfigsRequest) *[]kmsg.AlterConfigsRequestResource { return &q.Resources },
			func(a access, res *kmsg.AlterConfigsRequestResource) bool {
				return a.configs(opAlterConfigs, res.ResourceType, res.ResourceName)
			},
			func(r *kmsg.AlterConfigsResponse, res kmsg.AlterConfigsRequestResource) {
				rr := kmsg.NewAlterConfigsResponseResource()
				rr.ResourceType, rr.ResourceName, rr.ErrorCode = res.ResourceType, res.ResourceName, configsDenied(res.ResourceType)
				r.Resources = append(r.Resources, rr)
			}),
		44: each(func(q *kmsg.IncrementalAlterConfigsRequest) *[]kmsg.IncrementalAlterConfigsRequestResource {
			return &q.Resources
		},
			func(a access, res *kmsg.IncrementalAlterConfigsRequestResource) bool {
				return a.configs(opAlterConfigs, res.ResourceType, res.ResourceName)
			},
			func(r *kmsg.IncrementalAlterConfigsResponse, res kmsg.IncrementalAlterConfigsRequestResource) {
				rr := kmsg.NewIncrementalAlterConfigsResponseResource()
				rr.ResourceType, rr.ResourceName, rr.ErrorCode = res.ResourceType, res.ResourceName, configsDenied(res.ResourceType)
				r.Resources = append(r.Resources, rr)
			}),
		74: onCluster(opDescribeConfigs, func(_ *kmsg.ListConfigResourcesRequest, code int16) kmsg.Response {
			return &kmsg.ListConfigResourcesResponse{ErrorCode: code}
		}),
	}
}

// configs reports whether the client may see or change the configurations of a resource.
func (a access) configs(op kmsg.ACLOperation, t kmsg.ConfigResourceType, name string) bool {
	switch t {
	case kmsg.ConfigResourceTypeTopic:
		return a.topic(op, name)
	case kmsg.ConfigResourceTypeGroupConfig:
		return a.group(op, name)
	}
	return a.cluster(op)
}

func configsDenied(t kmsg.ConfigResourceType) int16 {
	switch t {
	case kmsg.ConfigResourceTypeTopic:
		return topicDenied
	case kmsg.ConfigResourceTypeGroupConfig:
		return groupDenied
	}
	return clusterDenied
}

func denyAlterLogDirs(q *kmsg.AlterReplicaLogDirsRequest, code int16) kmsg.Response {
	r := kmsg.NewPtrAlterReplicaLogDirsResponse()
	for _, d := range q.Dirs {
		for _, t := range d.Topics {
			rt := kmsg.NewAlterReplicaLogDirsResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rt.Partitions = append(rt.Partitions, kmsg.AlterReplicaLogDirsResponseTopicPartition{Partition: p, ErrorCode: code})
			}
			r.Topics = append(r.Topics, rt)
		}
	}
	return r
}

// quotaResult answers for one entity of AlterClientQuotas.
func quotaResult(e kmsg.AlterClientQuotasRequestEntry, code int16, text *string) kmsg.AlterClientQuotasResponseEntry {
	r := kmsg.NewAlterClientQuotasResponseEntry()
	r.ErrorCode, r.ErrorMessage = code, text
	for _, part := range e.Entity {
		r.Entity = append(r.Entity, kmsg.AlterClientQuotasResponseEntryEntity{Type: part.Type, Name: part.Name})
	}
	return r
}
