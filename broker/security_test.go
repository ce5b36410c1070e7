package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/leatstream/leat/internal/vfs"
)

// authority makes certificates for tests.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, pool: x509.NewCertPool()}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate for a client or for a server on loopback.
func (a *authority) issue(name pkix.Name) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: name, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// addrOf is the address of one of several listeners.
func (b *Broker) addrOf(i int) string { return b.listeners[i].Addr().String() }

// works produces and consumes one record; it fails with the first error, and does not try for long.
func works(t testing.TB, addr, topic string, more ...kgo.Opt) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics(topic), kgo.RequestRetries(1), kgo.RecordRetries(1),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(ctx); err != nil {
		return err
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr(); err != nil {
		return err
	}
	fs := cl.PollFetches(ctx)
	if fs.Err() == nil && fs.NumRecords() == 0 {
		return errors.New("nothing came")
	}
	return fs.Err()
}

func mechanism(name, user, password string) kgo.Opt {
	var m sasl.Mechanism
	switch a := (scram.Auth{User: user, Pass: password}); name {
	case "PLAIN":
		m = plain.Auth{User: user, Pass: password}.AsMechanism()
	case "SCRAM-SHA-256":
		m = a.AsSha256Mechanism()
	default:
		m = a.AsSha512Mechanism()
	}
	return kgo.SASL(m)
}

func TestSASLOverTLSAndInClear(t *testing.T) {
	ca := newAuthority(t)
	server := &tls.Config{Certificates: []tls.Certificate{ca.issue(pkix.Name{CommonName: "broker"})}}
	client := &tls.Config{RootCAs: ca.pool, ServerName: "127.0.0.1"}
	b := start(t, func(c *Config) {
		c.Listeners = []Listener{{Addr: "127.0.0.1:0", SASL: mechanisms}, {Addr: "127.0.0.1:0", SASL: mechanisms, TLS: server}, {Addr: "127.0.0.1:0", TLS: server}}
		c.Security.Users = map[string]Secret{"alice": "wonder,=land"}
	})
	for _, m := range mechanisms {
		if err := works(t, b.addrOf(0), "clear", mechanism(m, "alice", "wonder,=land")); err != nil {
			t.Errorf("%s in clear: %v", m, err)
		}
		if err := works(t, b.addrOf(1), "tls", mechanism(m, "alice", "wonder,=land"), kgo.DialTLSConfig(client)); err != nil {
			t.Errorf("%s over TLS: %v", m, err)
		}
		for user, password := range map[string]string{"alice": "wonderland", "bob": "wonder,=land"} {
			if err := works(t, b.addrOf(0), "clear", mechanism(m, user, password)); !errors.Is(err, kerr.SaslAuthenticationFailed) {
				t.Errorf("%s as %s with %s: %v", m, user, password, err)
			}
		}
	}
	if err := works(t, b.addrOf(2), "tls-only", kgo.DialTLSConfig(client)); err != nil {
		t.Errorf("TLS alone: %v", err)
	}
	if err := works(t, b.addrOf(1), "tls", kgo.DialTLSConfig(client)); err == nil {
		t.Error("a client that does not authenticate is served")
	}
	if err := works(t, b.addrOf(2), "tls", kgo.DialTLSConfig(&tls.Config{})); err == nil {
		t.Error("the client trusts anyone: the test proves nothing")
	}
}

func TestScramCredentialsAreKeptAndCanBeChanged(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Listeners: []Listener{{Addr: "127.0.0.1:0", SASL: mechanisms}}, Security: Security{Users: map[string]Secret{"root": "boot"}}}
	ctx := within(t, time.Minute)
	admin := func(b *Broker, password string) *kadm.Client {
		return kadm.NewClient(newClient(t, []kgo.Opt{kgo.SeedBrokers(b.Addr()), mechanism("SCRAM-SHA-512", "root", password)}))
	}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	up := func(user string, m kadm.ScramMechanism, password string, iterations int32) kadm.UpsertSCRAM {
		return kadm.UpsertSCRAM{User: user, Mechanism: m, Iterations: iterations, Password: password}
	}
	adm := admin(b, "boot")
	res, err := adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{up("carol", kadm.ScramSha256, "first", 4096), up("carol", kadm.ScramSha512, "first", 8192),
		up("root", kadm.ScramSha512, "changed", 4096)})
	if err != nil || !res.Ok() {
		t.Fatal(err, res)
	}
	if res, err := adm.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "nobody", Mechanism: kadm.ScramSha256}}, nil); err != nil || !errors.Is(res["nobody"].Err, kerr.ResourceNotFound) {
		t.Error(err, res)
	}
	for range 2 { // now, and after a restart
		for _, m := range mechanisms {
			if err := works(t, b.Addr(), "t", mechanism(m, "carol", "first")); err != nil {
				t.Errorf("carol by %s: %v", m, err)
			}
			// A stored credential takes the place of the configured password, whatever the mechanism.
			if err := works(t, b.Addr(), "t", mechanism(m, "root", "boot")); !errors.Is(err, kerr.SaslAuthenticationFailed) {
				t.Errorf("root's old password by %s: %v", m, err)
			}
		}
		ds, err := admin(b, "changed").DescribeUserSCRAMs(ctx)
		if err != nil || len(ds) != 2 || len(ds["carol"].CredInfos) != 2 || ds["carol"].CredInfos[0].Iterations+ds["carol"].CredInfos[1].Iterations != 4096+8192 {
			t.Errorf("%v, %+v", err, ds)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if b, err = Start(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	defer b.Close()
	if _, err := admin(b, "changed").AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "carol", Mechanism: kadm.ScramSha256}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := works(t, b.Addr(), "t", mechanism("SCRAM-SHA-256", "carol", "first")); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("a deleted credential: %v", err)
	}
	// No password is on the disk, and none is printed.
	err = filepath.WalkDir(cfg.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, secret := range []string{"first", "changed", "boot"} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s holds the password %q", path, secret)
			}
		}
		return err
	})
	if text := fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg); err != nil || strings.Contains(text, "boot") {
		t.Error(err, text)
	}
}

func dialRawTCP(t testing.TB, addr string) *raw {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	return &raw{t: t, nc: nc}
}

// What the administrator's client would refuse itself.
func TestUnacceptableCredentials(t *testing.T) {
	b := start(t, func(c *Config) { c.Security.MaxCredentials = 1 })
	up := func(name string, mechanism int8, iterations int32) kmsg.AlterUserSCRAMCredentialsRequestUpsertion {
		return kmsg.AlterUserSCRAMCredentialsRequestUpsertion{Name: name, Mechanism: mechanism, Iterations: iterations, Salt: []byte("salt"), SaltedPassword: []byte("salted")}
	}
	req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	req.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{up("few", 1, 4095), up("many", 1, 16385), up("kind", 3, 8192), up("", 1, 8192),
		up("twice", 1, 8192), up("twice", 1, 8192), up("fine", 1, 8192), up("beyond", 1, 8192)}
	want := map[string]int16{"few": kerr.UnacceptableCredential.Code, "many": kerr.UnacceptableCredential.Code, "kind": kerr.UnsupportedSaslMechanism.Code,
		"": kerr.UnacceptableCredential.Code, "twice": kerr.DuplicateResource.Code, "fine": 0, "beyond": kerr.PolicyViolation.Code}
	for _, res := range do[*kmsg.AlterUserSCRAMCredentialsResponse](dialRaw(t, b), req, 0).Results {
		if code, ok := want[res.User]; !ok || code != res.ErrorCode {
			t.Errorf("%q: error %d", res.User, res.ErrorCode)
		}
		delete(want, res.User)
	}
	if len(want) > 0 {
		t.Errorf("not answered: %v", want)
	}
}

// Before a client has shown who it is it can do nothing else, and not for long.
func TestUnauthenticatedClients(t *testing.T) {
	b := start(t, func(c *Config) {
		c.Listeners = []Listener{{Addr: "127.0.0.1:0", SASL: []string{"SCRAM-SHA-256"}}}
		c.Security.Users = map[string]Secret{"a": "b"}
	})
	dial := func() *raw { return dialRawTCP(t, b.Addr()) }
	for _, row := range b.routes {
		if row == nil || row.key == keyAPIVersions || row.key == keySASLHandshake || row.key == keySASLAuthenticate {
			continue
		}
		r := dial()
		r.send(kmsg.RequestForKey(row.key), row.max)
		if !r.closed() {
			t.Errorf("API %d is served before authentication", row.key)
		}
	}
	r := dial()
	if resp := do[*kmsg.ApiVersionsResponse](r, kmsg.NewPtrApiVersionsRequest(), 0); resp.ErrorCode != 0 {
		t.Error(resp.ErrorCode)
	}
	auth := kmsg.NewPtrSASLAuthenticateRequest()
	if resp := do[*kmsg.SASLAuthenticateResponse](r, auth, 1); resp.ErrorCode != kerr.IllegalSaslState.Code || !r.closed() {
		t.Error("authenticate without a handshake:", resp.ErrorCode)
	}
	r = dial()
	hand := kmsg.NewPtrSASLHandshakeRequest()
	hand.Mechanism = "PLAIN"
	if resp := do[*kmsg.SASLHandshakeResponse](r, hand, 1); resp.ErrorCode != kerr.UnsupportedSaslMechanism.Code || len(resp.SupportedMechanisms) != 1 {
		t.Errorf("%+v", resp)
	}
	hand.Mechanism = "SCRAM-SHA-256"
	if resp := do[*kmsg.SASLHandshakeResponse](r, hand, 1); resp.ErrorCode != 0 {
		t.Errorf("%+v", resp)
	}
	auth.SASLAuthBytes = []byte("n,,n=a,r=x")
	if resp := do[*kmsg.SASLAuthenticateResponse](r, auth, 2); resp.ErrorCode != 0 {
		t.Errorf("%+v", resp)
	}
	r.send(kmsg.NewPtrMetadataRequest(), 9)
	if !r.closed() {
		t.Error("half an exchange is enough")
	}
	b = start(t, func(c *Config) {
		c.Listeners = []Listener{{Addr: "127.0.0.1:0", SASL: []string{"SCRAM-SHA-256"}}}
		c.Security.Timeout = 300 * time.Millisecond
	})
	for name, bytes := range map[string][]byte{"silent": nil, "half": {0, 0}, "large": {0, 1, 0, 1, 0, 36, 0, 1}, "huge": {0x7f, 0xff, 0xff, 0xff, 0, 36, 0, 1}} {
		r, began := dial(), time.Now()
		_, _ = r.nc.Write(bytes)
		if !r.closed() || time.Since(began) > 30*time.Second {
			t.Errorf("%s: stayed for %v", name, time.Since(began))
		}
	}
}

// SaslHandshake v0: bare tokens follow, as librdkafka and old Java clients send them.
func TestBareTokens(t *testing.T) {
	b := start(t, func(c *Config) {
		c.Listeners = []Listener{{Addr: "127.0.0.1:0", SASL: mechanisms}}
		c.Security.Users = map[string]Secret{"a": "b"}
	})
	for password, want := range map[string]bool{"b": true, "c": false} {
		r := dialRawTCP(t, b.Addr())
		nc := r.nc
		hand := kmsg.NewPtrSASLHandshakeRequest()
		hand.Mechanism = "PLAIN"
		if resp := do[*kmsg.SASLHandshakeResponse](r, hand, 0); resp.ErrorCode != 0 {
			t.Fatal(resp.ErrorCode)
		}
		token := []byte("\x00a\x00" + password)
		if _, err := nc.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)); err != nil {
			t.Fatal(err)
		}
		var size [4]byte
		_, err := io.ReadFull(nc, size[:])
		if got := err == nil && size == [4]byte{}; got != want {
			t.Errorf("password %s: let in is %v", password, got)
		}
		if want {
			if resp := do[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 9); len(resp.Brokers) != 1 {
				t.Error("no broker in metadata")
			}
		}
	}
}

// KIP-368: clients are told how long their session lasts, and are cut off if they go on without authenticating again.
func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Start(t.Context(), Config{Dir: "/data", FS: vfs.NewMem(), Security: Security{MaxSession: time.Minute, Users: map[string]Secret{"a": "b", "c": "d"}}})
		if err != nil {
			t.Fatal(err)
		}
		login := func(r *raw, user, password string) int16 {
			hand := kmsg.NewPtrSASLHandshakeRequest()
			hand.Mechanism = "PLAIN"
			if resp := do[*kmsg.SASLHandshakeResponse](r, hand, 1); resp.ErrorCode != 0 {
				t.Fatal(resp.ErrorCode)
			}
			auth := kmsg.NewPtrSASLAuthenticateRequest()
			auth.SASLAuthBytes = []byte("\x00" + user + "\x00" + password)
			resp := do[*kmsg.SASLAuthenticateResponse](r, auth, 1)
			if resp.ErrorCode == 0 && resp.SessionLifetimeMillis != 60_000 {
				t.Errorf("session of %d ms", resp.SessionLifetimeMillis)
			}
			return resp.ErrorCode
		}
		md := func(r *raw) { do[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 9) }
		r := dialRaw(t, b)
		_ = r.nc.SetDeadline(time.Time{})
		for range 3 {
			if code := login(r, "a", "b"); code != 0 {
				t.Fatal(code)
			}
			time.Sleep(59 * time.Second)
			md(r)
		}
		time.Sleep(2 * time.Second)
		r.send(kmsg.NewPtrMetadataRequest(), 9)
		if !r.closed() {
			t.Error("a session goes on for ever")
		}
		r = dialRaw(t, b)
		_ = r.nc.SetDeadline(time.Time{})
		if code := login(r, "a", "b"); code != 0 {
			t.Fatal(code)
		}
		if code := login(r, "c", "d"); code != kerr.SaslAuthenticationFailed.Code || !r.closed() {
			t.Error("a client became another user:", code)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
