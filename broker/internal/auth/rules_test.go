package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
)

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
		p, err := m.Principal(&x509.Certificate{Subject: c.name})
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
