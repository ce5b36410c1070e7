package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/leatstream/leat/broker/internal/auth"
)

// identity is who a connection's client is, and what it still has to show. It belongs to the connection's reading goroutine.
type identity struct {
	principal auth.Principal
	host      string // the client's address, without a port
	// trusted clients are in this process and were not asked who they are: nothing is refused to them.
	trusted bool
	// proven says that the client may send more than what is needed to authenticate; by is when it has to be, the zero time if it
	// is already.
	proven bool
	by     time.Time

	offered   []string       // mechanisms
	mechanism auth.Mechanism // of the exchange, or of the one that was completed
	exchange  auth.Exchange  // under way
	begun     time.Time      // when the exchange's last message came
	bare      bool           // SaslHandshake v0: tokens follow without request headers
	again     bool           // the exchange repeats one that was completed
	expires   time.Time      // zero: never
	ending    bool           // the connection ends when the answer is sent
}

// unprovenFrameBytes is the largest request of a client that has not authenticated yet.
const unprovenFrameBytes = 64 << 10

// newIdentity is what is known of a client that has just connected to l; nil: in process.
func newIdentity(b *Broker, nc net.Conn, l *Listener) identity {
	id := identity{principal: auth.Anonymous, host: nc.RemoteAddr().String(), proven: true, offered: mechanisms, trusted: l == nil}
	if host, _, err := net.SplitHostPort(id.host); err == nil {
		id.host = host
	}
	if l == nil {
		return id
	}
	id.offered = l.SASL
	id.proven = len(l.SASL) == 0
	if !id.proven || l.TLS != nil {
		id.by = time.Now().Add(b.cfg.Security.Timeout)
	}
	return id
}

// encrypt makes the TLS side of a connection; the handshake is still to come.
func encrypt(nc net.Conn, l *Listener) net.Conn {
	if l == nil || l.TLS == nil {
		return nc
	}
	cfg := l.TLS
	if cfg.MinVersion == 0 {
		cfg = cfg.Clone()
		cfg.MinVersion = tls.VersionTLS12
	}
	return tls.Server(nc, cfg)
}

// shakeHands completes the TLS handshake, if there is one, and takes the client's name from its certificate.
func (c *conn) shakeHands(ctx context.Context) error {
	tc, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := c.nc.SetDeadline(c.who.by); err != nil {
		return err
	}
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	if err := c.nc.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if certs := tc.ConnectionState().PeerCertificates; len(certs) > 0 && len(tc.ConnectionState().VerifiedChains) > 0 {
		p, err := c.b.mapping.Principal(certs[0])
		if err != nil {
			return err
		}
		c.who.principal = p
	}
	if c.who.proven {
		c.who.by = time.Time{}
	}
	return nil
}

// Keys that a client may send before it has authenticated, beside ApiVersions.
const (
	keySASLHandshake    = 17
	keySASLAuthenticate = 36
)

// errUnproven ends connections of clients that would rather not authenticate.
var errUnproven = errors.New("the first requests on this listener must authenticate the client (SASL)")

// admit refuses what a client may not send in its state. size is the frame's.
func (w *identity) admit(key int16, size int64, now time.Time) error {
	switch key {
	case keySASLHandshake, keySASLAuthenticate, keyAPIVersions:
		if size > unprovenFrameBytes && !w.proven {
			return fmt.Errorf("request of %d bytes before authentication, at most %d", size, unprovenFrameBytes)
		}
		return nil
	}
	switch {
	case !w.proven:
		return errUnproven
	case w.exchange != nil:
		return errors.New("a request between the messages of an authentication")
	case !w.expires.IsZero() && now.After(w.expires):
		return errors.New("the session is over: the client had to authenticate again")
	}
	return nil
}
