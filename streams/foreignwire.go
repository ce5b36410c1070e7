package streams

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/leatstream/leat/serde"
)

// The records of a foreign-key join on its two internal topics, in Kafka Streams' formats.

// instruction says what the right side is to do with a subscription.
type instruction byte

const (
	// unsubscribe drops the subscription, without an answer.
	unsubscribe instruction = iota
	// unsubscribeAnswer drops it, and answers that there is no row.
	unsubscribeAnswer
	// subscribeAlways keeps it, and answers with the right row or with none.
	subscribeAlways
	// subscribeFound keeps it, and answers if there is a right row.
	subscribeFound
)

// rowHash is the hash of the left row that a subscription, and the answer to it, is about; absent without a row.
type rowHash struct {
	sum [16]byte
	has bool
}

// subscription is the value of a record on the registration topic, and of a row of the subscription store: the left row's
// hash, its key and its partition.
type subscription struct {
	hash      rowHash
	what      instruction
	key       []byte
	partition int32
}

const noHash = 0x80 // the bit of the version byte that says that there is no hash

func (s *subscription) append(dst []byte) []byte {
	version := byte(1)
	if !s.hash.has {
		version |= noHash
	}
	dst = append(dst, version, byte(s.what))
	if s.hash.has {
		dst = append(dst, s.hash.sum[:]...)
	}
	return binary.BigEndian.AppendUint32(append(dst, s.key...), uint32(s.partition))
}

var errForeign = errors.New("not a record of a foreign-key join")

// parseSubscription reads versions 0, which has no partition (then it is -1), and 1. The key is a part of b.
func parseSubscription(b []byte) (s subscription, err error) {
	if len(b) < 2 || b[0]&^noHash > 1 || b[1] > byte(subscribeFound) {
		return s, fmt.Errorf("%w: a subscription of %d bytes that begins with %x", errForeign, len(b), b[:min(len(b), 2)])
	}
	s.what, s.partition = instruction(b[1]), -1
	rest, ok := s.hash.read(b[0], b[2:])
	if v1 := b[0]&^noHash == 1; ok && v1 {
		if ok = len(rest) >= 4; ok {
			s.partition = int32(binary.BigEndian.Uint32(rest[len(rest)-4:]))
			rest = rest[:len(rest)-4]
		}
	}
	if !ok {
		return s, fmt.Errorf("%w: a subscription of %d bytes is cut short", errForeign, len(b))
	}
	s.key = rest
	return s, nil
}

// read takes the hash from the front of b.
func (h *rowHash) read(version byte, b []byte) (rest []byte, ok bool) {
	if version&noHash != 0 {
		return b, true
	}
	if len(b) < len(h.sum) {
		return nil, false
	}
	h.has = true
	copy(h.sum[:], b)
	return b[len(h.sum):], true
}

// emptyRow is the bit of an answer's version byte that says that there is a right row, of no bytes. It is Leat's own: Kafka
// Streams takes such a row for none.
const emptyRow = 0x40

// appendAnswer is the value of a record on the response topic; row is nil for no right row.
func appendAnswer(dst []byte, h rowHash, row []byte) []byte {
	var version byte
	if !h.has {
		version |= noHash
	}
	if row != nil && len(row) == 0 {
		version |= emptyRow
	}
	dst = append(dst, version)
	if h.has {
		dst = append(dst, h.sum[:]...)
	}
	return append(dst, row...)
}

// parseAnswer gives the right row's bytes, nil for none.
func parseAnswer(b []byte) (h rowHash, row []byte, err error) {
	if len(b) == 0 || b[0]&^(noHash|emptyRow) != 0 {
		return h, nil, fmt.Errorf("%w: an answer of %d bytes that begins with %x", errForeign, len(b), b[:min(len(b), 1)])
	}
	row, ok := h.read(b[0], b[1:])
	if !ok {
		return h, nil, fmt.Errorf("%w: an answer of %d bytes is cut short", errForeign, len(b))
	}
	if len(row) == 0 && b[0]&emptyRow == 0 {
		row = nil
	}
	return h, row, nil
}

// appendForeign is the front of a key of the subscription store: all subscriptions to one foreign key begin with it. The
// left row's key follows.
func appendForeign(dst, foreign []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(foreign))), foreign...)
}

// bare is b without the schema id that it may begin with: the same value written with another schema is the same value.
func bare(s any, b []byte) []byte {
	if f, ok := s.(serde.Framed); ok {
		return b[min(f.FrameLen(b), len(b)):]
	}
	return b
}
