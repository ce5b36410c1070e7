package streams

import "time"

// storeLimits are what keeps a key-value store small.
type storeLimits struct {
	maxEntries int
	ttl        time.Duration
	clock      Clock
}

// limitsOf checks the limits of a descriptor.
func limitsOf[K, V any](b *Builder, s rowStore[K, V]) storeLimits {
	if s.MaxEntries < 0 {
		b.mistake("store %q has room for %d entries: at least one is needed, 0 is any number", s.Name, s.MaxEntries)
	}
	switch {
	case s.TTL != 0 && s.TTL < time.Millisecond:
		b.mistake("store %q keeps rows for %v: at least a millisecond is needed", s.Name, s.TTL)
	case s.TTL == 0 && s.TTLClock != StreamTime:
		b.mistake("store %q has a TTLClock, but no TTL", s.Name)
	}
	return storeLimits{maxEntries: max(0, s.MaxEntries), ttl: max(0, s.TTL), clock: s.TTLClock}
}

// interval is how often the wall clock is looked at: often enough for short lives, and at least each second.
func (l storeLimits) interval() time.Duration {
	return min(max(l.ttl/16, 10*time.Millisecond), time.Second)
}
