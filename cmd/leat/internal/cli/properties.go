package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// properties is a Java properties file, as Kafka's tools take with --command-config.
type properties struct {
	values map[string]string
	used   map[string]bool
}

func readProperties(path string) (*properties, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--command-config: %w", err)
	}
	return parseProperties(string(text)), nil
}

// parseProperties reads key=value lines: # and ! begin comments, a line that ends in \ goes on in the next, : and white space
// separate too.
func parseProperties(text string) *properties {
	p := &properties{map[string]string{}, map[string]bool{}}
	var line string
	for raw := range strings.Lines(text) {
		raw = strings.TrimLeft(strings.TrimRight(raw, "\r\n"), " \t\f")
		if line == "" && (strings.HasPrefix(raw, "#") || strings.HasPrefix(raw, "!")) {
			continue
		}
		line += raw
		if slashes := len(line) - len(strings.TrimRight(line, `\`)); slashes%2 == 1 {
			line = line[:len(line)-1]
			continue
		}
		if end := strings.IndexAny(line, "=: \t"); end > 0 {
			value := strings.TrimLeft(line[end:], " \t")
			if value != "" && (value[0] == '=' || value[0] == ':') {
				value = strings.TrimLeft(value[1:], " \t")
			}
			p.values[line[:end]] = unescape(value)
		}
		line = ""
	}
	return p
}

// unescape resolves the escapes of properties files.
func unescape(s string) string {
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r", `\=`, "=", `\:`, ":", `\#`, "#", `\!`, "!", `\\`, `\`).Replace(s)
}

// get returns the value of the first key that is there.
func (p *properties) get(keys ...string) string {
	value := ""
	for _, key := range keys {
		p.used[key] = true
		if v := strings.TrimSpace(p.values[key]); v != "" && value == "" {
			value = v
		}
	}
	return value
}

func (p *properties) list(key string) []string { return splitList(p.get(key)) }

// unknown are the keys that nobody asked for.
func (p *properties) unknown() []string {
	var keys []string
	for key := range p.values {
		if !p.used[key] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// secure is how the client proves who it is and checks who the broker is. Nil parts are not used.
type secure struct {
	tls  *tls.Config
	sasl sasl.Mechanism
}

func (s *secure) opts() []kgo.Opt {
	var opts []kgo.Opt
	if s.tls != nil {
		opts = append(opts, kgo.DialTLSConfig(s.tls))
	}
	if s.sasl != nil {
		opts = append(opts, kgo.SASL(s.sasl))
	}
	return opts
}

func (p *properties) secure() (*secure, error) {
	protocol := strings.ToUpper(p.get("security.protocol"))
	// Read both parts whatever the protocol: the keys are known, even where they are not used.
	conf, tlsErr := p.tls()
	mechanism, saslErr := p.mechanism()
	switch protocol {
	case "", "PLAINTEXT":
		return nil, nil
	case "SSL":
		return &secure{tls: conf}, tlsErr
	case "SASL_PLAINTEXT":
		return &secure{sasl: mechanism}, saslErr
	case "SASL_SSL":
		return &secure{conf, mechanism}, errors.Join(tlsErr, saslErr)
	}
	return nil, fmt.Errorf("security.protocol=%s: want PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", protocol)
}

func (p *properties) mechanism() (sasl.Mechanism, error) {
	name := p.get("sasl.mechanism", "sasl.mechanisms")
	jaas := parseJAAS(p.get("sasl.jaas.config"))
	user, password := p.get("sasl.username"), p.get("sasl.password")
	if jaas["username"] != "" {
		user, password = jaas["username"], jaas["password"]
	}
	switch name {
	case "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism(), needUser(user)
	case "SCRAM-SHA-256", "SCRAM-SHA-512":
		auth := func(context.Context) (scram.Auth, error) {
			return scram.Auth{User: user, Pass: password, IsToken: jaas["tokenauth"] == "true"}, nil
		}
		if name == "SCRAM-SHA-256" {
			return scram.Sha256(auth), needUser(user)
		}
		return scram.Sha512(auth), needUser(user)
	}
	return nil, fmt.Errorf("sasl.mechanism=%s: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", name)
}

func needUser(user string) error {
	if user == "" {
		return errors.New(`no user: give sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="…" password="…"; or sasl.username and sasl.password`)
	}
	return nil
}

// parseJAAS reads the options of "Module required key="value" …;".
func parseJAAS(s string) map[string]string {
	options := map[string]string{}
	for {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			return options
		}
		if fields := strings.Fields(key); len(fields) > 0 {
			key = fields[len(fields)-1]
		}
		rest = strings.TrimLeft(rest, " ")
		var value string
		if strings.HasPrefix(rest, `"`) {
			end := 1
			for end < len(rest) && rest[end] != '"' {
				if rest[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end, len(rest))
			value, s = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(rest[1:end]), rest[min(end+1, len(rest)):]
		} else {
			end := strings.IndexAny(rest, " ;")
			if end < 0 {
				end = len(rest)
			}
			value, s = rest[:end], rest[end:]
		}
		options[key] = value
	}
}

// tls reads the ssl.* keys. Stores must be PEM, in a file or in the value.
func (p *properties) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if types := []string{p.get("ssl.truststore.type"), p.get("ssl.keystore.type")}; slices.ContainsFunc(types, func(t string) bool { return t != "" && !strings.EqualFold(t, "PEM") }) {
		return nil, errors.New("ssl.truststore.type and ssl.keystore.type: only PEM is read. Convert with: keytool -importkeystore -srckeystore store.jks -destkeystore store.p12 " +
			"-deststoretype PKCS12; openssl pkcs12 -in store.p12 -out store.pem -nodes")
	}
	p.get("ssl.truststore.password", "ssl.keystore.password", "ssl.key.password", "ssl.protocol", "ssl.enabled.protocols")
	trust, err := p.pem("ssl.truststore.certificates", "ssl.truststore.location", "ssl.ca.location")
	if err != nil {
		return nil, err
	}
	if trust != nil {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(trust) {
			return nil, errors.New("ssl.truststore: no certificate in it; it must be PEM")
		}
	}
	chain, err := p.pem("ssl.keystore.certificate.chain", "ssl.keystore.location", "ssl.certificate.location")
	if err != nil {
		return nil, err
	}
	key, err := p.pem("ssl.keystore.key", "ssl.keystore.location", "ssl.key.location")
	if err != nil {
		return nil, err
	}
	if chain != nil {
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			return nil, fmt.Errorf("ssl.keystore: %w (the key must be PEM and not encrypted)", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	if _, there := p.values["ssl.endpoint.identification.algorithm"]; there && p.get("ssl.endpoint.identification.algorithm") == "" {
		trustAnyName(conf)
	}
	return conf, nil
}

// pem returns the value of the first key, or what is in the file that one of the others names.
func (p *properties) pem(inline string, files ...string) ([]byte, error) {
	if text := p.get(inline); text != "" {
		return []byte(text), nil
	}
	path := p.get(files...)
	if path == "" {
		return nil, nil
	}
	return os.ReadFile(path)
}

// trustAnyName checks the broker's certificates, but not that they are for the host that was dialled: what Kafka does if
// ssl.endpoint.identification.algorithm is empty.
func trustAnyName(conf *tls.Config) {
	conf.InsecureSkipVerify = true // the chain is verified below
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		opts := x509.VerifyOptions{Roots: conf.RootCAs, Intermediates: x509.NewCertPool()}
		for _, c := range s.PeerCertificates[1:] {
			opts.Intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(opts)
		return err
	}
}
