package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// securing are the flags that say who the broker's clients are and what they may do.
type securing struct {
	cert, key, clientCA, users, rules string
	sasl, superUsers                  []string
	authorize                         bool
}

func (s *securing) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.cert, "tls-cert", "", "PEM file of the certificate: listen with TLS; with --tls-key; read again when it changes")
	f.StringVar(&s.key, "tls-key", "", "PEM file of the certificate's private key")
	f.StringVar(&s.clientCA, "tls-client-ca", "", "PEM file of authorities: clients must show a certificate of one of them, which names them")
	f.StringVar(&s.rules, "tls-principal-rules", "", "rules that make users of the names in certificates, as ssl.principal.mapping.rules")
	f.StringSliceVar(&s.sasl, "sasl", nil, "mechanisms of which clients must use one: SCRAM-SHA-512, SCRAM-SHA-256, PLAIN")
	f.StringVar(&s.users, "users", "", "file of the first users, NAME:PASSWORD a line; more are made with AlterUserScramCredentials")
	f.BoolVar(&s.authorize, "authorize", false, "refuse what no access control list allows")
	f.StringSliceVar(&s.superUsers, "super-user", nil, "principal that may do everything, as User:admin")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
}

// safe reports whether strangers cannot come in, nor read along: it may listen beyond this machine.
func (s *securing) safe() bool { return s.cert != "" && (len(s.sasl) > 0 || s.clientCA != "") }

// apply makes listeners of cfg's addresses.
func (s *securing) apply(cfg *broker.Config) error {
	cfg.Security.Authorize, cfg.Security.SuperUsers, cfg.Security.CertificateRules = s.authorize, s.superUsers, s.rules
	if s.users != "" && len(s.sasl) == 0 {
		return cli.Usagef("--users needs --sasl: without it nobody is asked for a password")
	}
	if s.users != "" {
		if err := s.readUsers(&cfg.Security); err != nil {
			return err
		}
	}
	if s.clientCA != "" && s.cert == "" {
		return cli.Usagef("--tls-client-ca needs --tls-cert and --tls-key")
	}
	if s.cert == "" && len(s.sasl) == 0 {
		return nil
	}
	l := broker.Listener{Advertise: cfg.Advertise, SASL: s.sasl}
	if s.cert != "" {
		cert, err := loadCertificate(s.cert, s.key, cfg.Logger)
		if err != nil {
			return err
		}
		l.TLS = cert.config()
	}
	if s.clientCA != "" {
		pem, err := os.ReadFile(s.clientCA)
		if err != nil {
			return fmt.Errorf("--tls-client-ca: %w", err)
		}
		l.TLS.ClientCAs, l.TLS.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !l.TLS.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--tls-client-ca %s: no certificate in PEM form", s.clientCA)
		}
	}
	for _, addr := range cfg.Listen {
		l.Addr = addr
		cfg.Listeners = append(cfg.Listeners, l)
	}
	cfg.Listen, cfg.Advertise = nil, ""
	return nil
}

// readUsers reads NAME:PASSWORD lines; empty ones and those that begin with # are passed over.
func (s *securing) readUsers(to *broker.Security) error {
	f, err := os.Open(s.users)
	if err != nil {
		return fmt.Errorf("--users: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("--users %s: others can read it: chmod 600 it", s.users)
	}
	to.Users = map[string]broker.Secret{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, password, ok := strings.Cut(line, ":")
		if !ok || name == "" || password == "" {
			return fmt.Errorf("--users %s: line %d: want NAME:PASSWORD", s.users, n)
		}
		to.Users[name] = broker.Secret(password)
	}
	return lines.Err()
}
