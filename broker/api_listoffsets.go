package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/log"
)

// Special timestamps of ListOffsets.
const (
	tsLatest        = -1 // the high watermark; the last stable offset for read_committed
	tsEarliest      = -2
	tsMaxTimestamp  = -3 // v7
	tsEarliestLocal = -4 // v8
	tsLatestTiered  = -5 // v9
	tsPendingUpload = -6 // v11
)

// ListOffsets (key 2), versions 0–11. A time is answered with the first record at or after it, in offset order, or -1.
// There is no tiered storage: -4 is -2, and -5 and -6 are answered with -1. v0 is answered with one offset at most.
// Ignored: replica id, timeout. Errors per partition: UNKNOWN_TOPIC_OR_PARTITION, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH,
// UNSUPPORTED_VERSION (a special timestamp newer than the request's version), KAFKA_STORAGE_ERROR.
//
// A client that asks for the latest offset after its acks=1 was answered finds what it wrote: the answer waits for the sync that is
// on its way.
func serveListOffsets(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.ListOffsetsRequest)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := kmsg.NewPtrListOffsetsResponse()
		for _, rt := range req.Topics {
			lt := kmsg.NewListOffsetsResponseTopic()
			lt.Topic = rt.Topic
			t := b.topic(rt.Topic)
			for _, rp := range rt.Partitions {
				lt.Partitions = append(lt.Partitions, listedOffset(ctx, t, rp, req))
			}
			resp.Topics = append(resp.Topics, lt)
		}
		return resp, nil
	}), nil
}

func listedOffset(ctx context.Context, t *topic, rp kmsg.ListOffsetsRequestTopicPartition, req *kmsg.ListOffsetsRequest) kmsg.ListOffsetsResponseTopicPartition {
	lp := kmsg.NewListOffsetsResponseTopicPartition()
	lp.Partition, lp.Timestamp, lp.Offset, lp.LeaderEpoch = rp.Partition, -1, -1, -1
	l, code := t.led(rp.Partition, rp.CurrentLeaderEpoch)
	if code != 0 {
		lp.ErrorCode = code
		return lp
	}
	if rp.Timestamp == tsLatest {
		err := l.WaitSynced(ctx, l.Bounds().End)
		if err != nil && (ctx.Err() != nil || errors.Is(err, log.ErrClosed) || errors.Is(err, log.ErrDeleted)) { // else the disk failed: what is below the high watermark can be read
			lp.ErrorCode = errorCode(err)
			return lp
		}
	}
	at, err := findOffset(l, rp.Timestamp, req.IsolationLevel == 1, req.Version)
	if err != nil {
		lp.ErrorCode = errorCode(err)
		return lp
	}
	lp.Offset, lp.Timestamp, lp.LeaderEpoch = at.Offset, at.Timestamp, at.LeaderEpoch
	if req.Version == 0 && lp.Offset >= 0 && rp.MaxNumOffsets > 0 {
		lp.OldStyleOffsets = []int64{lp.Offset}
	}
	return lp
}

// led finds a partition for a client that believes in a leader epoch; code is what is wrong, if something is.
func (t *topic) led(partition, epoch int32) (l *log.Log, code int16) {
	l, ok := t.partition(partition)
	if !ok {
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	return l, leads(l, epoch)
}

func findOffset(l *log.Log, ts int64, committed bool, version int16) (log.TimeOffset, error) {
	none := log.TimeOffset{Offset: -1, Timestamp: -1, LeaderEpoch: -1}
	bounds := l.Bounds()
	if min := map[int64]int16{tsMaxTimestamp: 7, tsEarliestLocal: 8, tsLatestTiered: 9, tsPendingUpload: 11}[ts]; version < min || ts < tsPendingUpload {
		return none, kerr.UnsupportedVersion
	}
	switch ts {
	case tsLatest:
		end := bounds.HighWatermark
		if committed {
			end = bounds.LastStable
		}
		return log.TimeOffset{Offset: end, Timestamp: -1, LeaderEpoch: l.LeaderEpoch()}, nil
	case tsEarliest, tsEarliestLocal:
		return log.TimeOffset{Offset: bounds.LogStart, Timestamp: -1, LeaderEpoch: l.LeaderEpoch()}, nil
	case tsLatestTiered, tsPendingUpload:
		return none, nil
	}
	var at log.TimeOffset
	var found bool
	var err error
	if ts == tsMaxTimestamp {
		at, found, err = l.MaxTimestamp()
	} else {
		at, found, err = l.OffsetForTime(ts, committed)
	}
	if err != nil || !found {
		return none, err
	}
	return at, nil
}

// OffsetForLeaderEpoch (key 23), versions 0–4. Answers the largest epoch up to the one asked for and where it ends; -1 and -1 if
// there is none. Ignored: replica id. Errors per partition: UNKNOWN_TOPIC_OR_PARTITION, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
func serveOffsetForLeaderEpoch(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.OffsetForLeaderEpochRequest)
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	for _, rt := range req.Topics {
		ot := kmsg.NewOffsetForLeaderEpochResponseTopic()
		ot.Topic = rt.Topic
		t := b.topic(rt.Topic)
		for _, rp := range rt.Partitions {
			op := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			op.Partition, op.LeaderEpoch, op.EndOffset = rp.Partition, -1, -1
			l, code := t.led(rp.Partition, rp.CurrentLeaderEpoch)
			if op.ErrorCode = code; code == 0 {
				op.LeaderEpoch, op.EndOffset = l.EpochEnd(rp.LeaderEpoch)
			}
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return answer(resp), nil
}

// DescribeProducers (key 61), version 0. All producers that the partition remembers, idempotent ones included.
// Errors per partition: UNKNOWN_TOPIC_OR_PARTITION.
func serveDescribeProducers(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeProducersRequest)
	resp := kmsg.NewPtrDescribeProducersResponse()
	for _, rt := range req.Topics {
		dt := kmsg.NewDescribeProducersResponseTopic()
		dt.Topic = rt.Topic
		t := b.topic(rt.Topic)
		for _, p := range rt.Partitions {
			dp := kmsg.NewDescribeProducersResponseTopicPartition()
			dp.Partition = p
			l, ok := t.partition(p)
			if !ok {
				dp.ErrorCode = kerr.UnknownTopicOrPartition.Code
				dt.Partitions = append(dt.Partitions, dp)
				continue
			}
			dp.ErrorCode = errorCode(l.Online())
			for _, info := range l.Producers() {
				ap := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
				ap.ProducerID, ap.ProducerEpoch = info.ProducerID, int32(info.Epoch)
				ap.LastSequence, ap.LastTimestamp = info.LastSequence, info.LastTimestamp
				ap.CoordinatorEpoch, ap.CurrentTxnStartOffset = info.CoordinatorEpoch, info.TxnStartOffset
				dp.ActiveProducers = append(dp.ActiveProducers, ap)
			}
			dt.Partitions = append(dt.Partitions, dp)
		}
		resp.Topics = append(resp.Topics, dt)
	}
	return answer(resp), nil
}
