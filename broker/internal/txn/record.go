package txn

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// State of a transactional id, numbered as in Kafka's records.
type State int8

// The states. Dead and PrepareEpochFence of Kafka do not occur here: an expired id is forgotten, and fencing is part of the
// step to PrepareAbort.
const (
	Empty          State = 0
	Ongoing        State = 1
	PrepareCommit  State = 2
	PrepareAbort   State = 3
	CompleteCommit State = 4
	CompleteAbort  State = 5
)

// String is the name that DescribeTransactions and ListTransactions use.
func (s State) String() string {
	switch s {
	case Empty:
		return "Empty"
	case Ongoing:
		return "Ongoing"
	case PrepareCommit:
		return "PrepareCommit"
	case PrepareAbort:
		return "PrepareAbort"
	case CompleteCommit:
		return "CompleteCommit"
	case CompleteAbort:
		return "CompleteAbort"
	default:
		return "Dead"
	}
}

func (s State) preparing() bool { return s == PrepareCommit || s == PrepareAbort }

// committing says which way a Prepare* or Complete* went.
func (s State) committing() bool { return s == PrepareCommit || s == CompleteCommit }

// TopicPartition is a partition that takes part in a transaction.
type TopicPartition struct {
	Topic     string
	Partition int32
}

func (a TopicPartition) compare(b TopicPartition) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return int(a.Partition) - int(b.Partition)
}

const (
	none      = -1            // no producer id, no epoch
	lastEpoch = math.MaxInt16 // never given to a client: markers of a producer whose epochs are used up carry it
	keyVersn  = 0
	valVersn  = 1
)

// exhausted says that an epoch is the last that a client may have: the next bump takes a new producer id.
func exhausted(epoch int16) bool { return epoch >= lastEpoch-1 }

// record is what the journal holds of a transactional id. It is a value: a transition makes the next one, which takes effect
// once the journal has it. partitions is sorted and never changed in place.
type record struct {
	state State
	// producerID and epoch are who may write now. prevID is the producer id before the last one's epochs were used up, nextID the
	// one that takes over when the transaction that used them up is complete.
	producerID, prevID, nextID int64
	epoch                      int16
	// lastEpoch is the epoch before the current one where its owner may have missed the answer that told it: a request that
	// expects it is a repetition. none where somebody else was the owner. It is not in the journal (nor is Kafka's).
	lastEpoch  int16
	version    int16 // transaction version of the client's last transaction: 0 or 2
	timeout    time.Duration
	partitions []TopicPartition
	startMs    int64 // none outside of a transaction
	updatedMs  int64
}

// owner is whom a client that gets an answer in this state has to be from now on.
func (r *record) owner() (int64, int16) {
	if r.nextID != none {
		return r.nextID, 0
	}
	return r.producerID, r.epoch
}

func (r *record) has(tp TopicPartition) bool {
	_, ok := slices.BinarySearchFunc(r.partitions, tp, TopicPartition.compare)
	return ok
}

// begun is r with partitions added, in a new transaction if none is going on. changed is false if it knows them all.
func (r record) begun(tps []TopicPartition, version int16, now time.Time) (next record, changed bool) {
	next = r
	if r.state != Ongoing {
		next.state, next.partitions = Ongoing, nil
		next.startMs = now.UnixMilli()
		changed = true
	}
	next.version = version
	copied := false
	for _, tp := range tps {
		i, ok := slices.BinarySearchFunc(next.partitions, tp, TopicPartition.compare)
		if ok {
			continue
		}
		if !copied {
			next.partitions, copied = slices.Clone(next.partitions), true
		}
		next.partitions = slices.Insert(next.partitions, i, tp)
		changed = true
	}
	next.updatedMs = now.UnixMilli()
	return next, changed
}

// prepared is r on its way to its end. bump gives it the next epoch, with which the markers are written, so that what still
// arrives with the old one is refused; spare is the producer id that takes over if the epochs are used up by that.
func (r record) prepared(commit, bump bool, spare int64, now time.Time) record {
	next := r
	next.state = PrepareAbort
	if commit {
		next.state = PrepareCommit
	}
	if bump {
		if exhausted(r.epoch) {
			next.nextID = spare
		}
		next.lastEpoch = r.epoch
		next.epoch = r.epoch + 1
	}
	if r.state != Ongoing {
		next.startMs, next.partitions = now.UnixMilli(), nil
	}
	next.updatedMs = now.UnixMilli()
	return next
}

// completed is a Prepare* whose markers are all on disk.
func (r record) completed(now time.Time) record {
	next := r
	next.state = CompleteAbort
	if r.state == PrepareCommit {
		next.state = CompleteCommit
	}
	if r.nextID != none {
		next.prevID, next.producerID, next.nextID = r.producerID, r.nextID, none
		next.epoch, next.lastEpoch = 0, none
	}
	next.partitions, next.startMs = nil, none
	next.updatedMs = now.UnixMilli()
	return next
}

// bumped is an idle r for its next owner: the next epoch, or a new producer id (spare) if there is none left.
func (r record) bumped(expected bool, timeout time.Duration, spare int64, now time.Time) record {
	next := r
	next.state, next.partitions, next.startMs, next.timeout = Empty, nil, none, timeout
	next.updatedMs = now.UnixMilli()
	next.lastEpoch = none
	if exhausted(r.epoch) {
		next.prevID, next.producerID, next.epoch = r.producerID, spare, 0
		return next
	}
	if expected {
		next.lastEpoch = r.epoch
	}
	next.epoch = r.epoch + 1
	return next
}

// verdict is what an EndTxn means in a state.
type verdict int8

const (
	refused   verdict = iota
	begins            // the transaction ends now
	repeats           // it ended so already: the answer was lost
	waitFirst         // an earlier end has to be complete before this can be said
)

// endVerdict judges EndTxn. version 5 and later mean transaction version 2, where every end bumps the epoch: there a
// repetition is known by the epoch before, a request with the current epoch is about the next transaction.
// timedOut is the epoch whose transaction the coordinator has aborted because it took too long, or none.
func (r *record) endVerdict(producerID int64, epoch int16, commit bool, version, timedOut int16) (verdict, *kerr.Error) {
	if version < 5 {
		return r.endVerdictV1(producerID, epoch, commit, version)
	}
	overflow := r.prevID == producerID && epoch == lastEpoch-1 && r.epoch == 0 && (r.state == CompleteCommit || r.state == CompleteAbort)
	if !overflow && producerID != r.producerID {
		return refused, kerr.InvalidProducerIDMapping
	}
	again := overflow || int32(epoch)+1 == int32(r.epoch)
	switch {
	case (r.state == Empty || r.state == Ongoing) && epoch == r.epoch:
		if r.state == Empty && commit {
			return refused, kerr.InvalidTxnState
		}
		return begins, nil
	case r.state == Empty || r.state == Ongoing:
		return refused, kerr.ProducerFenced
	case again && commit == r.state.committing():
		return repeats, nil
	case again && epoch == timedOut:
		return refused, kerr.TransactionAbortable
	case again:
		return refused, kerr.InvalidTxnState
	case epoch != r.epoch:
		return refused, kerr.ProducerFenced
	case r.state.preparing():
		return waitFirst, nil
	case commit:
		return refused, kerr.InvalidTxnState
	default:
		return begins, nil
	}
}

func (r *record) endVerdictV1(producerID int64, epoch int16, commit bool, version int16) (verdict, *kerr.Error) {
	if producerID != r.producerID {
		return refused, kerr.InvalidProducerIDMapping
	}
	if epoch != r.epoch {
		return refused, fenced(version >= 2)
	}
	switch {
	case r.state == Ongoing:
		return begins, nil
	case r.state == Empty || commit != r.state.committing():
		return refused, kerr.InvalidTxnState
	default:
		return repeats, nil
	}
}

// fenced is the error of a producer with an old epoch; old request versions do not know PRODUCER_FENCED.
func fenced(known bool) *kerr.Error {
	if known {
		return kerr.ProducerFenced
	}
	return kerr.InvalidProducerEpoch
}

func encodeKey(id string) []byte {
	k := kmsg.NewTxnMetadataKey()
	k.Version, k.TransactionalID = keyVersn, id
	return k.AppendTo(nil)
}

func (r *record) encode() []byte {
	v := kmsg.NewTxnMetadataValue()
	v.Version = valVersn
	v.ProducerID, v.ProducerEpoch = r.producerID, r.epoch
	v.PreviousProducerID, v.NextProducerID = r.prevID, r.nextID
	v.TimeoutMillis = int32(r.timeout.Milliseconds())
	v.State = kmsg.TransactionState(r.state)
	v.LastUpdateTimestamp, v.StartTimestamp = r.updatedMs, r.startMs
	v.ClientTransactionVersion = r.version
	for _, tp := range r.partitions {
		if n := len(v.Topics); n == 0 || v.Topics[n-1].Topic != tp.Topic {
			t := kmsg.NewTxnMetadataValueTopic()
			t.Topic = tp.Topic
			v.Topics = append(v.Topics, t)
		}
		t := &v.Topics[len(v.Topics)-1]
		t.Partitions = append(t.Partitions, tp.Partition)
	}
	return v.AppendTo(nil)
}

func decodeKey(key []byte) (id string, ok bool, err error) {
	if len(key) < 2 {
		return "", false, fmt.Errorf("key of %d bytes has no version", len(key))
	}
	if binary.BigEndian.Uint16(key) != keyVersn {
		return "", false, nil
	}
	k := kmsg.NewTxnMetadataKey()
	if err := k.ReadFrom(key); err != nil {
		return "", false, fmt.Errorf("key: %w", err)
	}
	return k.TransactionalID, true, nil
}

func decodeValue(value []byte) (record, error) {
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return record{}, fmt.Errorf("value: %w", err)
	}
	if v.State < 0 || State(v.State) > CompleteAbort {
		return record{}, fmt.Errorf("value: state %d is not one that is ever stored", v.State)
	}
	r := record{
		state: State(v.State), producerID: v.ProducerID, prevID: v.PreviousProducerID, nextID: v.NextProducerID,
		epoch: v.ProducerEpoch, lastEpoch: none, version: v.ClientTransactionVersion,
		timeout:   time.Duration(v.TimeoutMillis) * time.Millisecond,
		updatedMs: v.LastUpdateTimestamp, startMs: v.StartTimestamp,
	}
	// After the end of a version 2 transaction its owner may be one behind: the answer may not have reached it.
	if r.state > Ongoing && r.version >= 2 && r.epoch > 0 {
		r.lastEpoch = r.epoch - 1
	}
	for _, t := range v.Topics {
		for _, p := range t.Partitions {
			r.partitions = append(r.partitions, TopicPartition{t.Topic, p})
		}
	}
	sort.Slice(r.partitions, func(i, j int) bool { return r.partitions[i].compare(r.partitions[j]) < 0 })
	return r, nil
}
