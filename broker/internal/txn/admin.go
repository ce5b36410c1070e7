package txn

import (
	"cmp"
	"regexp"
	"slices"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shown is what administrators see of an id: a transaction is complete for them when its markers are on disk, and so its records
// visible to consumers.
func (t *transaction) shown() record {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.settled != nil && t.rec.state != Ongoing {
		return t.stored
	}
	return t.rec
}

// Describe serves DescribeTransactions for one id.
func (c *Coordinator) Describe(id string) kmsg.DescribeTransactionsResponseTransactionState {
	resp := kmsg.NewDescribeTransactionsResponseTransactionState()
	resp.TransactionalID = id
	if id == "" {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp
	}
	t := c.get(id)
	if t == nil {
		resp.ErrorCode = kerr.TransactionalIDNotFound.Code
		return resp
	}
	r := t.shown()
	resp.State = r.state.String()
	resp.ProducerID, resp.ProducerEpoch = r.producerID, r.epoch
	resp.TimeoutMillis = int32(r.timeout.Milliseconds())
	resp.StartTimestamp = r.startMs
	for _, tp := range r.partitions {
		if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != tp.Topic {
			rt := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
			rt.Topic = tp.Topic
			resp.Topics = append(resp.Topics, rt)
		}
		rt := &resp.Topics[len(resp.Topics)-1]
		rt.Partitions = append(rt.Partitions, tp.Partition)
	}
	return resp
}

// List serves ListTransactions. Filters that are empty let everything pass; states that do not exist are named in the answer.
func (c *Coordinator) List(req *kmsg.ListTransactionsRequest) *kmsg.ListTransactionsResponse {
	resp := kmsg.NewPtrListTransactionsResponse()
	for _, s := range req.StateFilters {
		if !knownState(s) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, s)
		}
	}
	var pattern *regexp.Regexp // whole ids, and the syntax is RE2's, as in Kafka
	if p := req.TransactionalIDPattern; req.Version >= 2 && p != nil && *p != "" {
		var err error
		if pattern, err = regexp.Compile("^(?:" + *p + ")$"); err != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			return resp
		}
	}
	now := time.Now().UnixMilli()
	for _, t := range c.all() {
		r := t.shown()
		switch {
		case r.producerID == none, pattern != nil && !pattern.MatchString(t.id),
			len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, r.state.String()),
			len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, r.producerID),
			req.Version >= 1 && req.DurationFilterMillis >= 0 && now-cmp.Or(max(r.startMs, 0), r.updatedMs) <= req.DurationFilterMillis: // also of those that have ended
			continue
		}
		s := kmsg.NewListTransactionsResponseTransactionState()
		s.TransactionalID, s.ProducerID, s.TransactionState = t.id, r.producerID, r.state.String()
		resp.TransactionStates = append(resp.TransactionStates, s)
	}
	sort.Slice(resp.TransactionStates, func(i, j int) bool {
		return resp.TransactionStates[i].TransactionalID < resp.TransactionStates[j].TransactionalID
	})
	return resp
}

func knownState(name string) bool {
	for s := Empty; s <= CompleteAbort; s++ {
		if s.String() == name {
			return true
		}
	}
	return name == "Dead" || name == "PrepareEpochFence"
}
