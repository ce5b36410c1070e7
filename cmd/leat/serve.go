package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// serving are the flags that all servers have.
type serving struct {
	insecure bool
	logLevel string
}

func (s *serving) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.insecure, "insecure", false, "listen beyond this machine although there is no authentication")
	cmd.Flags().StringVar(&s.logLevel, "log-level", "warn", "least level that is logged to standard error: debug, info, warn, error")
}

// logger makes the server's logger.
func (s *serving) logger(stderr io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return nil, cli.Usagef("--log-level %q: want debug, info, warn or error", s.logLevel)
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})), nil
}

// checkListen refuses an address that others can reach, unless --insecure says that this is meant. closed names the flags with
// which it would not be asked; empty: there are none.
func (s *serving) checkListen(ctx context.Context, addr, closed string, stderr io.Writer) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return cli.Usagef("--listen %q: want HOST:PORT: %v", addr, err)
	}
	if loopback(ctx, host) {
		return nil
	}
	if closed != "" {
		closed = ", close it with " + closed
	}
	if !s.insecure {
		return cli.Usagef("--listen %s: reaches beyond this machine, without TLS and authentication: whoever reaches it can read and "+
			"write everything. Listen on localhost%s, or add --insecure if that is what you want", addr, closed)
	}
	fmt.Fprintf(stderr, "WARNING: --insecure: whoever reaches %s can read and write everything\n", addr)
	return nil
}

// loopback reports whether host is this machine and nothing else. An empty host is every interface.
func loopback(ctx context.Context, host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	if host == "" {
		return false
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, ip := range ips {
		if !ip.IP.IsLoopback() {
			return false
		}
	}
	return true
}

// friendly writes a loopback address with the name that people type.
func friendly(addr string) string {
	if rest, ok := strings.CutPrefix(addr, "127.0.0.1:"); ok {
		return "localhost:" + rest
	}
	return addr
}
