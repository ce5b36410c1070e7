package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeCertificate puts a certificate with a serial number into two files.
func writeCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, time.Time{}, time.Unix(1e9+serial, 0)); err != nil {
			t.Fatal(err)
		}
	}
}

// A certificate that is renewed counts without a restart; files that do not fit together, or are gone, leave the one before.
func TestCertificatesAreReadAgain(t *testing.T) {
	cert, key := filepath.Join(t.TempDir(), "c.pem"), filepath.Join(t.TempDir(), "k.pem")
	writeCertificate(t, cert, key, 1)
	c, err := loadCertificate(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want int64) {
		t.Helper()
		got, err := c.config().GetCertificate(nil)
		if err != nil || got.Leaf.SerialNumber.Int64() != want {
			t.Errorf("serial %v, %v; want %d", got.Leaf.SerialNumber, err, want)
		}
	}
	expect(1)
	writeCertificate(t, cert, key, 2)
	expect(2)
	writeCertificate(t, cert, filepath.Join(t.TempDir(), "other.pem"), 3)
	expect(2)
	writeCertificate(t, cert, key, 4)
	expect(4)
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	expect(4)
	if _, err := loadCertificate(cert, key, nil); err == nil {
		t.Error("a certificate that is not there is taken")
	}
}
