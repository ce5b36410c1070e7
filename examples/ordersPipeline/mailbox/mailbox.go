// Package mailbox is a mail server for development: it takes every mail over SMTP, keeps it, delivers none, and shows
// them on a page.
//
// A mail is known by its Message-ID. One that comes again is counted as a delivery of the same mail: a sender that is
// not sure whether its mail arrived sends it again under the same id, and a reader's mail program shows it once.
package mailbox

import (
	"context"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/leatstream/leat/examples/ordersPipeline/database"
)

//go:embed migrations
var migrations embed.FS

// OrderIDHeader is the mail header that names the order a mail is about.
const OrderIDHeader = "X-Order-ID"

const (
	maxMailBytes  = 256 << 10
	maxRecipients = 10
)

// Mail is one mail as the mailbox keeps it.
type Mail struct {
	ID         int64     `json:"id"`
	MessageID  string    `json:"message_id"` // without angle brackets
	OrderID    string    `json:"order_id"`
	From       string    `json:"from"`
	To         string    `json:"to"`
	Subject    string    `json:"subject"`
	Body       string    `json:"body"`
	Deliveries int       `json:"deliveries"` // how often this Message-ID came
	ReceivedAt time.Time `json:"received_at"`
}

// Box is the mailbox. It is safe for concurrent use.
type Box struct {
	db     *database.DB
	logger *slog.Logger
}

// Open opens the mailbox kept in the SQLite file at path.
func Open(ctx context.Context, path string, logger *slog.Logger) (*Box, error) {
	db, err := database.Open(ctx, database.Config{Path: path, Migrations: migrations, Name: "mails", Relaxed: true})
	if err != nil {
		return nil, err
	}
	return &Box{db: db, logger: logger}, nil
}

// Close closes the file.
func (b *Box) Close() error { return b.db.Close() }

// Serve takes mails from l until ctx is done, and returns when every session has ended. It closes l.
func (b *Box) Serve(ctx context.Context, l net.Listener) error {
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{box: b, ctx: ctx}, nil }))
	s.Domain = "localhost"
	s.MaxMessageBytes = maxMailBytes
	s.MaxRecipients = maxRecipients
	s.MaxLineLength = 4096
	s.ReadTimeout = 5 * time.Minute
	s.WriteTimeout = time.Minute
	s.ErrorLog = discardLog{}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("mailbox: %w", err)
	case <-ctx.Done():
	}
	err := s.Close() // open sessions end; a sender whose mail was not answered sends it again
	_ = l.Close()    // if Serve has only just begun, the server did not know of it
	if e := <-served; e != nil && !errors.Is(e, smtp.ErrServerClosed) && !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// discardLog: go-smtp logs connections that break, which a kill of the sender does by design.
type discardLog struct{}

func (discardLog) Printf(string, ...any) {}
func (discardLog) Println(...any)        {}

// session is one SMTP conversation.
type session struct {
	box      *Box
	ctx      context.Context // the server's: go-smtp has none per session
	from, to string
}

func (s *session) Reset()        { s.from, s.to = "", "" }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.to != "" {
		s.to += ", "
	}
	s.to += to
	return nil
}

func (s *session) Data(r io.Reader) error {
	m, err := parse(r)
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: err.Error()}
	}
	m.From, m.To = s.from, s.to
	if err := s.box.save(s.ctx, m); err != nil {
		s.box.logger.Error("mailbox: save", "err", err)
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "cannot save the mail now"}
	}
	return nil
}

// parse reads a mail with a text body; of any other it keeps the headers.
func parse(r io.Reader) (Mail, error) {
	msg, err := mail.ReadMessage(r)
	if err != nil {
		return Mail{}, fmt.Errorf("not a mail: %w", err)
	}
	id := strings.Trim(msg.Header.Get("Message-ID"), "<> ")
	if id == "" {
		return Mail{}, errors.New("no Message-ID")
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	if err != nil {
		subject = msg.Header.Get("Subject")
	}
	m := Mail{MessageID: id, OrderID: msg.Header.Get(OrderIDHeader), Subject: subject}
	kind, _, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err == nil && !strings.HasPrefix(kind, "text/") {
		m.Body = "(" + kind + ")"
		return m, nil
	}
	body := msg.Body
	switch strings.ToLower(msg.Header.Get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return Mail{}, fmt.Errorf("mail body: %w", err)
	}
	m.Body = strings.ToValidUTF8(strings.ReplaceAll(string(text), "\r\n", "\n"), "\uFFFD")
	return m, nil
}

func (b *Box) save(ctx context.Context, m Mail) error {
	_, err := b.db.Write.ExecContext(ctx, `INSERT INTO mails (message_id, order_id, sender, recipient, subject, body, received_at)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (message_id) DO UPDATE SET deliveries = deliveries + 1`,
		m.MessageID, m.OrderID, m.From, m.To, m.Subject, m.Body, time.Now().UnixMilli())
	return err
}

const columns = `id, message_id, order_id, sender, recipient, subject, body, deliveries, received_at`

// Latest returns the newest mails, newest first.
func (b *Box) Latest(ctx context.Context, limit int) ([]Mail, error) {
	return b.query(ctx, `SELECT `+columns+` FROM mails ORDER BY id DESC LIMIT ?`, limit)
}

// Get returns one mail, or nothing.
func (b *Box) Get(ctx context.Context, id int64) ([]Mail, error) {
	return b.query(ctx, `SELECT `+columns+` FROM mails WHERE id = ?`, id)
}

// Counts returns the number of mails, and of deliveries.
func (b *Box) Counts(ctx context.Context) (mails, deliveries int64, err error) {
	err = b.db.Read.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(deliveries), 0) FROM mails`).Scan(&mails, &deliveries)
	return mails, deliveries, err
}

// Each calls f with every mail without its body, oldest first; it is how a verifier reads the mailbox.
func (b *Box) Each(ctx context.Context, f func(Mail)) error {
	mails, err := b.query(ctx, `SELECT id, message_id, order_id, sender, recipient, subject, '', deliveries, received_at FROM mails ORDER BY id`)
	for _, m := range mails {
		f(m)
	}
	return err
}

func (b *Box) query(ctx context.Context, query string, args ...any) ([]Mail, error) {
	rows, err := b.db.Read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	defer rows.Close()
	mails := []Mail{}
	for rows.Next() {
		var m Mail
		var at int64
		if err := rows.Scan(&m.ID, &m.MessageID, &m.OrderID, &m.From, &m.To, &m.Subject, &m.Body, &m.Deliveries, &at); err != nil {
			return nil, fmt.Errorf("mailbox: %w", err)
		}
		m.ReceivedAt = time.UnixMilli(at).UTC()
		mails = append(mails, m)
	}
	return mails, rows.Err()
}
