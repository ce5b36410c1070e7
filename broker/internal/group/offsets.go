package group

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/journal"
)

// Exists says whether a partition exists; commits for others are refused.
type Exists func(topic string, partition int32) bool

// Commit serves OffsetCommit. The answer waits for the disk.
func (c *Coordinator) Commit(req *kmsg.OffsetCommitRequest, exists Exists) Pending[*kmsg.OffsetCommitResponse] {
	g, err := c.lockForCommit(req)
	if err != nil {
		return known(commitResponse(req, err))
	}
	defer g.mu.Unlock()
	err = g.mayCommitLocked(req.MemberID, req.InstanceID, req.Generation, false, commitsOf(req, exists))
	if (err == nil || err == kerr.StaleMemberEpoch) && req.Version < 9 && g.consumer != nil && !g.consumer.Classic(req.MemberID) && !(req.Generation < 0 && g.emptyLocked()) {
		err = kerr.UnsupportedVersion // members commit with versions that know what epochs are
	}
	if err != nil {
		return known(commitResponse(req, err))
	}
	resp := commitResponse(req, nil)
	batch := g.newBatch()
	now := time.Now().UnixMilli()
	for i := range req.Topics {
		rt := &req.Topics[i]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			o := committed{offset: rp.Offset, leaderEpoch: rp.LeaderEpoch, commitMs: now, expireMs: -1}
			if req.Version < 6 {
				o.leaderEpoch = -1
			}
			if req.Version == 1 && rp.Timestamp >= 0 {
				o.commitMs = rp.Timestamp
			}
			if req.Version >= 2 && req.Version <= 4 && req.RetentionTimeMillis >= 0 {
				o.expireMs = now + req.RetentionTimeMillis
			}
			resp.Topics[i].Partitions[j].ErrorCode = codeOf(batch.add(rt.Topic, rp.Partition, rp.Metadata, o, exists))
		}
	}
	if len(batch.entries) == 0 {
		return known(resp)
	}
	end, aerr := g.append(batch.entries)
	if aerr != nil {
		return known(commitResponse(req, storageError(aerr)))
	}
	for i, o := range batch.at(end) {
		g.offsets[batch.tps[i]] = o
	}
	return durable(c, resp, end, func() { failCommit(resp) })
}

// commitsOf are the partitions of a request that exist.
func commitsOf(req *kmsg.OffsetCommitRequest, exists Exists) iter.Seq2[string, int32] {
	return func(yield func(string, int32) bool) {
		for i := range req.Topics {
			for _, p := range req.Topics[i].Partitions {
				if t := req.Topics[i].Topic; exists(t, p.Partition) && !yield(t, p.Partition) {
					return
				}
			}
		}
	}
}

func failCommit(resp *kmsg.OffsetCommitResponse) {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			resp.Topics[i].Partitions[j].ErrorCode = kerr.CoordinatorNotAvailable.Code
		}
	}
}

// storageError is what a client is told when the journal refuses: that its producer is fenced, or has no transaction, and else something
// to try again, later or at another broker.
func storageError(err error) *kerr.Error {
	ke, ok := errors.AsType[*kerr.Error](err)
	if !ok {
		return kerr.CoordinatorNotAvailable
	}
	switch ke {
	case kerr.KafkaStorageError, kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition, kerr.MessageTooLarge, kerr.RecordListTooLarge:
		return kerr.CoordinatorNotAvailable
	}
	return ke
}

func (c *Coordinator) lockForCommit(req *kmsg.OffsetCommitRequest) (*group, *kerr.Error) {
	simple := req.Generation < 0
	g, err := c.lock(req.Group, simple)
	if g == nil && err == nil {
		err = kerr.IllegalGeneration
		if req.Version >= 9 {
			err = kerr.GroupIDNotFound
		}
	}
	return g, err
}

// commitResponse answers every partition of the request with one error.
func commitResponse(req *kmsg.OffsetCommitRequest, err *kerr.Error) *kmsg.OffsetCommitResponse {
	resp := kmsg.NewPtrOffsetCommitResponse()
	for i := range req.Topics {
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic, t.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		for j := range req.Topics[i].Partitions {
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = req.Topics[i].Partitions[j].Partition, codeOf(err)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// mayCommitLocked checks who commits. Members need the right generation; others may only while the group has no members.
// Transactional commits are not held up by a rebalance: the transaction decides. partitions are what is committed.
func (g *group) mayCommitLocked(memberID string, instance *string, generation int32, transactional bool, partitions iter.Seq2[string, int32]) *kerr.Error {
	if generation < 0 && g.emptyLocked() {
		return nil
	}
	if transactional && generation < 0 && memberID == "" && instance == nil {
		return nil // a transaction need not say for whom it commits
	}
	if g.consumer != nil {
		return g.consumer.CheckCommit(memberID, generation, partitions, g.c.cfg.Cluster())
	}
	if generation >= 0 || memberID != "" || instance != nil {
		m, err := g.memberLocked(memberID, instance)
		if err != nil {
			return err
		}
		if generation != g.generation {
			return kerr.IllegalGeneration
		}
		g.touchLocked(m)
	} else if g.state != stateEmpty {
		return kerr.UnknownMemberID
	}
	if !transactional && g.state == stateCompleting {
		return kerr.RebalanceInProgress
	}
	return nil
}

// batch collects the offsets of one commit.
type batch struct {
	g       *group
	tps     []topicPartition
	offsets []committed
	entries []journal.Entry
}

func (g *group) newBatch() *batch { return &batch{g: g} }

func (b *batch) add(topic string, partition int32, metadata *string, o committed, exists Exists) *kerr.Error {
	if metadata != nil {
		o.metadata = *metadata
	}
	if len(o.metadata) > b.g.c.cfg.MaxMetadataBytes {
		return kerr.OffsetMetadataTooLarge
	}
	if topic == "" { // it was asked for by an id that nobody has
		return kerr.UnknownTopicID
	}
	if !exists(topic, partition) {
		return kerr.UnknownTopicOrPartition
	}
	tp := topicPartition{topic, partition}
	b.tps = append(b.tps, tp)
	b.offsets = append(b.offsets, o)
	b.entries = append(b.entries, journal.Entry{Key: offsetKey(b.g.id, tp), Value: offsetValue(o)})
	return nil
}

// at gives the offsets their places in the journal, whose end was end after their batch.
func (b *batch) at(end int64) []committed {
	for i := range b.offsets {
		b.offsets[i].at = end - int64(len(b.offsets)-i)
	}
	return b.offsets
}

// Fetch serves OffsetFetch of one group (v8+ asks for several). topics nil asks for all. A group that is not known is no error:
// its partitions have no offset. The answer tells nothing that is not on disk.
// A request that says which member it is from (v9) is refused with UNKNOWN_MEMBER_ID or STALE_MEMBER_EPOCH if a KIP-848 group does not
// know that member, or in another epoch.
func (c *Coordinator) Fetch(id string, memberID *string, epoch int32, topics []kmsg.OffsetFetchRequestGroupTopic, requireStable bool) Pending[*kmsg.OffsetFetchResponseGroup] {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = id
	g, err := c.lock(id, false)
	if err != nil {
		resp.ErrorCode = err.Code
		return known(&resp)
	}
	if g != nil {
		defer g.mu.Unlock()
	}
	if g != nil && g.consumer != nil && (memberID != nil || epoch >= 0) {
		who := ""
		if memberID != nil {
			who = *memberID
		}
		if err := g.consumer.Check(who, epoch); err != nil {
			resp.ErrorCode = err.Code
			return known(&resp)
		}
	}
	if topics == nil && g != nil {
		topics = g.topicsLocked(requireStable)
	}
	for i := range topics {
		t := kmsg.NewOffsetFetchResponseGroupTopic()
		t.Topic, t.TopicID = topics[i].Topic, topics[i].TopicID
		for _, partition := range topics[i].Partitions {
			p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			p.Partition = partition
			g.fetchLocked(topicPartition{t.Topic, partition}, requireStable, &p)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	if g == nil {
		return known(&resp)
	}
	return durable(c, &resp, g.end, func() { resp.ErrorCode = kerr.CoordinatorNotAvailable.Code })
}

// fetchLocked fills in one partition; g may be nil.
func (g *group) fetchLocked(tp topicPartition, requireStable bool, p *kmsg.OffsetFetchResponseGroupTopicPartition) {
	empty := ""
	p.Offset, p.LeaderEpoch, p.Metadata = -1, -1, &empty
	if tp.topic == "" { // it was asked for by an id that nobody has
		p.ErrorCode = kerr.UnknownTopicID.Code
		return
	}
	if g == nil {
		return
	}
	if requireStable && g.unstableLocked(tp) {
		p.ErrorCode = kerr.UnstableOffsetCommit.Code
		return
	}
	if o, ok := g.offsets[tp]; ok {
		p.Offset, p.LeaderEpoch, p.Metadata = o.offset, o.leaderEpoch, &o.metadata
	}
}

// topicsLocked lists everything the group has committed offsets for, in order. What is only pending is not committed; but who asks
// for what is stable is told of it, where Kafka is silent: the first commit of a partition would go unnoticed while it is on its way.
func (g *group) topicsLocked(requireStable bool) []kmsg.OffsetFetchRequestGroupTopic {
	tps := slices.Collect(maps.Keys(g.offsets))
	if requireStable {
		tps = slices.Collect(maps.Keys(g.allOffsetsLocked()))
	}
	sort.Slice(tps, func(i, j int) bool {
		if tps[i].topic != tps[j].topic {
			return tps[i].topic < tps[j].topic
		}
		return tps[i].partition < tps[j].partition
	})
	var topics []kmsg.OffsetFetchRequestGroupTopic
	for _, tp := range tps {
		if n := len(topics); n == 0 || topics[n-1].Topic != tp.topic {
			t := kmsg.NewOffsetFetchRequestGroupTopic()
			t.Topic = tp.topic
			topics = append(topics, t)
		}
		t := &topics[len(topics)-1]
		t.Partitions = append(t.Partitions, tp.partition)
	}
	return topics
}

// allOffsetsLocked are the partitions that have a committed offset, or one that a transaction has still to commit.
func (g *group) allOffsetsLocked() map[topicPartition]struct{} {
	all := make(map[topicPartition]struct{}, len(g.offsets))
	for tp := range g.offsets {
		all[tp] = struct{}{}
	}
	for _, open := range g.pending {
		for tp := range open {
			all[tp] = struct{}{}
		}
	}
	return all
}

// DeleteOffsets serves OffsetDelete. Offsets of topics that a member is subscribed to stay; partitions that do not exist have none.
func (c *Coordinator) DeleteOffsets(req *kmsg.OffsetDeleteRequest, exists Exists) Pending[*kmsg.OffsetDeleteResponse] {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return known(resp)
	}
	g, err := c.lock(req.Group, false)
	if g == nil {
		if err == nil {
			err = kerr.GroupIDNotFound
		}
		resp.ErrorCode = err.Code
		return known(resp)
	}
	defer g.mu.Unlock()
	if !g.emptyLocked() && g.protocolType != "consumer" {
		resp.ErrorCode = kerr.NonEmptyGroup.Code
		return known(resp)
	}
	subscribed, all := g.subscriptionsLocked()
	var gone []topicPartition
	for i := range req.Topics {
		t := kmsg.NewOffsetDeleteResponseTopic()
		t.Topic = req.Topics[i].Topic
		_, in := subscribed[t.Topic]
		for j := range req.Topics[i].Partitions {
			p := kmsg.NewOffsetDeleteResponseTopicPartition()
			p.Partition = req.Topics[i].Partitions[j].Partition
			switch {
			case !exists(t.Topic, p.Partition):
				p.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case in || all:
				p.ErrorCode = kerr.GroupSubscribedToTopic.Code
			default:
				gone = append(gone, topicPartition{t.Topic, p.Partition})
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	if err := g.forgetOffsetsLocked(gone); err != nil {
		resp.ErrorCode = storageError(err).Code
		return known(resp)
	}
	return durable(c, resp, g.end, func() { resp.ErrorCode = kerr.CoordinatorNotAvailable.Code })
}

// subscriptionsLocked are the topics that members read; all is true if that cannot be told.
func (g *group) subscriptionsLocked() (topics map[string]struct{}, all bool) {
	if g.consumer != nil {
		return g.consumer.Topics(), false
	}
	topics = map[string]struct{}{}
	if g.protocolType != "consumer" {
		return topics, len(g.members) > 0
	}
	for _, m := range g.members {
		for i := range m.protocols {
			sub := kmsg.NewConsumerMemberMetadata()
			if err := sub.ReadFrom(m.protocols[i].Metadata); err != nil {
				return topics, true
			}
			for _, t := range sub.Topics {
				topics[t] = struct{}{}
			}
		}
	}
	return topics, false
}

// forgetOffsetsLocked deletes offsets, with a tombstone for each that there is. Those that a transaction has still to commit go with
// them: they were for what is deleted, and would come back with its marker.
func (g *group) forgetOffsetsLocked(tps []topicPartition) error {
	var entries []journal.Entry
	for _, tp := range tps {
		if _, ok := g.offsets[tp]; ok || g.unstableLocked(tp) {
			entries = append(entries, journal.Entry{Key: offsetKey(g.id, tp)})
		}
	}
	if len(entries) == 0 {
		return nil
	}
	if _, err := g.append(entries); err != nil {
		return fmt.Errorf("delete %d offsets of group %s: %w", len(entries), g.id, err)
	}
	for _, tp := range tps {
		g.dropOffsetLocked(tp)
	}
	return nil
}

// dropOffsetLocked is what the tombstone of an offset does.
func (g *group) dropOffsetLocked(tp topicPartition) {
	delete(g.offsets, tp)
	for producerID, open := range g.pending {
		if delete(open, tp); len(open) == 0 {
			delete(g.pending, producerID)
		}
	}
}
