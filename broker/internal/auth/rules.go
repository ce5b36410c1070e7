package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"regexp"
	"strings"
)

// Mapping makes a user's name of a certificate's distinguished name (RFC 2253 text, "CN=alice,O=Example"), as Kafka's
// ssl.principal.mapping.rules do. The zero value takes the whole name.
type Mapping struct{ rules []mappingRule }

type mappingRule struct {
	pattern     *regexp.Regexp // nil: DEFAULT
	replacement string
	letters     byte // 'L', 'U' or 0
}

// rule is RULE:pattern/replacement/[LU].
var rule = regexp.MustCompile(`^RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?)$`)

// ParseMapping reads rules separated by commas: DEFAULT, or RULE:pattern/replacement/ with an L or U behind it for lower or upper
// case. A pattern matches the whole name; $1 in a replacement is its first group. The first rule that matches decides.
func ParseMapping(text string) (Mapping, error) {
	var m Mapping
	for _, part := range splitRules(text) {
		if part == "DEFAULT" {
			m.rules = append(m.rules, mappingRule{})
			continue
		}
		f := rule.FindStringSubmatch(part)
		if f == nil {
			return m, fmt.Errorf("mapping rule %q: want DEFAULT or RULE:pattern/replacement/[LU]", part)
		}
		re, err := regexp.Compile("^(?:" + f[1] + ")$")
		if err != nil {
			return m, fmt.Errorf("mapping rule %q: %w", part, err)
		}
		r := mappingRule{pattern: re, replacement: groups.ReplaceAllString(f[2], "$${$1}")}
		if f[3] != "" {
			r.letters = f[3][0]
		}
		m.rules = append(m.rules, r)
	}
	return m, nil
}

// groups are references to groups in the way of Java, which end at the first non-digit.
var groups = regexp.MustCompile(`\$(\d+)`)

// splitRules splits at the commas that begin a new rule: names and patterns are full of other ones.
func splitRules(text string) (parts []string) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimLeft(part, " ")
		if n := len(parts); n > 0 && part != "DEFAULT" && !strings.HasPrefix(part, "RULE:") {
			parts[n-1] += "," + part
		} else if part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// subject is the distinguished name of a certificate, with all that is in it and in its order, as Java writes it. (pkix.Name has the last
// of several common names only: a certificate that was made out to one name could stand for another.)
func subject(cert *x509.Certificate) (string, error) {
	var names pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.RawSubject, &names); err != nil {
		return "", fmt.Errorf("the subject of a certificate: %w", err)
	}
	return names.String(), nil
}

// Principal is who a verified certificate belongs to. It fails if no rule matches.
func (m Mapping) Principal(cert *x509.Certificate) (Principal, error) {
	name, err := subject(cert)
	if err != nil {
		return Principal{}, err
	}
	if len(m.rules) == 0 {
		return User(name), nil
	}
	for _, r := range m.rules {
		if r.pattern == nil {
			return User(name), nil
		}
		if !r.pattern.MatchString(name) {
			continue
		}
		user := r.pattern.ReplaceAllString(name, r.replacement)
		switch r.letters {
		case 'L':
			user = strings.ToLower(user)
		case 'U':
			user = strings.ToUpper(user)
		}
		return User(user), nil
	}
	return Principal{}, fmt.Errorf("no mapping rule matches the certificate of %s", name)
}
