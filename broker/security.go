package broker

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/leatstream/leat/broker/internal/auth"
	"github.com/leatstream/leat/broker/internal/meta"
	"github.com/leatstream/leat/broker/internal/quota"
)

// Listener is an address with a way of its own to find out who a client is.
type Listener struct {
	// Addr is a TCP address, "host:port"; port 0 takes a free one. Required.
	Addr string
	// Advertise is the "host:port" that clients of this listener are told to connect to. Empty: the address each came to.
	Advertise string
	// TLS encrypts the connections; nil: they are in clear. Unless it says otherwise, TLS 1.2 is the lowest version. With ClientAuth
	// set to tls.RequireAndVerifyClientCert a client is who its certificate names (see Security.CertificateRules), unless SASL is on, too.
	// The Broker keeps it and does not change it.
	TLS *tls.Config
	// SASL are the mechanisms of which a client must use one before anything else: "SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN".
	// Empty: none; such clients are User:ANONYMOUS, or who their certificate names.
	SASL []string
}

// Secret is a text that is never printed, logged or marshalled.
type Secret string

// String hides the text.
func (Secret) String() string { return "[redacted]" }

// GoString hides the text.
func (Secret) GoString() string { return `"[redacted]"` }

// MarshalText hides the text.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Security says who may do what. The zero value authorizes nobody and refuses nobody: whoever connects may do everything.
type Security struct {
	// Users are passwords by user name, for SASL: the way in as long as there are no credentials. They are not written anywhere; once
	// AlterUserScramCredentials has given a user a credential, that counts instead.
	Users map[string]Secret
	// CertificateRules make user names of the distinguished names of certificates, as Kafka's ssl.principal.mapping.rules:
	// "RULE:^CN=(.*?),.*$/$1/L,DEFAULT". Empty: the whole name.
	CertificateRules string
	// Authorize turns on access control lists: what they do not allow is refused. In-process connections (Broker.Dial) may do
	// everything unless they authenticate.
	Authorize bool
	// SuperUsers are principals that may do everything, "User:admin".
	SuperUsers []string
	// AllowUnlisted allows everyone what no access control list is about, as Kafka's allow.everyone.if.no.acl.found.
	AllowUnlisted bool
	// MaxSession is how long a SASL client may go on before it must authenticate again (KIP-368). 0: for ever.
	MaxSession time.Duration
	// Timeout is what a client has from the first byte to its authentication, the TLS handshake included. 0 means 10 s.
	Timeout time.Duration
	// MaxConnectionsPerIP is how many connections may be open at once from one address. 0 means 100, except for loopback addresses, which
	// only Config.MaxConnections bounds.
	MaxConnectionsPerIP int
	// MaxCredentials and MaxBindings bound what administrators can store: SCRAM credentials, and entries of the access control
	// lists. 0 means 10,000 each.
	MaxCredentials, MaxBindings int
	// MaxQuotas is how many users, client ids and pairs of them administrators can give quotas. 0 means 10,000.
	MaxQuotas int
}

func (s *Security) withDefaults() error {
	setDefault(&s.Timeout, 10*time.Second)
	setDefault(&s.MaxCredentials, 10_000)
	setDefault(&s.MaxBindings, 10_000)
	setDefault(&s.MaxQuotas, 10_000)
	for name, v := range map[string]int64{
		"Timeout": int64(s.Timeout), "MaxCredentials": int64(s.MaxCredentials), "MaxBindings": int64(s.MaxBindings), "MaxQuotas": int64(s.MaxQuotas), "MaxConnectionsPerIP": int64(s.MaxConnectionsPerIP) + 1, "MaxSession": int64(s.MaxSession) + 1,
	} {
		if v < 1 {
			return fmt.Errorf("broker: Config.Security.%s is negative", name)
		}
	}
	for user, password := range s.Users {
		if user == "" || password == "" {
			return fmt.Errorf("broker: Config.Security.Users has a user %q with an empty name or password", user)
		}
	}
	return nil
}

// perIP is how many connections an address may have.
func (s *Security) perIP(a netip.Addr) int {
	switch {
	case !a.IsValid(): // in process
		return math.MaxInt
	case s.MaxConnectionsPerIP > 0:
		return s.MaxConnectionsPerIP
	case a.IsLoopback():
		return math.MaxInt
	}
	return 100
}

// mechanisms are what is served, the best first.
var mechanisms = []string{string(auth.ScramSHA512), string(auth.ScramSHA256), string(auth.Plain)}

// check says what is wrong with a listener.
func (l *Listener) check() error {
	for _, m := range l.SASL {
		if !slices.Contains(mechanisms, m) {
			return fmt.Errorf("broker: Config.Listeners: %s: SASL mechanism %q is not served: want %s", l.Addr, m, strings.Join(mechanisms, ", "))
		}
	}
	if l.TLS != nil && len(l.TLS.Certificates) == 0 && l.TLS.GetCertificate == nil && l.TLS.GetConfigForClient == nil {
		return fmt.Errorf("broker: Config.Listeners: %s: TLS without a certificate", l.Addr)
	}
	return nil
}

// authenticates reports whether the listener finds out who its clients are.
func (l *Listener) authenticates() bool {
	return len(l.SASL) > 0 || l.TLS != nil && l.TLS.ClientAuth == tls.RequireAndVerifyClientCert
}

// security is the broker's security in force. It is set up once, when the metadata has been replayed.
type security struct {
	mapping  auth.Mapping
	bindings sync.Mutex // held over a change of the access control lists
	quotas   *quota.Table
	// quotaChanges is held over a change of the quotas.
	quotaChanges sync.Mutex
	authorizer   *auth.Authorizer // nil: everyone may do everything
	bootstrap    map[scramKey]auth.Credential
	decoys       *auth.Decoys
	// hashing is held while a password is hashed, milliseconds of a processor that anybody can ask for: strangers get half of them at most.
	hashing chan struct{}
}

type scramKey struct {
	mechanism auth.Mechanism
	user      string
}

// name is the credential's record in the metadata.
func (k scramKey) name() string { return string(k.mechanism) + "/" + k.user }

// secure sets up security from the configuration and the metadata.
func (b *Broker) secure() (err error) {
	if err := b.loadQuotas(); err != nil {
		return err
	}
	s := &b.cfg.Security
	if b.mapping, err = auth.ParseMapping(s.CertificateRules); err != nil {
		return fmt.Errorf("broker: Config.Security.CertificateRules: %w", err)
	}
	b.hashing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	b.decoys = auth.NewDecoys(key)
	b.bootstrap = map[scramKey]auth.Credential{}
	for user, password := range s.Users {
		for _, m := range []auth.Mechanism{auth.ScramSHA256, auth.ScramSHA512} {
			c, err := auth.Derive(m, string(password), auth.DefaultIterations)
			if err != nil {
				return fmt.Errorf("broker: Config.Security.Users: %s: %w", user, err)
			}
			b.bootstrap[scramKey{m, user}] = c
		}
	}
	b.likenCredentials()
	if !s.Authorize {
		return nil
	}
	rules := auth.Rules{AllowUnlisted: s.AllowUnlisted}
	for _, u := range s.SuperUsers {
		p, err := auth.ParsePrincipal(u)
		if err != nil {
			return fmt.Errorf("broker: Config.Security.SuperUsers: %w", err)
		}
		rules.SuperUsers = append(rules.SuperUsers, p)
	}
	var bs []auth.Binding
	for key := range b.meta.Records(meta.ACL) {
		binding, err := auth.ParseBinding(key)
		if err != nil {
			return fmt.Errorf("%w: %w", meta.ErrCorrupt, err)
		}
		bs = append(bs, binding)
	}
	b.authorizer = auth.NewAuthorizer(rules, bs)
	return nil
}

// errNoCredential says that a user has no credential for a mechanism.
var errNoCredential = errors.New("no such credential")

// storedCredential is a user's credential in the metadata.
func (b *Broker) storedCredential(k scramKey) (c auth.Credential, err error) {
	raw, ok := b.meta.Record(meta.Scram, k.name())
	if !ok {
		return c, errNoCredential
	}
	return c, json.Unmarshal(raw, &c)
}

// likenCredentials has users that do not exist look like those that do. One that cannot be read is passed over: who needs it is told.
func (b *Broker) likenCredentials() {
	like := slices.Collect(maps.Values(b.bootstrap))
	for _, raw := range b.meta.Records(meta.Scram) {
		var c auth.Credential
		if json.Unmarshal(raw, &c) == nil {
			like = append(like, c)
		}
	}
	b.decoys.Like(like)
}

// credential implements auth.Lookup: what is stored, else what the configuration gives.
func (b *Broker) credential(m auth.Mechanism, user string) (auth.Credential, bool) {
	k := scramKey{m, user}
	c, err := b.storedCredential(k)
	if err == nil {
		return c, true
	}
	if !errors.Is(err, errNoCredential) {
		b.logger.Error("a stored credential cannot be read", "user", user, "mechanism", string(m), "err", err)
		return c, false
	}
	// A password that was changed for one mechanism must not go on to count for another.
	other := auth.ScramSHA256
	if m == other {
		other = auth.ScramSHA512
	}
	if _, err := b.storedCredential(scramKey{other, user}); err == nil {
		return c, false
	}
	c, ok := b.bootstrap[k]
	return c, ok
}

// exchange begins an authentication.
func (b *Broker) exchange(m auth.Mechanism) auth.Exchange {
	if m == auth.Plain {
		return auth.NewPlain(b.credential, b.decoys)
	}
	return auth.NewScram(m, b.credential, b.decoys)
}
