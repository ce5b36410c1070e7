package group

import (
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/journal"
)

// CommitTxn serves TxnOffsetCommit: the offsets are written inside of the producer's transaction and stay pending until its
// marker comes. verify checks that transaction and runs where no marker can come between it and the append. The answer waits for
// the disk: a commit that follows it must find the offsets there.
func (c *Coordinator) CommitTxn(req *kmsg.TxnOffsetCommitRequest, exists Exists, verify func() error) Pending[*kmsg.TxnOffsetCommitResponse] {
	refuse := func(err *kerr.Error) Pending[*kmsg.TxnOffsetCommitResponse] {
		return known(TxnCommitResponse(req, err))
	}
	if req.Group == "" {
		return refuse(kerr.InvalidGroupID)
	}
	generation, memberID := req.Generation, req.MemberID
	if req.Version < 3 {
		generation, memberID = -1, ""
	}
	g, err := c.lock(req.Group, generation < 0)
	if err != nil {
		return refuse(err)
	}
	if g == nil {
		return refuse(kerr.IllegalGeneration)
	}
	defer g.mu.Unlock()
	if err := g.mayCommitLocked(memberID, req.InstanceID, generation, true, txnCommitsOf(req, exists)); err != nil {
		if err == kerr.StaleMemberEpoch && req.Version < 6 {
			err = kerr.IllegalGeneration // what clients of these versions know
		}
		return refuse(err)
	}
	resp := TxnCommitResponse(req, nil)
	batch := g.newBatch()
	now := time.Now().UnixMilli()
	for i := range req.Topics {
		rt := &req.Topics[i]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			o := committed{offset: rp.Offset, leaderEpoch: rp.LeaderEpoch, commitMs: now, expireMs: -1}
			if req.Version < 2 {
				o.leaderEpoch = -1
			}
			resp.Topics[i].Partitions[j].ErrorCode = codeOf(batch.add(rt.Topic, rp.Partition, rp.Metadata, o, exists))
		}
	}
	if len(batch.entries) == 0 {
		return known(resp)
	}
	// Known before it can be in the journal, so that the marker, which comes later in the journal, finds it.
	c.noteOpen(req.ProducerID, g.id)
	p := journal.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
	end, aerr := c.journal.AppendTxn(p, batch.entries, verify)
	if aerr != nil {
		return refuse(storageError(aerr))
	}
	g.end = max(g.end, end)
	for i, o := range batch.at(end) {
		g.addPendingLocked(req.ProducerID, batch.tps[i], o)
	}
	return durable(c, resp, g.end, func() { failTxnCommit(resp) })
}

// txnCommitsOf are the partitions of a request that exist.
func txnCommitsOf(req *kmsg.TxnOffsetCommitRequest, exists Exists) iter.Seq2[string, int32] {
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

func failTxnCommit(resp *kmsg.TxnOffsetCommitResponse) {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			resp.Topics[i].Partitions[j].ErrorCode = kerr.CoordinatorNotAvailable.Code
		}
	}
}

// TxnCommitResponse answers every partition of the request with one error, nil for none.
func TxnCommitResponse(req *kmsg.TxnOffsetCommitRequest, err *kerr.Error) *kmsg.TxnOffsetCommitResponse {
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	for i := range req.Topics {
		t := kmsg.NewTxnOffsetCommitResponseTopic()
		t.Topic, t.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		for j := range req.Topics[i].Partitions {
			p := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = req.Topics[i].Partitions[j].Partition, codeOf(err)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// noteOpen remembers that a producer's transaction has offsets in a group.
func (c *Coordinator) noteOpen(producerID int64, group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	groups := c.mu.open[producerID]
	if groups == nil {
		groups = map[string]struct{}{}
		c.mu.open[producerID] = groups
	}
	groups[group] = struct{}{}
}

func (g *group) addPendingLocked(producerID int64, tp topicPartition, o committed) {
	open := g.pending[producerID]
	if open == nil {
		open = map[topicPartition]committed{}
		g.pending[producerID] = open
	}
	open[tp] = o
}

// unstableLocked says whether an open transaction may still change a partition's offset.
func (g *group) unstableLocked(tp topicPartition) bool {
	for _, open := range g.pending {
		if _, ok := open[tp]; ok {
			return true
		}
	}
	return false
}

// ApplyMarker ends a producer's transaction: its offsets become visible, or are gone. It is to be called after the marker has
// been appended to the journal and before the producer can begin another transaction.
func (c *Coordinator) ApplyMarker(producerID int64, commit bool) {
	c.mu.Lock()
	groups := c.mu.open[producerID]
	delete(c.mu.open, producerID)
	c.mu.Unlock()
	for id := range groups {
		g, err := c.lock(id, false)
		if err != nil || g == nil {
			continue
		}
		g.endTxnLocked(producerID, commit)
		g.mu.Unlock()
	}
}

func (g *group) endTxnLocked(producerID int64, commit bool) {
	open := g.pending[producerID]
	delete(g.pending, producerID)
	if !commit {
		return
	}
	for tp, o := range open {
		if old, ok := g.offsets[tp]; !ok || old.at < o.at {
			g.offsets[tp] = o
		}
	}
}
