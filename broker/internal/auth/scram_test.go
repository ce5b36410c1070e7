package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testDecoys = NewDecoys([]byte("decoy"))

// pencil is RFC 7677's example: user "user", password "pencil".
func pencil(t *testing.T, lookup Lookup) *scram {
	t.Helper()
	s := NewScram(ScramSHA256, lookup, testDecoys).(*scram)
	s.own = func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" }
	return s
}

func pencilCredential(t *testing.T) Credential {
	t.Helper()
	c, err := Derive(ScramSHA256, "pencil", 4096)
	if err != nil {
		t.Fatal(err)
	}
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	fixed, err := deriveWith(ScramSHA256, "pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.StoredKey) != 32 || string(c.StoredKey) == string(fixed.StoredKey) {
		t.Error("two credentials of one password have the same salt")
	}
	return fixed
}

const (
	pencilFirst = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	pencilFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)

func TestScramGoldenVector(t *testing.T) {
	cred := pencilCredential(t)
	s := pencil(t, func(m Mechanism, user string) (Credential, bool) { return cred, m == ScramSHA256 && user == "user" })
	out, done, err := s.Step([]byte(pencilFirst))
	if want := "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"; err != nil || done || string(out) != want {
		t.Fatalf("%s, %v, %v", out, done, err)
	}
	out, done, err = s.Step([]byte(pencilFinal))
	if want := "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="; err != nil || !done || string(out) != want {
		t.Fatalf("%s, %v, %v", out, done, err)
	}
	if s.Principal() != User("user") {
		t.Error(s.Principal())
	}
	if _, done, err := s.Step([]byte(pencilFinal)); err == nil || done {
		t.Error("a third message was taken")
	}
}

// Whatever is changed in the exchange, nobody gets in. The last rows are CVE-2024-56128 and CVE-2017-12610.
func TestScramRefusesWhatWasChanged(t *testing.T) {
	cred := pencilCredential(t)
	lookup := func(_ Mechanism, user string) (Credential, bool) { return cred, user == "user" }
	for _, c := range []struct{ name, first, final string }{
		{"channel binding asked for", "y" + pencilFirst[1:], pencilFinal},
		{"channel binding used", "p=tls-unique" + pencilFirst[1:], pencilFinal},
		{"no user", "n,,n=,r=rOprNGfwEbeRWgbNEkqO", pencilFinal},
		{"no nonce", "n,,n=user,r=", pencilFinal},
		{"bad escape", "n,,n=us=er,r=x", pencilFinal},
		{"empty extension", pencilFirst + ",", pencilFinal},
		{"mandatory extension", "n,,m=x," + pencilFirst[3:], pencilFinal},
		{"delegation token", pencilFirst + ",tokenauth=true", pencilFinal},
		{"nothing", "", ""},
		{"no proof", pencilFirst, strings.TrimSuffix(pencilFinal, pencilFinal[strings.Index(pencilFinal, ",p="):])},
		{"empty proof", pencilFirst, pencilFinal[:strings.Index(pencilFinal, ",p=")+3]},
		{"proof of another", pencilFirst, strings.Replace(pencilFinal, "p=d", "p=e", 1)},
		{"short proof", pencilFirst, strings.Replace(pencilFinal, "p=dHzb", "p=", 1)},
		{"another header repeated", pencilFirst, strings.Replace(pencilFinal, "c=biws", "c=eSws", 1)},
		{"unknown user", "n,,n=other,r=rOprNGfwEbeRWgbNEkqO", pencilFinal},
		{"another nonce", pencilFirst, strings.Replace(pencilFinal, "r=rO", "r=rP", 1)},
		{"nonce cut short", pencilFirst, strings.Replace(pencilFinal, "NlF$k0", "", 1)},
		{"another authorization id", "n,a=admin,n=user,r=rOprNGfwEbeRWgbNEkqO", pencilFinal},
	} {
		s := pencil(t, lookup)
		_, done, err := s.Step([]byte(c.first))
		if err == nil && !done {
			_, done, err = s.Step([]byte(c.final))
		}
		if err == nil || done {
			t.Errorf("%s: let in", c.name)
		}
	}
}

// An unknown user is asked to prove itself as a known one is, against the same salt each time.
func TestUnknownUsersLookKnown(t *testing.T) {
	first := func(user string) string {
		s := pencil(t, func(Mechanism, string) (Credential, bool) { return Credential{}, false })
		out, _, err := s.Step([]byte("n,,n=" + user + ",r=x"))
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if first("a") != first("a") || first("a") == first("b") || !strings.HasSuffix(first("a"), ",i=8192") {
		t.Error(first("a"), first("b"))
	}
}

// Where administrators make credentials with other iterations and salts than ours, users that do not exist have such ones, too.
func TestUnknownUsersLookLikeThoseThereAre(t *testing.T) {
	d := NewDecoys([]byte("key"))
	d.Like([]Credential{{Iterations: 4096, Salt: make([]byte, 80)}, {Iterations: 8192, Salt: make([]byte, 8)}, {Iterations: 4096, Salt: make([]byte, 80)}})
	seen := map[likeness]int{}
	for i := range 100 {
		c, again := d.credential(ScramSHA256, strconv.Itoa(i)), d.credential(ScramSHA256, strconv.Itoa(i))
		if !bytes.Equal(c.Salt, again.Salt) || c.Iterations != again.Iterations {
			t.Fatal("an unknown user changes from one login to the next")
		}
		seen[likeness{c.Iterations, len(c.Salt)}]++
	}
	if len(seen) != 2 || seen[likeness{4096, 80}] == 0 || seen[likeness{8192, 8}] == 0 {
		t.Errorf("unknown users look like %v", seen)
	}
}

func TestPlain(t *testing.T) {
	cred := pencilCredential(t)
	lookup := func(m Mechanism, user string) (Credential, bool) { return cred, m == ScramSHA256 && user == "user" }
	for message, want := range map[string]bool{
		"\x00user\x00pencil": true, "user\x00user\x00pencil": true, "\x00user\x00pencils": false, "\x00user\x00": false, "\x00\x00pencil": false,
		"admin\x00user\x00pencil": false, "\x00other\x00pencil": false, "user\x00pencil": false, "": false, "\x00user\x00pencil\x00": false, "\x00user\x00\xff": false,
	} {
		_, done, err := NewPlain(lookup, testDecoys).Step([]byte(message))
		if done != want || (err == nil) != want {
			t.Errorf("%q: %v, %v", message, done, err)
		}
	}
	if _, _, err := NewPlain(lookup, testDecoys).Step([]byte("\x00other\x00x")); !errors.Is(err, ErrRefused) {
		t.Error("an unknown user is told more than one with a wrong password")
	}
}

func FuzzExchanges(f *testing.F) {
	f.Add([]byte(pencilFirst), []byte(pencilFinal))
	f.Add([]byte("\x00user\x00pencil"), []byte{})
	cred, err := Derive(ScramSHA256, "a password that no fuzzer finds", 1)
	if err != nil {
		f.Fatal(err)
	}
	lookup := func(Mechanism, string) (Credential, bool) { return cred, true }
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, e := range []Exchange{NewScram(ScramSHA256, lookup, testDecoys), NewPlain(lookup, testDecoys)} {
			_, done, err := e.Step(first)
			if err == nil && !done {
				_, done, _ = e.Step(second)
			}
			if done {
				t.Errorf("let in by %q, %q", first, second)
			}
		}
	})
}
