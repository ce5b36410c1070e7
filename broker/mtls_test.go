package broker

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A client is who its certificate names, after the rules; nobody comes in without one.
func TestMutualTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	b := start(t, func(c *Config) {
		c.Listeners = []Listener{{Addr: "127.0.0.1:0", TLS: &tls.Config{
			Certificates: []tls.Certificate{ca.issue(pkix.Name{CommonName: "broker"})}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert,
		}}}
		c.Security.Authorize = true
		c.Security.CertificateRules = "RULE:^CN=(.*?),O=Example$/$1/L"
		c.Security.SuperUsers = []string{"User:alice"}
	})
	with := func(certs ...tls.Certificate) kgo.Opt {
		return kgo.DialTLSConfig(&tls.Config{RootCAs: ca.pool, ServerName: "127.0.0.1", Certificates: certs})
	}
	if err := works(t, b.Addr(), "t", with(ca.issue(pkix.Name{CommonName: "Alice", Organization: []string{"Example"}}))); err != nil {
		t.Error("alice:", err)
	}
	if err := works(t, b.Addr(), "t", with(ca.issue(pkix.Name{CommonName: "Bob", Organization: []string{"Example"}}))); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Error("bob:", err)
	}
	for name, opt := range map[string]kgo.Opt{
		"no certificate": with(), "of a strange authority": with(stranger.issue(pkix.Name{CommonName: "Alice", Organization: []string{"Example"}})),
		"matched by no rule": with(ca.issue(pkix.Name{CommonName: "Alice"})),
	} {
		if err := works(t, b.Addr(), "t", opt); err == nil || errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Who speaks no TLS at all is heard no further than that.
	r := dialRawTCP(t, b.Addr())
	r.send(kmsg.NewPtrMetadataRequest(), 9)
	if _, _, err := r.tryReceive(); err == nil {
		t.Error("a client without TLS is answered")
	}
}
