package broker

import (
	"encoding/binary"
	"net"
)

// outFrame is one response under construction: bytes that are encoded here, and between them record bytes that stay where they
// are until one writev sends them all.
type outFrame struct {
	// version is the request's, which the response is encoded for.
	version int16
	// throttle is how many milliseconds the client's quota makes it wait.
	throttle int32
	// buf holds the size prefix, the header and what is encoded. Replies append to it.
	buf []byte

	pool   *bufferPool
	head   *buffer // what buf started from
	cuts   []cut
	owned  []*buffer // released after the write
	budget int64     // response bytes acquired, released after the write
}

// cut is a place in buf where foreign bytes go.
type cut struct {
	at    int
	chunk []byte
}

const sizePrefixBytes = 4

// newOutFrame starts a response: room for the size, the correlation id, and the empty tags of a flexible response header.
func newOutFrame(pool *bufferPool, version int16, correlation int32, flexibleHeader bool) *outFrame {
	head := pool.get(4 << 10)
	buf := head.b[:sizePrefixBytes]
	buf = binary.BigEndian.AppendUint32(buf, uint32(correlation))
	if flexibleHeader {
		buf = append(buf, 0)
	}
	return &outFrame{version: version, buf: buf, pool: pool, head: head}
}

// insert puts chunk at the current end of the frame without copying it. The chunk must stay unchanged until release.
func (f *outFrame) insert(chunk []byte) {
	if len(chunk) > 0 {
		f.cuts = append(f.cuts, cut{len(f.buf), chunk})
	}
}

// own makes the frame release buf after it has been written.
func (f *outFrame) own(buf *buffer) { f.owned = append(f.owned, buf) }

// size is the whole frame's length, its prefix included.
func (f *outFrame) size() int {
	n := len(f.buf)
	for _, c := range f.cuts {
		n += len(c.chunk)
	}
	return n
}

// writeTo sends the frame.
func (f *outFrame) writeTo(nc net.Conn) error {
	binary.BigEndian.PutUint32(f.buf, uint32(f.size()-sizePrefixBytes))
	if len(f.cuts) == 0 {
		_, err := nc.Write(f.buf)
		return err
	}
	vec := make(net.Buffers, 0, 2*len(f.cuts)+1)
	from := 0
	for _, c := range f.cuts {
		if c.at > from {
			vec = append(vec, f.buf[from:c.at])
			from = c.at
		}
		vec = append(vec, c.chunk)
	}
	if from < len(f.buf) {
		vec = append(vec, f.buf[from:])
	}
	_, err := vec.WriteTo(nc)
	return err
}

// release hands the frame's buffers back.
func (f *outFrame) release() {
	f.head.b = f.buf // a grown buf replaces the pooled one; put drops it if its capacity is odd
	f.pool.put(f.head)
	for _, b := range f.owned {
		f.pool.put(b)
	}
	f.buf, f.head, f.cuts, f.owned = nil, nil, nil, nil
}
