// Package load places orders as customers would: over HTTP, at a steady rate, some of them twice because an answer got
// lost, and with a delivery of the scarce product now and then.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

const (
	workers      = 8                // requests in flight
	repeatEvery  = 25               // one order in so many is sent twice
	restockEvery = 5 * time.Second  // of the scarce product
	restockUnits = 10               // per delivery
	tick         = time.Second / 50 // orders are handed out at this pace; more per tick at a high rate
)

// Generator places orders. Its counters are safe to read while Run runs.
type Generator struct {
	URL    string  // of the order intake
	Rate   float64 // orders per second; 0 or less places none
	Seed   uint64
	Logger *slog.Logger

	Accepted atomic.Int64 // answered with 201
	Repeated atomic.Int64 // answered with 200: an order that was there already
	Failed   atomic.Int64 // any other answer, or none
}

// request is one order to place.
type request struct {
	body  []byte
	twice bool
}

// Run places orders until ctx is done, and waits for the answers of those that were sent. Orders that are due while all
// workers are busy are placed late, up to a second's worth; what is beyond that is not placed.
func (g *Generator) Run(ctx context.Context) {
	if g.Rate <= 0 {
		return
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	defer client.CloseIdleConnections()
	queue := make(chan request, max(1, int(g.Rate)))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(queue)
	for range workers {
		wg.Go(func() {
			for r := range queue {
				if ctx.Err() == nil {
					g.place(ctx, client, r)
				}
			}
		})
	}
	wg.Go(func() { g.restock(ctx, client) })
	rng := rand.New(rand.NewPCG(g.Seed, 1))
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	start, placed := time.Now(), int64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			due := int64(now.Sub(start).Seconds() * g.Rate)
			for ; placed < due; placed++ {
				select {
				case queue <- g.next(rng):
				default: // the intake is slower than the rate
				}
			}
		}
	}
}

// next draws an order: products and countries differ in how much they are liked.
func (g *Generator) next(rng *rand.Rand) request {
	catalogue, countries := shop.Catalogue(), shop.Countries()
	// The square of a uniform draw prefers the front of the list, as buyers do; the scarce product is at its end.
	pick := func(n int) int { f := rng.Float64(); return int(f * f * float64(n)) }
	customer := names[rng.IntN(len(names))]
	id := fmt.Sprintf("load-%016x%016x", rng.Uint64(), rng.Uint64())
	body, err := json.Marshal(map[string]any{
		"client_order_id": id, "customer": customer, "email": fmt.Sprintf("%s@example.org", customer),
		"country": countries[pick(len(countries))], "product": catalogue[pick(len(catalogue))].SKU, "quantity": 1 + rng.Int64N(3),
	})
	if err != nil {
		panic(err) // a map of strings and numbers
	}
	return request{body, rng.IntN(repeatEvery) == 0}
}

var names = [...]string{"ada", "barbara", "carol", "dorothy", "edsger", "frances", "grace", "hedy", "ivan", "joan", "katherine", "leslie"}

func (g *Generator) place(ctx context.Context, client *http.Client, r request) {
	times := 1
	if r.twice {
		times = 2
	}
	for range times {
		switch code := g.post(ctx, client, "/orders", r.body); code {
		case http.StatusCreated:
			g.Accepted.Add(1)
		case http.StatusOK:
			g.Repeated.Add(1)
		default:
			if ctx.Err() == nil {
				g.Failed.Add(1)
			}
		}
	}
}

// restock sends a delivery of the scarce product from time to time, until ctx is done.
func (g *Generator) restock(ctx context.Context, client *http.Client) {
	ticker := time.NewTicker(restockEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			g.post(ctx, client, "/restocks", fmt.Appendf(nil, `{"product":%q,"quantity":%d}`, shop.LimitedPrint, restockUnits))
		}
	}
}

// post returns the status of the answer, 0 for none.
func (g *Generator) post(ctx context.Context, client *http.Client, path string, body []byte) int {
	// A request that is on its way when the load ends is finished.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, g.URL+path, bytes.NewReader(body))
	if err != nil {
		g.Logger.Error("load: request", "err", err)
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			g.Logger.Warn("load: order intake does not answer", "err", err)
		}
		return 0
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16)) // to the end, so that the connection is used again
	if res.StatusCode >= 400 {
		g.Logger.Warn("load: refused", "status", res.StatusCode, "answer", string(text))
	}
	return res.StatusCode
}
