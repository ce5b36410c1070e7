package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/auth"
	"github.com/leatstream/leat/broker/internal/meta"
)

// errNoAuthorizer answers those who would manage access where everyone may do everything.
var errNoAuthorizer = refuse(kerr.SecurityDisabled, "No Authorizer is configured.")

// DescribeAcls (key 29), versions 0–3. Errors: SECURITY_DISABLED, INVALID_REQUEST.
func serveDescribeACLs(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeACLsRequest)
	resp := kmsg.NewPtrDescribeACLsResponse()
	f := auth.Filter{Type: req.ResourceType, Name: req.ResourceName, Pattern: req.ResourcePatternType, Principal: req.Principal, Host: req.Host,
		Operation: req.Operation, Permission: req.PermissionType}
	err := errNoAuthorizer
	if b.authorizer != nil {
		err = checkFilter(f)
	}
	if resp.ErrorCode, resp.ErrorMessage = errorCode(err), errorText(err); err != nil {
		return answer(resp), nil
	}
	for _, x := range b.authorizer.Bindings(f) {
		acl := kmsg.NewDescribeACLsResponseResourceACL()
		acl.Principal, acl.Host, acl.Operation, acl.PermissionType = x.Principal, x.Host, x.Operation, x.Permission
		n := len(resp.Resources)
		if n == 0 || resp.Resources[n-1].ResourceType != x.Type || resp.Resources[n-1].ResourceName != x.Name || resp.Resources[n-1].ResourcePatternType != x.Pattern {
			res := kmsg.NewDescribeACLsResponseResource()
			res.ResourceType, res.ResourceName, res.ResourcePatternType = x.Type, x.Name, x.Pattern
			resp.Resources = append(resp.Resources, res)
			n++
		}
		resp.Resources[n-1].ACLs = append(resp.Resources[n-1].ACLs, acl)
	}
	return answer(resp), nil
}

// checkFilter refuses filters that could select nothing but by mistake.
func checkFilter(f auth.Filter) error {
	switch {
	case f.Type <= kmsg.ACLResourceTypeUnknown || f.Type > kmsg.ACLResourceTypeUser:
		return refuse(kerr.InvalidRequest, "unknown resource type %d", f.Type)
	case f.Pattern <= kmsg.ACLResourcePatternTypeUnknown || f.Pattern > kmsg.ACLResourcePatternTypePrefixed:
		return refuse(kerr.InvalidRequest, "unknown pattern type %d", f.Pattern)
	case f.Operation <= kmsg.ACLOperationUnknown || f.Operation > kmsg.ACLOperationDescribeTokens:
		return refuse(kerr.InvalidRequest, "unknown operation %d", f.Operation)
	case f.Permission <= kmsg.ACLPermissionTypeUnknown || f.Permission > kmsg.ACLPermissionTypeAllow:
		return refuse(kerr.InvalidRequest, "unknown permission type %d", f.Permission)
	}
	return nil
}

// CreateAcls (key 30), versions 0–3. What exists is no error. Errors: SECURITY_DISABLED, INVALID_REQUEST, POLICY_VIOLATION (limit).
func serveCreateACLs(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.CreateACLsRequest)
	resp := kmsg.NewPtrCreateACLsResponse()
	bindings, errs := make([]auth.Binding, len(req.Creations)), make([]error, len(req.Creations))
	var good []auth.Binding
	for i, n := range req.Creations {
		bindings[i] = auth.Binding{Type: n.ResourceType, Name: n.ResourceName, Pattern: n.ResourcePatternType, Principal: n.Principal, Host: n.Host,
			Operation: n.Operation, Permission: n.PermissionType}
		err := bindings[i].Check()
		switch {
		case b.authorizer == nil:
			errs[i] = errNoAuthorizer
		case err != nil:
			errs[i] = refuse(kerr.InvalidRequest, "%s", err)
		case len(n.ResourceName)+len(n.Principal)+len(n.Host) > maxBindingBytes:
			errs[i] = refuse(kerr.InvalidRequest, "resource name, principal and host are longer than %d bytes together", maxBindingBytes)
		default:
			good = append(good, bindings[i])
		}
	}
	var failed error
	if len(good) > 0 {
		failed = b.changeBindings(good, nil)
	}
	for i := range bindings {
		if errs[i] == nil {
			errs[i] = failed
		}
		resp.Results = append(resp.Results, kmsg.CreateACLsResponseResult{ErrorCode: errorCode(errs[i]), ErrorMessage: errorText(errs[i])})
	}
	return answer(resp), nil
}

// maxBindingBytes bounds the texts of one entry of the access control lists.
const maxBindingBytes = 4096

// DeleteAcls (key 31), versions 0–3. Answers with what was deleted. Errors: SECURITY_DISABLED, INVALID_REQUEST.
func serveDeleteACLs(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DeleteACLsRequest)
	resp := kmsg.NewPtrDeleteACLsResponse()
	for _, n := range req.Filters {
		f := auth.Filter{Type: n.ResourceType, Name: n.ResourceName, Pattern: n.ResourcePatternType, Principal: n.Principal, Host: n.Host,
			Operation: n.Operation, Permission: n.PermissionType}
		res := kmsg.NewDeleteACLsResponseResult()
		err := errNoAuthorizer
		if b.authorizer != nil {
			err = checkFilter(f)
		}
		if err == nil {
			gone := b.authorizer.Bindings(f)
			if err = b.changeBindings(nil, gone); err == nil {
				res.MatchingACLs = deletedACLs(gone)
			}
		}
		res.ErrorCode, res.ErrorMessage = errorCode(err), errorText(err)
		resp.Results = append(resp.Results, res)
	}
	return answer(resp), nil
}

func deletedACLs(gone []auth.Binding) (out []kmsg.DeleteACLsResponseResultMatchingACL) {
	for _, x := range gone {
		m := kmsg.NewDeleteACLsResponseResultMatchingACL()
		m.ResourceType, m.ResourceName, m.ResourcePatternType = x.Type, x.Name, x.Pattern
		m.Principal, m.Host, m.Operation, m.PermissionType = x.Principal, x.Host, x.Operation, x.Permission
		out = append(out, m)
	}
	return out
}

// changeBindings writes a change of the access control lists and then puts it into force.
func (b *Broker) changeBindings(add, remove []auth.Binding) error {
	b.bindings.Lock()
	defer b.bindings.Unlock()
	if most := b.cfg.Security.MaxBindings; len(add) > 0 && b.authorizer.Len()+len(add) > most {
		return refuse(kerr.PolicyViolation, "the limit of %d entries of access control lists is reached", most)
	}
	var changes []meta.Change
	for _, x := range remove {
		changes = append(changes, meta.Change{Name: x.Key()})
	}
	for _, x := range add {
		changes = append(changes, meta.Change{Name: x.Key(), Value: struct{}{}})
	}
	if err := b.meta.ChangeRecords(meta.ACL, changes...); err != nil {
		return err
	}
	b.authorizer.Change(add, remove)
	b.logger.Info("access control lists changed", "added", len(add), "removed", len(remove))
	return nil
}
