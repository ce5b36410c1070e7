package txnclient

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// StableOffsets returns what a group has committed of all partitions of topics, -1 where it has nothing. While a transaction that
// commits offsets of them is open it is [kerr.UnstableOffsetCommit], which is retriable (KIP-447).
//
// kadm's FetchOffsets asks for whatever the group has committed, and Apache Kafka (4.3.1) then answers with the partitions that were
// committed before: one whose very first commit is pending is left out, and taken for one that nobody has read. Here each is named.
func StableOffsets(ctx context.Context, cl *kgo.Client, group string, topics ...string) (kadm.Offsets, error) {
	offsets := kadm.Offsets{}
	if len(topics) == 0 {
		return offsets, nil
	}
	listed, err := kadm.NewClient(cl).ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list the partitions of %v: %w", topics, err)
	}
	asked := kmsg.NewOffsetFetchRequestGroup()
	asked.Group = group
	for _, t := range listed.Sorted() {
		if t.Err != nil {
			return nil, fmt.Errorf("list the partitions of %s: %w", t.Topic, t.Err)
		}
		named := kmsg.NewOffsetFetchRequestGroupTopic()
		named.Topic, named.TopicID, named.Partitions = t.Topic, t.ID, t.Partitions.Numbers()
		asked.Topics = append(asked.Topics, named)
		for _, p := range named.Partitions {
			offsets.AddOffset(t.Topic, p, -1, -1)
		}
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Groups, req.RequireStable = append(req.Groups, asked), true
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("the offsets of group %s: %w", group, err)
	}
	for _, g := range resp.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil && g.ErrorCode != kerr.GroupIDNotFound.Code { // which has committed nothing
			return nil, fmt.Errorf("the offsets of group %s: %w", group, err)
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, fmt.Errorf("the offset of group %s for %s/%d: %w", group, t.Topic, p.Partition, err)
				}
				o := kadm.Offset{Topic: t.Topic, TopicID: t.TopicID, Partition: p.Partition, At: p.Offset, LeaderEpoch: p.LeaderEpoch}
				if p.Metadata != nil {
					o.Metadata = *p.Metadata
				}
				offsets.Add(o)
			}
		}
	}
	return offsets, nil
}
