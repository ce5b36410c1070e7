package broker

import (
	"math/bits"
	"sync"
)

const (
	minBufferShift = 12 // 4 KiB
	maxBufferShift = 24 // 16 MiB: larger buffers are left to the garbage collector
)

// bufferPool recycles byte buffers by power-of-two size. Touching fresh memory costs more than the copy of what goes into it, so
// frames and fetched records live in recycled buffers.
type bufferPool struct {
	classes [maxBufferShift - minBufferShift + 1]sync.Pool
}

// buffer is a pooled byte buffer. Its owner hands it back by pool.put exactly once, or drops it.
type buffer struct{ b []byte }

// get returns a buffer whose b has length n and undefined content.
func (p *bufferPool) get(n int) *buffer {
	shift := max(bits.Len(uint(max(n, 1)-1)), minBufferShift)
	if shift > maxBufferShift {
		return &buffer{make([]byte, n)}
	}
	if v := p.classes[shift-minBufferShift].Get(); v != nil {
		buf := v.(*buffer)
		buf.b = buf.b[:n]
		return buf
	}
	return &buffer{make([]byte, n, 1<<shift)}
}

// put hands buf back. nil is allowed.
func (p *bufferPool) put(buf *buffer) {
	if buf == nil {
		return
	}
	shift := bits.Len(uint(cap(buf.b))) - 1
	if shift < minBufferShift || shift > maxBufferShift || cap(buf.b) != 1<<shift {
		return // grown by an append, or too large to keep
	}
	if poisonBuffers {
		for i := range buf.b[:cap(buf.b)] {
			buf.b[:cap(buf.b)][i] = 0xdb
		}
	}
	p.classes[shift-minBufferShift].Put(buf)
}
