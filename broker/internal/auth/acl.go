package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Resource is something that access to is controlled.
type Resource struct {
	Type kmsg.ACLResourceType
	Name string
}

// Cluster is the one resource of type cluster.
var Cluster = Resource{kmsg.ACLResourceTypeCluster, "kafka-cluster"}

// Binding is one entry of the access control lists. Two are the same if all fields are.
type Binding struct {
	Type       kmsg.ACLResourceType
	Name       string
	Pattern    kmsg.ACLResourcePatternType // literal or prefixed
	Principal  string
	Host       string
	Operation  kmsg.ACLOperation
	Permission kmsg.ACLPermissionType
}

// Wildcard is the name that stands for every resource, and the host that stands for every host; "User:*" is everyone.
const Wildcard = "*"

// twoPhaseCommit is the operation of KIP-939, which kmsg does not name. It can be granted and listed; no request needs it here.
const twoPhaseCommit kmsg.ACLOperation = 15

// operationText is an operation as it is in a binding's text.
type operationText kmsg.ACLOperation

// MarshalText writes Kafka's name of the operation.
func (o operationText) MarshalText() ([]byte, error) {
	if kmsg.ACLOperation(o) == twoPhaseCommit {
		return []byte("TWO_PHASE_COMMIT"), nil
	}
	return kmsg.ACLOperation(o).MarshalText()
}

// UnmarshalText reads what MarshalText writes.
func (o *operationText) UnmarshalText(text []byte) error {
	if string(text) == "TWO_PHASE_COMMIT" {
		*o = operationText(twoPhaseCommit)
		return nil
	}
	return (*kmsg.ACLOperation)(o).UnmarshalText(text)
}

// storedBinding is a Binding whose operation has every name.
type storedBinding struct {
	Type       kmsg.ACLResourceType        `json:"type"`
	Name       string                      `json:"name"`
	Pattern    kmsg.ACLResourcePatternType `json:"pattern"`
	Principal  string                      `json:"principal"`
	Host       string                      `json:"host"`
	Operation  operationText               `json:"operation"`
	Permission kmsg.ACLPermissionType      `json:"permission"`
}

// Key is the binding's text, by which it is remembered.
func (b Binding) Key() string {
	text, err := json.Marshal(storedBinding{b.Type, b.Name, b.Pattern, b.Principal, b.Host, operationText(b.Operation), b.Permission})
	if err != nil {
		panic(fmt.Sprintf("auth: a binding does not marshal: %v", err)) // strings and numbers only
	}
	return string(text)
}

// ParseBinding reads Key's text.
func ParseBinding(key string) (Binding, error) {
	var s storedBinding
	if err := json.Unmarshal([]byte(key), &s); err != nil {
		return Binding{}, fmt.Errorf("access control binding %q: %w", key, err)
	}
	return Binding{s.Type, s.Name, s.Pattern, s.Principal, s.Host, kmsg.ACLOperation(s.Operation), s.Permission}, nil
}

// Check says what is wrong with a binding that is to be created.
func (b Binding) Check() error {
	ops, ok := operations[b.Type]
	switch {
	case !ok:
		return fmt.Errorf("resource type %d cannot be given access to", b.Type)
	case b.Name == "":
		return errors.New("the resource name is empty")
	case b.Type == kmsg.ACLResourceTypeCluster && b.Name != Cluster.Name:
		return fmt.Errorf("the only resource of type cluster is %s", Cluster.Name)
	case b.Pattern != kmsg.ACLResourcePatternTypeLiteral && b.Pattern != kmsg.ACLResourcePatternTypePrefixed:
		return fmt.Errorf("pattern type %d: want literal or prefixed", b.Pattern)
	case b.Operation != kmsg.ACLOperationAll && !slices.Contains(ops, b.Operation):
		return fmt.Errorf("operation %d (%s) does not exist for resource type %s", b.Operation, b.Operation, b.Type)
	case b.Permission != kmsg.ACLPermissionTypeAllow && b.Permission != kmsg.ACLPermissionTypeDeny:
		return fmt.Errorf("permission type %d: want allow or deny", b.Permission)
	case b.Host == "":
		return errors.New("the host is empty: * is every host")
	}
	_, err := ParsePrincipal(b.Principal)
	return err
}

// operations are those that each type of resource knows.
var operations = map[kmsg.ACLResourceType][]kmsg.ACLOperation{
	kmsg.ACLResourceTypeTopic: {kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationCreate, kmsg.ACLOperationDelete, kmsg.ACLOperationAlter,
		kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs},
	kmsg.ACLResourceTypeGroup: {kmsg.ACLOperationRead, kmsg.ACLOperationDelete, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs},
	kmsg.ACLResourceTypeCluster: {kmsg.ACLOperationCreate, kmsg.ACLOperationAlter, kmsg.ACLOperationDescribe, kmsg.ACLOperationClusterAction,
		kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs, kmsg.ACLOperationIdempotentWrite},
	kmsg.ACLResourceTypeTransactionalId: {kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe, twoPhaseCommit},
	kmsg.ACLResourceTypeUser:            {kmsg.ACLOperationCreateTokens, kmsg.ACLOperationDescribeTokens},
	kmsg.ACLResourceTypeDelegationToken: {kmsg.ACLOperationDescribe},
}

// implying are the operations that an allowance of which is one of the key, too.
var implying = map[kmsg.ACLOperation][]kmsg.ACLOperation{
	kmsg.ACLOperationDescribe:        {kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDelete, kmsg.ACLOperationAlter},
	kmsg.ACLOperationDescribeConfigs: {kmsg.ACLOperationAlterConfigs},
}

// Filter selects bindings. Zero fields of the enumerations do not exist in the protocol: any is 1.
type Filter struct {
	Type       kmsg.ACLResourceType
	Name       *string // nil: any
	Pattern    kmsg.ACLResourcePatternType
	Principal  *string
	Host       *string
	Operation  kmsg.ACLOperation
	Permission kmsg.ACLPermissionType
}

// Matches reports whether the filter selects b. The pattern type "match" selects what would apply to a resource of that name.
func (f Filter) Matches(b Binding) bool {
	same := func(want *string, have string) bool { return want == nil || *want == have }
	if f.Type != kmsg.ACLResourceTypeAny && f.Type != b.Type || f.Operation != kmsg.ACLOperationAny && f.Operation != b.Operation ||
		f.Permission != kmsg.ACLPermissionTypeAny && f.Permission != b.Permission || !same(f.Principal, b.Principal) || !same(f.Host, b.Host) {
		return false
	}
	switch f.Pattern {
	case kmsg.ACLResourcePatternTypeMatch:
		return f.Name == nil || b.covers(*f.Name)
	case kmsg.ACLResourcePatternTypeAny:
		return same(f.Name, b.Name)
	}
	return f.Pattern == b.Pattern && same(f.Name, b.Name)
}

// covers reports whether the binding's pattern takes in a resource name.
func (b Binding) covers(name string) bool {
	if b.Pattern == kmsg.ACLResourcePatternTypePrefixed {
		return strings.HasPrefix(name, b.Name)
	}
	return b.Name == name || b.Name == Wildcard
}

// Rules are what an Authorizer is made with.
type Rules struct {
	// SuperUsers may do everything.
	SuperUsers []Principal
	// AllowUnlisted allows everyone what no binding is about (allow.everyone.if.no.acl.found).
	AllowUnlisted bool
}

// Authorizer answers whether somebody may do something, by the bindings it is told of. It is safe for concurrent use; questions
// never wait for changes.
type Authorizer struct {
	rules   Rules
	changes sync.Mutex
	table   atomic.Pointer[aclTable]
}

// aclTable is all bindings, arranged for questions; it never changes.
type aclTable struct {
	all      map[Binding]struct{}
	literal  map[Resource][]Binding // wildcards under their own name
	prefixed map[kmsg.ACLResourceType][]Binding
}

// NewAuthorizer makes an authorizer that knows bs.
func NewAuthorizer(rules Rules, bs []Binding) *Authorizer {
	a := &Authorizer{rules: rules}
	a.table.Store(newTable(bs))
	return a
}

func newTable(bs []Binding) *aclTable {
	t := &aclTable{map[Binding]struct{}{}, map[Resource][]Binding{}, map[kmsg.ACLResourceType][]Binding{}}
	for _, b := range bs {
		if _, twice := t.all[b]; twice {
			continue
		}
		t.all[b] = struct{}{}
		if b.Pattern == kmsg.ACLResourcePatternTypePrefixed {
			t.prefixed[b.Type] = append(t.prefixed[b.Type], b)
		} else {
			r := Resource{b.Type, b.Name}
			t.literal[r] = append(t.literal[r], b)
		}
	}
	return t
}

// Change adds and removes bindings at once.
func (a *Authorizer) Change(add, remove []Binding) {
	a.changes.Lock()
	defer a.changes.Unlock()
	var bs []Binding
	for b := range a.table.Load().all {
		if !slices.Contains(remove, b) {
			bs = append(bs, b)
		}
	}
	a.table.Store(newTable(append(bs, add...)))
}

// Bindings are those that f selects, in the order of their keys.
func (a *Authorizer) Bindings(f Filter) []Binding {
	var bs []Binding
	for b := range a.table.Load().all {
		if f.Matches(b) {
			bs = append(bs, b)
		}
	}
	slices.SortFunc(bs, func(x, y Binding) int { return strings.Compare(x.Key(), y.Key()) })
	return bs
}

// Len is how many bindings there are.
func (a *Authorizer) Len() int { return len(a.table.Load().all) }

// Allowed reports whether p, connected from host (an IP address), may do op on r. A denial wins over every allowance.
func (a *Authorizer) Allowed(p Principal, host string, op kmsg.ACLOperation, r Resource) bool {
	if slices.Contains(a.rules.SuperUsers, p) {
		return true
	}
	who := p.String()
	everyone := p.Type + ":" + Wildcard
	found, allowed := false, false
	for b := range a.table.Load().about(r) {
		found = true
		if b.Principal != who && b.Principal != everyone || b.Host != Wildcard && b.Host != host {
			continue
		}
		if b.Permission == kmsg.ACLPermissionTypeDeny {
			if b.Operation == op || b.Operation == kmsg.ACLOperationAll {
				return false
			}
			continue
		}
		allowed = allowed || b.Operation == op || b.Operation == kmsg.ACLOperationAll || slices.Contains(implying[op], b.Operation)
	}
	return allowed || !found && a.rules.AllowUnlisted
}

// AllowedSomewhere reports whether p may do op on at least one resource of a type: idempotent producers may write somewhere.
// An allowance counts unless a denial takes all of it back.
func (a *Authorizer) AllowedSomewhere(p Principal, host string, op kmsg.ACLOperation, t kmsg.ACLResourceType) bool {
	if slices.Contains(a.rules.SuperUsers, p) {
		return true
	}
	who, everyone := p.String(), p.Type+":"+Wildcard
	var allows, denies []Binding
	for b := range a.table.Load().all {
		if b.Type != t || b.Principal != who && b.Principal != everyone || b.Host != Wildcard && b.Host != host ||
			b.Operation != op && b.Operation != kmsg.ACLOperationAll {
			continue
		}
		if b.Permission == kmsg.ACLPermissionTypeAllow {
			allows = append(allows, b)
		} else {
			denies = append(denies, b)
		}
	}
	takesBack := func(allow Binding) bool {
		return slices.ContainsFunc(denies, func(d Binding) bool {
			switch {
			case d.Pattern == kmsg.ACLResourcePatternTypeLiteral:
				return d.Name == Wildcard || allow.Pattern == d.Pattern && allow.Name == d.Name
			case allow.Name == Wildcard && allow.Pattern == kmsg.ACLResourcePatternTypeLiteral:
				return false
			}
			return strings.HasPrefix(allow.Name, d.Name)
		})
	}
	for _, allow := range allows {
		if !takesBack(allow) {
			return true
		}
	}
	if !a.rules.AllowUnlisted {
		return false
	}
	return !slices.ContainsFunc(denies, func(d Binding) bool { return d.Pattern == kmsg.ACLResourcePatternTypeLiteral && d.Name == Wildcard })
}

// about yields the bindings that a resource's name is covered by.
func (t *aclTable) about(r Resource) func(yield func(Binding) bool) {
	return func(yield func(Binding) bool) {
		for _, bs := range [][]Binding{t.literal[r], t.literal[Resource{r.Type, Wildcard}]} {
			for _, b := range bs {
				if !yield(b) {
					return
				}
			}
		}
		for _, b := range t.prefixed[r.Type] {
			if strings.HasPrefix(r.Name, b.Name) && !yield(b) {
				return
			}
		}
	}
}

// Operations is the set of operations that p may do on r, as the bits of the protocol's authorized-operations fields.
func (a *Authorizer) Operations(p Principal, host string, r Resource) int32 {
	return Bits(r.Type, func(op kmsg.ACLOperation) bool { return a.Allowed(p, host, op, r) })
}

// Bits makes the protocol's set of the operations of a type of resource that f is true for.
func Bits(t kmsg.ACLResourceType, f func(kmsg.ACLOperation) bool) (bits int32) {
	for _, op := range operations[t] {
		if f(op) {
			bits |= 1 << op
		}
	}
	return bits
}
