package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What members and their leader tell each other beside Kafka's own fields. Numbers are big endian; a string is a uvarint
// length and its bytes; a list is a uvarint count and its elements.

// userData is a member's own part of the join metadata.
//
//	version uint8 (2), layout uint64, asks uint32, instance string, rack string, list of (task string, reaches uvarint),
//	address string
//
// The address, a URL, is where the instance answers queries; empty: it does not. It may be left out.
type userData struct {
	layout   uint64
	asks     uint32
	instance string
	rack     string
	state    []held
	address  string
}

// held is a task that a member has state of. reaches is the sum of the offsets at which its stores stand in their
// changelogs: of two members, the one with the higher sum has less to replay.
type held struct {
	task    string
	reaches int64
}

// extra is the leader's part of an assignment: the layout that the member said it had, whether it has tasks to give up that
// others wait for, and the copies of state that it is to keep.
//
//	version uint8 (2), layout uint64, gives uint8 (0 or 1), list of (task string, kind uint8)
type extra struct {
	layout uint64
	gives  bool
	copies []standbyCopy
}

// standbyCopy is a task whose state a member follows without processing.
type standbyCopy struct {
	task string
	kind copyKind
}

type copyKind uint8

const (
	standby copyKind = iota // to be there when the owner dies
	warmup                  // to become the owner: the member asks for a rebalance when it has caught up
)

const (
	memberDataVersion = 2
	maxMemberTasks    = 100_000
)

var errMemberData = errors.New("malformed member data")

func (u userData) append(dst []byte) []byte {
	dst = append(dst, memberDataVersion)
	dst = binary.BigEndian.AppendUint64(dst, u.layout)
	dst = binary.BigEndian.AppendUint32(dst, u.asks)
	dst = appendString(dst, u.instance)
	dst = appendString(dst, u.rack)
	dst = binary.AppendUvarint(dst, uint64(len(u.state)))
	for _, h := range u.state {
		dst = appendString(dst, h.task)
		dst = binary.AppendUvarint(dst, uint64(h.reaches))
	}
	return appendString(dst, u.address)
}

func parseUserData(b []byte) (u userData, err error) {
	r := dataReader{b: b}
	r.version()
	u.layout = r.uint64()
	u.asks = r.uint32()
	u.instance, u.rack = r.string(), r.string()
	for n := r.count(); n > 0 && r.err == nil; n-- {
		u.state = append(u.state, held{r.string(), int64(r.uvarint())})
	}
	if len(r.b) > 0 {
		u.address = r.string()
	}
	if r.err != nil {
		return userData{}, r.err
	}
	return u, nil
}

func (e extra) append(dst []byte) []byte {
	dst = append(dst, memberDataVersion)
	dst = binary.BigEndian.AppendUint64(dst, e.layout)
	gives := byte(0)
	if e.gives {
		gives = 1
	}
	dst = append(dst, gives)
	dst = binary.AppendUvarint(dst, uint64(len(e.copies)))
	for _, c := range e.copies {
		dst = append(appendString(dst, c.task), byte(c.kind))
	}
	return dst
}

func parseExtra(b []byte) (e extra, err error) {
	r := dataReader{b: b}
	r.version()
	e.layout = r.uint64()
	e.gives = r.byte() != 0
	for n := r.count(); n > 0 && r.err == nil; n-- {
		e.copies = append(e.copies, standbyCopy{r.string(), copyKind(r.byte())})
	}
	if r.err != nil {
		return extra{}, r.err
	}
	return e, nil
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// dataReader takes member data apart. After the first thing that does not fit it gives zeros, and err says so.
type dataReader struct {
	b   []byte
	err error
}

func (r *dataReader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = errMemberData
		return make([]byte, 8)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *dataReader) byte() byte { return r.take(1)[0] }

func (r *dataReader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

func (r *dataReader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *dataReader) uvarint() uint64 {
	n, w := binary.Uvarint(r.b)
	if w <= 0 {
		r.err = errMemberData
		return 0
	}
	r.take(w)
	return n
}

func (r *dataReader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.err = errMemberData
		return ""
	}
	return string(r.take(int(n)))
}

func (r *dataReader) count() int {
	n := r.uvarint()
	if n > maxMemberTasks {
		r.err = fmt.Errorf("%w: %d tasks", errMemberData, n)
		return 0
	}
	return int(n)
}

func (r *dataReader) version() {
	if v := r.byte(); v != memberDataVersion && r.err == nil {
		r.err = fmt.Errorf("%w: version %d", errMemberData, v)
	}
}
