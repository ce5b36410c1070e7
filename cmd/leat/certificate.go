package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a server's certificate in two files, read again when they have changed: one that is renewed counts for the next
// connections, without a restart. It may be used by several goroutines.
type certificate struct {
	cert, key string
	logger    *slog.Logger // told of files that cannot be used; nil: nobody is
	mu        struct {
		sync.Mutex
		held *tls.Certificate
		read [2]fileState // when held was made, or could not be
	}
}

// fileState tells one content of a file from the next.
type fileState struct {
	changed time.Time
	size    int64
}

// loadCertificate reads the files for the first time.
func loadCertificate(cert, key string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, logger: logger}
	state, err := c.state()
	if err == nil {
		err = c.readLocked(state)
	}
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", cert, key, err)
	}
	return c, nil
}

// config serves the certificate.
func (c *certificate) config() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12}
}

// get implements tls.Config.GetCertificate. While the files cannot be used the certificate stays what it was.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state, err := c.state()
	if err == nil && state != c.mu.read {
		err = c.readLocked(state)
		if err != nil && c.logger != nil {
			c.logger.Warn("the certificate has changed and cannot be used; going on with the one before", "cert", c.cert, "key", c.key, "err", err)
		}
	}
	return c.mu.held, nil //nolint:nilerr // there is always one that works
}

func (c *certificate) state() (state [2]fileState, err error) {
	for i, name := range []string{c.cert, c.key} {
		info, statErr := os.Stat(name)
		if err = errors.Join(err, statErr); statErr == nil {
			state[i] = fileState{info.ModTime(), info.Size()}
		}
	}
	return state, err
}

func (c *certificate) readLocked(state [2]fileState) error {
	c.mu.read = state
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err == nil {
		c.mu.held = &pair
	}
	return err
}
