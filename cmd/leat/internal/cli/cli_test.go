package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPositions(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		in   string
		want Position
	}{
		{"start", Position{Kind: AtStart}}, {"earliest", Position{Kind: AtStart}}, {"end", Position{Kind: AtEnd}}, {"current", Position{Kind: AtCurrent}},
		{"7", Position{Kind: AtOffset, N: 7}}, {"+7", Position{Kind: Forward, N: 7}}, {"-7", Position{Kind: Backward, N: 7}},
		{"@now", Position{Kind: AtTime, Time: now}},
		{"@-1h30m", Position{Kind: AtTime, Time: now.Add(-90 * time.Minute)}},
		{"@-7d", Position{Kind: AtTime, Time: now.AddDate(0, 0, -7)}},
		{"@-1d12h", Position{Kind: AtTime, Time: now.Add(-36 * time.Hour)}},
		{"@2026-11-29", Position{Kind: AtTime, Time: now.Add(-36 * time.Hour)}},
		{"@2026-11-30T14:00:00+02:00", Position{Kind: AtTime, Time: now}},
		{"@2026-11-30T12:00:00.000", Position{Kind: AtTime, Time: now}},
		{"@1796040000000", Position{Kind: AtTime, Time: now}},
	} {
		got, err := ParsePosition(c.in, now)
		if err != nil || got.Kind != c.want.Kind || got.N != c.want.N || !got.Time.Equal(c.want.Time) {
			t.Errorf("%s: %+v, %v", c.in, got, err)
		}
	}
	for _, bad := range []string{"", "@", "@yesterday", "1.5", "@-", "@-xd", "--1"} {
		if got, err := ParsePosition(bad, now); err == nil {
			t.Errorf("%q is %+v", bad, got)
		}
	}
}

func TestProperties(t *testing.T) {
	p := parseProperties("# note\n! note\na=1\nb : two words \nc\\\n  =3\nd=x\\=y\ne = one,\\\n  two\r\n\nf=\n")
	for key, want := range map[string]string{"a": "1", "b": "two words", "c": "3", "d": "x=y", "e": "one,two", "f": ""} {
		if got := p.get(key); got != want {
			t.Errorf("%s=%q, want %q", key, got, want)
		}
	}
	options := parseJAAS(`org.apache.kafka.common.security.scram.ScramLoginModule required username="al\"ice" password="p w;=" tokenauth=true;`)
	if options["username"] != `al"ice` || options["password"] != "p w;=" || options["tokenauth"] != "true" {
		t.Errorf("%q", options)
	}
}

func TestClosest(t *testing.T) {
	known := []string{"orders", "payments", "stock", "shop-inventory", "shop-inventory-old"}
	for in, want := range map[string]string{"ordres": "orders", "Orders": "orders", "stok": "stock", "zebra": "", "": "",
		"Inventory": "shop-inventory", "nv": ""} {
		if got := closest(in, known); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// certificate makes a self-signed one for localhost, as PEM.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes})
}

// connect connects with a command config to brokers at addrs.
func connect(t *testing.T, config string, addrs []string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "client.properties")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	env := &Env{Err: &errs, Getenv: func(string) string { return "" }, config: path, brokers: addrs, timeout: 10 * time.Second}
	cl, err := env.Connect(context.Background())
	if errs.Len() > 0 {
		t.Errorf("notes: %s", errs.String())
	}
	if err == nil {
		cl.Close()
	}
	return err
}

// TestCommandConfig reaches brokers that want TLS and SASL with the properties that Kafka's tools take.
func TestCommandConfig(t *testing.T) {
	cert, key := certificate(t)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(t.TempDir(), "trust.pem")
	if err := os.WriteFile(trust, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "alice", "secret"), kfake.Superuser("SCRAM-SHA-256", "alice", "secret"), kfake.Superuser("SCRAM-SHA-512", "alice", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	_, port, _ := strings.Cut(cluster.ListenAddrs()[0], ":")
	addrs := []string{"localhost:" + port}
	module := map[string]string{"PLAIN": "plain.PlainLoginModule", "SCRAM-SHA-256": "scram.ScramLoginModule", "SCRAM-SHA-512": "scram.ScramLoginModule"}
	for mechanism := range module {
		config := fmt.Sprintf("security.protocol=SASL_SSL\nsasl.mechanism=%s\nssl.truststore.type=PEM\nssl.truststore.location=%s\n"+
			"sasl.jaas.config=org.apache.kafka.common.security.%s required username=\"alice\" password=\"secret\";\n", mechanism, trust, module[mechanism])
		if err := connect(t, config, addrs); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		if err := connect(t, strings.Replace(config, `"secret"`, `"guess"`, 1), addrs); err == nil {
			t.Errorf("%s: a wrong password is accepted", mechanism)
		}
	}
	inline := "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=alice\nsasl.password=secret\nssl.truststore.type=PEM\nssl.truststore.certificates=" +
		strings.ReplaceAll(strings.TrimSpace(string(cert)), "\n", "\\n") + "\n"
	if err := connect(t, inline, addrs); err != nil {
		t.Errorf("certificates in the value: %v", err)
	}
	byAddress := []string{"127.0.0.1:" + port}
	if err := connect(t, inline, byAddress); err == nil {
		t.Error("a certificate for another name is accepted")
	}
	if err := connect(t, inline+"ssl.endpoint.identification.algorithm=\n", byAddress); err != nil {
		t.Errorf("names are not to be checked: %v", err)
	}
	if err := connect(t, "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=alice\nsasl.password=secret\nssl.endpoint.identification.algorithm=\n", addrs); err == nil {
		t.Error("a certificate that nobody trusts is accepted")
	}
	if err := connect(t, "security.protocol=SSL\nssl.truststore.type=JKS\nssl.truststore.location=x\n", addrs); err == nil || !strings.Contains(err.Error(), "keytool") {
		t.Errorf("a store that is not PEM: %v", err)
	}
}
