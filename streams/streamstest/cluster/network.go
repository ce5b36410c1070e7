package cluster

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

var errCut = errors.New("cluster: the connection is cut")

// host is a machine's place in the network: of an instance, or of the clients of the test. Its connections can be cut,
// held up and counted.
type host struct {
	node     *node
	dead     atomic.Bool
	requests atomic.Int64 // frames written
	at       struct {     // what happens at a request; see arm
		sync.Mutex
		count int64
		do    func(l *link) (deliver bool)
	}
	mu struct {
		sync.Mutex
		links map[*link]bool
		held  chan struct{} // closed when traffic goes on; nil: it does
	}
}

func newHost(n *node) *host {
	h := &host{node: n}
	h.mu.links = map[*link]bool{}
	return h
}

// dial is a kgo.Dialer.
func (h *host) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if h.dead.Load() {
		return nil, errCut
	}
	if err := h.pass(ctx.Done()); err != nil {
		return nil, err
	}
	run := h.node.running()
	if run == nil {
		return nil, syscall.ECONNREFUSED
	}
	nc, err := run.broker.Dial(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: nc, host: h, over: &run.dead, closed: make(chan struct{})}
	h.add(l)
	return l, nil
}

func (h *host) add(l *link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.links[l] = true
}

func (h *host) remove(l *link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.mu.links, l)
}

// arm has do called at the n-th request from now, by the goroutine that sends it. do says whether the request gets through.
func (h *host) arm(n int64, do func(l *link) (deliver bool)) {
	h.at.Lock()
	defer h.at.Unlock()
	h.at.count, h.at.do = h.requests.Load()+n, do
}

// cut closes every connection.
func (h *host) cut() {
	h.mu.Lock()
	links := h.mu.links
	h.mu.links = map[*link]bool{}
	h.mu.Unlock()
	for l := range links {
		_ = l.Close()
	}
}

// kill cuts the host off for good.
func (h *host) kill() {
	h.dead.Store(true)
	h.release()
	h.cut()
}

// hold lets nothing pass in either direction until release: what is on its way arrives then.
func (h *host) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.held == nil {
		h.mu.held = make(chan struct{})
	}
}

func (h *host) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.held != nil {
		close(h.mu.held)
		h.mu.held = nil
	}
}

// pass waits while traffic is held up.
func (h *host) pass(done <-chan struct{}) error {
	h.mu.Lock()
	held := h.mu.held
	h.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-done:
		}
	}
	if h.dead.Load() {
		return errCut
	}
	return nil
}

// link is one connection of a host.
type link struct {
	net.Conn
	host   *host
	far    *host        // of the other end, if faults strike there, too; nil: they do not
	over   *atomic.Bool // the other end is dead
	closed chan struct{}
	once   sync.Once
	lost   atomic.Bool // the answers are
}

// Write sends one request: the client writes each at once.
func (l *link) Write(p []byte) (int, error) {
	for _, h := range []*host{l.host, l.far} {
		if h == nil {
			continue
		}
		if err := h.pass(l.closed); err != nil {
			return 0, err
		}
		if do := h.request(); do != nil && !do(l) {
			_ = l.Close()
			return 0, errCut
		}
	}
	if l.over.Load() {
		return 0, errCut
	}
	return l.Conn.Write(p)
}

// request counts a request, and returns what happens at it; nil: nothing.
func (h *host) request() (do func(*link) bool) {
	n := h.requests.Add(1)
	h.at.Lock()
	defer h.at.Unlock()
	if h.at.do == nil || n < h.at.count {
		return nil
	}
	do, h.at.do = h.at.do, nil
	return do
}

// Read is refused once the broker is dead: what it does after its end nobody may learn.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	for _, h := range []*host{l.host, l.far} {
		if h == nil {
			continue
		}
		if perr := h.pass(l.closed); perr != nil {
			return 0, perr
		}
	}
	if l.lost.Load() || l.over.Load() {
		_ = l.Close()
		return 0, errCut
	}
	return n, err
}

// Close implements net.Conn.
func (l *link) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.host.remove(l)
	if l.far != nil {
		l.far.remove(l)
	}
	return l.Conn.Close()
}
