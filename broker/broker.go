// Package broker is an embeddable, durable, single-node broker that speaks the Kafka protocol.
//
// Start opens the data directory, replays what the broker must remember and listens; Broker.Dial connects to it inside the
// process, without TCP. One node is all it ever is: a replication factor above 1 is refused with Kafka's own error.
//
//	conn (frames) -> routing table -> one handler per API -> log / group / txn / meta
//
// Goroutines: one per listener, which accepts; one per connection, which reads, serves and answers, and a second one for
// connections that have produce requests waiting for the disk; those that sync; those of the coordinators. Close waits for all.
package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/meta"
	"github.com/leatstream/leat/internal/vfs"
)

// ErrClosed is returned by Dial after Close.
var ErrClosed = errors.New("broker: closed")

// Broker is a running broker. All methods are safe for concurrent use.
type Broker struct {
	cfg     Config
	usual   Config                 // of nothing but defaults
	live    atomic.Pointer[Config] // with what has been set at run time, see current
	relived chan struct{}          // live has changed
	logger  *slog.Logger
	ctx     context.Context // ends when Close begins
	cancel  context.CancelFunc
	lock    io.Closer
	// foldsCase says that the file system takes names for the same that differ in case only.
	foldsCase bool
	reserve   reserve
	// generation is the leader epoch of this start, see log.Config.Generation.
	generation int32

	routes        routeTable
	pool          bufferPool
	requestBytes  *semaphore.Weighted // frames that are not small
	decodedBytes  *semaphore.Weighted // what frames become; who holds it waits for nothing else
	responseBytes *semaphore.Weighted

	fetches    *fetchSessions
	damage     sync.Map // texts of damaged places that were logged
	syncer     *log.Syncer
	stopSyncer func() error
	housework  sync.WaitGroup
	meta       *meta.Store
	// changes serialises what changes topics: creation, deletion, configuration.
	changes sync.Mutex
	topics  atomic.Pointer[topicTable]

	network
	coordinators
	security
	metrics *metrics // nil: nothing is measured

	closeOnce sync.Once
	closeErr  error
}

// Start starts a broker. ctx bounds the start only; the broker runs until Close.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Broker{
		cfg: cfg, logger: cfg.Logger, routes: routes(), relived: make(chan struct{}, 1),
		fetches:       newFetchSessions(cfg.MaxFetchSessions),
		requestBytes:  semaphore.NewWeighted(cfg.MaxInFlightBytes),
		decodedBytes:  semaphore.NewWeighted(cfg.MaxInFlightBytes),
		responseBytes: semaphore.NewWeighted(cfg.MaxResponseBytes),
	}
	if b.usual, err = (Config{Dir: cfg.Dir}).withDefaults(); err != nil {
		return nil, err
	}
	b.usual.Dir = ""
	b.ctx, b.cancel = context.WithCancel(context.Background())
	if err := b.start(ctx); err != nil {
		b.cancel()
		return nil, err
	}
	b.logger.Info("broker started", "addr", b.Addr(), "dir", cfg.Dir, "flush", cfg.Flush.String(), "topics", len(b.topics.Load().byName))
	return b, nil
}

func (b *Broker) start(ctx context.Context) (err error) {
	var undo []func()
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			undo[i]()
		}
	}()
	// Listen first: a port in use is the commonest mistake, and nothing has been touched yet.
	if err := b.listen(ctx); err != nil {
		return err
	}
	undo = append(undo, b.closeListeners)
	if err := b.lockDir(); err != nil {
		return err
	}
	undo = append(undo, func() { _ = b.lock.Close() })
	defer b.fillReserve()
	if err := b.beginGeneration(); err != nil {
		return err
	}
	b.startSyncer()
	undo = append(undo, func() { _ = b.stopSyncer() })
	if err := b.openTopics(ctx); err != nil {
		return err
	}
	undo = append(undo, func() { _ = b.closeTopics() })
	if err := b.secure(); err != nil {
		return err
	}
	undo = append(undo, func() { _ = b.metrics.close() })
	if err := b.instrument(); err != nil {
		return err
	}
	if err := startCoordinators(b); err != nil {
		return fmt.Errorf("start coordinators: %w", err)
	}
	b.housework.Go(b.retain)
	b.accept()
	return nil
}

// beginGeneration counts the start where leader epochs need that, and makes the entries of the data directory durable: those of
// partitions that a killed process had made may not be.
func (b *Broker) beginGeneration() (err error) {
	generation := log.LastGeneration
	if b.cfg.Flush == FlushOS {
		generation = log.NextGeneration
	}
	if b.generation, err = generation(b.cfg.FS, b.cfg.Dir); err != nil {
		return fmt.Errorf("count the starts: %w; remove that file, and leader epochs go on from those of the partitions", err)
	}
	return b.cfg.FS.SyncDir(b.cfg.Dir)
}

// startSyncer starts the goroutine that makes the logs durable; stopSyncer, called when the logs are closed, ends it.
func (b *Broker) startSyncer() {
	b.syncer = log.NewSyncer(log.SyncerOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b.stopSyncer = func() error {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	go func() { done <- b.syncer.Run(ctx) }()
}

// retain deletes what the topics' retention lets go and compacts what is to be compacted, until the broker closes. One
// goroutine does both, one log at a time: neither is urgent, and both read much.
func (b *Broker) retain() {
	retention, compaction, producers := time.NewTicker(b.cfg.RetentionInterval), time.NewTicker(b.current().CompactionInterval), time.NewTicker(b.cfg.ProducerIDCheckInterval)
	defer retention.Stop()
	defer compaction.Stop()
	defer producers.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-b.relived:
			compaction.Reset(b.current().CompactionInterval)
		case now := <-retention.C:
			b.retainAll(now)
			b.fillReserve()
		case now := <-compaction.C:
			b.compactAll(now)
		case now := <-producers.C:
			b.expireProducers(now)
		}
	}
}

// expireProducers has every log forget the producers that were idle for too long.
func (b *Broker) expireProducers(now time.Time) {
	for _, t := range b.topics.Load().byName {
		for _, l := range t.parts {
			l.ExpireProducers(now)
		}
	}
}

// compactAll compacts the logs that have enough to gain. The internal topics shorten themselves, see rewriteLogs.
func (b *Broker) compactAll(now time.Time) {
	for _, t := range b.topics.Load().byName {
		if t.Internal {
			continue
		}
		for p, l := range t.parts {
			c, err := l.Clean(b.ctx, log.CleanOptions{Now: now})
			switch {
			case b.ctx.Err() != nil:
				return
			case errors.Is(err, log.ErrDeleted):
			case err != nil:
				b.logger.Error("compaction failed; the partition grows until it works", "topic", t.Name, "partition", p, "err", err)
			case c.Segments > 0:
				b.logger.Info("partition compacted", "topic", t.Name, "partition", p, "segments", c.Segments, "bytesBefore", c.Before, "bytesAfter", c.After)
			}
		}
	}
}

func (b *Broker) retainAll(now time.Time) {
	for _, t := range b.topics.Load().byName {
		for p, l := range t.parts {
			var n int
			err := b.makingRoom(func() (err error) { n, err = l.Retain(now); return err })
			if err != nil {
				b.logger.Error("retention failed", "topic", t.Name, "partition", p, "err", err)
			} else if n > 0 {
				b.logger.Info("segments deleted by retention", "topic", t.Name, "partition", p, "segments", n)
			}
		}
	}
}

const (
	lockFile = ".lock"
	pidFile  = "broker.pid"
)

// lockDir makes the data directory and takes it for this process.
func (b *Broker) lockDir() error {
	fsys, dir := b.cfg.FS, b.cfg.Dir
	if err := makeDir(fsys, dir); err != nil {
		return fmt.Errorf("make data directory %s: %w", dir, err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockFile))
	if errors.Is(err, vfs.ErrLocked) {
		holder := "another process"
		if pid, err := vfs.ReadFile(fsys, filepath.Join(dir, pidFile), 64); err == nil {
			holder = "process " + strings.TrimSpace(string(pid))
		}
		return fmt.Errorf("data directory %s is in use by %s: stop it, or give this broker another directory", dir, holder)
	}
	if err != nil {
		return fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	b.spendReserve() // this, and recovery, have something to write; start fills it again
	if err := vfs.WriteFile(fsys, filepath.Join(dir, pidFile), []byte(strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", pidFile, err), lock.Close())
	}
	b.lock = lock
	// As on a Mac: two topics whose names differ in case only would share their directories.
	b.foldsCase, err = vfs.Exists(fsys, filepath.Join(dir, strings.ToUpper(lockFile)))
	if err != nil {
		return errors.Join(fmt.Errorf("look at data directory %s: %w", dir, err), lock.Close())
	}
	return nil
}

// makeDir makes a directory and its parents, durably: what is synced inside is lost if the way to it is.
func makeDir(fsys vfs.FS, dir string) error {
	var missing []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		ok, err := vfs.Exists(fsys, d)
		if err != nil {
			return err
		}
		if ok || d == filepath.Dir(d) {
			break
		}
		missing = append(missing, d)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	for _, d := range missing {
		if err := fsys.SyncDir(filepath.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

// Close stops the broker: connections end, coordinators stop, logs are synced and closed cleanly, the directory is released. It
// returns when every goroutine of the broker is gone, and is idempotent.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() {
		b.cancel()
		b.closeNetwork()
		stopCoordinators(b)
		b.housework.Wait()
		b.closeErr = errors.Join(b.metrics.close(), b.closeTopics(), b.stopSyncer(), b.lock.Close())
		b.logger.Info("broker closed", "dir", b.cfg.Dir)
	})
	return b.closeErr
}

// node is the broker's id, host and port as this connection's client is to see them: Metadata, FindCoordinator and
// DescribeCluster answer the same.
func (b *Broker) node(c *conn) (id int32, host string, port int32) {
	host, port = c.advertised()
	return b.cfg.NodeID, host, port
}
