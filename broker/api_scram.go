package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/auth"
	"github.com/leatstream/leat/broker/internal/meta"
)

// securityRoutes are the rows of the APIs about credentials, access and quotas.
func securityRoutes() []route {
	return []route{
		{key: keySASLHandshake, min: 0, max: 1, serve: serveSASLHandshake},
		{key: keySASLAuthenticate, min: 0, max: 2, serve: serveSASLAuthenticate},
		{key: 29, min: 0, max: 3, serve: serveDescribeACLs},
		{key: 30, min: 0, max: 3, serve: serveCreateACLs},
		{key: 31, min: 0, max: 3, serve: serveDeleteACLs},
		{key: 48, min: 0, max: 1, serve: serveDescribeClientQuotas},
		{key: 49, min: 0, max: 1, serve: serveAlterClientQuotas},
		{key: 50, min: 0, max: 0, serve: serveDescribeUserSCRAMCredentials},
		{key: 51, min: 0, max: 0, serve: serveAlterUserSCRAMCredentials},
	}
}

// scramMechanisms are the protocol's numbers.
var scramMechanisms = map[int8]auth.Mechanism{1: auth.ScramSHA256, 2: auth.ScramSHA512}

// DescribeUserScramCredentials (key 50), version 0. Says which mechanisms a user has stored credentials for, never the credentials, and
// nothing of those that the configuration gives. No users mean all. Errors per user: RESOURCE_NOT_FOUND, DUPLICATE_RESOURCE.
func serveDescribeUserSCRAMCredentials(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeUserSCRAMCredentialsRequest)
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	stored, err := b.storedCredentials()
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = kerr.UnknownServerError.Code, kmsg.StringPtr(err.Error())
		return answer(resp), nil
	}
	var users []string
	asked := map[string]int{}
	for _, u := range req.Users {
		if asked[u.Name]++; asked[u.Name] == 1 {
			users = append(users, u.Name)
		}
	}
	if len(req.Users) == 0 {
		users = slices.Sorted(maps.Keys(stored))
	}
	for _, u := range users {
		res := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		res.User, res.CredentialInfos = u, stored[u]
		switch {
		case asked[u] > 1:
			res.CredentialInfos = nil
			res.ErrorCode = kerr.DuplicateResource.Code
			res.ErrorMessage = kmsg.StringPtr("Cannot describe SCRAM credentials for the same user twice in a single request: " + u)
		case res.CredentialInfos == nil:
			res.ErrorCode = kerr.ResourceNotFound.Code
			res.ErrorMessage = kmsg.StringPtr("Attempt to describe a user credential that does not exist: " + u)
		}
		resp.Results = append(resp.Results, res)
	}
	return answer(resp), nil
}

type credentialInfo = kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo

// storedCredentials is what may be told of the credentials in the metadata, by user.
func (b *Broker) storedCredentials() (map[string][]credentialInfo, error) {
	users := map[string][]credentialInfo{}
	records := b.meta.Records(meta.Scram)
	for _, name := range slices.Sorted(maps.Keys(records)) {
		mechanism, user, _ := strings.Cut(name, "/")
		var c auth.Credential
		if err := json.Unmarshal(records[name], &c); err != nil {
			return nil, fmt.Errorf("the credential %s of %s cannot be read: %w", mechanism, user, err)
		}
		for number, m := range scramMechanisms {
			if string(m) == mechanism {
				info := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
				info.Mechanism, info.Iterations = number, int32(c.Iterations)
				users[user] = append(users[user], info)
			}
		}
	}
	return users, nil
}

// AlterUserScramCredentials (key 51), version 0. The client sends a salted password; what is stored of it cannot be used to log in. The
// changes of one user are made together; connections that exist go on. Errors per user: UNSUPPORTED_SASL_MECHANISM,
// UNACCEPTABLE_CREDENTIAL (iterations outside 4096 to 16384, empty name), RESOURCE_NOT_FOUND (deletion), DUPLICATE_RESOURCE (a user and
// mechanism twice), POLICY_VIOLATION (limit).
func serveAlterUserSCRAMCredentials(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.AlterUserSCRAMCredentialsRequest)
	resp := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	var users []string
	changes, errs := map[string][]meta.Change{}, map[string]error{}
	note := func(user string, mechanism int8, value any, err error) {
		ch := meta.Change{Name: scramKey{scramMechanisms[mechanism], user}.name(), Value: value}
		if changes[user] == nil && errs[user] == nil {
			users = append(users, user)
		}
		if err == nil && slices.ContainsFunc(changes[user], func(o meta.Change) bool { return o.Name == ch.Name }) {
			err = refuse(kerr.DuplicateResource, "A user credential cannot be altered twice in the same request")
		}
		changes[user] = append(changes[user], ch)
		errs[user] = errors.Join(errs[user], err)
	}
	for _, d := range req.Deletions {
		note(d.Name, d.Mechanism, nil, b.mayDropCredential(d))
	}
	for _, u := range req.Upsertions {
		cred, err := newCredential(u)
		note(u.Name, u.Mechanism, cred, err)
	}
	for _, user := range users {
		err := errs[user]
		if err == nil {
			err = b.changeCredentials(user, changes[user])
		}
		res := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		res.User, res.ErrorCode, res.ErrorMessage = user, errorCode(err), errorText(err)
		resp.Results = append(resp.Results, res)
	}
	return answer(resp), nil
}

func (b *Broker) mayDropCredential(d kmsg.AlterUserSCRAMCredentialsRequestDeletion) error {
	m, ok := scramMechanisms[d.Mechanism]
	if !ok {
		return refuse(kerr.UnsupportedSaslMechanism, "Unknown SCRAM mechanism")
	}
	if _, err := b.storedCredential(scramKey{m, d.Name}); errors.Is(err, errNoCredential) {
		return refuse(kerr.ResourceNotFound, "Attempt to delete a user credential that does not exist")
	}
	return nil
}

// newCredential makes what is stored of what the client sends.
func newCredential(u kmsg.AlterUserSCRAMCredentialsRequestUpsertion) (auth.Credential, error) {
	m, ok := scramMechanisms[u.Mechanism]
	switch {
	case !ok:
		return auth.Credential{}, refuse(kerr.UnsupportedSaslMechanism, "Unknown SCRAM mechanism")
	case u.Name == "":
		return auth.Credential{}, refuse(kerr.UnacceptableCredential, "Username must not be empty")
	case u.Iterations < auth.MinIterations:
		return auth.Credential{}, refuse(kerr.UnacceptableCredential, "Too few iterations: at least %d", auth.MinIterations)
	case u.Iterations > auth.MaxIterations:
		return auth.Credential{}, refuse(kerr.UnacceptableCredential, "Too many iterations: at most %d", auth.MaxIterations)
	case len(u.Salt) == 0 || len(u.Salt) > 1024 || len(u.SaltedPassword) == 0 || len(u.SaltedPassword) > 1024 || len(u.Name) > 1024:
		return auth.Credential{}, refuse(kerr.UnacceptableCredential, "name, salt and salted password must have 1 to 1024 bytes")
	}
	return auth.FromSalted(m, append([]byte(nil), u.Salt...), int(u.Iterations), u.SaltedPassword)
}

func (b *Broker) changeCredentials(user string, changes []meta.Change) error {
	more := 0
	for _, ch := range changes {
		if ch.Value != nil {
			more++
		}
	}
	if more > 0 && b.meta.CountRecords(meta.Scram)+more > b.cfg.Security.MaxCredentials {
		return refuse(kerr.PolicyViolation, "the limit of %d credentials is reached", b.cfg.Security.MaxCredentials)
	}
	if err := b.meta.ChangeRecords(meta.Scram, changes...); err != nil {
		return err
	}
	b.likenCredentials()
	b.logger.Info("SCRAM credentials changed", "user", user)
	return nil
}
