// Package broker is an embeddable, durable, single-node broker that speaks the Kafka protocol.
//
// Start opens the data directory, replays what the broker must remember and listens; Broker.Dial connects to it inside the
// process, without TCP. One node is all it ever is: a replication factor above 1 is refused with Kafka's own error.
//
//	conn (frames) -> routing table -> one handler per API -> log / group / txn / meta
package broker

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// Broker is a running broker. All methods are safe for concurrent use.
type Broker struct {
	cfg    Config
	logger *slog.Logger
	coordinators
}

// Start starts a broker. ctx bounds the start only; the broker runs until Close.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	return nil, errors.New("broker: not built yet")
}

// Addr is the address of the first listener, or a name for in-process use if there is none.
func (b *Broker) Addr() string { return "" }

// Dial opens an in-process connection: a buffered duplex pipe, no TCP.
func (b *Broker) Dial(ctx context.Context) (net.Conn, error) {
	return nil, errors.New("broker: not built yet")
}

// Dialer is Dial in the shape of kgo.Dialer: every address leads to this broker.
func (b *Broker) Dialer() func(ctx context.Context, network, host string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return b.Dial(ctx) }
}

// Close stops the broker: no new requests, coordinators stopped, logs synced and closed cleanly. It is idempotent.
func (b *Broker) Close() error { return nil }

// node is the broker's id, host and port as this connection's client is to see them. Metadata and FindCoordinator answer the same.
func (b *Broker) node(c *conn) (id int32, host string, port int32) { return 1, "", 0 }
