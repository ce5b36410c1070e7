package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/wire"
)

// fetchRequest is a decoded fetch request, and the answer under construction.
type fetchRequest struct {
	maxWait   time.Duration
	minBytes  int64
	maxBytes  int
	committed bool
	sessionID int32
	epoch     int32 // of the session
	// incremental answers name only what the client of the session does not know.
	incremental bool
	topics      []topicHead // their partitions are consecutive in parts
	parts       []fetchPart
	forgotten   []sessionKey
	failed      bool // a partition has an error: answer at once
}

type fetchPart struct {
	index    int32
	epoch    int32 // the leader epoch the client believes in, -1 if it does not say
	offset   int64
	maxBytes int
	log      *log.Log
	code     int16
	bounds   log.Bounds
	batches  []byte
	aborted  []log.AbortedTxn
}

// longestFetchWait bounds what a client may ask for, so that a dead client's connection is not kept for ever.
const longestFetchWait = 5 * time.Minute

// Fetch (key 1), versions 4–17. Waits until MinBytes can be read (for read_committed: up to the last stable offset), MaxWait has
// passed, or a partition has an error. Records are read straight into the response. At least one whole batch is returned however
// small MaxBytes is; otherwise whole batches within the limits, partitions in request order. Topic ids from v13 on.
// Sessions (v7+): see fetchSessions; a client that cannot have one is answered completely, with session id 0.
// Ignored: rack, replica id and last fetched epoch (nobody replicates from here). Errors: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID,
// OFFSET_OUT_OF_RANGE, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR; of the whole request
// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
//
// The steps: decode, the session (which makes an incremental request whole), resolve, authorize, in here; then pendingFetch.await:
// wait for enough, read, the session again (which leaves out what the client knows); then fetchResponse.appendTo, which encodes. The
// record bytes lie in one pooled buffer from the read to the write.
func serveFetch(b *Broker, c *conn, r *request) (response, error) {
	req, err := decodeFetch(r.raw, r.version, b.cfg.MaxRequestPartitions)
	if err != nil {
		return nil, err
	}
	if err := b.fetches.begin(req, r.version >= 13, r.received); err != nil {
		return &fetchResponse{code: err.Code}, nil
	}
	req.maxBytes = min(req.maxBytes, c.fetchLimit(r.clientID))
	table := b.topics.Load()
	resolveFetch(table, req, r.version)
	b.authorizeFetch(c, table, req, r.version < 13)
	return &pendingFetch{b, req, table, r.received}, nil
}

// decodeFetch refuses requests with more than most topics, partitions or forgotten partitions.
func decodeFetch(raw []byte, v int16, most int) (*fetchRequest, error) {
	flexible, byID := v >= 12, v >= 13
	rd := wire.NewReader(raw)
	req := &fetchRequest{epoch: finalEpoch} // before v7 there are no sessions
	if v <= 14 {
		rd.Int32() // replica id
	}
	req.maxWait = min(max(time.Duration(rd.Int32())*time.Millisecond, 0), longestFetchWait)
	req.minBytes = int64(rd.Int32())
	req.maxBytes = max(int(rd.Int32()), 0)
	req.committed = rd.Int8() == 1
	if v >= 7 {
		req.sessionID, req.epoch = rd.Int32(), rd.Int32()
	}
	shape := topicShape{request: "fetch", flexible: flexible, byID: byID, partitionBytes: 16, most: most}
	err := decodeTopics(&rd, shape, func() { req.parts = append(req.parts, decodeFetchPart(&rd, v)) }, func(t topicHead) { req.topics = append(req.topics, t) })
	if err != nil {
		return nil, err
	}
	if err := decodeForgotten(&rd, v, req, most); err != nil {
		return nil, err
	}
	if v >= 11 {
		rd.String(flexible) // rack
	}
	if flexible {
		rd.SkipTags()
	}
	return req, rd.Err()
}

// decodeForgotten reads the partitions that leave the session.
func decodeForgotten(rd *wire.Reader, v int16, req *fetchRequest, most int) error {
	if v < 7 {
		return nil
	}
	flexible := v >= 12
	for n := rd.Count(flexible, 3); n > 0 && rd.Err() == nil; n-- {
		t := decodeTopicName(rd, flexible, v >= 13)
		t.count = rd.Count(flexible, 4)
		if n := len(req.forgotten) + t.count; n > most {
			return tooMany("fetch", "forgotten partitions", n, most)
		}
		for range t.count {
			req.forgotten = append(req.forgotten, sessionKey{t.name, t.id, rd.Int32()})
		}
		if flexible {
			rd.SkipTags()
		}
	}
	return rd.Err()
}

func decodeFetchPart(rd *wire.Reader, v int16) fetchPart {
	p := fetchPart{index: rd.Int32(), epoch: -1}
	if v >= 9 {
		p.epoch = rd.Int32()
	}
	p.offset = rd.Int64()
	if v >= 12 {
		rd.Int32() // last fetched epoch: divergence is found by OffsetForLeaderEpoch
	}
	if v >= 5 {
		rd.Int64() // log start offset of a follower
	}
	p.maxBytes = max(int(rd.Int32()), 0)
	if v >= 12 {
		rd.SkipTags()
	}
	return p
}

func resolveFetch(table *topicTable, req *fetchRequest, v int16) {
	parts := req.parts
	for i := range req.topics {
		ft := &req.topics[i]
		var t *topic
		missing := kerr.UnknownTopicOrPartition.Code
		if v >= 13 {
			t, missing = table.byID[ft.id], kerr.UnknownTopicID.Code
		} else {
			t = table.byName[ft.name]
		}
		for j := range parts[:ft.count] {
			p := &parts[j]
			var ok bool
			if p.log, ok = t.partition(p.index); ok {
				p.code = leads(p.log, p.epoch)
			} else if p.code = missing; t != nil {
				p.code = kerr.UnknownTopicOrPartition.Code
			}
			req.failed = req.failed || p.code != 0
		}
		parts = parts[ft.count:]
	}
}

// leads is what is wrong with asking a partition, for a client that believes in a leader epoch; 0: nothing.
func leads(l *log.Log, epoch int32) int16 {
	if l.Online() != nil {
		return kerr.KafkaStorageError.Code
	}
	return checkEpoch(l, epoch)
}

// checkEpoch compares the leader epoch a client believes in with the partition's.
func checkEpoch(l *log.Log, epoch int32) int16 {
	switch current := l.LeaderEpoch(); {
	case epoch < 0 || epoch == current:
		return 0
	case epoch < current:
		return kerr.FencedLeaderEpoch.Code
	}
	return kerr.UnknownLeaderEpoch.Code
}

// pendingFetch waits for records and reads them.
type pendingFetch struct {
	b        *Broker
	req      *fetchRequest
	table    *topicTable // in which the partitions were found
	received time.Time
}

func (p *pendingFetch) await(ctx context.Context) (reply, error) {
	if err := p.wait(ctx); err != nil {
		return nil, err
	}
	return p.b.readFetch(ctx, p.req)
}

// wait returns when there is enough to read, the time is over, or something is wrong. A request without partitions waits for nothing:
// that is how a consumer that closes gives its session up, and it waits for the answer.
func (p *pendingFetch) wait(ctx context.Context) error {
	req := p.req
	deadline := p.received.Add(req.maxWait)
	if req.failed || len(req.parts) == 0 || p.enough() || !time.Now().Before(deadline) {
		return nil
	}
	w := log.NewWaiter()
	for i := range req.parts {
		req.parts[i].log.Watch(w)
	}
	defer func() {
		for i := range req.parts {
			req.parts[i].log.Unwatch(w)
		}
	}()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for !p.enough() && !p.stale() { // once more: something may have come before the watch
		select {
		case <-w.C:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stale reports whether a partition has been deleted since it was found, and notes the error that answers for it.
func (p *pendingFetch) stale() (gone bool) {
	table := p.b.topics.Load()
	if table == p.table {
		return false
	}
	p.table = table
	parts := p.req.parts
	for i := range p.req.topics {
		ft := &p.req.topics[i]
		t, missing := table.byName[ft.name], kerr.UnknownTopicOrPartition
		if ft.name == "" {
			t, missing = table.byID[ft.id], kerr.UnknownTopicID
		}
		for j := range parts[:ft.count] {
			if l, _ := t.partition(parts[j].index); l != parts[j].log {
				parts[j].code, gone = missing.Code, true
			}
		}
		parts = parts[ft.count:]
	}
	return gone
}

// enough reports whether the answer need not wait any longer.
func (p *pendingFetch) enough() bool {
	var sum int64
	for i := range p.req.parts {
		part := &p.req.parts[i]
		bounds := part.log.Bounds()
		end := bounds.HighWatermark
		if p.req.committed {
			end = bounds.LastStable
		}
		if part.offset < bounds.LogStart || part.offset > bounds.End {
			return true // the read will say what is wrong
		}
		if part.offset >= end {
			continue
		}
		if p.req.minBytes <= 1 {
			return true
		}
		sum += min(part.log.Available(part.offset, p.req.committed), int64(part.maxBytes))
	}
	return sum >= p.req.minBytes
}

// readFetch reads every partition into one buffer.
func (b *Broker) readFetch(ctx context.Context, req *fetchRequest) (reply, error) {
	res := &fetchResponse{req: req}
	want := b.wanted(req)
	if want == 0 {
		b.readParts(req, nil)
		b.fetches.finish(req)
		return res, nil
	}
	res.budget = min(int64(want), b.cfg.MaxResponseBytes)
	if err := b.responseBytes.Acquire(ctx, res.budget); err != nil {
		return nil, err
	}
	res.buf = b.pool.get(want)
	b.readParts(req, res.buf.b)
	b.fetches.finish(req)
	return res, nil
}

// wanted is how many bytes of buffer the read needs at most.
func (b *Broker) wanted(req *fetchRequest) int {
	sum := int64(0)
	for i := range req.parts {
		p := &req.parts[i]
		if p.code == 0 {
			sum += min(p.log.Available(p.offset, req.committed), int64(p.maxBytes))
		}
	}
	return int(min(sum, int64(req.maxBytes)))
}

// readParts reads the partitions in request order into buf. The first batch of the answer comes whole however large it is; it
// then lies outside buf.
func (b *Broker) readParts(req *fetchRequest, buf []byte) {
	left, first := req.maxBytes, true
	for i := range req.parts {
		p := &req.parts[i]
		if p.code != 0 {
			p.bounds = log.Bounds{LogStart: -1, LastStable: -1, HighWatermark: -1}
			continue
		}
		res, err := p.log.Read(log.ReadOptions{
			From: p.offset, MaxBytes: min(left, p.maxBytes), MinOne: first, Committed: req.committed, Buf: buf[:0:len(buf)],
		})
		p.bounds = res.Bounds
		if err != nil {
			p.code = b.readError(err)
			p.bounds = p.log.Bounds()
			continue
		}
		p.batches, p.aborted = res.Batches, res.Aborted
		n := len(p.batches)
		left = max(left-n, 0)
		first = first && n == 0
		if n > 0 && len(buf) > 0 && &p.batches[0] == &buf[0] {
			buf = buf[n:]
		}
	}
}

// readError is the code of an error of a read. Damage is said to the operator once, with its place and what can be done, and to
// consumers as CORRUPT_MESSAGE, which they report; KAFKA_STORAGE_ERROR they would retry for ever without a word.
func (b *Broker) readError(err error) int16 {
	if !errors.Is(err, log.ErrCorrupt) {
		return errorCode(err)
	}
	if _, said := b.damage.LoadOrStore(err.Error(), true); !said {
		b.logger.Error("a segment is damaged: consumers cannot read past it. Restore the file from a copy, or let them skip it: "+
			"reset their offsets beyond the segment, or move the log start with DeleteRecords", "error", err)
	}
	return kerr.CorruptMessage.Code
}

// fetchResponse is the answer to a fetch request.
type fetchResponse struct {
	req    *fetchRequest // nil if there are no topics in the answer
	code   int16
	buf    *buffer
	budget int64
}

// recordBytes is the size of the records in the answer.
func (f *fetchResponse) recordBytes() (n int) {
	if f.req != nil {
		for i := range f.req.parts {
			n += len(f.req.parts[i].batches)
		}
	}
	return n
}

func (f *fetchResponse) await(context.Context) (reply, error) { return f, nil }

func (f *fetchResponse) appendTo(out *outFrame) {
	v, flexible := out.version, out.version >= 12
	if f.buf != nil {
		out.own(f.buf)
		out.budget = f.budget
	}
	out.buf = wire.AppendInt32(out.buf, out.throttle)
	if v >= 7 {
		out.buf = wire.AppendInt16(out.buf, f.code)
		session := int32(0)
		if f.req != nil {
			session = f.req.sessionID
		}
		out.buf = wire.AppendInt32(out.buf, session)
	}
	var topics []topicHead
	var parts []fetchPart
	if f.req != nil {
		topics, parts = f.req.topics, f.req.parts
	}
	out.buf = wire.AppendCount(out.buf, flexible, len(topics))
	for i := range topics {
		t := &topics[i]
		if v >= 13 {
			out.buf = append(out.buf, t.id[:]...)
		} else {
			out.buf = wire.AppendString(out.buf, flexible, t.name)
		}
		out.buf = wire.AppendCount(out.buf, flexible, t.count)
		for j := range parts[:t.count] {
			encodeFetchPart(out, &parts[j], f.req.committed, v, flexible)
		}
		parts = parts[t.count:]
		out.buf = wire.AppendTags(out.buf, flexible)
	}
	out.buf = wire.AppendTags(out.buf, flexible)
}

func encodeFetchPart(out *outFrame, p *fetchPart, committed bool, v int16, flexible bool) {
	dst := wire.AppendInt32(out.buf, p.index)
	dst = wire.AppendInt16(dst, p.code)
	dst = wire.AppendInt64(dst, p.bounds.HighWatermark)
	dst = wire.AppendInt64(dst, p.bounds.LastStable)
	if v >= 5 {
		dst = wire.AppendInt64(dst, p.bounds.LogStart)
	}
	if !committed {
		dst = wire.AppendNullArray(dst, flexible)
	} else {
		dst = wire.AppendCount(dst, flexible, len(p.aborted))
		for _, a := range p.aborted {
			dst = wire.AppendInt64(dst, a.ProducerID)
			dst = wire.AppendInt64(dst, a.FirstOffset)
			dst = wire.AppendTags(dst, flexible)
		}
	}
	if v >= 11 {
		dst = wire.AppendInt32(dst, -1) // preferred read replica: none; librdkafka follows any other value
	}
	// Never null: librdkafka takes a null set for a broken one.
	if flexible {
		dst = wire.AppendUvarint(dst, uint32(len(p.batches))+1)
	} else {
		dst = wire.AppendInt32(dst, int32(len(p.batches)))
	}
	out.buf = dst
	out.insert(p.batches)
	out.buf = wire.AppendTags(out.buf, flexible)
}
