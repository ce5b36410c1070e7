package email_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/examples/ordersPipeline/email"
	"github.com/leatstream/leat/examples/ordersPipeline/mailbox"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// post is a mailbox that can be switched off and on at one address.
type post struct {
	t       *testing.T
	box     *mailbox.Box
	address string
	stop    func()
}

func newPost(t *testing.T) *post {
	t.Helper()
	box, err := mailbox.Open(t.Context(), filepath.Join(t.TempDir(), "mail.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	p := &post{t: t, box: box, address: "127.0.0.1:0"}
	p.start()
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *post) start() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.box.Serve(ctx, l) }()
	p.stop = func() {
		cancel()
		if err := <-served; err != nil {
			p.t.Errorf("mailbox: %v", err)
		}
		p.stop = func() {}
	}
}

func (p *post) mails() []mailbox.Mail {
	p.t.Helper()
	mails, err := p.box.Latest(p.t.Context(), 1000)
	if err != nil {
		p.t.Fatal(err)
	}
	return mails
}

func newService(t *testing.T, p *post, path string) (*email.Service, func()) {
	t.Helper()
	ledger, err := email.OpenLedger(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	sender, err := email.NewSMTP(p.address)
	if err != nil {
		t.Fatal(err)
	}
	return &email.Service{Ledger: ledger, Sender: sender, Logger: quiet}, func() {
		sender.Close()
		if err := ledger.Close(); err != nil {
			t.Error(err)
		}
	}
}

func decision(n int, reason string) shop.Decision {
	return shop.Decide(shop.Order{
		ID: fmt.Sprint("order-", n), Customer: "Zoë\r\nBcc: eve@example.org", Email: "zoe@example.org", Country: "DE",
		Product: "lamp", Quantity: 2, Total: 7900, Currency: "EUR",
	}, reason)
}

func TestEachDecisionIsOneMail(t *testing.T) {
	p := newPost(t)
	path := filepath.Join(t.TempDir(), "email.db")
	s, stop := newService(t, p, path)
	for range 2 { // the topic is read twice, the second time by a restarted service
		for n, reason := range []string{"", "sold out"} {
			if err := s.Handle(t.Context(), decision(n, reason)); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		s, stop = newService(t, p, path)
	}
	defer stop()
	mails := p.mails()
	if len(mails) != 2 {
		t.Fatalf("got %d mails, want 2: %+v", len(mails), mails)
	}
	got := mails[1] // the older one
	got.ID, got.ReceivedAt = 0, time.Time{}
	want := mailbox.Mail{
		MessageID: "decision-order-0@shop.example", OrderID: "order-0", From: email.From, To: "zoe@example.org",
		Subject: "Your order is confirmed", Deliveries: 1,
		Body: "Hello Zoë Bcc: eve@example.org,\n\nthank you: 2 x lamp is reserved for you. The total is 79.00 EUR.\n\nYour shop\n",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !strings.Contains(mails[0].Body, "sold out") {
		t.Errorf("the rejection does not say why: %q", mails[0].Body)
	}
	if sent, failed, err := s.Ledger.Counts(t.Context()); sent != 2 || failed != 0 || err != nil {
		t.Errorf("ledger: %d sent, %d failed, %v", sent, failed, err)
	}
}

// crashing sends through and then fails as a killed process would: the mail is out, the note is not made.
type crashing struct{ email.Sender }

var errCrash = errors.New("crash")

func (c crashing) Send(ctx context.Context, m email.Mail) error {
	if err := c.Sender.Send(ctx, m); err != nil {
		return err
	}
	panic(errCrash)
}

func TestAMailSentAgainHasTheSameMessageID(t *testing.T) {
	p := newPost(t)
	path := filepath.Join(t.TempDir(), "email.db")
	s, stop := newService(t, p, path)
	whole := s.Sender
	s.Sender = crashing{whole}
	func() {
		defer func() {
			if r := recover(); r != errCrash {
				t.Fatalf("got %v", r)
			}
		}()
		_ = s.Handle(t.Context(), decision(1, ""))
	}()
	s.Sender = whole
	stop()
	s, stop = newService(t, p, path)
	defer stop()
	if err := s.Handle(t.Context(), decision(1, "")); err != nil {
		t.Fatal(err)
	}
	mails := p.mails()
	if len(mails) != 1 || mails[0].Deliveries != 2 {
		t.Errorf("want one mail, delivered twice; got %+v", mails)
	}
}

func TestAMailServerThatIsDownIsWaitedFor(t *testing.T) {
	p := newPost(t)
	s, stop := newService(t, p, filepath.Join(t.TempDir(), "email.db"))
	defer stop()
	if err := s.Handle(t.Context(), decision(1, "")); err != nil {
		t.Fatal(err)
	}
	p.stop()
	tried := make(chan struct{}, 100)
	s.Sender = watched{s.Sender, tried}
	done := make(chan error)
	go func() { done <- s.Handle(t.Context(), decision(2, "")) }()
	<-tried
	<-tried // the second attempt: it came back after the first had failed
	p.start()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if mails := p.mails(); len(mails) != 2 || mails[0].OrderID != "order-2" || mails[0].Deliveries != 1 {
		t.Errorf("got %+v", mails)
	}
	// While it waits it can be stopped, and the mail is sent by the next start.
	p.stop()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- s.Handle(ctx, decision(3, "")) }()
	<-tried
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.start()
	if err := s.Handle(t.Context(), decision(3, "")); err != nil || len(p.mails()) != 3 {
		t.Errorf("%v, %d mails", err, len(p.mails()))
	}
}

type watched struct {
	email.Sender
	tried chan<- struct{}
}

func (w watched) Send(ctx context.Context, m email.Mail) error {
	err := w.Sender.Send(ctx, m)
	w.tried <- struct{}{}
	return err
}

func TestARefusedMailIsNotedAndNotTriedAgain(t *testing.T) {
	p := newPost(t)
	s, stop := newService(t, p, filepath.Join(t.TempDir(), "email.db"))
	defer stop()
	bad := decision(1, "")
	bad.Email = "not an address"
	for range 2 {
		if err := s.Handle(t.Context(), bad); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Handle(t.Context(), decision(2, "")); err != nil {
		t.Fatal(err)
	}
	if sent, failed, err := s.Ledger.Counts(t.Context()); sent != 1 || failed != 1 || err != nil {
		t.Errorf("ledger: %d sent, %d failed, %v", sent, failed, err)
	}
}

func TestMailPagesEscapeWhatMailsSay(t *testing.T) {
	p := newPost(t)
	s, stop := newService(t, p, filepath.Join(t.TempDir(), "email.db"))
	defer stop()
	d := decision(1, "<script>alert(1)</script>")
	if err := s.Handle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	(&mailbox.Page{Box: p.box}).Routes(mux)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	if code, body := get("/mail"); code != 200 || !strings.Contains(body, "zoe@example.org") {
		t.Errorf("list: %d %s", code, body)
	}
	code, body := get("/mail/1")
	if code != 200 || strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;script&gt;") {
		t.Errorf("mail: %d %s", code, body)
	}
	for _, path := range []string{"/mail/2", "/mail/x"} {
		if code, _ := get(path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestMoney(t *testing.T) {
	for minor, want := range map[int64]string{0: "0.00 EUR", 5: "0.05 EUR", 123456: "1234.56 EUR", -150: "-1.50 EUR"} {
		if got := email.Money(minor, "EUR"); got != want {
			t.Errorf("Money(%d) = %q, want %q", minor, got, want)
		}
	}
}
