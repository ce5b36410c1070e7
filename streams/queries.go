package streams

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams/internal/query"
	"github.com/leatstream/leat/streams/internal/runtime"
)

// QueryConfig says how an instance answers the queries of others, and asks them. It matters only with Config.Listen, or to
// App.Handler.
type QueryConfig struct {
	// Advertise is the URL under which the others reach this instance, as http://host:port. Empty: the address that it
	// listens on, which then has to name a host.
	Advertise string
	// Token is a secret that all instances share: who does not know it gets no answer, but to /livez and /readyz. Empty:
	// whoever reaches the address may read every store, pause and resume; but not a web page, and only by an address, the names
	// in Config.Listen and Advertise, localhost and the machine's name. Without TLS the token crosses the network in clear.
	Token string
	// TLS is the listener's; nil: none.
	TLS *tls.Config
	// ClientTLS is for asking the others; nil: the system's roots.
	ClientTLS *tls.Config
	// Timeout bounds the time in which a query has to find who has what it asks for, and to get the first row. 0: 10 s.
	Timeout time.Duration
}

// ErrUnavailable is wrapped by the error of a query of a partition that no instance which can be asked has now: its owner
// has died, or the task is on its way. Asking again later may help; the query has done so for QueryConfig.Timeout.
var ErrUnavailable = query.ErrUnavailable

// defaultQueryTime is QueryConfig.Timeout.
const defaultQueryTime = 10 * time.Second

// queried reports whether the instances of the application answer each other.
func (c Config) queried() bool { return c.Listen != "" || c.Queries.Advertise != "" }

func (c QueryConfig) validate(listen string) error {
	if c.Timeout < 0 {
		return fmt.Errorf("Config.Queries.Timeout is %s, want 0 (10 s) or more", c.Timeout)
	}
	if c.Advertise != "" {
		u, err := url.Parse(c.Advertise)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("Config.Queries.Advertise is %q, want a URL as http://host:port", c.Advertise)
		}
	}
	if listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("Config.Listen is %q, want host:port: %w", listen, err)
	}
	if ip := net.ParseIP(host); c.Advertise == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
		return fmt.Errorf("Config.Listen is %q, which names no host that others could ask: set Config.Queries.Advertise, as http://10.0.0.7:7070", listen)
	}
	return nil
}

func (c QueryConfig) timeout() time.Duration {
	if c.Timeout == 0 {
		return defaultQueryTime
	}
	return c.Timeout
}

// asker is where views read: by an instance, or from outside.
type asker struct {
	router *query.Router
	local  *query.Router // of the instance alone; nil outside
	within time.Duration
	// store says what is known of a store of the application.
	store func(ctx context.Context, name string) (query.Store, error)
	// topic is what the store's serdes are told, once store has answered.
	topic func(name string) string
	// end is where a window ends that starts at start, both in milliseconds, once store has answered.
	end func(name string, start int64) int64
	// client is how to reach the brokers.
	client func() []kgo.Opt
}

// newAsker makes what the views of an instance read through.
func (a *App) newAsker() *asker {
	here := (*localRows)(a)
	topic := func(name string) string {
		_, spec := a.topology.plan.Store(name)
		return a.placeOf(spec)
	}
	end := func(name string, start int64) int64 {
		_, spec := a.topology.plan.Store(name)
		return spec.WindowEnd(start)
	}
	ask := &asker{within: a.cfg.Queries.timeout(), store: a.storeOf, topic: topic, end: end, client: a.clientOptions, local: &query.Router{Local: here}}
	ask.router = ask.local
	if a.cfg.queried() {
		ask.router = &query.Router{Local: here, Find: a.findInstances, Client: query.NewClient(a.cfg.AppID, a.cfg.Queries.Token, a.cfg.Queries.ClientTLS)}
	}
	return ask
}

// openQueries begins to answer other instances and to find them. stop ends that.
func (a *App) openQueries(id string) (address string, stop func(), err error) {
	a.mu.Lock()
	a.mu.id = id
	a.mu.Unlock()
	if !a.cfg.queried() {
		return "", func() {}, nil
	}
	cl, err := kgo.NewClient(a.clientOptions()...)
	if err != nil {
		return "", nil, fmt.Errorf("configure the client: %w", err)
	}
	address, deaf, err := a.listen()
	if err != nil {
		cl.Close()
		return "", nil, err
	}
	a.mu.Lock()
	a.mu.finder = newFinder(cl, a.cfg.AppID)
	a.mu.Unlock()
	return address, func() {
		a.mu.Lock()
		a.mu.finder = nil
		a.mu.Unlock()
		deaf()
		cl.Close()
		a.ask.router.Client.Close()
	}, nil
}

// listen begins to answer, and returns the URL under which others reach this instance. stop ends it, and the queries under
// way.
func (a *App) listen() (address string, stop func(), err error) {
	if a.cfg.Listen == "" {
		return a.cfg.Queries.Advertise, func() {}, nil
	}
	l, err := net.Listen("tcp", a.cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return "", nil, fmt.Errorf("listen for queries: %s (Config.Listen) is in use: stop the program that listens there, perhaps another instance, or choose "+
			"another port for this one; port 0 is a free one: %w", a.cfg.Listen, err)
	}
	if err != nil {
		return "", nil, fmt.Errorf("listen for queries (Config.Listen): %w", err)
	}
	if ip := l.Addr().(*net.TCPAddr).IP; a.cfg.Queries.Token == "" && !ip.IsLoopback() {
		a.cfg.Logger.Warn("queries are answered to whoever reaches the address: set Config.Queries.Token", "app", a.cfg.AppID, "listen", l.Addr().String())
	}
	scheme := "http://"
	if a.cfg.Queries.TLS != nil {
		l, scheme = tls.NewListener(l, a.cfg.Queries.TLS), "https://"
	}
	address = a.cfg.Queries.Advertise
	if address == "" {
		host, _, _ := net.SplitHostPort(a.cfg.Listen)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		address = scheme + net.JoinHostPort(host, port)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := query.NewServer((*answers)(a), a.cfg.AppID, a.cfg.Queries.Token).Hosts(a.hosts()...).HTTP()
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.cfg.Logger.Error("queries are not answered any more", "app", a.cfg.AppID, "err", err)
		}
	})
	return address, func() {
		cancel()
		ctx, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // what does not end is cut
		}
		wg.Wait()
	}, nil
}

// hosts are the names that the instance's listener goes by.
func (a *App) hosts() (names []string) {
	if host, _, err := net.SplitHostPort(a.cfg.Listen); err == nil && host != "" {
		names = append(names, host)
	}
	if u, err := url.Parse(a.cfg.Queries.Advertise); err == nil && u.Hostname() != "" {
		names = append(names, u.Hostname())
	}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	return names
}

// Handler answers what the instance's listener answers (docs/running.md lists it), for a server of the program's own. It
// may be asked under any name. It works without Config.Listen, too, but the other instances ask the address of Config.Queries.Advertise.
func (a *App) Handler() http.Handler {
	return query.NewServer((*answers)(a), a.cfg.AppID, a.cfg.Queries.Token)
}

// findInstances is the router's Find.
func (a *App) findInstances(ctx context.Context) (map[string]string, error) {
	a.mu.Lock()
	f := a.mu.finder
	a.mu.Unlock()
	if f == nil {
		return nil, fmt.Errorf("%w: the application does not run", ErrNotReady)
	}
	return f.find(ctx)
}

// finder finds instances through their group, and remembers them while a rebalance hides them.
type finder struct {
	group string
	admin *kadm.Client

	mu    sync.Mutex
	known map[string]string
}

func newFinder(cl *kgo.Client, group string) *finder {
	return &finder{group: group, admin: kadm.NewClient(cl), known: map[string]string{}}
}

func (f *finder) find(ctx context.Context) (map[string]string, error) {
	by, settled, err := runtime.Addresses(ctx, f.admin, f.group)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if settled {
		clear(f.known)
	}
	maps.Copy(f.known, by)
	return maps.Clone(f.known), nil
}
