package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config configures a [Server].
type Config struct {
	// Listen is the address of the REST API, for example "localhost:8081". Empty means none: the registry is then used
	// by [Server.Backend] or served by [Server.Handler].
	Listen string
	// Brokers are the addresses of the log that keeps the schemas. Empty means localhost:9092.
	Brokers []string
	// ClientOpts are further options for the Kafka client, such as a dialer or credentials. They win over the registry's
	// own; what it relies on (the consumed topic, acks=all, the partitioner) must be left alone.
	ClientOpts []kgo.Opt
	// Topic keeps the schemas. Empty means _schemas. One registry writes to it: a second one that starts takes it over, and
	// from then on the first only reads.
	Topic string
	// Unfenced writes without transactions, for clusters that have none. Nothing then keeps a second registry away: see to
	// it that there is one.
	Unfenced bool
	// TLS serves the REST API over TLS. Nil means plain HTTP.
	TLS *tls.Config
	// Users may use the REST API, with basic authentication. None means that anybody may.
	Users []User
	// Replication is the replication factor of a topic that has to be created. 0 means three, or the number of brokers if
	// there are fewer.
	Replication int16
	// WriteTimeout bounds one change, from its write until it can be read. 0 means 30 seconds.
	WriteTimeout time.Duration
	// MaxBodyBytes bounds the body of a request, and so a schema. 0 means 1 MiB.
	MaxBodyBytes int64
	// Code40901 answers an incompatible schema with the error code 40901, as Confluent's registries do since the end of
	// 2025, instead of 409, which older clients know too.
	Code40901 bool
	// Logger gets what the operator should know. Nil means none.
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	if len(c.Brokers) == 0 {
		c.Brokers = []string{"localhost:9092"}
	}
	if c.Topic == "" {
		c.Topic = "_schemas"
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 30 * time.Second
	}
	if c.MaxBodyBytes == 0 {
		c.MaxBodyBytes = 1 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate names the first field that cannot be used, and why.
func (c *Config) Validate() error {
	switch {
	case c.Replication < 0:
		return fmt.Errorf("registry: Config.Replication is %d: want 0 for the default, or more", c.Replication)
	case c.WriteTimeout < 0:
		return fmt.Errorf("registry: Config.WriteTimeout is %v: want 0 for the default, or more", c.WriteTimeout)
	case c.MaxBodyBytes < 0:
		return fmt.Errorf("registry: Config.MaxBodyBytes is %d: want 0 for the default, or more", c.MaxBodyBytes)
	case c.TLS != nil && len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil && c.TLS.GetConfigForClient == nil:
		return errors.New("registry: Config.TLS has no certificate: set its Certificates or GetCertificate")
	}
	for i, u := range c.Users {
		if u.Name == "" || strings.Contains(u.Name, ":") {
			return fmt.Errorf("registry: Config.Users[%d].Name is %q: want a name without a colon", i, u.Name)
		}
	}
	return nil
}

// Server is a running registry. Its methods may be called by several goroutines.
//
// It has two goroutines of its own: the reader of the schemas' topic, and the HTTP server where Listen is set. Close
// waits for both.
type Server struct {
	config   Config
	core     atomic.Pointer[core] // nil until everything that was ever registered has been read
	handler  http.Handler
	listener net.Listener
	http     *http.Server
	serving  chan struct{} // closed when the HTTP server has ended

	closing sync.Once
	failed  error
}

// Start runs a registry and returns when it is ready: when it has read its topic to the end. Until then its REST API
// answers 503. Brokers that cannot be reached are waited for until ctx ends; a port in use is an error at once. ctx is
// for the start only.
func Start(ctx context.Context, c Config) (*Server, error) {
	c.setDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c, serving: make(chan struct{})}
	s.handler = newHandler(s)
	if err := s.listen(ctx); err != nil {
		return nil, err
	}
	st := newState(c.Logger)
	begin := time.Now()
	l, err := openLog(ctx, c, st)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.core.Store(&core{state: st, log: l})
	subjects, ids := st.count()
	c.Logger.Info("the schema registry is ready", "addr", s.Addr(), "topic", c.Topic, "subjects", subjects, "schemas", ids, "took", time.Since(begin))
	return s, nil
}

// listen opens the port, before anything that may wait, and serves on it.
func (s *Server) listen(ctx context.Context) error {
	if s.config.Listen == "" {
		close(s.serving)
		return nil
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.config.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("registry: port in use: %s: stop the program that listens there, or choose another address for the schema registry (Config.Listen, --listen): %w", s.config.Listen, err)
	}
	if err != nil {
		return fmt.Errorf("registry: listen on %s: %w", s.config.Listen, err)
	}
	if s.config.TLS != nil {
		listener = tls.NewListener(listener, s.config.TLS)
	}
	s.listener = listener
	s.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      s.config.WriteTimeout + time.Minute, // from the request's header on
		IdleTimeout:       10 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelWarn),
	}
	go func() {
		defer close(s.serving)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.config.Logger.Error("the schema registry's HTTP server ended", "err", err)
		}
	}()
	return nil
}

// Addr is the address of the REST API, host and port; empty if the server has none.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Handler is the REST API, for those who serve it themselves.
func (s *Server) Handler() http.Handler { return s.handler }

// Backend is the registry itself, without HTTP. It implements [Admin] too. It must not be used after Close.
func (s *Server) Backend() Backend { return direct{s} }

// Close stops the server: requests under way get ten seconds to end. It may be called more than once.
func (s *Server) Close() error {
	s.closing.Do(func() {
		if s.http != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := s.http.Shutdown(ctx); err != nil {
				s.failed = errors.Join(fmt.Errorf("registry: end the HTTP server: %w", err), s.http.Close())
			}
			<-s.serving
		}
		if c := s.core.Load(); c != nil {
			c.log.close()
		}
	})
	return s.failed
}

// ready returns the registry, or the error that says that it is still starting.
func (s *Server) ready() (*core, error) {
	if c := s.core.Load(); c != nil {
		return c, nil
	}
	return nil, fail(http.StatusServiceUnavailable, "The schema registry is starting: it reads topic %s of %v", s.config.Topic, s.config.Brokers)
}
