package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// Mechanism is a SASL mechanism by its registered name.
type Mechanism string

// The mechanisms that are served.
const (
	Plain       Mechanism = "PLAIN"
	ScramSHA256 Mechanism = "SCRAM-SHA-256"
	ScramSHA512 Mechanism = "SCRAM-SHA-512"
)

// hash is the mechanism's hash function; nil for those that have none.
func (m Mechanism) hash() func() hash.Hash {
	switch m {
	case ScramSHA256:
		return sha256.New
	case ScramSHA512:
		return sha512.New
	}
	return nil
}

// Bounds of the iteration count, as Kafka has them, and what is taken where nobody says.
const (
	MinIterations     = 4096
	MaxIterations     = 16384
	DefaultIterations = 8192
)

// maxMessageBytes bounds a client's SASL message: names and nonces are short.
const maxMessageBytes = 16 << 10

// Credential is what the broker keeps of a password: enough to check it, and not enough to log in with (RFC 5802, 3).
type Credential struct {
	Salt       []byte `json:"salt"`
	Iterations int    `json:"iterations"`
	StoredKey  []byte `json:"storedKey"`
	ServerKey  []byte `json:"serverKey"`
}

// String hides everything: credentials have no business in logs.
func (Credential) String() string { return "[redacted]" }

// saltBytes is the length of the salts that we make.
const saltBytes = 24

// Derive makes a credential of a password with a fresh salt.
func Derive(m Mechanism, password string, iterations int) (Credential, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	return deriveWith(m, password, salt, iterations)
}

func deriveWith(m Mechanism, password string, salt []byte, iterations int) (Credential, error) {
	h := m.hash()
	if h == nil {
		return Credential{}, fmt.Errorf("%s has no credentials of its own", m)
	}
	salted, err := pbkdf2.Key(h, password, salt, iterations, h().Size())
	if err != nil {
		return Credential{}, err
	}
	return FromSalted(m, salt, iterations, salted)
}

// FromSalted makes a credential of a password that the client has salted itself, as AlterUserScramCredentials sends it.
func FromSalted(m Mechanism, salt []byte, iterations int, salted []byte) (Credential, error) {
	h := m.hash()
	if h == nil {
		return Credential{}, fmt.Errorf("%s has no credentials of its own", m)
	}
	return Credential{
		Salt: salt, Iterations: iterations,
		StoredKey: digest(h, mac(h, salted, "Client Key")),
		ServerKey: mac(h, salted, "Server Key"),
	}, nil
}

// verify checks a password against the credential, in constant time for what is derived.
func (c Credential) verify(m Mechanism, password string) bool {
	h := m.hash()
	salted, err := pbkdf2.Key(h, password, c.Salt, c.Iterations, h().Size())
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare(digest(h, mac(h, salted, "Client Key")), c.StoredKey) == 1
}

func mac(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func digest(h func() hash.Hash, b []byte) []byte {
	d := h()
	d.Write(b)
	return d.Sum(nil)
}

// Lookup finds a user's credential.
type Lookup func(m Mechanism, user string) (Credential, bool)

// scram is the server's side of RFC 5802 without channel binding.
type scram struct {
	mechanism Mechanism
	lookup    Lookup
	own       func() string // makes the server's part of the nonce
	decoys    *Decoys       // for unknown users
	step      int
	user      string
	known     bool
	cred      Credential
	nonce     string
	header    string // the client's first words, which it repeats
	signed    string // client-first-bare , server-first
}

// NewScram begins a SCRAM exchange. An unknown user is asked to prove itself against one of the decoys, so that it cannot be told
// from a known one.
func NewScram(m Mechanism, lookup Lookup, decoys *Decoys) Exchange {
	return &scram{mechanism: m, lookup: lookup, own: randomNonce, decoys: decoys}
}

func randomNonce() string {
	var b [18]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawStdEncoding.EncodeToString(b[:])
}

func (s *scram) Principal() Principal { return User(s.user) }

func (s *scram) Step(message []byte) ([]byte, bool, error) {
	if len(message) > maxMessageBytes {
		return nil, false, errors.New("SASL message is too long")
	}
	s.step++
	switch s.step {
	case 1:
		answer, err := s.first(string(message))
		return answer, false, err
	case 2:
		answer, err := s.final(string(message))
		return answer, err == nil, err
	}
	return nil, false, errors.New("the SCRAM exchange is over")
}

var errMalformed = errors.New("malformed SCRAM message")

// first answers the client's first message: n,[a=authzid],n=user,r=nonce[,extensions].
func (s *scram) first(message string) ([]byte, error) {
	binding, rest, ok := strings.Cut(message, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok || !ok2 || binding != "n" {
		return nil, fmt.Errorf("%w: want no channel binding", errMalformed)
	}
	fields := strings.Split(bare, ",")
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "n=") || !strings.HasPrefix(fields[1], "r=") || len(fields[1]) == 2 {
		return nil, errMalformed
	}
	for _, extension := range fields[2:] {
		if len(extension) < 3 || extension[1] != '=' {
			return nil, errMalformed
		}
		if extension == "tokenauth=true" || strings.HasPrefix(extension, "m=") {
			return nil, fmt.Errorf("SCRAM extension %q is not served", extension)
		}
	}
	var err error
	if s.user, err = unescape(fields[0][2:]); err != nil {
		return nil, err
	}
	if a, given := strings.CutPrefix(authzid, "a="); given {
		if as, err := unescape(a); err != nil || as != s.user {
			return nil, errors.New("clients may only act as themselves: the authorization id is another user")
		}
	} else if authzid != "" {
		return nil, errMalformed
	}
	s.cred, s.known = s.lookup(s.mechanism, s.user)
	if !s.known {
		s.cred = s.decoys.credential(s.mechanism, s.user)
	}
	s.nonce = fields[1][2:] + s.own()
	answer := "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(s.cred.Salt) + ",i=" + strconv.Itoa(s.cred.Iterations)
	s.header = binding + "," + authzid + ","
	s.signed = bare + "," + answer
	return []byte(answer), nil
}

// final checks the client's proof: c=biws,r=nonce[,extensions],p=proof.
func (s *scram) final(message string) ([]byte, error) {
	i := strings.LastIndex(message, ",p=")
	if i < 0 {
		return nil, errMalformed
	}
	unproven := message[:i]
	proof, err := base64.StdEncoding.DecodeString(message[i+3:])
	if err != nil {
		return nil, errMalformed
	}
	binding, rest, _ := strings.Cut(unproven, ",")
	header, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(binding, "c="))
	if err != nil || !strings.HasPrefix(binding, "c=") || string(header) != s.header {
		return nil, errMalformed
	}
	// The nonce of the first two messages, whole (CVE-2024-56128).
	nonce, _, _ := strings.Cut(rest, ",")
	if subtle.ConstantTimeCompare([]byte(nonce), []byte("r="+s.nonce)) != 1 {
		return nil, ErrRefused
	}
	h := s.mechanism.hash()
	signed := s.signed + "," + unproven
	key := mac(h, s.cred.StoredKey, signed)
	if len(proof) != len(key) {
		return nil, ErrRefused
	}
	subtle.XORBytes(key, key, proof)
	if subtle.ConstantTimeCompare(digest(h, key), s.cred.StoredKey) != 1 || !s.known {
		return nil, ErrRefused
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(mac(h, s.cred.ServerKey, signed))), nil
}

// unescape reads a SASL name, in which ',' and '=' are written =2C and =3D.
func unescape(s string) (string, error) {
	var b strings.Builder
	for s != "" {
		before, after, escaped := strings.Cut(s, "=")
		b.WriteString(before)
		if !escaped {
			break
		}
		switch {
		case strings.HasPrefix(after, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(after, "3D"):
			b.WriteByte('=')
		default:
			return "", errMalformed
		}
		s = after[2:]
	}
	if b.Len() == 0 {
		return "", errMalformed
	}
	return b.String(), nil
}
