// Package pipe is a buffered, in-memory, duplex network connection: what a program pays instead of TCP when client and broker are
// in one process. A reader that already waits with a buffer gets its bytes by one copy straight from the writer's.
package pipe

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// bufferBytes is how much one direction holds before its writer blocks. It grows to this only when the reader is slow.
const bufferBytes = 256 << 10

// New returns the two ends of a connection. Both are safe for concurrent use, have working deadlines, and report local and remote
// as their addresses.
func New(local, remote net.Addr) (net.Conn, net.Conn) {
	a, b := newHalf(), newHalf()
	return &end{in: a, out: b, local: local, remote: remote}, &end{in: b, out: a, local: remote, remote: local}
}

type end struct {
	in, out       *half
	local, remote net.Addr
}

func (e *end) Read(p []byte) (int, error)         { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error)        { return e.out.write(p) }
func (e *end) LocalAddr() net.Addr                { return e.local }
func (e *end) RemoteAddr() net.Addr               { return e.remote }
func (e *end) SetReadDeadline(t time.Time) error  { e.in.reads.set(e.in, t); return nil }
func (e *end) SetWriteDeadline(t time.Time) error { e.out.writes.set(e.out, t); return nil }

func (e *end) SetDeadline(t time.Time) error {
	e.in.reads.set(e.in, t)
	e.out.writes.set(e.out, t)
	return nil
}

// Close ends both directions: the peer reads what is buffered and then io.EOF, and its writes fail with io.ErrClosedPipe.
func (e *end) Close() error {
	e.in.closeReader()
	e.out.closeWriter()
	return nil
}

// half is one direction. One mutex, one condition: a direction has one reader and one writer in practice.
type half struct {
	mu   sync.Mutex
	cond *sync.Cond

	ring       []byte // power-of-two length, grown on demand up to bufferBytes
	head, size int    // oldest byte, bytes held

	waiting []byte // destination of the reader that waits; nil if none
	handed  int    // bytes copied into waiting by a writer

	reads, writes deadline
	noReader      bool
	noWriter      bool
}

// deadline wakes the half when a time is reached.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newHalf() *half {
	h := &half{}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (d *deadline) set(h *half, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.at = t
	if d.timer != nil {
		d.timer.Stop()
	}
	if t.IsZero() || h.noReader && h.noWriter {
		return
	}
	if wait := time.Until(t); wait <= 0 {
		h.cond.Broadcast()
	} else if d.timer == nil {
		d.timer = time.AfterFunc(wait, h.wake)
	} else {
		d.timer.Reset(wait)
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (h *half) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cond.Broadcast()
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.noReader:
			return 0, io.ErrClosedPipe
		case h.size > 0 || len(p) == 0:
			n := h.take(p)
			h.cond.Broadcast()
			return n, nil
		case h.noWriter:
			return 0, io.EOF
		case h.reads.passed():
			return 0, os.ErrDeadlineExceeded
		case h.waiting != nil: // a second reader: it waits its turn
			h.cond.Wait()
			continue
		}
		h.waiting, h.handed = p, 0
		for h.handed == 0 && h.size == 0 && !h.noReader && !h.noWriter && !h.reads.passed() {
			h.cond.Wait()
		}
		n := h.handed
		h.waiting, h.handed = nil, 0
		if n > 0 {
			return n, nil
		}
	}
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	total := 0
	for {
		switch {
		case h.noWriter || h.noReader:
			return total, io.ErrClosedPipe
		case h.writes.passed():
			return total, os.ErrDeadlineExceeded
		}
		if h.size == 0 && h.waiting != nil && h.handed < len(h.waiting) {
			n := copy(h.waiting[h.handed:], p)
			h.handed += n
			total += n
			p = p[n:]
		}
		n := h.put(p)
		total += n
		p = p[n:]
		h.cond.Broadcast()
		if len(p) == 0 {
			return total, nil
		}
		h.cond.Wait()
	}
}

// take moves the oldest bytes into p.
func (h *half) take(p []byte) int {
	n := min(len(p), h.size)
	first := copy(p[:n], h.ring[h.head:])
	copy(p[first:n], h.ring)
	h.size -= n
	if h.size == 0 {
		h.head = 0
	} else {
		h.head = (h.head + n) & (len(h.ring) - 1)
	}
	return n
}

// put stores as much of p as fits.
func (h *half) put(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	if need := h.size + len(p); need > len(h.ring) && len(h.ring) < bufferBytes {
		h.grow(need)
	}
	n := min(len(p), len(h.ring)-h.size)
	if n == 0 {
		return 0
	}
	tail := (h.head + h.size) & (len(h.ring) - 1)
	first := copy(h.ring[tail:], p[:n])
	copy(h.ring, p[first:n])
	h.size += n
	return n
}

func (h *half) grow(need int) {
	size := max(4<<10, len(h.ring))
	for size < need && size < bufferBytes {
		size *= 2
	}
	ring := make([]byte, size)
	held := h.size
	if held > 0 {
		h.take(ring[:held])
	}
	h.ring, h.head, h.size = ring, 0, held
}

func (h *half) closeReader() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noReader = true
	h.ring, h.head, h.size = nil, 0, 0
	h.stopTimers()
	h.cond.Broadcast()
}

func (h *half) closeWriter() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noWriter = true
	h.stopTimers()
	h.cond.Broadcast()
}

func (h *half) stopTimers() {
	// A reader may still drain a half whose writer is gone; its deadline can no longer matter then, since reads do not block.
	for _, d := range []*deadline{&h.reads, &h.writes} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
}

// Addr names one end of a pipe.
type Addr string

// Network is "pipe".
func (Addr) Network() string { return "pipe" }

func (a Addr) String() string { return string(a) }
