package broker

import (
	"time"

	"github.com/leatstream/leat/broker/internal/quota"
)

// use counts what the client of a request has taken, and leaves its connection unread for as long as its quota says (KIP-219). It
// returns the whole wait, which the answer tells. Reading goroutine only.
func (c *conn) use(k quota.Key, clientID string, amount float64) {
	now := time.Now()
	if wait := c.b.quotas.Use(k, c.who.principal.Name, clientID, amount, now); wait > 0 {
		if until := now.Add(wait); until.After(c.muted) {
			c.muted = until
		}
	}
}

// throttle is how long the connection is going to stay unread, in milliseconds, for answers.
func (c *conn) throttle() int32 {
	if c.muted.IsZero() {
		return 0
	}
	if left := time.Until(c.muted); left > 0 {
		return int32((left + time.Millisecond - 1) / time.Millisecond)
	}
	return 0
}

// rest waits until the connection may be read again.
func (c *conn) rest() error {
	if c.muted.IsZero() {
		return nil
	}
	left := time.Until(c.muted)
	c.muted = time.Time{}
	if left <= 0 {
		return nil
	}
	c.b.metrics.rested(left)
	if pause(c.ctx, left) != nil {
		return errClosing
	}
	return nil
}

// served notes a request that its handler is done with, and counts towards quotas its bytes, if they are records, and the time it took.
func (c *conn) served(r *request, size int, took time.Duration) {
	c.b.metrics.request(r.key, size, took)
	if c.b.quotas.All() == nil {
		return
	}
	if r.key == keyProduce {
		c.use(quota.ProduceRate, r.clientID, float64(size))
	}
	c.use(quota.RequestPercent, r.clientID, 100*took.Seconds())
}

// fetchLimit is the most that one fetch of a client may return: no more than its quota of one second.
func (c *conn) fetchLimit(clientID string) int {
	most := c.b.cfg.MaxFetchBytes
	if rate := c.b.quotas.Limit(quota.ConsumeRate, c.who.principal.Name, clientID); rate > 0 && rate < float64(most) {
		return max(int(rate), 1)
	}
	return most
}
