package orders

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/examples/ordersPipeline/pgtest"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

func TestPostgres(t *testing.T) {
	url := pgtest.Start(t)
	open := func() *Store {
		s, err := OpenStore(t.Context(), "", url)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	defer func() { _ = s.Close() }()
	log := &tape{failAfter: -1}
	relay := &Relay{Store: s, Publisher: log, Logger: slog.New(slog.DiscardHandler)}

	t.Run("intake", func(t *testing.T) {
		api := &API{Store: s, Catalogue: shop.Catalogue(), Countries: shop.Countries(), Logger: slog.New(slog.DiscardHandler)}
		mux := http.NewServeMux()
		api.Routes(mux)
		code, first := call(mux, "POST", "/orders", good)
		again, second := call(mux, "POST", "/orders", good)
		if d := cmp.Diff(first, second); code != 201 || again != 200 || d != "" {
			t.Errorf("%d, then %d: %s", code, again, d)
		}
		if n, err := relay.Once(t.Context()); n != 1 || err != nil {
			t.Errorf("relayed %d, %v", n, err)
		}
		o, err := s.Find(t.Context(), first["id"].(string))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(t.Context(), []shop.Decision{shop.Decide(o.Order, "")}); err != nil {
			t.Fatal(err)
		}
		if _, got := call(mux, "GET", "/orders/"+o.ID+"?wait=1s", ""); got["status"] != shop.Reserved {
			t.Errorf("got %v", got)
		}
	})

	t.Run("a transaction that commits late is not lost", func(t *testing.T) {
		log.got = nil
		late, err := s.db.Write.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.enqueue(t.Context(), late, event{"late", shop.TopicRestocks, "lamp", shop.Restock{}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Restock(t.Context(), "early", "lamp", 1); err != nil { // has the higher id, commits first
			t.Fatal(err)
		}
		if n, err := relay.Once(t.Context()); n != 1 || err != nil {
			t.Fatalf("relayed %d, %v", n, err)
		}
		if err := late.Commit(); err != nil {
			t.Fatal(err)
		}
		if n, err := relay.Once(t.Context()); n != 1 || err != nil {
			t.Fatalf("relayed %d, %v", n, err)
		}
		if d := cmp.Diff([]string{"early", "late"}, log.got); d != "" {
			t.Error(d)
		}
	})

	t.Run("one relay at a time", func(t *testing.T) {
		release, err := s.LeaseRelay(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other := open()
		defer func() { _ = other.Close() }()
		short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := other.LeaseRelay(short); err == nil {
			t.Fatal("two relays at once")
		}
		release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		release, err = other.LeaseRelay(ctx)
		if err != nil {
			t.Fatalf("the lease was not given back: %v", err)
		}
		release()
	})
}

func TestALateTransactionIsNotLostInSQLiteEither(t *testing.T) {
	s := openStore(t, t.TempDir()+"/orders.db")
	log := &tape{failAfter: -1}
	relay := &Relay{Store: s, Publisher: log, Logger: slog.New(slog.DiscardHandler)}
	rolled := errors.New("rolled back")
	err := s.db.Tx(t.Context(), func(tx *sql.Tx) error {
		if err := s.enqueue(t.Context(), tx, event{"gone", shop.TopicRestocks, "lamp", shop.Restock{}}); err != nil {
			return err
		}
		// While it is open the relay reads, and sees nothing of it.
		if n, err := relay.Once(t.Context()); n != 0 || err != nil {
			return fmt.Errorf("relayed %d of an open transaction, %w", n, err)
		}
		return rolled
	})
	if !errors.Is(err, rolled) {
		t.Fatal(err)
	}
	if _, err := s.Restock(t.Context(), "stays", "lamp", 1); err != nil {
		t.Fatal(err)
	}
	if n, err := relay.Once(t.Context()); n != 1 || err != nil || log.got[0] != "stays" {
		t.Errorf("relayed %d, %v: %v", n, err, log.got)
	}
}
