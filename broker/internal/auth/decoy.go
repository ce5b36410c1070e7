package auth

import (
	"encoding/binary"
	"slices"
	"sync"
)

// Decoys make credentials for users that do not exist, so that an exchange with one looks like that of a user who does: the same salt
// each time, and a salt's length and a number of iterations that some user has. It may be used by several goroutines; the zero value has
// no secret, and is for tests.
type Decoys struct {
	key []byte // a secret of the broker's
	mu  struct {
		sync.Mutex
		like []likeness
	}
}

// likeness is what a client sees of a credential beside the salt itself.
type likeness struct{ iterations, salt int }

// NewDecoys returns decoys that look like what [Derive] makes. key is a secret.
func NewDecoys(key []byte) *Decoys { return &Decoys{key: key} }

// Like has decoys look like these credentials from now on; none: like what [Derive] makes.
func (d *Decoys) Like(cs []Credential) {
	like := make([]likeness, 0, len(cs))
	for _, c := range cs {
		like = append(like, likeness{c.Iterations, len(c.Salt)})
	}
	slices.SortFunc(like, func(a, b likeness) int { return a.iterations<<16 + a.salt - b.iterations<<16 - b.salt })
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.like = slices.Compact(like)
}

// credential is that of a user who does not exist. No password fits it.
func (d *Decoys) credential(m Mechanism, user string) Credential {
	h := m.hash()
	choice := binary.BigEndian.Uint32(mac(h, d.key, "like "+user))
	d.mu.Lock()
	as := likeness{DefaultIterations, saltBytes}
	if n := uint32(len(d.mu.like)); n > 0 {
		as = d.mu.like[choice%n]
	}
	d.mu.Unlock()
	salt := mac(h, d.key, "salt "+user)
	for len(salt) < as.salt {
		salt = append(salt, mac(h, d.key, string(salt))...)
	}
	return Credential{Salt: salt[:as.salt], Iterations: as.iterations, StoredKey: make([]byte, h().Size())}
}
