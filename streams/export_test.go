package streams

import (
	"time"

	"github.com/leatstream/leat/streams/internal/failpoint"
	"github.com/leatstream/leat/streams/internal/runtime"
)

// Tune makes an App fit for tests: rebalances are noticed at once, and failpoints may be armed.
func (a *App) Tune(points *failpoint.Set) {
	a.tune = func(c *runtime.Config) {
		c.HeartbeatInterval = 50 * time.Millisecond
		c.SessionTimeout = 6 * time.Second
		c.TransactionTimeout = 2 * time.Second
		c.PurgeInterval = 100 * time.Millisecond
		c.LookInterval = 100 * time.Millisecond
		if points != nil {
			c.Failpoints = points
		}
	}
}
