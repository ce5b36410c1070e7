package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/registry"
)

// schemas is the schema registry's machine: it keeps its schemas on the broker, and instances reach it over HTTP.
type schemas struct {
	w      *world
	broker *host // its way to the broker
	front  *host // the instances' way to it
	server *registry.Server
	http   http.Server
	listen *pipes
	served chan struct{} // closed when the HTTP server has ended
	refuse atomic.Bool   // it is away: nobody is let in
	own    *registry.Client
	close  func()      // of own's connections
	dead   atomic.Bool // for the trace: never
}

// startRegistry starts the registry of a scenario that wants one.
func (w *world) startRegistry() (err error) {
	s := &schemas{w: w, broker: newHost(w.node), front: newHost(w.node), served: make(chan struct{}),
		listen: &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}}
	s.server, err = registry.Start(w.ctx, registry.Config{Logger: w.trace.logger("registry", &s.dead),
		ClientOpts: []kgo.Opt{kgo.SeedBrokers("leat.invalid:9092"), kgo.Dialer(s.broker.dial)}})
	if err != nil {
		return fmt.Errorf("start the registry: %w", err)
	}
	s.http.Handler = s.server.Handler()
	go func() {
		defer close(s.served)
		if err := s.http.Serve(s.listen); !errors.Is(err, http.ErrServerClosed) {
			w.fail(fmt.Errorf("the registry's HTTP server: %w", err))
		}
	}()
	w.schemas = s
	s.own, s.close, err = s.client(w.own)
	return err
}

// client is a client of the registry at a place in the network, and what closes it.
func (s *schemas) client(at *host) (*registry.Client, func(), error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, at) }
	backend, err := registry.NewHTTP("http://registry.invalid:8081", registry.HTTPConfig{Transport: &http.Transport{DialContext: dial}})
	if err != nil {
		return nil, nil, err
	}
	c := new(registry.Client)
	c.Bind(backend)
	return c, backend.Close, nil
}

func (s *schemas) dial(ctx context.Context, at *host) (net.Conn, error) {
	for _, h := range []*host{at, s.front} {
		if h.dead.Load() {
			return nil, errCut
		}
		if err := h.pass(ctx.Done()); err != nil {
			return nil, err
		}
	}
	if s.refuse.Load() {
		return nil, syscall.ECONNREFUSED
	}
	nc, err := s.listen.dial(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: nc, host: at, far: s.front, over: new(atomic.Bool), closed: make(chan struct{})}
	at.add(l)
	s.front.add(l)
	return l, nil
}

// remember asks for every schema there is, so that what the topics hold can be decoded when the registry is gone.
func (s *schemas) remember() error {
	for id := 1; ; id++ {
		_, err := s.own.SchemaByID(s.w.ctx, id)
		if errors.Is(err, registry.ErrSchemaNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the schemas: %w", err)
		}
	}
}

// end stops the registry, whoever waits for it.
func (s *schemas) end() error {
	s.close()
	s.front.kill()
	err := s.http.Close()
	<-s.served
	s.broker.release()
	return errors.Join(err, s.server.Close())
}

// strike lets the registry be away for a while, refusing connections or answering nothing; or breaks a connection to it.
func (s *schemas) strike(k strike) error {
	if s == nil {
		return nil // the scenario has none
	}
	s.w.trace.note("%s is armed", k.kind)
	if k.kind == RegistryCut {
		s.front.arm(k.n, func(l *link) bool {
			s.w.trace.note("a connection to the registry is cut, request lost %v", !k.coin)
			l.lost.Store(k.coin)
			return k.coin
		})
		return nil
	}
	if k.coin {
		s.front.hold()
	} else {
		s.refuse.Store(true)
		s.front.cut()
	}
	s.w.later(k.lasts, func() error { s.back(); return nil })
	return nil
}

// back ends what a fault has begun.
func (s *schemas) back() {
	s.w.trace.note("the registry is there")
	s.refuse.Store(false)
	s.front.release()
}

// pipes is a listener for connections within the process.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "registry.invalid:8081" }
