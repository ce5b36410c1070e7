package broker

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/internal/vfs"
)

// history is what concurrent clients did and saw, with the times between which it happened.
type history struct {
	began time.Time

	mu  sync.Mutex // protects following fields
	ops []porcupine.Operation
}

// note runs f, which returns what it saw, as an operation of a client.
func (h *history) note(client int, input any, f func() any) {
	call := time.Since(h.began).Nanoseconds()
	output := f()
	op := porcupine.Operation{ClientId: client, Input: input, Call: call, Output: output, Return: time.Since(h.began).Nanoseconds()}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

func (h *history) check(t *testing.T, m porcupine.Model) {
	t.Helper()
	switch porcupine.CheckOperationsTimeout(m, h.ops, 30*time.Second) {
	case porcupine.Illegal:
		t.Errorf("no order of these %d operations explains what was seen: %+v", len(h.ops), h.ops)
	case porcupine.Unknown:
		t.Logf("%d operations: not decided in 30 s", len(h.ops))
	}
}

// pair is what a group has committed for two partitions.
type pair [2]int64

// offsetOp reads what a group has committed, or commits it: both partitions at once.
type offsetOp struct {
	group string
	write *pair // nil: read
}

// offsetModel takes a group for a register.
var offsetModel = porcupine.Model{
	Partition: byGroup,
	Init:      func() any { return pair{-1, -1} },
	Step: func(state, input, output any) (bool, any) {
		if w := input.(offsetOp).write; w != nil {
			return true, *w
		}
		return output.(pair) == state.(pair), state
	},
}

func byGroup(ops []porcupine.Operation) [][]porcupine.Operation {
	groups := map[string][]porcupine.Operation{}
	for _, op := range ops {
		group := op.Input.(offsetOp).group
		groups[group] = append(groups[group], op)
	}
	var out [][]porcupine.Operation
	for _, ops := range groups {
		out = append(out, ops)
	}
	return out
}

// Committed offsets, plain ones and those of transactions of both versions, are registers to clients that commit and read at the same time:
// each read sees one commit whole, the latest, and never one of an aborted transaction.
func TestOffsetsAreLinearizable(t *testing.T) {
	b := startWith(t, Config{Dir: "/data", FS: vfs.NewMem()})
	createTopic(t, b, "t", 2)
	h := &history{began: time.Now()}
	var clients sync.WaitGroup
	for client := range 6 {
		r := dialRaw(t, b)
		rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
		w := &txnWriter{r: r, id: fmt.Sprint("x", client), version: 1 + client%2}
		w.begin()
		clients.Go(func() {
			for n := range int64(40) {
				group := []string{"plain", "in transactions"}[rng.IntN(2)]
				value := pair{int64(client)*1000 + n, int64(client)*1000 + n + 500}
				switch {
				case rng.IntN(2) == 0:
					h.note(client, offsetOp{group, nil}, func() any { return readPair(r, group) })
				case group == "plain":
					h.note(client, offsetOp{group, &value}, func() any { commitPair(r, group, value); return nil })
				case rng.IntN(3) == 0:
					w.transact(group, value, false) // nobody may see it
				default:
					h.note(client, offsetOp{group, &value}, func() any { w.transact(group, value, true); return nil })
				}
			}
		})
	}
	clients.Wait()
	h.check(t, offsetModel)
}

// readPair asks for stable offsets until they are.
func readPair(r *raw, group string) pair {
	for {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Group, req.RequireStable = group, true
		req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}
		ps := do[*kmsg.OffsetFetchResponse](r, req, 7).Topics[0].Partitions
		if ps[0].ErrorCode == 0 && ps[1].ErrorCode == 0 {
			return pair{ps[0].Offset, ps[1].Offset}
		}
		for _, p := range ps {
			if p.ErrorCode != 0 && p.ErrorCode != kerr.UnstableOffsetCommit.Code {
				r.t.Errorf("read of %s: %v", group, kerr.ErrorForCode(p.ErrorCode))
				return pair{}
			}
		}
	}
}

func commitPair(r *raw, group string, value pair) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	rt := kmsg.OffsetCommitRequestTopic{Topic: "t"}
	for p, offset := range value {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = int32(p), offset
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	for _, p := range do[*kmsg.OffsetCommitResponse](r, req, 8).Topics[0].Partitions {
		if p.ErrorCode != 0 {
			r.t.Errorf("commit: %v", kerr.ErrorForCode(p.ErrorCode))
		}
	}
}

// txnWriter commits offsets in transactions of version 1 or 2.
type txnWriter struct {
	r       *raw
	id      string
	version int
	pid     int64
	epoch   int16
}

func (w *txnWriter) begin() {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &w.id, 600_000
	resp := do[*kmsg.InitProducerIDResponse](w.r, req, 4)
	w.ok("init", resp.ErrorCode)
	w.pid, w.epoch = resp.ProducerID, resp.ProducerEpoch
}

func (w *txnWriter) ok(what string, code int16) {
	if code != 0 {
		w.r.t.Errorf("%s: %s: %v", w.id, what, kerr.ErrorForCode(code))
	}
}

// again repeats what a client repeats: a request that came before the last transaction's markers were written.
func (w *txnWriter) again(what string, f func() int16) {
	for {
		if code := f(); code != kerr.ConcurrentTransactions.Code {
			w.ok(what, code)
			return
		}
	}
}

func (w *txnWriter) transact(group string, value pair, commit bool) {
	offsets, end := int16(5), int16(5)
	if w.version == 1 {
		offsets, end = 3, 3
		w.again("add", func() int16 {
			req := kmsg.NewPtrAddOffsetsToTxnRequest()
			req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = w.id, w.pid, w.epoch, group
			return do[*kmsg.AddOffsetsToTxnResponse](w.r, req, 3).ErrorCode
		})
	}
	w.again("offsets", func() int16 {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = w.id, w.pid, w.epoch, group, -1
		rt := kmsg.TxnOffsetCommitRequestTopic{Topic: "t"}
		for p, offset := range value {
			rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset = int32(p), offset
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
		return do[*kmsg.TxnOffsetCommitResponse](w.r, req, offsets).Topics[0].Partitions[0].ErrorCode
	})
	w.again("end", func() int16 {
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = w.id, w.pid, w.epoch, commit
		resp := do[*kmsg.EndTxnResponse](w.r, req, end)
		if w.version == 2 && resp.ErrorCode == 0 {
			w.pid, w.epoch = resp.ProducerID, resp.ProducerEpoch
		}
		return resp.ErrorCode
	})
}

// logOp appends a record to a partition, with acks as given, or asks where it ends.
type logOp struct {
	partition int32
	acks      int16 // 0: asks
}

// logModel takes a partition for a queue of which the length is known: an append returns the length before it.
var logModel = porcupine.Model{
	Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
		out := make([][]porcupine.Operation, 2)
		for _, op := range ops {
			p := op.Input.(logOp).partition
			out[p] = append(out[p], op)
		}
		return out
	},
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		if input.(logOp).acks != 0 {
			return output == state, state.(int64) + 1
		}
		return output == state, state
	},
}

// A partition is a queue to clients that append and look at the same time: offsets have no gaps and no doubles, and whoever asks for the
// end sees every append that was answered, of acks=1 too.
func TestAppendsAreLinearizable(t *testing.T) {
	b := startWith(t, Config{Dir: "/data", FS: vfs.NewMem()})
	createTopic(t, b, "t", 2)
	h := &history{began: time.Now()}
	var clients sync.WaitGroup
	for client := range 6 {
		r := dialRaw(t, b)
		rng := rand.New(rand.NewPCG(rand.Uint64(), 2))
		clients.Go(func() {
			for range 60 {
				op := logOp{int32(rng.IntN(2)), int16(rng.IntN(3) - 1)}
				h.note(client, op, func() any {
					if op.acks == 0 {
						return endOf(r, op.partition)
					}
					rp := do[*kmsg.ProduceResponse](r, produceRequest1("t", op.partition, op.acks, batch("x")), 9).Topics[0].Partitions[0]
					if rp.ErrorCode != 0 {
						r.t.Errorf("append: %v", kerr.ErrorForCode(rp.ErrorCode))
					}
					return rp.BaseOffset
				})
			}
		})
	}
	clients.Wait()
	h.check(t, logModel)
}

func endOf(r *raw, partition int32) int64 {
	req := kmsg.NewPtrListOffsetsRequest()
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp = partition, tsLatest
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{rp}}}
	return do[*kmsg.ListOffsetsResponse](r, req, 7).Topics[0].Partitions[0].Offset
}

// The models refuse what must not happen.
func TestHistoriesThatAreRefused(t *testing.T) {
	written := &pair{1, 2}
	for what, c := range map[string]struct {
		m   porcupine.Model
		ops []porcupine.Operation
	}{
		"a read of half a commit": {offsetModel, []porcupine.Operation{{Input: offsetOp{"g", written}, Call: 1, Return: 2}, {Input: offsetOp{"g", nil}, Output: pair{1, -1}, Call: 1, Return: 3}}},
		"a stale read":            {offsetModel, []porcupine.Operation{{Input: offsetOp{"g", written}, Call: 1, Return: 2}, {Input: offsetOp{"g", nil}, Output: pair{-1, -1}, Call: 3, Return: 4}}},
		"an offset twice":         {logModel, []porcupine.Operation{{Input: logOp{0, -1}, Output: int64(0), Call: 1, Return: 3}, {Input: logOp{0, -1}, Output: int64(0), Call: 2, Return: 4}}},
		"an append not seen":      {logModel, []porcupine.Operation{{Input: logOp{0, 1}, Output: int64(0), Call: 1, Return: 2}, {Input: logOp{0, 0}, Output: int64(0), Call: 3, Return: 4}}},
	} {
		if porcupine.CheckOperations(c.m, c.ops) {
			t.Errorf("%s is taken for right", what)
		}
	}
}
