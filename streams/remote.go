package streams

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/query"
	"github.com/leatstream/leat/streams/internal/runtime"
)

// RemoteConfig says which application a Remote asks. AppID and Brokers are required.
type RemoteConfig struct {
	AppID   string
	Brokers []string    // may be empty if Client says how to connect
	Client  []kgo.Opt   // as Config.Client
	Queries QueryConfig // Token, ClientTLS and Timeout, as the instances have them
}

// Remote asks the instances of an application from a program that is none of them. It finds them through their group. It
// may be used from any goroutine.
type Remote struct {
	cfg  RemoteConfig
	opts []kgo.Opt
	cl   *kgo.Client
	ask  *asker

	mu     sync.Mutex
	stores map[string]query.Store
	finder *finder
}

// NewRemote returns a Remote that has not asked anybody yet. Whoever gets one closes it.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	switch {
	case cfg.AppID == "":
		return nil, errors.New("streams.NewRemote: RemoteConfig.AppID is empty: name the application to ask")
	case len(cfg.Brokers) == 0 && len(cfg.Client) == 0:
		return nil, errors.New("streams.NewRemote: RemoteConfig.Brokers is empty: name at least one broker, host:port")
	}
	var opts []kgo.Opt
	if len(cfg.Brokers) > 0 {
		opts = append(opts, kgo.SeedBrokers(cfg.Brokers...))
	}
	opts = append(opts, cfg.Client...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("streams.NewRemote: configure the client: %w", err)
	}
	r := &Remote{cfg: cfg, opts: opts, cl: cl, finder: newFinder(cl, cfg.AppID)}
	r.ask = &asker{within: cfg.Queries.timeout(), store: r.storeOf, client: func() []kgo.Opt { return r.opts }, topic: func(name string) string {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.stores[name].Topic
	}, end: func(name string, start int64) int64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return start + r.stores[name].Size.Milliseconds()
	}, router: &query.Router{Client: query.NewClient(cfg.AppID, cfg.Queries.Token, cfg.Queries.ClientTLS), Find: r.finder.find}}
	return r, nil
}

// Close gives back its connections.
func (r *Remote) Close() {
	r.ask.router.Client.Close()
	r.cl.Close()
}

// storeOf finds what is known of a store, once: what of it can change does not matter to whoever asks.
func (r *Remote) storeOf(ctx context.Context, name string) (query.Store, error) {
	r.mu.Lock()
	st, ok := r.stores[name]
	r.mu.Unlock()
	if ok {
		return st, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.ask.within)
	defer cancel()
	all, err := r.ask.router.Instances(ctx, false)
	if err != nil {
		return st, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var errs []error
	for _, k := range all {
		if k.Err != nil {
			errs = append(errs, k.Err)
			continue
		}
		for _, st := range k.Stores {
			if st.Name == name && st.Partitions > 0 {
				r.mu.Lock()
				if r.stores == nil {
					r.stores = map[string]query.Store{}
				}
				r.stores[name] = st
				r.mu.Unlock()
				return st, nil
			}
		}
		errs = append(errs, fmt.Errorf("instance %s has no store %q", k.ID, name))
	}
	if len(all) == 0 {
		errs = append(errs, fmt.Errorf("no instance of application %s is known that answers queries (Config.Listen)", r.cfg.AppID))
	}
	return st, fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(errs...))
}

// View returns a view of a key-value store of the application. Its descriptor needs the serdes that the topology uses for
// it; what it leaves out is found as Builder does. Reading.Local does not matter.
func (r *Remote) View[K, V any](s Store[K, V]) (*View[K, V], error) {
	c, err := declared(s.Name, s.Key, s.Value)
	if err != nil {
		return nil, err
	}
	return &View[K, V]{reading{at: r.ask, name: s.Name}, c}, nil
}

// WindowView returns a view of a window store, as View does. What Subscribe tells of the windows of a calendar ends at the
// largest size that they have.
func (r *Remote) WindowView[K, V any](s WindowStore[K, V]) (*WindowView[K, V], error) {
	c, err := declared(s.Name, s.Key, s.Value)
	if err != nil {
		return nil, err
	}
	return &WindowView[K, V]{reading{at: r.ask, name: s.Name}, c, s.Size}, nil
}

// SessionView returns a view of a session store, as View does.
func (r *Remote) SessionView[K, V any](s SessionStore[K, V]) (*SessionView[K, V], error) {
	c, err := declared(s.Name, s.Key, s.Value)
	if err != nil {
		return nil, err
	}
	return &SessionView[K, V]{reading{at: r.ask, name: s.Name}, c}, nil
}

// declared are the serdes of a descriptor, those left out by their types.
func declared[K, V any](name string, key serde.Serde[K], val serde.Serde[V]) (c codec[K, V], err error) {
	if name == "" {
		return c, errors.New("view of a store without a name")
	}
	c = codec[K, V]{key, val}
	if c.key == nil {
		if c.key, err = serde.For[K](); err != nil {
			return c, fmt.Errorf("view of store %q: the key: %w", name, err)
		}
	}
	if c.val == nil {
		if c.val, err = serde.For[V](); err != nil {
			return c, fmt.Errorf("view of store %q: the value: %w", name, err)
		}
	}
	return c, nil
}

// GroupProtocol is the protocol of the groups of applications, by which they are told from other groups.
const GroupProtocol = runtime.ProtocolName

// Member is one worker of an application, as its group knows it.
//
//	ID         string   // group.instance.id
//	Instance   string   // id of the state directory that it uses
//	URL        string   // where its instance answers queries; empty: nowhere
//	Rack       string
//	Host       string
//	Client     string   // id of its client
//	Partitions []string
type Member = runtime.Member

// Members asks the group's coordinator, not the instances, for the workers of the application, and for the group's state.
// While that is PreparingRebalance or CompletingRebalance, what members say of themselves is not known.
func (r *Remote) Members(ctx context.Context) (all []Member, state string, err error) {
	all, state, _, err = runtime.Members(ctx, r.finder.admin, r.cfg.AppID)
	return all, state, err
}

// Manifest reads the manifest of the topology that the application ran last from the cluster; false: it has kept none.
func (r *Remote) Manifest(ctx context.Context) (m Manifest, ok bool, err error) {
	b, err := runtime.ReadManifest(ctx, r.cl, r.opts, r.cfg.AppID)
	if err != nil || b == nil {
		return m, false, err
	}
	m, err = DecodeManifest(b)
	return m, err == nil, err
}

// Topology asks an instance for the picture of the topology: as "text", which is Kafka's, "dot", "mermaid" or "json".
func (r *Remote) Topology(ctx context.Context, as string) (string, error) {
	all, err := r.Instances(ctx, false)
	if err != nil {
		return "", err
	}
	errs := []error{fmt.Errorf("%w: no instance of application %s answers (Config.Listen)", ErrUnavailable, r.cfg.AppID)}
	for _, k := range all {
		text, err := "", k.Err
		if err == nil {
			text, err = r.ask.router.Client.Topology(ctx, k.URL, as)
		}
		if err == nil {
			return text, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// Instance is what one instance says of itself, or the error for which it could not be asked.
//
//	ID, URL  string
//	App      string
//	State    string  // as State.String
//	Paused   bool
//	Restored float64 // percent of its state
//	Tasks    []…     // ID, Sub, Partition, Role, Worker, Lag, Remaining, Restored (records), Bytes, Left
//	Stores   []…     // Name, Kind, Sub, Global, Topic, Changelog, Partitions, Here, Key, Value, Size, Rows …
//	Err      error   // it could not be asked; only ID and URL are known
type Instance = query.Known

// Instances asks every instance that the group names what it is and has; with counts also how many rows its stores have.
func (r *Remote) Instances(ctx context.Context, counts bool) ([]Instance, error) {
	return r.ask.router.Instances(ctx, counts)
}

// SetPaused pauses every instance that answers queries, or resumes them (App.Pause). It returns those that it reached; the
// others have an Err.
func (r *Remote) SetPaused(ctx context.Context, paused bool) ([]Instance, error) {
	all, err := r.Instances(ctx, false)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if k := &all[i]; k.Err == nil {
			if k.Err = r.ask.router.Client.SetPaused(ctx, k.URL, paused); k.Err == nil {
				k.Paused = paused
			}
		}
	}
	return all, nil
}
