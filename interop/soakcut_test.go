//go:build interop

package interop

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// moment says when a transaction is cut off.
type moment int

const (
	cutWhenSent     moment = iota // its end is on its way: it may be decided or not
	cutWhenAnswered               // the broker answers: it is decided, and its markers are not all there
)

// cut is a wish of the killer: that a client tell it of the moment when its transaction is to be cut off, and never see the broker's answer.
type cut struct {
	at   moment
	now  chan struct{} // closed at that moment, or when it cannot come any more
	once sync.Once
	sent atomic.Bool // the end is on its way, and its answer withheld
}

func (c *cut) fire() { c.once.Do(func() { close(c.now) }) }

// cutOff waits until a transaction has come to the moment. The kill that follows makes its outcome unknown to its client.
func (s *soak) cutOff(at moment) {
	c := &cut{at: at, now: make(chan struct{})}
	deadline := time.After(time.Minute)
	select {
	case s.cuts <- c:
	case <-deadline:
		s.t.Error("no transaction ends")
		return
	}
	select {
	case <-c.now:
	case <-deadline:
		s.t.Error("the end of a transaction is not answered")
	}
}

// wish is what the killer wants of the transaction that is about to end: nothing, mostly.
func (s *soak) wish() *cut {
	select {
	case c := <-s.cuts:
		return c
	default:
		return nil
	}
}

// line is a client's connections. Armed with a cut it watches for the end of a transaction.
type line struct {
	mu     sync.Mutex // protects following fields
	cut    *cut
	cancel context.CancelFunc
}

func (l *line) arm(c *cut, cancel context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.cancel = c, cancel
}

func (l *line) take() *cut {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.cut
	l.cut = nil
	return c
}

func (l *line) giveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel()
}

func (l *line) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &tapped{Conn: conn, line: l}, nil
}

// tapped is a connection that keeps the answer to a transaction's end from its client, if the transaction is to be cut off.
type tapped struct {
	net.Conn
	line *line

	withheld atomic.Pointer[cut]
}

const keyEndTxn = 26

// Write is called with whole requests: four bytes of length, then the API key.
func (t *tapped) Write(b []byte) (int, error) {
	if len(b) < 6 || binary.BigEndian.Uint16(b[4:]) != keyEndTxn {
		return t.Conn.Write(b)
	}
	c := t.line.take()
	if c == nil {
		return t.Conn.Write(b)
	}
	c.sent.Store(true)
	t.withheld.Store(c)
	n, err := t.Conn.Write(b)
	if c.at == cutWhenSent {
		c.fire()
	}
	return n, err
}

// Read gives out nothing once there is an answer to withhold. The client gives up before it learns that the connection is gone:
// it would ask again.
func (t *tapped) Read(b []byte) (int, error) {
	for {
		n, err := t.Conn.Read(b)
		c := t.withheld.Load()
		if c == nil {
			return n, err
		}
		c.fire()
		if err != nil {
			t.line.giveUp()
			return 0, err
		}
	}
}
