package auth

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// plain is the server's side of RFC 4616. The password is checked against the user's SCRAM credentials: none is kept in clear.
type plain struct {
	lookup Lookup
	decoy  Credential
	user   string
}

// NewPlain begins a PLAIN exchange. decoy is a credential of nobody's: an unknown user's password is hashed as a known one's is.
func NewPlain(lookup Lookup, decoy Credential) Exchange { return &plain{lookup: lookup, decoy: decoy} }

func (p *plain) Principal() Principal { return User(p.user) }

// Step takes [authzid] NUL user NUL password.
func (p *plain) Step(message []byte) ([]byte, bool, error) {
	if len(message) > maxMessageBytes || !utf8.Valid(message) {
		return nil, false, errors.New("malformed PLAIN message")
	}
	fields := strings.Split(string(message), "\x00")
	if len(fields) != 3 || fields[1] == "" || fields[2] == "" {
		return nil, false, errors.New("malformed PLAIN message: want authorization id, user and password")
	}
	p.user = fields[1]
	if fields[0] != "" && fields[0] != p.user {
		return nil, false, errors.New("clients may only act as themselves: the authorization id is another user")
	}
	for _, m := range []Mechanism{ScramSHA512, ScramSHA256} {
		if c, ok := p.lookup(m, p.user); ok {
			if !c.verify(m, fields[2]) {
				return nil, false, ErrRefused
			}
			return []byte{}, true, nil
		}
	}
	p.decoy.verify(ScramSHA512, fields[2])
	return nil, false, ErrRefused
}
