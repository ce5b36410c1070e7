package email

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/leatstream/leat/examples/ordersPipeline/mailbox"
)

// From is the shop's own address.
const From = "orders@shop.example"

// SMTP is a Sender that keeps one connection open to the mail server. It is used by one goroutine.
type SMTP struct {
	client *mail.Client
	open   bool
}

// NewSMTP returns a sender for the server at address host:port. It connects when the first mail is sent. The
// connection is not encrypted: the built-in mailbox is on the same machine.
func NewSMTP(address string) (*SMTP, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("SMTP address: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("SMTP address %q: port: %w", address, err)
	}
	client, err := mail.NewClient(host, mail.WithPort(port), mail.WithTLSPolicy(mail.NoTLS), mail.WithHELO("shop.example"),
		mail.WithTimeout(10*time.Second), mail.WithoutNoop())
	if err != nil {
		return nil, fmt.Errorf("SMTP client: %w", err)
	}
	return &SMTP{client: client}, nil
}

// Send sends m. After an error the connection is made anew by the next Send.
func (s *SMTP) Send(ctx context.Context, m Mail) error {
	msg, err := message(m)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if !s.open {
		if err := s.client.DialWithContext(ctx); err != nil {
			return err
		}
		s.open = true
	}
	if err := s.client.Send(msg); err != nil {
		s.hangUp()
		if msg.IsDelivered() {
			return nil // the server has it; only the goodbye failed
		}
		var send *mail.SendError
		if errors.As(err, &send) && send.ErrorCode() >= 500 && send.ErrorCode() < 600 {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return err
	}
	return nil
}

// Close says goodbye to the server.
func (s *SMTP) Close() { s.hangUp() }

func (s *SMTP) hangUp() {
	if s.open {
		_ = s.client.Close() // the server may be gone
		s.open = false
	}
}

func message(m Mail) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := msg.From(From); err != nil {
		return nil, err
	}
	if err := msg.To(m.To); err != nil {
		return nil, err
	}
	msg.SetMessageIDWithValue(m.MessageID)
	msg.SetDate()
	msg.SetGenHeader(mail.Header(mailbox.OrderIDHeader), m.OrderID)
	msg.Subject(m.Subject)
	msg.SetBodyString(mail.TypeTextPlain, m.Body)
	return msg, nil
}
