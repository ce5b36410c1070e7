package session

import (
	"testing"
	"time"
)

func TestHeartbeatsFollowTheSession(t *testing.T) {
	for _, c := range []struct{ session, given, want time.Duration }{
		{0, 0, 250 * time.Millisecond}, // of 45 s
		{time.Minute, 0, 250 * time.Millisecond},
		{600 * time.Millisecond, 0, 200 * time.Millisecond},
		{time.Minute, 50 * time.Millisecond, 50 * time.Millisecond},
	} {
		cfg := Config{SessionTimeout: c.session, HeartbeatInterval: c.given}
		cfg.fill()
		if cfg.HeartbeatInterval != c.want {
			t.Errorf("session %v, heartbeats %v: heartbeats every %v, want %v", c.session, c.given, cfg.HeartbeatInterval, c.want)
		}
	}
}
