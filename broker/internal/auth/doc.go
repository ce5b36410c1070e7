// Package auth says who a client is and what it may do: SASL exchanges from the server's side, principals of certificates, and
// access control lists as Kafka has them.
//
// It knows no sockets and no topics. The broker feeds it the client's messages ([Exchange]) and asks [Authorizer.Allowed] for
// each resource; what is to be remembered goes through the broker's metadata journal.
package auth

import (
	"errors"
	"strings"
)

// Principal is who a client is: a type, nearly always "User", and a name. Its text form is "User:name".
type Principal struct {
	Type, Name string
}

// User makes a principal of type User.
func User(name string) Principal { return Principal{"User", name} }

// Anonymous is a client that was not asked who it is.
var Anonymous = User("ANONYMOUS")

func (p Principal) String() string { return p.Type + ":" + p.Name }

// ParsePrincipal reads "Type:name".
func ParsePrincipal(s string) (Principal, error) {
	t, name, ok := strings.Cut(s, ":")
	if !ok || t == "" || name == "" {
		return Principal{}, errors.New("principal " + s + ": want Type:name, as in User:alice")
	}
	return Principal{t, name}, nil
}

// ErrRefused means that a client did not prove who it is. It says no more, so that nobody learns which users exist.
var ErrRefused = errors.New("invalid credentials")

// Exchange is the server's side of one SASL authentication. It belongs to one connection and is used once.
type Exchange interface {
	// Step takes the client's next message and returns the answer to it. done says that the client is authenticated, as
	// Principal. An error, ErrRefused or one that says what was wrong with the message, ends the exchange.
	Step(message []byte) (answer []byte, done bool, err error)
	// Principal is who the client is, once done.
	Principal() Principal
}
