package auth

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// plain is the server's side of RFC 4616. The password is checked against the user's SCRAM credentials: none is kept in clear.
type plain struct {
	lookup Lookup
	decoys *Decoys
	user   string
}

// NewPlain begins a PLAIN exchange. An unknown user's password is hashed as a known one's is, with one of the decoys.
func NewPlain(lookup Lookup, decoys *Decoys) Exchange { return &plain{lookup: lookup, decoys: decoys} }

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
	p.decoys.credential(ScramSHA512, p.user).verify(ScramSHA512, fields[2])
	return nil, false, ErrRefused
}
