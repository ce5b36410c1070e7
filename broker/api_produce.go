package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/broker/internal/wire"
)

// adminClientID may produce to internal topics, as in Kafka.
const adminClientID = "__admin_client"

// produceRequest is a decoded produce request. What it holds aliases the frame, except for what the answer needs.
type produceRequest struct {
	version       int16
	transactional []byte // transactional id, nil if none
	denied        bool   // the client may not use the transactional id
	acks          int16
	parts         []producePart
	topics        []produceTopic
}

type produceTopic struct {
	topicHead // its partitions are consecutive in parts
	topic     *topic
	denied    bool // the client may not write to it
}

type producePart struct {
	index   int32
	records []byte // until appended
	log     *log.Log
	at      log.Appended
	err     error
}

// Produce (key 0), versions 3–13; 0 is advertised as the lowest because librdkafka up to 2.11 looks for it before it compresses.
// One batch per partition. Appended at once, in request order; with acks=all answered when the log says it is on disk, while the
// connection's next produce requests are appended. Errors per partition: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID,
// INVALID_TOPIC_EXCEPTION (internal topics), INVALID_REQUIRED_ACKS, and those of log.Append. With acks=0 there is no answer; an
// error closes the connection. Ignored: timeout (there is nobody to wait for but the disk).
//
// The steps: decode, resolve (names and ids to logs), authorize, append, all in here, on the reading goroutine; then
// produceResponse.await, for the disk, and appendTo, which encodes. The frame's bytes are not looked at after the append.
func serveProduce(b *Broker, c *conn, r *request) (response, error) {
	req, err := decodeProduce(r.raw, r.version, b.cfg.MaxRequestPartitions)
	if err != nil {
		return nil, err
	}
	b.resolveProduce(req)
	b.authorizeProduce(c, req)
	b.appendProduce(req, r)
	switch req.acks {
	case 0:
		for i := range req.parts {
			if err := req.parts[i].err; err != nil {
				return nil, err
			}
		}
		return noAnswer, nil
	case -1:
		return &produceResponse{req: req, wait: true}, nil
	}
	return &produceResponse{req: req}, nil
}

// decodeProduce refuses requests with more than most topics or partitions.
func decodeProduce(raw []byte, version int16, most int) (*produceRequest, error) {
	flexible, byID := version >= 9, version >= 13
	rd := wire.NewReader(raw)
	req := &produceRequest{version: version}
	req.transactional, _ = rd.String(flexible)
	req.acks = rd.Int16()
	rd.Int32() // timeout
	shape := topicShape{request: "produce", flexible: flexible, byID: byID, partitionBytes: 5, most: most}
	err := decodeTopics(&rd, shape, func() {
		req.parts = append(req.parts, producePart{index: rd.Int32(), records: rd.Bytes(flexible)})
		if flexible {
			rd.SkipTags()
		}
	}, func(t topicHead) { req.topics = append(req.topics, produceTopic{topicHead: t}) })
	if err != nil {
		return nil, err
	}
	if flexible {
		rd.SkipTags()
	}
	return req, rd.Err()
}

// resolveProduce finds the topics.
func (b *Broker) resolveProduce(req *produceRequest) {
	table := b.topics.Load()
	for i := range req.topics {
		t := &req.topics[i]
		if req.version >= 13 {
			t.topic = table.byID[t.id]
		} else if t.topic = table.byName[t.name]; t.topic != nil {
			t.name = t.topic.Name
		}
	}
}

// appendProduce appends each partition's batch and notes where it went, or why it did not.
func (b *Broker) appendProduce(req *produceRequest, r *request) {
	opts := log.AppendOptions{ProduceVersion: req.version, Now: r.received}
	i := 0
	for ti := range req.topics {
		t := &req.topics[ti]
		for range t.count {
			p := &req.parts[i]
			i++
			p.at = log.Appended{BaseOffset: -1, LogStart: -1, AppendTime: -1}
			if p.err = b.checkProduce(req, r, t, p); p.err == nil {
				p.err = b.appendPart(r.ctx, req, t.topic.Name, p, opts)
				b.noteFull(p.err)
			}
			p.records = nil // the frame is recycled before the answer is known
		}
	}
	req.transactional = nil
}

func (b *Broker) checkProduce(req *produceRequest, r *request, t *produceTopic, p *producePart) error {
	switch {
	case req.acks < -1 || req.acks > 1:
		return kerr.InvalidRequiredAcks
	case req.denied:
		return kerr.TransactionalIDAuthorizationFailed
	case t.denied:
		return kerr.TopicAuthorizationFailed
	case t.topic == nil && req.version >= 13:
		return kerr.UnknownTopicID
	case t.topic == nil:
		return kerr.UnknownTopicOrPartition
	case t.topic.Internal && r.clientID != adminClientID || t.topic.Name == metadataTopic:
		return refuse(kerr.InvalidTopicException, "topic %s is internal: clients do not write to it", t.topic.Name)
	}
	var ok bool
	if p.log, ok = t.topic.partition(p.index); !ok {
		return kerr.UnknownTopicOrPartition
	}
	if err := p.log.Online(); err != nil { // before it becomes part of a transaction
		return err
	}
	if len(p.records) == 0 {
		return refuse(kerr.InvalidRecord, "a produce request must hold exactly one record batch per partition")
	}
	return nil
}

func (b *Broker) appendPart(ctx context.Context, req *produceRequest, topic string, p *producePart, opts log.AppendOptions) (err error) {
	batch := record.Batch(p.records)
	if len(batch) < record.HeaderBytes || !batch.Transactional() {
		p.at, err = p.log.Append(p.records, opts)
		return err
	}
	if req.transactional == nil {
		return refuse(kerr.TransactionalIDAuthorizationFailed, "a transactional batch needs a transactional id in its request")
	}
	id := string(req.transactional)
	producer, epoch := batch.ProducerID(), batch.ProducerEpoch()
	if err := b.joinTransaction(ctx, id, producer, epoch, topic, p.index, req.version, req.acks); err != nil {
		return err
	}
	p.at, err = p.log.AppendTxn(p.records, opts, func() error {
		return b.verifyTransaction(id, producer, epoch, topic, p.index, req.version)
	})
	return err
}

// produceResponse is the answer to a produce request: known when what was appended is on disk.
type produceResponse struct {
	req  *produceRequest
	wait bool // acks=all
}

// settled implements pipelinable.
func (p *produceResponse) settled() bool {
	if !p.wait {
		return true
	}
	for i := range p.req.parts {
		part := &p.req.parts[i]
		if part.err == nil && part.at.LastOffset >= part.log.Bounds().HighWatermark {
			return false
		}
	}
	return true
}

func (p *produceResponse) await(ctx context.Context) (reply, error) {
	if !p.wait {
		return p, nil
	}
	for i := range p.req.parts {
		part := &p.req.parts[i]
		if part.err != nil {
			continue
		}
		if err := part.log.WaitSynced(ctx, part.at.LastOffset+1); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			part.err = err
		}
	}
	return p, nil
}

// appendTo encodes the response.
func (p *produceResponse) appendTo(f *outFrame) {
	v, flexible := f.version, f.version >= 9
	dst := wire.AppendCount(f.buf, flexible, len(p.req.topics))
	parts := p.req.parts
	for i := range p.req.topics {
		t := &p.req.topics[i]
		if v >= 13 {
			dst = append(dst, t.id[:]...)
		} else {
			dst = wire.AppendString(dst, flexible, t.name)
		}
		dst = wire.AppendCount(dst, flexible, t.count)
		for j := range parts[:t.count] {
			dst = encodeProducePart(dst, &parts[j], v, flexible)
		}
		parts = parts[t.count:]
		dst = wire.AppendTags(dst, flexible)
	}
	dst = wire.AppendInt32(dst, f.throttle)
	f.buf = wire.AppendTags(dst, flexible)
}

func encodeProducePart(dst []byte, p *producePart, v int16, flexible bool) []byte {
	dst = wire.AppendInt32(dst, p.index)
	dst = wire.AppendInt16(dst, errorCode(p.err))
	if p.err != nil {
		p.at.BaseOffset, p.at.AppendTime = -1, -1
		if p.log != nil { // Java tells expired producer state from lost data by it
			p.at.LogStart = p.log.Bounds().LogStart
		}
	}
	dst = wire.AppendInt64(dst, p.at.BaseOffset)
	dst = wire.AppendInt64(dst, p.at.AppendTime)
	if v >= 5 {
		dst = wire.AppendInt64(dst, p.at.LogStart)
	}
	if v >= 8 {
		dst = encodeRecordErrors(dst, p.err, flexible)
	}
	return wire.AppendTags(dst, flexible)
}

// encodeRecordErrors names the records that are to blame, and says why the batch was refused.
func encodeRecordErrors(dst []byte, err error, flexible bool) []byte {
	var bad []log.InvalidRecord
	if e, ok := errors.AsType[*log.InvalidRecordsError](err); ok {
		bad = e.Records
	}
	dst = wire.AppendCount(dst, flexible, len(bad))
	for _, r := range bad {
		dst = wire.AppendInt32(dst, r.Index)
		dst = wire.AppendString(dst, flexible, r.Message)
		dst = wire.AppendTags(dst, flexible)
	}
	if text := errorText(err); text != nil {
		return wire.AppendString(dst, flexible, *text)
	}
	if flexible {
		return append(dst, 0)
	}
	return wire.AppendInt16(dst, -1)
}
