// Package orders is the order service: it takes orders over HTTP, saves each with the event that tells of it in one SQL
// transaction, relays the events to the log, and learns from the decisions what became of the orders.
package orders

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/leatstream/leat/examples/ordersPipeline/database"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

//go:embed migrations
var migrations embed.FS

var (
	// ErrNotFound: there is no such order.
	ErrNotFound = errors.New("no such order")
	// ErrConflict: the client's order id was used before, for another order.
	ErrConflict = errors.New("client_order_id was used for another order")
)

// Saved is an order with its status, as the order service keeps it.
type Saved struct {
	shop.Order
	ClientOrderID string `json:"client_order_id"`
	Status        string `json:"status"`
	Reason        string `json:"reason,omitempty"`
}

// Store keeps orders and their outbox in one SQL database. It is safe for concurrent use.
type Store struct {
	db      *database.DB
	now     func() time.Time
	wake    chan struct{} // to the relay: something waits in the outbox
	waiters waiters
}

// OpenStore opens the database at path, or the PostgreSQL database at url if that is not empty.
func OpenStore(ctx context.Context, path, url string) (*Store, error) {
	db, err := database.Open(ctx, database.Config{Path: path, URL: url, Migrations: migrations, Name: "orders"})
	if err != nil {
		return nil, err
	}
	return &Store{db: db, now: time.Now, wake: make(chan struct{}, 1)}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// event is a row of the outbox that is to be written.
type event struct {
	id, topic, key string
	payload        any // encoded as JSON
}

// Place saves o and its event in one transaction. An order with a client id that was seen before is answered with the
// saved one and replay true; if it differs from that one, with ErrConflict. Place fills in ids, time and currency.
func (s *Store) Place(ctx context.Context, clientID string, o shop.Order) (saved Saved, replay bool, err error) {
	if o.ID, err = newID(); err != nil {
		return Saved{}, false, err
	}
	if o.EventID, err = newID(); err != nil {
		return Saved{}, false, err
	}
	if clientID == "" {
		clientID = o.ID
	}
	o.Currency, o.PlacedAt = "EUR", s.now().UTC().Truncate(time.Millisecond)
	saved = Saved{Order: o, ClientOrderID: clientID, Status: shop.Pending}
	err = s.db.Tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, s.db.SQL(`INSERT INTO orders
			(id, client_order_id, event_id, customer, email, country, product, quantity, total, currency, placed_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client_order_id) DO NOTHING`),
			o.ID, clientID, o.EventID, o.Customer, o.Email, o.Country, o.Product, o.Quantity, o.Total, o.Currency, o.PlacedAt.UnixMilli())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			replay = true
			return err
		}
		return s.enqueue(ctx, tx, event{o.EventID, shop.TopicOrders, o.ID, o})
	})
	switch {
	case err != nil:
		return Saved{}, false, fmt.Errorf("save order: %w", err)
	case !replay:
		s.signal()
		return saved, false, nil
	}
	first, err := s.find(ctx, "client_order_id", clientID)
	if err != nil {
		return Saved{}, false, err
	}
	if !sameRequest(first.Order, o) {
		return Saved{}, false, ErrConflict
	}
	return first, true, nil
}

// sameRequest reports whether a client asked for the same twice.
func sameRequest(a, b shop.Order) bool {
	return a.Customer == b.Customer && a.Email == b.Email && a.Country == b.Country && a.Product == b.Product && a.Quantity == b.Quantity
}

// Restock saves a delivery's event. An event id that was seen in the last week changes nothing; an empty one is made.
func (s *Store) Restock(ctx context.Context, eventID, product string, quantity int64) (shop.Restock, error) {
	if eventID == "" {
		var err error
		if eventID, err = newID(); err != nil {
			return shop.Restock{}, err
		}
	}
	r := shop.Restock{EventID: eventID, Product: product, Quantity: quantity, At: s.now().UTC().Truncate(time.Millisecond)}
	err := s.db.Tx(ctx, func(tx *sql.Tx) error {
		return s.enqueue(ctx, tx, event{r.EventID, shop.TopicRestocks, r.Product, r})
	})
	if err != nil {
		return shop.Restock{}, fmt.Errorf("save delivery: %w", err)
	}
	s.signal()
	return r, nil
}

// Seed publishes the catalogue and its initial stock, once in the life of the database. The event ids are the same in
// every database, so that inventory takes a second seeding of the same topics for what it is.
func (s *Store) Seed(ctx context.Context, listings []shop.Listing) error {
	err := s.db.Tx(ctx, func(tx *sql.Tx) error {
		for _, l := range listings {
			initial := shop.Restock{EventID: shop.InitialPrefix + l.SKU, Product: l.SKU, Quantity: l.InitialStock, At: s.now().UTC().Truncate(time.Millisecond)}
			if err := s.enqueue(ctx, tx, event{productPrefix + l.SKU, shop.TopicProducts, l.SKU, l.Product}); err != nil {
				return err
			}
			if err := s.enqueue(ctx, tx, event{initial.EventID, shop.TopicRestocks, l.SKU, initial}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("seed catalogue: %w", err)
	}
	s.signal()
	return nil
}

// productPrefix begins the event ids of the catalogue's rows.
const productPrefix = "product-"

func (s *Store) enqueue(ctx context.Context, tx *sql.Tx, e event) error {
	payload, err := json.Marshal(e.payload)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, s.db.SQL(`INSERT INTO outbox (event_id, topic, key, payload, created_at)
		VALUES (?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING`), e.id, e.topic, e.key, string(payload), s.now().UnixMilli())
	return err
}

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Find returns the order with this id, or ErrNotFound.
func (s *Store) Find(ctx context.Context, id string) (Saved, error) { return s.find(ctx, "id", id) }

const orderColumns = `id, client_order_id, event_id, customer, email, country, product, quantity, total, currency, placed_at, status, reason`

func (s *Store) find(ctx context.Context, column, value string) (Saved, error) {
	rows, err := s.db.Read.QueryContext(ctx, s.db.SQL(`SELECT `+orderColumns+` FROM orders WHERE `+column+` = ?`), value)
	if err != nil {
		return Saved{}, fmt.Errorf("find order: %w", err)
	}
	defer rows.Close()
	if !rows.Next() {
		return Saved{}, errors.Join(ErrNotFound, rows.Err())
	}
	return scanOrder(rows)
}

func scanOrder(rows *sql.Rows) (Saved, error) {
	var o Saved
	var placed int64
	err := rows.Scan(&o.ID, &o.ClientOrderID, &o.EventID, &o.Customer, &o.Email, &o.Country, &o.Product, &o.Quantity,
		&o.Total, &o.Currency, &placed, &o.Status, &o.Reason)
	o.PlacedAt = time.UnixMilli(placed).UTC()
	return o, err
}

// Each calls f with every order, oldest first; it is how a verifier reads the database.
func (s *Store) Each(ctx context.Context, f func(Saved)) error {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT `+orderColumns+` FROM orders ORDER BY placed_at, id`)
	if err != nil {
		return fmt.Errorf("read orders: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		o, err := scanOrder(rows)
		if err != nil {
			return err
		}
		f(o)
	}
	return rows.Err()
}

// Waiting counts the events that are not published, and the orders without a decision.
func (s *Store) Waiting(ctx context.Context) (events, orders int64, err error) {
	err = s.db.Read.QueryRowContext(ctx, `SELECT
		(SELECT COUNT(*) FROM outbox WHERE published_at IS NULL),
		(SELECT COUNT(*) FROM orders WHERE status = 'PENDING')`).Scan(&events, &orders)
	return events, orders, err
}

// Settle writes decisions to their orders, in one transaction. A decision on an order that has one already, or that is
// not known here, changes nothing: the topic may be read again.
func (s *Store) Settle(ctx context.Context, decisions []shop.Decision) error {
	err := s.db.Tx(ctx, func(tx *sql.Tx) error {
		for _, d := range decisions {
			_, err := tx.ExecContext(ctx, s.db.SQL(`UPDATE orders SET status = ?, reason = ? WHERE id = ? AND status = 'PENDING'`),
				d.Status, d.Reason, d.OrderID)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settle orders: %w", err)
	}
	for _, d := range decisions {
		s.waiters.wake(d.OrderID)
	}
	return nil
}

// Await returns the order as soon as it is decided, or as it is when wait has passed or ctx is done.
func (s *Store) Await(ctx context.Context, id string, wait time.Duration) (Saved, error) {
	if wait <= 0 {
		return s.Find(ctx, id)
	}
	woken, stop := s.waiters.add(id)
	defer stop()
	o, err := s.Find(ctx, id)
	if err != nil || o.Status != shop.Pending {
		return o, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	// Another process may write the decision, which wakes nobody here.
	poll := time.NewTicker(250 * time.Millisecond)
	defer poll.Stop()
	for {
		last := false
		select {
		case <-woken:
		case <-poll.C:
		case <-timer.C:
			last = true
		case <-ctx.Done():
			return o, nil
		}
		if o, err = s.Find(ctx, id); err != nil || o.Status != shop.Pending || last {
			return o, err
		}
	}
}

// newID makes a UUIDv7: unique, and sorted by time.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	return id.String(), nil
}
