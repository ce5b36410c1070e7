package streams

import (
	"time"

	"github.com/leatstream/leat/streams/internal/failpoint"
	"github.com/leatstream/leat/streams/internal/runtime"
)

// Tune makes an App fit for tests: rebalances are noticed at once, and failpoints may be armed. Where nobody is to be taken for dead, a
// machine that stands still for a while changes nothing.
func (a *App) Tune(points *failpoint.Set) {
	a.tune = func(c *runtime.Config) {
		c.HeartbeatInterval = 50 * time.Millisecond
		if c.SessionTimeout == 0 {
			c.SessionTimeout = time.Minute
		}
		c.PurgeInterval = 100 * time.Millisecond
		c.LookInterval = 100 * time.Millisecond
		if points != nil {
			c.Failpoints = points
		}
	}
}
