package streams

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/failpoint"
	"github.com/leatstream/leat/streams/internal/runtime"
	"github.com/leatstream/leat/streams/internal/simulation"
)

// ErrInternalTopic is wrapped by the error of an application whose internal topics do not fit its topology any more.
var ErrInternalTopic = runtime.ErrInternalTopic

// App is one instance of an application. Its methods may be called from any goroutine.
type App struct {
	topology *Topology
	cfg      Config
	ready    chan struct{}
	first    sync.Once
	tune     func(*runtime.Config) // tests only
	ask      *asker                // what its views read through
	seams    simulation.Seams      // zero outside of simulations

	life struct {
		sync.Mutex
		state State
		tell  sync.Mutex // held while OnState is called
	}
	mu struct {
		sync.Mutex
		ran   bool
		leave bool

		paused bool
		stop   context.CancelFunc // while it runs
		rt     *runtime.Runtime
		db     *state.DB
		id     string // of the state directory
		finder *finder
	}
}

// New returns an instance that does nothing until Run. Its error names the field of cfg that cannot be.
func New(t *Topology, cfg Config) (*App, error) {
	if t == nil {
		return nil, errors.New("streams.New without a topology: give it what Builder.Build returned")
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("streams.New: %w", err)
	}
	a := &App{topology: t, cfg: cfg.withDefaults(), ready: make(chan struct{})}
	a.ask = a.newAsker()
	return a, nil
}

// Simulate is no part of the API, and not under its promises: it is there for package streamstest/cluster, before Run, and no
// other program can make what it takes.
func (a *App) Simulate(s simulation.Seams) { a.seams = s }

// run is Run between its first and its last state.
func (a *App) run(ctx context.Context) (err error) {
	points, err := failpoint.FromEnv()
	if err != nil {
		return err
	}
	if a.seams.Failpoints != nil {
		points = a.seams.Failpoints
	}
	db, err := state.Open(state.Options{Dir: filepath.Join(a.cfg.StateDir, a.cfg.AppID), FS: a.seams.FS, MemoryBytes: a.cfg.MemoryBytes, Logger: a.cfg.Logger})
	if err != nil {
		return err
	}
	defer func() {
		a.mu.Lock()
		a.mu.rt, a.mu.db, a.mu.stop = nil, nil, nil
		a.mu.Unlock()
		if closed := db.Close(); closed != nil && !errors.Is(err, db.Err()) {
			err = errors.Join(err, closed)
		}
	}()
	id := a.cfg.InstanceID
	if id == "" {
		if id, err = db.InstanceID(); err != nil {
			return err
		}
	}
	address, deaf, err := a.openQueries(id)
	if err != nil {
		return err
	}
	defer deaf()
	rc := a.runtimeConfig(ctx, id, address, db, points)
	if a.tune != nil {
		a.tune(&rc)
	}
	rt := runtime.New(rc)
	a.mu.Lock()
	a.mu.rt, a.mu.db = rt, db
	rt.SetPaused(a.mu.paused)
	a.mu.Unlock()
	return rt.Run(ctx)
}

// runtimeConfig is what the runtime is told of the application and of this instance.
func (a *App) runtimeConfig(ctx context.Context, id, address string, db *state.DB, points *failpoint.Set) runtime.Config {
	return runtime.Config{
		AppID:         a.cfg.AppID,
		InstanceID:    id,
		Address:       address,
		Rack:          a.cfg.Rack,
		Plan:          a.topology.plan,
		Manifest:      a.topology.manifest.encode(),
		CheckManifest: a.checkManifest,
		DB:            db,
		Client:        a.clientOptions(),

		Workers:            a.cfg.Workers,
		ExactlyOnce:        a.cfg.Guarantee == ExactlyOnce,
		CommitInterval:     a.cfg.CommitInterval,
		TransactionTimeout: a.cfg.TransactionTimeout,
		SessionTimeout:     a.cfg.SessionTimeout,
		MaxSentBytes:       a.cfg.MemoryBytes / 4,
		MaxQueuedBytes:     a.cfg.MemoryBytes / 4,
		ReplicationFactor:  -1,
		PurgeInterval:      30 * time.Second,
		LookInterval:       30 * time.Second,
		StateCleanup:       a.cfg.StateCleanup,
		IdleAdvance:        a.cfg.IdleAdvance,

		Standbys:      a.cfg.Standbys,
		AcceptableLag: a.cfg.AcceptableLag,
		Warmups:       a.cfg.Warmups,

		OnError:     a.cfg.OnError,
		OnUp:        func(is bool) { a.up(ctx, is) },
		LeaveOnStop: func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.mu.leave || a.cfg.LeaveOnStop },
		Wrap:        a.cfg.Wrap,
		Meters:      a.cfg.MeterProvider,
		Tracer:      a.cfg.TracerProvider,
		TraceLinks:  a.cfg.TraceLinks,
		Logger:      a.cfg.Logger.With("app", a.cfg.AppID),
		Failpoints:  points,
	}
}

// Ready is closed when the instance has joined its group and every task that it was given has its state and runs, for the
// first time.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Leave makes Run end as if its context were done, and gives the instance's partitions to the others at once: for an
// instance that is not to come back. It does not wait for Run.
func (a *App) Leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.leave = true
	if a.mu.stop != nil {
		a.mu.stop()
	}
}

// RestoredRecords counts the changelog records that were replayed into the state since Run began: 0 after a restart that
// found all its state on disk.
func (a *App) RestoredRecords() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.rt == nil {
		return 0
	}
	return a.mu.rt.Restored()
}
