package orders

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

// Event is an outbox row on its way to the log.
type Event struct {
	ID      string // goes into the header shop.EventIDHeader
	Topic   string
	Key     string
	Payload []byte // JSON of the event
	At      time.Time
	row     int64
}

// Publisher writes events to the log in their order and reports, for each, whether the log has it for sure
// (acks=all). It returns when all are answered or ctx is done.
type Publisher interface {
	Publish(ctx context.Context, events []Event) (acked []bool, err error)
}

// Relay moves events from the outbox to the log, in the order of the outbox, at least once: a crash between the log's
// answer and the mark publishes again, under the same event id. There is one relay per database; the caller sees to
// that (a file lock for SQLite, Store.LeaseRelay for PostgreSQL).
type Relay struct {
	Store     *Store
	Publisher Publisher
	Logger    *slog.Logger
	// Poll is how long to wait for a signal before the outbox is looked at anyway; zero: a second.
	Poll time.Duration
}

// batch bounds one claim, and so what a crash publishes again.
const relayBatch = 500

// Run relays until ctx is done, and returns nil then. A log or database that fails is retried with back-off.
func (r *Relay) Run(ctx context.Context) error {
	poll := r.Poll
	if poll <= 0 {
		poll = time.Second
	}
	var backoff backoff
	var pruned time.Time
	for {
		n, err := r.Once(ctx)
		wait := poll
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			wait = backoff.next()
			r.Logger.Warn("outbox relay: will retry", "err", err, "in", wait)
		case n > 0:
			backoff.reset()
			continue
		case time.Since(pruned) > pruneEvery:
			pruned = time.Now()
			if err := r.Store.prune(ctx, r.Store.now().Add(-keepPublished)); err != nil && ctx.Err() == nil {
				r.Logger.Warn("outbox relay: published events stay", "err", err)
			}
		}
		timer := time.NewTimer(wait)
		wake := r.Store.wake
		if err != nil {
			wake = nil // a new event does not make the log reachable
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Once claims the oldest waiting events, publishes them, and marks those that the log acknowledged.
func (r *Relay) Once(ctx context.Context) (published int, err error) {
	events, err := r.Store.claim(ctx, relayBatch)
	if err != nil || len(events) == 0 {
		return 0, err
	}
	acked, err := r.Publisher.Publish(ctx, events)
	var done []Event
	for i, ok := range acked {
		if ok {
			done = append(done, events[i])
		}
	}
	// What the log has is marked even when the caller is stopping: it saves a duplicate.
	markCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return len(done), errors.Join(err, r.Store.markPublished(markCtx, done))
}

// claim returns up to limit events that are not published, oldest first.
func (s *Store) claim(ctx context.Context, limit int) ([]Event, error) {
	rows, err := s.db.Read.QueryContext(ctx, s.db.SQL(`SELECT id, event_id, topic, key, payload, created_at FROM outbox
		WHERE published_at IS NULL ORDER BY id LIMIT ?`), limit)
	if err != nil {
		return nil, fmt.Errorf("claim events: %w", err)
	}
	defer rows.Close()
	var events []Event
	for rows.Next() {
		var e Event
		var at int64
		if err := rows.Scan(&e.row, &e.ID, &e.Topic, &e.Key, &e.Payload, &at); err != nil {
			return nil, fmt.Errorf("claim events: %w", err)
		}
		e.At = time.UnixMilli(at)
		events = append(events, e)
	}
	return events, rows.Err()
}

func (s *Store) markPublished(ctx context.Context, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	args := []any{s.now().UnixMilli()}
	for _, e := range events {
		args = append(args, e.row)
	}
	query := `UPDATE outbox SET published_at = ? WHERE id IN (?` + strings.Repeat(", ?", len(events)-1) + `)`
	if _, err := s.db.Write.ExecContext(ctx, s.db.SQL(query), args...); err != nil {
		return fmt.Errorf("mark events published: %w", err)
	}
	return nil
}

const (
	// keepPublished is how long an event stays in the outbox after its publication, and its id is known.
	keepPublished = 7 * 24 * time.Hour
	pruneEvery    = time.Hour
	pruneBatch    = 5000 // rows of one statement, so that no order waits for long
)

// prune deletes the events that were published before a time, but for those of the seeding, whose ids say that it was.
func (s *Store) prune(ctx context.Context, before time.Time) error {
	query := s.db.SQL(`DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE published_at < ?
		AND event_id NOT LIKE ? AND event_id NOT LIKE ? LIMIT ?)`)
	for {
		res, err := s.db.Write.ExecContext(ctx, query, before.UnixMilli(), shop.InitialPrefix+"%", productPrefix+"%", pruneBatch)
		if err != nil {
			return fmt.Errorf("prune the outbox: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n < pruneBatch {
			return err
		}
	}
}

// relayLock is the key of PostgreSQL's advisory lock under which the one relay works.
const relayLock = 0x6c656174 // "leat"

// LeaseRelay waits until this process may relay, and returns the function that gives the lease back. For SQLite, whose
// file belongs to one process, there is nothing to wait for.
func (s *Store) LeaseRelay(ctx context.Context) (release func(), err error) {
	if !s.db.Postgres() {
		return func() {}, nil
	}
	conn, err := s.db.Write.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("lease the relay: %w", err)
	}
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", relayLock); err != nil {
		return nil, errors.Join(fmt.Errorf("lease the relay: %w", err), conn.Close())
	}
	return func() {
		// The lock goes with the session: the connection is thrown away, not given back to the pool.
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}, nil
}

// backoff doubles from 100 ms to 5 s.
type backoff struct{ wait time.Duration }

func (b *backoff) reset() { b.wait = 0 }

func (b *backoff) next() time.Duration {
	b.wait = min(max(2*b.wait, 100*time.Millisecond), 5*time.Second)
	return b.wait
}
