package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sr"
)

var (
	errUnreachable = errors.New("no broker can be reached")
	errNoRegistry  = errors.New("the schema registry cannot be reached")
)

// Cluster is a connected client. Whoever gets one closes it.
type Cluster struct {
	*kgo.Client
	Admin *kadm.Client
}

// Connect reaches the cluster, or says at once why it cannot: a client would try again for a long time.
func (e *Env) Connect(ctx context.Context, opts ...kgo.Opt) (*Cluster, error) {
	base, err := e.clientOpts()
	if err != nil {
		return nil, err
	}
	dials := &dialErrors{}
	if opt, ok := base.dialer(dials); ok {
		base.opts = append(base.opts, opt)
	}
	client, err := kgo.NewClient(append(base.opts, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	var errs []error
	for _, seed := range client.SeedBrokers() {
		if _, err = seed.Request(ctx, brokersOnly()); err == nil {
			admin := kadm.NewClient(client)
			admin.SetTimeoutMillis(int32(e.timeout.Milliseconds()))
			return &Cluster{client, admin}, nil
		}
		errs = append(errs, err)
	}
	client.Close()
	return nil, fmt.Errorf("%w: %w", errUnreachable, errors.Join(append(errs, dials.all()...)...))
}

// brokersOnly asks for metadata without any topic.
func brokersOnly() kmsg.Request {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	return req
}

// connection is how the client reaches the cluster.
type connection struct {
	opts   []kgo.Opt
	secure *secure
}

// clientOpts are the client's options, from flags, environment and the file of --command-config, in this order.
func (e *Env) clientOpts() (connection, error) {
	var c connection
	if e.timeout <= 0 {
		return c, Usagef("--timeout %s: want a duration that is more than nothing, such as 30s", e.timeout)
	}
	var fromFile []string
	if e.config != "" {
		file, err := readProperties(e.config)
		if err != nil {
			return c, err
		}
		if c.secure, err = file.secure(); err != nil {
			return c, fmt.Errorf("%s: %w", e.config, err)
		}
		fromFile = file.list("bootstrap.servers")
		if !e.quiet {
			for _, key := range file.unknown() {
				fmt.Fprintf(e.Err, "note: %s: %s is not used here\n", e.config, key)
			}
		}
	}
	if len(e.brokers) == 0 {
		e.brokers = splitList(e.Getenv("LEAT_BOOTSTRAP_SERVER"))
	}
	if len(e.brokers) == 0 {
		e.brokers = fromFile
	}
	if len(e.brokers) == 0 {
		e.brokers = []string{"localhost:9092"}
	}
	c.opts = []kgo.Opt{kgo.SeedBrokers(e.brokers...), kgo.ClientID("leat/" + e.Version),
		kgo.RetryTimeout(e.timeout), kgo.DialTimeout(min(e.timeout, 10*time.Second))}
	if c.secure != nil {
		c.opts = append(c.opts, c.secure.opts()...)
	}
	return c, nil
}

// dialErrors keeps why connections could not be made: the client's own errors do not always say.
type dialErrors struct {
	mu struct {
		sync.Mutex
		errs []error
	}
}

func (d *dialErrors) add(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.mu.errs) < 8 {
		d.mu.errs = append(d.mu.errs, err)
	}
}

func (d *dialErrors) all() []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.errs
}

// dialer makes connections as the client would, but notes why one failed. With TLS the client's own is left in place.
func (c connection) dialer(d *dialErrors) (kgo.Opt, bool) {
	if c.secure != nil && c.secure.tls != nil {
		return nil, false
	}
	nd := net.Dialer{Timeout: 10 * time.Second}
	return kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
		conn, err := nd.DialContext(ctx, network, host)
		if err != nil {
			d.add(err)
		}
		return conn, err
	}), true
}

// Admin makes the RunE of a command that asks the cluster: f gets a connected client and a context with the command's timeout.
func (e *Env) Admin(f func(ctx context.Context, cl *Cluster, args []string) (*Result, error)) func(*cobra.Command, []string) error {
	return e.Action(func(cmd *cobra.Command, args []string) (*Result, error) {
		cl, err := e.Connect(cmd.Context())
		if err != nil {
			return nil, err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), e.timeout)
		defer cancel()
		return f(ctx, cl, args)
	})
}

// RegistryURL is where the schema registry is, and whether the user said so.
func (e *Env) RegistryURL() (url string, given bool) {
	if e.registry != "" {
		return e.registry, true
	}
	if url := e.Getenv("LEAT_REGISTRY"); url != "" {
		return url, true
	}
	return "http://localhost:8081", false
}

// Registry is a client of the schema registry.
func (e *Env) Registry() (*sr.Client, error) {
	url, _ := e.RegistryURL()
	return sr.NewClient(sr.URLs(splitList(url)...), sr.UserAgent("leat/"+e.Version))
}

// RegistryError adds to the error of a registry client where the registry was looked for.
func (e *Env) RegistryError(err error) error {
	var network *url.Error
	if !errors.As(err, &network) {
		return err
	}
	at, _ := e.RegistryURL()
	return fmt.Errorf("%w at %s: %w. Start one with 'leat dev' or 'leat registry serve', or name another with --registry", errNoRegistry, at, network.Err)
}
