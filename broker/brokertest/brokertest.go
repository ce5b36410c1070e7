// Package brokertest starts brokers for tests of what is built on them.
package brokertest

import (
	"testing"

	"github.com/leatstream/leat/broker"
)

// Start starts a broker, in a temporary folder unless c has one, and closes it when the test ends: a broker that cannot be
// started, or not be closed, fails the test. Without c.Listen it is reached in process alone, through [broker.Broker.Dialer].
func Start(t testing.TB, c broker.Config) *broker.Broker {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	b, err := broker.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}
