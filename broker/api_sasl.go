package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/auth"
)

// SaslHandshake (key 17), versions 0–1. Chooses the mechanism. After v1 SaslAuthenticate requests follow, after v0 bare tokens. A client
// that authenticates again must stay with its mechanism. Errors: UNSUPPORTED_SASL_MECHANISM (with those that are served),
// ILLEGAL_SASL_STATE (no SASL on this listener, or in the middle of an exchange).
func serveSASLHandshake(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.SASLHandshakeRequest)
	w := &c.who
	resp := kmsg.NewPtrSASLHandshakeResponse()
	resp.SupportedMechanisms = w.offered
	m := auth.Mechanism(req.Mechanism)
	switch {
	case len(w.offered) == 0 || w.exchange != nil:
		resp.ErrorCode = kerr.IllegalSaslState.Code
	case !slices.Contains(w.offered, req.Mechanism):
		resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
	case w.again && m != w.mechanism:
		resp.ErrorCode = kerr.IllegalSaslState.Code
	default:
		w.mechanism, w.exchange, w.bare = m, b.exchange(m), req.Version == 0
		if w.by.IsZero() {
			w.by = time.Now().Add(b.cfg.Security.Timeout)
		}
		return answer(resp), nil
	}
	w.ending = !w.proven && resp.ErrorCode != kerr.UnsupportedSaslMechanism.Code
	return answer(resp), nil
}

// SaslAuthenticate (key 36), versions 0–2. One message of the exchange. From v1 on the answer says how long the session lasts.
// Errors: SASL_AUTHENTICATION_FAILED, after a moment, and the connection ends; ILLEGAL_SASL_STATE without a handshake.
func serveSASLAuthenticate(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.SASLAuthenticateRequest)
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.SASLAuthBytes = []byte{}
	if c.who.exchange == nil || c.who.bare {
		resp.ErrorCode = kerr.IllegalSaslState.Code
		resp.ErrorMessage = kmsg.StringPtr("SaslAuthenticate request received without a SaslHandshake before it")
		c.who.ending = true
		return answer(resp), nil
	}
	out, done, err := c.authenticate(req.SASLAuthBytes)
	if err != nil {
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		resp.ErrorMessage = kmsg.StringPtr("Authentication failed: " + err.Error())
		return later(func(ctx context.Context) (kmsg.Response, error) {
			return resp, pause(ctx, time.Until(c.who.begun.Add(failureDelay)))
		}), nil
	}
	resp.SASLAuthBytes = out
	if done {
		resp.SessionLifetimeMillis = b.cfg.Security.MaxSession.Milliseconds()
	}
	return answer(resp), nil
}

// failureDelay is how long the answer to wrong credentials takes, as Kafka's connection.failed.authentication.delay.ms: guessing
// is slow. It counts from when the message came, so that the time to hash a password, which depends on the user's iterations, does not
// show.
const failureDelay = 100 * time.Millisecond

// pause waits, or returns an error if ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// authenticate takes the client's next message of an exchange. When it is done the client is who it said; after an error the
// connection is to end.
func (c *conn) authenticate(message []byte) (out []byte, done bool, err error) {
	w := &c.who
	w.begun = time.Now()
	if w.mechanism == auth.Plain {
		select {
		case c.b.hashing <- struct{}{}:
			defer func() { <-c.b.hashing }()
		case <-c.ctx.Done():
			return nil, false, errClosing
		}
	}
	out, done, err = w.exchange.Step(message)
	if done && w.again && w.exchange.Principal() != w.principal {
		err = errors.New("a client that authenticates again must be the same user")
	}
	if err != nil {
		c.b.logger.Warn("authentication failed", "client", c.nc.RemoteAddr().String(), "mechanism", string(w.mechanism), "user", w.exchange.Principal().Name, "reason", err)
		c.b.metrics.failure()
		w.ending = true
		return nil, false, err
	}
	if done {
		w.principal, w.exchange, w.trusted = w.exchange.Principal(), nil, false
		w.proven, w.again, w.bare, w.by = true, true, false, time.Time{}
		if most := c.b.cfg.Security.MaxSession; most > 0 { // also for clients that are too old to be told: they come again
			w.expires = w.begun.Add(most)
		}
		c.b.logger.Debug("client authenticated", "client", c.nc.RemoteAddr().String(), "principal", w.principal.String(), "mechanism", string(w.mechanism))
	}
	return out, done, nil
}

// nextToken serves one bare token, as they follow SaslHandshake v0. What is wrong cannot be said, only done: the connection ends.
func (c *conn) nextToken() error {
	if err := c.nc.SetReadDeadline(c.who.by); err != nil {
		return err
	}
	var prefix [sizePrefixBytes]byte
	if _, err := io.ReadFull(c.in, prefix[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(prefix[:])
	if size > unprovenFrameBytes {
		return errors.New("SASL token is too long")
	}
	token := make([]byte, size)
	if _, err := io.ReadFull(c.in, token); err != nil {
		return err
	}
	out, _, err := c.authenticate(token)
	if err != nil {
		return errors.Join(pause(c.ctx, time.Until(c.who.begun.Add(failureDelay))), err)
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(frameTimeout)); err != nil {
		return err
	}
	_, err = c.nc.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(out))), out...))
	return err
}
