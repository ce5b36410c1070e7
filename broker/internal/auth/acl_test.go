package auth

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topicType = kmsg.ACLResourceTypeTopic
	literal   = kmsg.ACLResourcePatternTypeLiteral
	prefixed  = kmsg.ACLResourcePatternTypePrefixed
	allow     = kmsg.ACLPermissionTypeAllow
	deny      = kmsg.ACLPermissionTypeDeny
	read      = kmsg.ACLOperationRead
	write     = kmsg.ACLOperationWrite
	describe  = kmsg.ACLOperationDescribe
	all       = kmsg.ACLOperationAll
)

func TestAllowed(t *testing.T) {
	on := func(name string, pattern kmsg.ACLResourcePatternType, who, host string, op kmsg.ACLOperation, p kmsg.ACLPermissionType) Binding {
		return Binding{topicType, name, pattern, who, host, op, p}
	}
	bs := []Binding{
		on("orders", literal, "User:alice", "*", read, allow),
		on("or", prefixed, "User:bob", "*", write, allow),
		on("*", literal, "User:carol", "10.0.0.1", all, allow),
		on("orders", literal, "User:carol", "*", write, deny),
		on("public-", prefixed, "User:*", "*", describe, allow),
		on("public-secret", literal, "User:*", "*", all, deny),
		on("wide", literal, "User:dave", "*", kmsg.ACLOperationAlterConfigs, allow),
		on("half", literal, "User:eve", "*", read, allow),
		on("half", literal, "User:eve", "*", describe, deny),
	}
	a := NewAuthorizer(Rules{SuperUsers: []Principal{User("root")}}, bs)
	for _, c := range []struct {
		who, host string
		op        kmsg.ACLOperation
		topic     string
		want      bool
	}{
		{"alice", "h", read, "orders", true},
		{"alice", "h", describe, "orders", true}, // implied
		{"alice", "h", write, "orders", false},
		{"alice", "h", read, "orders2", false},
		{"bob", "h", write, "orders", true}, {"bob", "h", describe, "or", true}, {"bob", "h", write, "o", false}, {"bob", "h", read, "orders", false},
		{"carol", "10.0.0.1", read, "anything", true}, {"carol", "10.0.0.2", read, "anything", false},
		{"carol", "10.0.0.1", write, "orders", false},   // deny wins over the wildcard
		{"carol", "10.0.0.1", describe, "orders", true}, // a denial implies nothing
		{"nobody", "h", describe, "public-x", true}, {"nobody", "h", read, "public-x", false},
		{"nobody", "h", describe, "public-secret", false},
		{"dave", "h", kmsg.ACLOperationDescribeConfigs, "wide", true}, {"dave", "h", describe, "wide", false},
		{"eve", "h", read, "half", true}, {"eve", "h", describe, "half", false},
		{"root", "h", write, "orders", true},
		{"alice", "h", read, "", false},
	} {
		if got := a.Allowed(User(c.who), c.host, c.op, Resource{topicType, c.topic}); got != c.want {
			t.Errorf("%s %s %q: %v", c.who, c.op, c.topic, got)
		}
	}
	open := NewAuthorizer(Rules{AllowUnlisted: true}, bs)
	if !open.Allowed(User("x"), "h", write, Resource{kmsg.ACLResourceTypeGroup, "g"}) || open.Allowed(User("x"), "h", read, Resource{topicType, "orders"}) {
		t.Error("AllowUnlisted")
	}
	for who, want := range map[string]bool{"bob": true, "alice": false, "carol": true, "root": true} {
		if got := a.AllowedSomewhere(User(who), "10.0.0.1", write, topicType); got != want {
			t.Errorf("%s may write somewhere: %v", who, got)
		}
	}
	a.Change([]Binding{on("orde", prefixed, "User:frank", "*", write, allow), on("ord", prefixed, "User:frank", "*", write, deny)}, nil)
	if a.AllowedSomewhere(User("frank"), "h", write, topicType) {
		t.Error("an allowance that a wider denial takes back counts")
	}
}

// Random bindings come and go; every answer is that of a naive reading of the rules (CVE-2024-27309: lists were wrong after one of
// several was removed).
func TestAuthorizerModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(ss ...string) string { return ss[r.IntN(len(ss))] }
	ops := []kmsg.ACLOperation{read, write, describe, all, kmsg.ACLOperationAlterConfigs, kmsg.ACLOperationDescribeConfigs}
	a, model := NewAuthorizer(Rules{}, nil), map[Binding]bool{}
	for step := range 2000 {
		b := Binding{topicType, pick("a", "ab", "abc", "b", "*"), literal, "User:" + pick("x", "y", "*"), pick("1", "2", "*"), ops[r.IntN(len(ops))], allow}
		if r.IntN(3) == 0 {
			b.Pattern = prefixed
		}
		if r.IntN(4) == 0 {
			b.Permission = deny
		}
		if r.IntN(2) == 0 {
			a.Change([]Binding{b}, nil)
			model[b] = true
		} else {
			var remove []Binding
			for m := range model {
				if m.Name == b.Name {
					remove = append(remove, m)
					delete(model, m)
					break
				}
			}
			a.Change(nil, remove)
		}
		if a.Len() != len(model) {
			t.Fatalf("seed %d, step %d: %d bindings, want %d", seed, step, a.Len(), len(model))
		}
		who, host, op, topic := pick("x", "y", "z"), pick("1", "2"), ops[r.IntN(3)], pick("a", "ab", "abc", "abcd", "b", "c")
		if got, want := a.Allowed(User(who), host, op, Resource{topicType, topic}), naive(model, who, host, op, topic); got != want {
			t.Fatalf("seed %d, step %d: %s from %s %s %s is %v; %v", seed, step, who, host, op, topic, got, model)
		}
	}
}

func naive(model map[Binding]bool, who, host string, op kmsg.ACLOperation, topic string) bool {
	allowed := false
	for b := range model {
		covers := b.Name == "*" && b.Pattern == literal || b.Name == topic || b.Pattern == prefixed && strings.HasPrefix(topic, b.Name)
		if !covers || b.Principal != "User:*" && b.Principal != "User:"+who || b.Host != "*" && b.Host != host {
			continue
		}
		same := b.Operation == op || b.Operation == all
		if b.Permission == deny && same {
			return false
		}
		implied := op == describe && (b.Operation == read || b.Operation == write)
		allowed = allowed || b.Permission == allow && (same || implied)
	}
	return allowed
}

func TestBindingsAreChecked(t *testing.T) {
	good := Binding{topicType, "t", literal, "User:a", "*", read, allow}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	two := good
	two.Type, two.Operation = kmsg.ACLResourceTypeTransactionalId, 15 // TWO_PHASE_COMMIT of KIP-939
	if back, err := ParseBinding(two.Key()); err != nil || back != two || two.Check() != nil || !strings.Contains(two.Key(), `"operation":"TWO_PHASE_COMMIT"`) {
		t.Errorf("%s is read as %+v, %v, %v", two.Key(), back, err, two.Check())
	}
	if two.Type = kmsg.ACLResourceTypeTopic; two.Check() == nil {
		t.Error("a topic has two-phase commits")
	}
	if back, err := ParseBinding(good.Key()); err != nil || back != good {
		t.Error(back, err)
	}
	for name, change := range map[string]func(*Binding){
		"type any": func(b *Binding) { b.Type = kmsg.ACLResourceTypeAny }, "no name": func(b *Binding) { b.Name = "" },
		"pattern match": func(b *Binding) { b.Pattern = kmsg.ACLResourcePatternTypeMatch }, "principal": func(b *Binding) { b.Principal = "alice" },
		"host": func(b *Binding) { b.Host = "" }, "operation": func(b *Binding) { b.Operation = kmsg.ACLOperationClusterAction },
		"operation any": func(b *Binding) { b.Operation = kmsg.ACLOperationAny }, "permission": func(b *Binding) { b.Permission = kmsg.ACLPermissionTypeAny },
		"cluster": func(b *Binding) { b.Type, b.Operation = kmsg.ACLResourceTypeCluster, kmsg.ACLOperationAlter },
	} {
		b := good
		if change(&b); b.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
