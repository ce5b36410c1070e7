// Package email sends one mail for each decision on an order.
//
// Mail cannot be sent exactly once: whoever dies between the server's answer and the own note of it does not know
// whether the mail went out. So the service is idempotent as far as it goes: a row per event id says what was done, and
// a mail that has to be sent again has the same Message-ID, by which its reader's program knows it.
package email

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/leatstream/leat/examples/ordersPipeline/database"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

//go:embed migrations
var migrations embed.FS

// States of a row.
const (
	pending = "PENDING" // may or may not have been sent
	sent    = "SENT"
	failed  = "FAILED" // refused for good; detail says why
)

// Ledger is the table of the events that were handled. It is safe for concurrent use.
type Ledger struct {
	db *database.DB
}

// OpenLedger opens the database at path, or the PostgreSQL database at url if that is not empty.
func OpenLedger(ctx context.Context, path, url string) (*Ledger, error) {
	// Relaxed: a note that a power cut takes back sends a mail again, under its Message-ID.
	db, err := database.Open(ctx, database.Config{Path: path, URL: url, Migrations: migrations, Name: "email", Relaxed: true})
	if err != nil {
		return nil, err
	}
	return &Ledger{db}, nil
}

// Close closes the database.
func (l *Ledger) Close() error { return l.db.Close() }

// begin notes that the mail for d is about to be sent, and reports false if it was dealt with before.
func (l *Ledger) begin(ctx context.Context, d shop.Decision, messageID string) (bool, error) {
	res, err := l.db.Write.ExecContext(ctx, l.db.SQL(`INSERT INTO processed (event_id, order_id, message_id, state, updated_at)
		VALUES (?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING`), d.EventID, d.OrderID, messageID, pending, time.Now().UnixMilli())
	if err != nil {
		return false, fmt.Errorf("email ledger: begin: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return n == 1, err
	}
	var state string
	err = l.db.Write.QueryRowContext(ctx, l.db.SQL(`SELECT state FROM processed WHERE event_id = ?`), d.EventID).Scan(&state)
	if err != nil {
		return false, fmt.Errorf("email ledger: begin: %w", err)
	}
	return state == pending, nil
}

// end notes the outcome.
func (l *Ledger) end(ctx context.Context, eventID string, outcome error) error {
	state, detail := sent, ""
	if outcome != nil {
		state, detail = failed, outcome.Error()
	}
	_, err := l.db.Write.ExecContext(ctx, l.db.SQL(`UPDATE processed SET state = ?, detail = ?, updated_at = ? WHERE event_id = ?`),
		state, detail, time.Now().UnixMilli(), eventID)
	if err != nil {
		return fmt.Errorf("email ledger: end: %w", err)
	}
	return nil
}

// Counts returns how many mails were sent, and how many were refused for good.
func (l *Ledger) Counts(ctx context.Context) (sentMails, failedMails int64, err error) {
	err = l.db.Read.QueryRowContext(ctx, `SELECT COALESCE(SUM(CASE WHEN state = 'SENT' THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN state = 'FAILED' THEN 1 ELSE 0 END), 0) FROM processed`).Scan(&sentMails, &failedMails)
	return sentMails, failedMails, err
}

// ErrRefused is wrapped by a Sender's error for a mail that will never be taken; any other error may pass.
var ErrRefused = errors.New("mail refused for good")
