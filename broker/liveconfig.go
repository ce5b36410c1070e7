package broker

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Some properties may be changed while the broker runs, as in Kafka. What is set is kept beside the defaults of topics, and outlives restarts;
// Config is what holds where nothing is.

// live says whether a property may be changed while the broker runs, and its least value then.
func (p property) live() (least int64, ok bool) {
	switch p.name {
	case "group.consumer.assignment.interval.ms":
		return 0, true
	case "log.cleaner.backoff.ms", "producer.id.expiration.ms":
		return 1, true
	}
	return 0, false
}

// checkLive checks a value that is to be set at run time.
func (b *Broker) checkLive(p property, value string) error {
	least, _ := p.live()
	cfg := b.cfg
	if err := p.set(&cfg, value); err != nil {
		return refuse(kerr.InvalidConfig, "%s=%s: %s", p.name, value, err)
	}
	if n, err := strconv.ParseInt(value, 10, 64); err != nil || n < least {
		return refuse(kerr.InvalidConfig, "%s=%s: want a number from %d", p.name, value, least)
	}
	return nil
}

// current is Config with what has been set at run time. It must not be changed.
func (b *Broker) current() *Config {
	if cfg := b.live.Load(); cfg != nil {
		return cfg
	}
	return &b.cfg
}

// relive puts what has been set at run time in force.
func (b *Broker) relive() {
	cfg, set := b.cfg, b.meta.BrokerConfigs()
	for _, p := range properties {
		value, ok := set[p.name]
		if _, live := p.live(); !ok || !live {
			continue
		}
		if err := p.set(&cfg, value); err != nil {
			b.logger.Error("what was set at run time cannot be read; the broker's own holds", "name", p.name, "value", value, "err", err)
		}
	}
	b.live.Store(&cfg)
	select {
	case b.relived <- struct{}{}:
	default:
	}
}
