package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

// certificateOf is a certificate as far as its subject goes.
func certificateOf(t *testing.T, subject pkix.RDNSequence) *x509.Certificate {
	t.Helper()
	raw, err := asn1.Marshal(subject)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{RawSubject: raw}
}

// A certificate with two common names is neither of the two, and the order is its own.
func TestTheWholeSubjectNames(t *testing.T) {
	attribute := func(kind int, value string) pkix.RelativeDistinguishedNameSET {
		return pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, kind}, Value: value}}
	}
	subject := pkix.RDNSequence{attribute(6, "DE"), attribute(3, "alice"), attribute(10, "a, b"), attribute(3, "admin")}
	if p, err := (Mapping{}).Principal(certificateOf(t, subject)); err != nil || p != User(`CN=admin,O=a\, b,CN=alice,C=DE`) {
		t.Error(p, err)
	}
	if _, err := (Mapping{}).Principal(&x509.Certificate{RawSubject: []byte("x")}); err == nil {
		t.Error("a subject that is none is taken")
	}
}

// The examples of Kafka's documentation of ssl.principal.mapping.rules.
func TestMapping(t *testing.T) {
	const doc = `RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/, RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L, RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L, DEFAULT`
	name := func(cn, ou, o string) pkix.Name {
		n := pkix.Name{CommonName: cn, OrganizationalUnit: []string{ou}, Organization: []string{o}, Locality: []string{"Unknown"}, Province: []string{"Unknown"}, Country: []string{"Unknown"}}
		if ou == "" {
			n.OrganizationalUnit = nil
		}
		return n
	}
	for _, c := range []struct {
		rules string
		name  pkix.Name
		want  string // "" is an error
	}{
		{doc, name("serviceuser", "ServiceUsers", "Unknown"), "serviceuser"},
		{doc, name("adminUser", "Admin", "Unknown"), "adminuser@admin"},
		{"", pkix.Name{CommonName: "a", Organization: []string{"b"}}, "CN=a,O=b"},
		{"DEFAULT", pkix.Name{CommonName: "a"}, "CN=a"},
		{"RULE:^CN=(.*)$/$1/U", pkix.Name{CommonName: "a"}, "A"},
		{"RULE:^CN=x$/y/", pkix.Name{CommonName: "a"}, ""},
		{"RULE:CN=a/y/", pkix.Name{CommonName: "abc"}, ""}, // a pattern matches the whole name
	} {
		m, err := ParseMapping(c.rules)
		if err != nil {
			t.Fatal(c.rules, err)
		}
		p, err := m.Principal(certificateOf(t, c.name.ToRDNSequence()))
		if (err != nil) != (c.want == "") || err == nil && p != User(c.want) {
			t.Errorf("%s of %s: %v, %v", c.rules, c.name, p, err)
		}
	}
	for _, bad := range []string{"RULE:", "RULE:a/b", "RULE:(/b/", "RULE:a/b/X", "nonsense"} {
		if _, err := ParseMapping(bad); err == nil {
			t.Errorf("%q is a rule", bad)
		}
	}
}
