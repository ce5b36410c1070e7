package main

import (
	"bufio"
	"bytes"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/registry"
)

// registrySecurity are the flags that keep a registry to those who may use it.
type registrySecurity struct {
	cert, key, users string
	unfenced         bool
}

func (s *registrySecurity) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.cert, "tls-cert", "", "PEM file of the certificate to serve HTTPS with, with those that it was signed by; read again when it changes")
	f.StringVar(&s.key, "tls-key", "", "PEM file of the certificate's key")
	f.StringVar(&s.users, "users-file", "", "file of those who may use the registry: a line NAME:PASSWORD each, or NAME:PASSWORD:ro for who may only read")
	f.BoolVar(&s.unfenced, "unfenced", false, "write without transactions, to a cluster that has none; then nothing keeps a second registry from writing")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
}

// closed says that nobody else can read or write what is sent.
func (s *registrySecurity) closed() bool { return s.cert != "" && s.users != "" }

func (s *registrySecurity) apply(c *registry.Config) error {
	c.Unfenced = s.unfenced
	if s.cert != "" {
		cert, err := loadCertificate(s.cert, s.key, c.Logger)
		if err != nil {
			return cli.Usagef("%v", err)
		}
		c.TLS = cert.config()
	}
	if s.users == "" {
		return nil
	}
	text, err := os.ReadFile(s.users)
	if err != nil {
		return cli.Usagef("--users-file: %v", err)
	}
	c.Users, err = parseUsers(text)
	return err
}

// parseUsers reads a file of users. Empty lines and those that begin with # are left out.
func parseUsers(text []byte) ([]registry.User, error) {
	var users []registry.User
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		line, readOnly := strings.CutSuffix(line, ":ro")
		name, password, ok := strings.Cut(line, ":")
		if !ok || name == "" || password == "" {
			return nil, cli.Usagef("--users-file: line %d: want NAME:PASSWORD or NAME:PASSWORD:ro", n)
		}
		users = append(users, registry.User{Name: name, Password: password, ReadOnly: readOnly})
	}
	if len(users) == 0 {
		return nil, cli.Usagef("--users-file: there is nobody in it, and without users anybody may use the registry: leave the flag out if that is meant")
	}
	return users, lines.Err()
}
