package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/leatstream/leat/broker/internal/pipe"
)

// network is the broker's listeners and connections.
type network struct {
	listeners []net.Listener
	accepting sync.WaitGroup
	serving   sync.WaitGroup
	open      struct {
		sync.Mutex
		closed bool
		conns  int
		byIP   map[netip.Addr]int
		dials  int
		full   time.Time // when a refused connection was logged last
		odd    time.Time // when a client's mistake was
	}
}

// inProcess is the address of a broker that listens nowhere: it resolves nowhere, so that a client which was not given
// Broker.Dialer fails at once.
const inProcess = "leat.invalid:9092"

// Addr is the address of the first listener, or a name for in-process use if there is none.
func (b *Broker) Addr() string {
	if len(b.listeners) == 0 {
		return inProcess
	}
	return b.listeners[0].Addr().String()
}

// listen opens all listeners or none. Connections queue up until accept.
func (b *Broker) listen(ctx context.Context) error {
	for i := range b.cfg.Listeners {
		addr, open := b.cfg.Listeners[i].Addr, !b.cfg.Listeners[i].authenticates()
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			b.closeListeners()
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("listen on %s: the port is in use by another program: stop that one, or listen on another port: %w", addr, err)
			}
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
		b.listeners = append(b.listeners, l)
		if host, ok := l.Addr().(*net.TCPAddr); ok && !host.IP.IsLoopback() && open {
			b.logger.Warn("listening beyond this machine without authentication: whoever reaches the address can read and write everything", "addr", l.Addr().String())
		}
	}
	return nil
}

// accept starts one goroutine per listener.
func (b *Broker) accept() {
	for i, l := range b.listeners {
		b.accepting.Go(func() { b.acceptOn(l, &b.cfg.Listeners[i]) })
	}
}

func (b *Broker) acceptOn(l net.Listener, as *Listener) {
	for {
		nc, err := l.Accept()
		if err == nil {
			b.serve(nc, as)
			continue
		}
		if b.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		// Out of file descriptors, most likely: others may close some.
		b.logger.Warn("accept failed", "addr", l.Addr().String(), "err", err)
		select {
		case <-b.ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// serve starts serving one connection that came to a listener, nil for the process itself; it reports whether it did.
func (b *Broker) serve(nc net.Conn, as *Listener) bool {
	ip := clientIP(nc)
	b.open.Lock()
	perIP := b.cfg.Security.perIP(ip)
	if b.open.closed || b.open.conns >= b.cfg.MaxConnections || b.open.byIP[ip] >= perIP {
		logIt := !b.open.closed && time.Since(b.open.full) > time.Second
		if logIt {
			b.open.full = time.Now()
		}
		b.open.Unlock()
		if logIt {
			b.logger.Warn("connection refused: the limit is reached", "client", nc.RemoteAddr().String(), "limit", b.cfg.MaxConnections, "limitPerAddress", perIP)
		}
		b.metrics.refusal()
		_ = nc.Close()
		return false
	}
	b.open.conns++
	if b.open.byIP == nil {
		b.open.byIP = map[netip.Addr]int{}
	}
	b.open.byIP[ip]++
	b.serving.Add(1)
	b.open.Unlock()
	go func() {
		defer b.serving.Done()
		newConn(b, nc, as).run()
		b.open.Lock()
		b.open.conns--
		if b.open.byIP[ip]--; b.open.byIP[ip] == 0 {
			delete(b.open.byIP, ip)
		}
		b.open.Unlock()
	}()
	return true
}

// mayComplain says whether a client's mistake may be logged as a warning: one a second, for a client can make many.
func (b *Broker) mayComplain(now time.Time) bool {
	b.open.Lock()
	defer b.open.Unlock()
	if now.Sub(b.open.odd) < time.Second {
		return false
	}
	b.open.odd = now
	return true
}

// clientIP is the address that a client comes from; not valid if it is in this process.
func clientIP(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Dial opens an in-process connection: a buffered duplex pipe, no TCP. It fails with ErrClosed after Close.
func (b *Broker) Dial(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.open.Lock()
	b.open.dials++
	name := fmt.Sprintf("in-process:%d", b.open.dials)
	closed := b.open.closed
	b.open.Unlock()
	if closed {
		return nil, ErrClosed
	}
	client, server := pipe.New(pipe.Addr(name), pipe.Addr(b.Addr()))
	if !b.serve(server, nil) {
		_ = client.Close()
		return nil, fmt.Errorf("broker: more than %d connections, or closing", b.cfg.MaxConnections)
	}
	return client, nil
}

// Dialer is Dial in the shape of kgo.Dialer: every address leads to this broker.
func (b *Broker) Dialer() func(ctx context.Context, network, host string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return b.Dial(ctx) }
}

func (b *Broker) closeListeners() {
	for _, l := range b.listeners {
		_ = l.Close()
	}
}

// closeNetwork ends all connections and waits for their goroutines. b.ctx is cancelled already, which closes the sockets.
func (b *Broker) closeNetwork() {
	b.open.Lock()
	b.open.closed = true
	b.open.Unlock()
	b.closeListeners()
	b.accepting.Wait()
	b.serving.Wait()
}
