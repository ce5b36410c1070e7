package email

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

// Mail is what a Sender sends.
type Mail struct {
	MessageID string // without angle brackets
	OrderID   string
	To        string
	Subject   string
	Body      string
}

// Sender hands a mail to a mail server. An error that wraps ErrRefused is final; any other is tried again.
type Sender interface {
	Send(ctx context.Context, m Mail) error
}

// Service writes and sends the mails. Handle is called by one goroutine.
type Service struct {
	Ledger *Ledger
	Sender Sender
	Logger *slog.Logger
}

// Handle sends the mail for d unless it went out before. It returns when the mail server has it or has refused it for
// good, however long that takes: while the server is down nothing is skipped, and the topic waits. An error is the
// database's or ctx's.
func (s *Service) Handle(ctx context.Context, d shop.Decision) error {
	m := write(d)
	fresh, err := s.Ledger.begin(ctx, d, m.MessageID)
	if err != nil || !fresh {
		return err
	}
	var wait time.Duration
	for {
		err := s.Sender.Send(ctx, m)
		if err == nil || errors.Is(err, ErrRefused) {
			if err != nil {
				s.Logger.Error("mail refused for good", "order", d.OrderID, "err", err)
			}
			// The mail is out: that is noted even when the caller is stopping.
			noteCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return s.Ledger.end(noteCtx, d.EventID, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait = min(max(2*wait, 100*time.Millisecond), 5*time.Second)
		s.Logger.Warn("mail server: will retry", "order", d.OrderID, "err", err, "in", wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// write makes the mail for a decision: the same mail, Message-ID included, whenever it is called.
func write(d shop.Decision) Mail {
	m := Mail{MessageID: d.EventID + "@shop.example", OrderID: d.OrderID, To: d.Email}
	greeting := "Hello " + singleLine(d.Customer) + ",\n\n"
	const farewell = "\n\nYour shop\n"
	if d.Status == shop.Reserved {
		m.Subject = "Your order is confirmed"
		m.Body = greeting + fmt.Sprintf("thank you: %d x %s is reserved for you. The total is %s.", d.Quantity, d.Product, Money(d.Total, d.Currency)) + farewell
		return m
	}
	m.Subject = "Sorry: your order could not be accepted"
	m.Body = greeting + fmt.Sprintf("we could not reserve %d x %s for you: %s. Nothing was charged.", d.Quantity, d.Product, d.Reason) + farewell
	return m
}

func singleLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Money writes an amount of minor units: 123456 EUR is "1234.56 EUR".
func Money(minor int64, currency string) string {
	sign := ""
	if minor < 0 {
		sign, minor = "-", -minor
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, minor/100, minor%100, currency)
}
