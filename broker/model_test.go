package broker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// world is a broker on a disk in memory, and beside it the simplest description of what has to be in it: for each partition the
// records that were acknowledged, in order; for each group the offset; for each transactional id what it is about.
type world struct {
	t  *rapid.T
	fs *vfs.Mem
	b  *Broker
	r  *raw

	parts   map[int32]*modelPart
	plain   map[modelWriter]*modelSequence
	pids    [2]int64 // of the idempotent producers
	txns    map[string]*modelTxn
	groups  map[string]int64
	written int
}

type modelPart struct {
	start   int64
	records []modelRecord
}

type modelRecord struct {
	offset int64
	value  string
	txn    *modelOutcome // nil outside of transactions
}

// modelOutcome is what became of a transaction.
type modelOutcome struct{ ended, committed bool }

type modelWriter struct {
	producer  int
	partition int32
}

type modelSequence struct {
	next       int32
	last       []byte // the last batch
	lastOffset int64
}

type modelTxn struct {
	id       string
	producer int64
	epoch    int16
	version  int             // of transactions: 1 adds partitions and keeps its epoch, 2 does neither
	next     map[int32]int32 // sequence by partition
	open     *modelOutcome   // nil: none
	added    map[int32]bool
	offset   int64 // committed within the open transaction, -1: none
}

const modelPartitions = 2

// rapidTB is what the helpers of tests need of one that rapid runs.
type rapidTB struct {
	testing.TB
	rt *rapid.T
}

func (r rapidTB) Helper()                           {}
func (r rapidTB) Fatal(args ...any)                 { r.rt.Fatal(args...) }
func (r rapidTB) Fatalf(format string, args ...any) { r.rt.Fatalf(format, args...) }
func (r rapidTB) Errorf(format string, args ...any) { r.rt.Errorf(format, args...) }
func (r rapidTB) Logf(format string, args ...any)   { r.rt.Logf(format, args...) }
func (r rapidTB) Context() context.Context          { return r.rt.Context() }
func (r rapidTB) Cleanup(f func())                  { r.rt.Cleanup(f) }

func (w *world) start() {
	b, err := Start(context.Background(), Config{Dir: "/data", FS: w.fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatalf("start: %v", err)
	}
	w.b = b
	w.r = dialRaw(rapidTB{rt: w.t}, b)
	_ = w.r.nc.SetDeadline(time.Now().Add(5 * time.Minute)) // one connection for the whole history
}

func (w *world) stop() {
	w.r.nc.Close()
	if err := w.b.Close(); err != nil {
		w.t.Fatalf("close: %v", err)
	}
}

func (w *world) ok(what string, code int16, want *kerr.Error) {
	if err := kerr.ErrorForCode(code); code != codeOf(want) {
		w.t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func codeOf(err *kerr.Error) int16 {
	if err == nil {
		return 0
	}
	return err.Code
}

func (w *world) initProducer(id *string) (int64, int16) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = id, 600_000
	resp := do[*kmsg.InitProducerIDResponse](w.r, req, 4)
	w.ok("init", resp.ErrorCode, nil)
	return resp.ProducerID, resp.ProducerEpoch
}

// produce sends one record and returns its offset.
func (w *world) produce(id *string, version int16, p int32, batch []byte, want *kerr.Error) int64 {
	req := produceRequest1("t", p, -1, slices.Clone(batch))
	req.TransactionID = id
	rp := do[*kmsg.ProduceResponse](w.r, req, version).Topics[0].Partitions[0]
	w.ok(fmt.Sprintf("produce to %d", p), rp.ErrorCode, want)
	return rp.BaseOffset
}

func (w *world) value() string {
	w.written++
	return fmt.Sprint("v", w.written)
}

func (w *world) batch(producer int64, epoch int16, sequence int32, transactional bool, value string) []byte {
	info := record.NoProducer()
	info.ProducerID, info.ProducerEpoch, info.BaseSequence, info.Transactional = producer, epoch, sequence, transactional
	return record.Build(info, []record.Record{{Value: []byte(value), Timestamp: time.Now().UnixMilli()}})
}

func (w *world) partition() int32 {
	return rapid.Int32Range(0, modelPartitions-1).Draw(w.t, "partition")
}

// idempotent sends the next record of an idempotent producer, the last one once more, or one too far ahead.
func (w *world) idempotent(*rapid.T) {
	key := modelWriter{rapid.IntRange(0, 1).Draw(w.t, "producer"), w.partition()}
	seq := w.plain[key]
	kind := "next"
	if seq == nil {
		seq = &modelSequence{}
		w.plain[key] = seq
	} else {
		kind = rapid.SampledFrom([]string{"next", "next", "again", "gap"}).Draw(w.t, "kind")
	}
	switch kind {
	case "next":
		value := w.value()
		seq.last = w.batch(w.pids[key.producer], 0, seq.next, false, value)
		seq.lastOffset = w.produce(nil, 9, key.partition, seq.last, nil)
		seq.next++
		part := w.parts[key.partition]
		part.records = append(part.records, modelRecord{seq.lastOffset, value, nil})
	case "again":
		if at := w.produce(nil, 9, key.partition, seq.last, nil); at != seq.lastOffset {
			w.t.Fatalf("the same batch is at %d, it was at %d", at, seq.lastOffset)
		}
	case "gap":
		w.produce(nil, 9, key.partition, w.batch(w.pids[key.producer], 0, seq.next+1, false, "gap"), kerr.OutOfOrderSequenceNumber)
	}
}

func (w *world) txn() *modelTxn {
	return w.txns[rapid.SampledFrom(slices.Sorted(maps.Keys(w.txns))).Draw(w.t, "id")]
}

// begin makes sure that a transaction is open.
func (x *modelTxn) begin() {
	if x.open == nil {
		x.open, x.added, x.offset = &modelOutcome{}, map[int32]bool{}, -1
	}
}

func (w *world) transact(*rapid.T) {
	x, p := w.txn(), w.partition()
	x.begin()
	version := int16(12)
	if x.version == 1 {
		version = 9
		if !x.added[p] {
			req := kmsg.NewPtrAddPartitionsToTxnRequest()
			req.TransactionalID, req.ProducerID, req.ProducerEpoch = x.id, x.producer, x.epoch
			req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{p}}}
			w.ok("add", do[*kmsg.AddPartitionsToTxnResponse](w.r, req, 3).Topics[0].Partitions[0].ErrorCode, nil)
		}
	}
	x.added[p] = true
	value := w.value()
	at := w.produce(&x.id, version, p, w.batch(x.producer, x.epoch, x.next[p], true, value), nil)
	x.next[p]++
	part := w.parts[p]
	part.records = append(part.records, modelRecord{at, value, x.open})
}

// zombie is a producer that has been fenced.
func (w *world) zombie(*rapid.T) {
	if x, p := w.txn(), w.partition(); x.epoch > 0 && x.open != nil && x.added[p] {
		w.produce(&x.id, 9, p, w.batch(x.producer, x.epoch-1, 0, true, "zombie"), kerr.InvalidProducerEpoch)
	}
}

func (w *world) commitInTxn(*rapid.T) {
	x := w.txn()
	x.begin()
	if x.version == 1 {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = x.id, x.producer, x.epoch, "g-"+x.id
		w.ok("add offsets", do[*kmsg.AddOffsetsToTxnResponse](w.r, req, 3).ErrorCode, nil)
	}
	x.offset = rapid.Int64Range(0, 1000).Draw(w.t, "offset")
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = x.id, "g-"+x.id, x.producer, x.epoch, -1
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset = x.offset
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{rp}}}
	version := int16(3)
	if x.version == 2 {
		version = 5
	}
	w.ok("commit in txn", do[*kmsg.TxnOffsetCommitResponse](w.r, req, version).Topics[0].Partitions[0].ErrorCode, nil)
}

func (w *world) end(*rapid.T) {
	x := w.txn()
	if x.open == nil {
		return
	}
	commit := rapid.Bool().Draw(w.t, "commit")
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = x.id, x.producer, x.epoch, commit
	version := int16(3)
	if x.version == 2 {
		version = 5
	}
	resp := do[*kmsg.EndTxnResponse](w.r, req, version)
	w.ok("end", resp.ErrorCode, nil)
	if x.version == 2 {
		x.producer, x.epoch, x.next = resp.ProducerID, resp.ProducerEpoch, map[int32]int32{}
	}
	w.ended(x, commit)
}

func (w *world) ended(x *modelTxn, commit bool) {
	if x.open == nil {
		return
	}
	x.open.ended, x.open.committed = true, commit
	if commit && x.offset >= 0 {
		w.groups["g-"+x.id] = x.offset
	}
	x.open = nil
}

// takeOver is a new producer with the id: what the old one left open is aborted.
func (w *world) takeOver(*rapid.T) {
	x := w.txn()
	x.producer, x.epoch = w.initProducer(&x.id)
	x.next = map[int32]int32{}
	x.version = rapid.IntRange(1, 2).Draw(w.t, "version")
	w.ended(x, false)
}

func (w *world) commit(*rapid.T) {
	offset := rapid.Int64Range(0, 1000).Draw(w.t, "offset")
	req := newCommit("g", "t", 0, offset)
	req.Generation = -1
	w.ok("commit", do[*kmsg.OffsetCommitResponse](w.r, req, 8).Topics[0].Partitions[0].ErrorCode, nil)
	w.groups["g"] = offset
}

func (w *world) deleteRecords(*rapid.T) {
	p := w.partition()
	part := w.parts[p]
	l, _ := w.b.partition("t", p)
	// Below open transactions only: what is deleted of them is nobody's concern here.
	to := rapid.Int64Range(part.start, l.Bounds().LastStable).Draw(w.t, "to")
	req := kmsg.NewPtrDeleteRecordsRequest()
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = p, to
	req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{rp}}}
	dp := do[*kmsg.DeleteRecordsResponse](w.r, req, 2).Topics[0].Partitions[0]
	w.ok("delete records", dp.ErrorCode, nil)
	if dp.LowWatermark != to {
		w.t.Fatalf("log start %d, asked for %d", dp.LowWatermark, to)
	}
	part.start = to
	part.records = slices.DeleteFunc(part.records, func(r modelRecord) bool { return r.offset < to })
}

func (w *world) restart(*rapid.T) {
	w.stop()
	w.start()
}

// crash is a power cut: what was acknowledged is all on disk.
func (w *world) crash(*rapid.T) {
	after := w.fs.CrashClone(0, nil)
	w.stop()
	w.fs = after
	w.start()
}

// check compares the broker with the description. Markers follow the answer that a transaction has ended, so it may take a moment.
func (w *world) check(*rapid.T) {
	var problem string
	eventually(rapidTB{rt: w.t}, "the broker is as described", func() bool {
		if problem = w.differs(); problem == "" {
			return true
		}
		return !w.unsettled() // then it is final
	})
	if problem != "" {
		if problem = w.differs(); problem != "" { // once more: it has settled between the two looks
			w.t.Fatal(problem)
		}
	}
}

// unsettled reports that a decided transaction waits for markers.
func (w *world) unsettled() bool {
	req := kmsg.NewPtrListTransactionsRequest()
	for _, s := range do[*kmsg.ListTransactionsResponse](w.r, req, 0).TransactionStates {
		if s.TransactionState == "PrepareCommit" || s.TransactionState == "PrepareAbort" {
			return true
		}
	}
	return false
}

func (w *world) differs() string {
	for p, part := range w.parts {
		stable := int64(1 << 62)
		for _, r := range part.records {
			if r.txn != nil && !r.txn.ended {
				stable = min(stable, r.offset)
			}
		}
		var all, committed []string
		for _, r := range part.records {
			text := fmt.Sprintf("%d=%s", r.offset, r.value)
			all = append(all, text)
			if r.offset < stable && (r.txn == nil || r.txn.committed) {
				committed = append(committed, text)
			}
		}
		for level, want := range [][]string{all, committed} {
			if got := w.fetch(p, part.start, int8(level)); !slices.Equal(got, want) {
				return fmt.Sprintf("partition %d at level %d:\nthere is %v\nexpected %v", p, level, got, want)
			}
		}
	}
	for group, want := range w.groups {
		if w.openOffset(group) != nil {
			continue // it is not stable
		}
		if got := fetchOffset(w.r, group, "t", 0); got != want {
			return fmt.Sprintf("group %s: offset %d, expected %d", group, got, want)
		}
	}
	return ""
}

// openOffset is the transaction that may still change a group's offset.
func (w *world) openOffset(group string) *modelTxn {
	for _, x := range w.txns {
		if "g-"+x.id == group && x.open != nil && x.offset >= 0 {
			return x
		}
	}
	return nil
}

// fetch reads a partition as a client does: it leaves out what the answer says was aborted.
func (w *world) fetch(p int32, from int64, level int8) (out []string) {
	req := fetchOf("t", [16]byte{}, from, p)
	req.IsolationLevel = level
	fp := do[*kmsg.FetchResponse](w.r, req, 11).Topics[0].Partitions[0]
	w.ok("fetch", fp.ErrorCode, nil)
	aborted := map[int64]bool{}
	for rest := fp.RecordBatches; len(rest) > 0; {
		b, err := record.Parse(rest)
		if err != nil {
			w.t.Fatal(err)
		}
		rest = rest[len(b):]
		for _, a := range fp.AbortedTransactions {
			if a.FirstOffset <= b.BaseOffset() {
				aborted[a.ProducerID] = true
			}
		}
		fp.AbortedTransactions = slices.DeleteFunc(fp.AbortedTransactions, func(a kmsg.FetchResponseTopicPartitionAbortedTransaction) bool {
			return a.FirstOffset <= b.BaseOffset()
		})
		if b.Control() {
			delete(aborted, b.ProducerID())
			continue
		}
		if b.Transactional() && aborted[b.ProducerID()] {
			continue
		}
		for it := record.NewIterator(b, nil); it.Next(); {
			if it.Record().Offset >= from {
				out = append(out, fmt.Sprintf("%d=%s", it.Record().Offset, it.Record().Value))
			}
		}
	}
	return out
}

// Whatever clients do, one after the other, with restarts and power cuts in between, the broker holds what the simplest description
// of it says: records in order, once, at the offsets that were acknowledged; of transactions all or nothing; the committed offsets.
func TestBrokerModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, fs: vfs.NewMem(), parts: map[int32]*modelPart{}, plain: map[modelWriter]*modelSequence{}, txns: map[string]*modelTxn{}, groups: map[string]int64{}}
		w.start()
		defer func() { w.stop() }()
		createTopic(rapidTB{rt: t}, w.b, "t", modelPartitions)
		for p := range int32(modelPartitions) {
			w.parts[p] = &modelPart{}
		}
		for i := range w.pids {
			w.pids[i], _ = w.initProducer(nil)
		}
		for i, id := range []string{"x", "y"} {
			x := &modelTxn{id: id, version: i + 1, next: map[int32]int32{}}
			x.producer, x.epoch = w.initProducer(&id)
			w.txns[id] = x
		}
		t.Repeat(map[string]func(*rapid.T){
			"idempotent": w.idempotent, "transact": w.transact, "zombie": w.zombie, "commit in txn": w.commitInTxn, "end": w.end, "end too": w.end,
			"take over": w.takeOver, "commit": w.commit, "delete records": w.deleteRecords, "restart": w.restart, "crash": w.crash,
			"": w.check,
		})
	})
}
