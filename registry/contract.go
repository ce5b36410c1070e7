package registry

import (
	"encoding/binary"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"crypto/md5"

	"github.com/leatstream/leat/registry/internal/frame"
)

// Metadata is what a user attaches to a schema. The registry keeps it, and it is part of what tells schemas apart.
type Metadata struct {
	Tags       map[string][]string `json:"tags,omitempty"`
	Properties map[string]string   `json:"properties,omitempty"`
	Sensitive  []string            `json:"sensitive,omitempty"`
}

// RuleSet is a schema's data contract: rules that clients run when they write and read. The registry checks their names
// and modes, keeps them and returns them; it runs none, and neither do Leat's serdes.
type RuleSet struct {
	MigrationRules []Rule `json:"migrationRules,omitempty"`
	DomainRules    []Rule `json:"domainRules,omitempty"`
	EncodingRules  []Rule `json:"encodingRules,omitempty"`
}

// Rule is one rule of a [RuleSet], with Confluent's names.
type Rule struct {
	Name      string            `json:"name,omitempty"`
	Doc       string            `json:"doc,omitempty"`
	Kind      string            `json:"kind,omitempty"` // TRANSFORM or CONDITION
	Mode      string            `json:"mode,omitempty"` // UPGRADE, DOWNGRADE, UPDOWN, WRITE, READ or WRITEREAD
	Type      string            `json:"type,omitempty"` // CEL, for example
	Tags      []string          `json:"tags,omitempty"`
	Params    map[string]string `json:"params,omitempty"`
	Expr      string            `json:"expr,omitempty"`
	OnSuccess string            `json:"onSuccess,omitempty"`
	OnFailure string            `json:"onFailure,omitempty"`
	Disabled  bool              `json:"disabled"`
}

// sorted returns the metadata with what are sets in Confluent's registry in order and without repeats; nil stays nil.
func (m *Metadata) sorted() *Metadata {
	if m == nil {
		return nil
	}
	out := &Metadata{Properties: m.Properties, Sensitive: set(m.Sensitive)}
	if m.Tags != nil {
		out.Tags = make(map[string][]string, len(m.Tags))
		for k, v := range m.Tags {
			out.Tags[k] = set(v)
		}
	}
	return out
}

// property is a property's value; empty if there is none.
func (m *Metadata) property(name string) string {
	if m == nil {
		return ""
	}
	return m.Properties[name]
}

// numbered returns the metadata with its version property set; 0 takes it away. Metadata that holds nothing is none.
func (m *Metadata) numbered(version int) *Metadata {
	if version == 0 && m.property(versionProperty) == "" {
		return m
	}
	out := new(Metadata)
	if m != nil {
		*out = *m
	}
	out.Properties = maps.Clone(out.Properties)
	delete(out.Properties, versionProperty)
	if version != 0 {
		if out.Properties == nil {
			out.Properties = make(map[string]string)
		}
		out.Properties[versionProperty] = strconv.Itoa(version)
	}
	if len(out.Properties)+len(out.Tags)+len(out.Sensitive) == 0 {
		return nil
	}
	return out
}

// reserved is the fields that the metadata reserves.
func (m *Metadata) reserved() []string {
	var list []string
	for name := range strings.SplitSeq(m.property(reservedProperty), ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// The properties of metadata that mean something to the registry.
const (
	// reservedProperty lists fields, separated by commas, that later versions may not have where validateFields is set.
	reservedProperty = "confluent:reserved"
	// versionProperty is the version that the schema has in its subject; it does not tell schemas apart.
	versionProperty = "confluent:version"
)

// checkReserved says which fields were reserved before and are no longer, and which are reserved and there.
func (p *parsed) checkReserved(before *entry) []string {
	now := p.Metadata.reserved()
	var messages []string
	if before != nil {
		for _, name := range before.Metadata.reserved() {
			if !slices.Contains(now, name) {
				messages = append(messages, fmt.Sprintf("The new schema has reserved field %s removed from its metadata which is present in the old schema's metadata.", name))
			}
		}
	}
	for _, name := range now {
		if p.model.hasField(name) {
			messages = append(messages, fmt.Sprintf("The new schema has field that conflicts with the reserved field %s.", name))
		}
	}
	return messages
}

func set(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

// over returns what m says where it says something, else what under says.
func (m *Metadata) over(under *Metadata) *Metadata {
	switch {
	case under == nil:
		return m
	case m == nil:
		return under
	}
	out := &Metadata{Tags: maps.Clone(under.Tags), Properties: maps.Clone(under.Properties),
		Sensitive: set(append(slices.Clone(under.Sensitive), m.Sensitive...))}
	if out.Tags == nil && m.Tags != nil {
		out.Tags = make(map[string][]string)
	}
	for tag, v := range m.Tags {
		out.Tags[tag] = set(append(slices.Clone(out.Tags[tag]), v...))
	}
	if out.Properties == nil && m.Properties != nil {
		out.Properties = make(map[string]string)
	}
	maps.Copy(out.Properties, m.Properties)
	return out
}

func (m *Metadata) hash(h hash.Hash) {
	for _, tag := range slices.Sorted(maps.Keys(m.Tags)) {
		h.Write([]byte(tag))
		for _, v := range m.Tags[tag] {
			h.Write([]byte(v))
		}
	}
	hashMap(h, m.Properties)
	for _, s := range m.Sensitive {
		h.Write([]byte(s))
	}
}

func hashMap(h hash.Hash, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		h.Write([]byte(k))
		h.Write([]byte(m[k]))
	}
}

// over returns the rules of s, and those of under whose names s does not have.
func (s *RuleSet) over(under *RuleSet) *RuleSet {
	switch {
	case under == nil:
		return s
	case s == nil:
		return under
	}
	return &RuleSet{MigrationRules: mergeRules(s.MigrationRules, under.MigrationRules),
		DomainRules: mergeRules(s.DomainRules, under.DomainRules), EncodingRules: mergeRules(s.EncodingRules, under.EncodingRules)}
}

// hasType says whether a rule is of one of the types.
func (s *RuleSet) hasType(types []string) bool {
	if s == nil {
		return false
	}
	for _, rules := range [][]Rule{s.MigrationRules, s.DomainRules, s.EncodingRules} {
		if slices.ContainsFunc(rules, func(r Rule) bool { return slices.Contains(types, r.Type) }) {
			return true
		}
	}
	return false
}

// without returns the rules whose names are not listed.
func (s *RuleSet) without(names []string) *RuleSet {
	if s == nil || len(names) == 0 {
		return s
	}
	keep := func(rules []Rule) []Rule {
		return slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return slices.Contains(names, r.Name) })
	}
	return &RuleSet{MigrationRules: keep(s.MigrationRules), DomainRules: keep(s.DomainRules), EncodingRules: keep(s.EncodingRules)}
}

func mergeRules(over, under []Rule) []Rule {
	var list []Rule
	for _, r := range under {
		if !slices.ContainsFunc(over, func(o Rule) bool { return o.Name == r.Name }) {
			list = append(list, r)
		}
	}
	return append(list, over...)
}

func (s *RuleSet) hash(h hash.Hash) {
	for _, rules := range [][]Rule{s.MigrationRules, s.DomainRules, s.EncodingRules} {
		for _, r := range rules {
			for _, text := range []string{r.Name, r.Doc, r.Kind, r.Mode, r.Type} {
				h.Write([]byte(text))
			}
			for _, tag := range r.Tags {
				h.Write([]byte(tag))
			}
			hashMap(h, r.Params)
			for _, text := range []string{r.Expr, r.OnSuccess, r.OnFailure} {
				h.Write([]byte(text))
			}
			if r.Disabled {
				h.Write([]byte{1})
			}
		}
	}
}

// maxRuleName is how long a rule's name may be, in bytes.
const maxRuleName = 64

// check says what is wrong with the rules' names and modes.
func (s *RuleSet) check() error {
	if s == nil {
		return nil
	}
	names := make(map[string]bool)
	for _, group := range []struct {
		rules []Rule
		modes []string
		what  string
	}{
		{s.MigrationRules, []string{"UPGRADE", "DOWNGRADE", "UPDOWN"}, "Migration rules can only be UPGRADE, DOWNGRADE, UPDOWN"},
		{s.DomainRules, []string{"WRITE", "READ", "WRITEREAD"}, "Domain rules can only be WRITE, READ, WRITEREAD"},
		{s.EncodingRules, []string{"WRITE", "READ", "WRITEREAD"}, "Encoding rules can only be WRITE, READ, WRITEREAD"},
	} {
		for _, r := range group.rules {
			switch {
			case !validRuleName(r.Name):
				return fail(codeInvalidRuleSet, "Invalid rule set: %q is not a rule name", r.Name)
			case names[r.Name]:
				return fail(codeInvalidRuleSet, "Found rule with duplicate name '%s'", r.Name)
			case r.Type == "":
				return fail(codeInvalidRuleSet, "Missing rule type")
			case !slices.Contains(group.modes, r.Mode):
				return fail(codeInvalidRuleSet, "%s", group.what)
			}
			names[r.Name] = true
		}
	}
	return nil
}

func validRuleName(name string) bool {
	if name == "" || len(name) > maxRuleName {
		return false
	}
	for i, r := range name {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || r != '-' && !unicode.IsDigit(r)) {
			return false
		}
	}
	return true
}

// guid is Confluent's content identifier of a definition: the MD5 of its parts, as a UUID.
func (d Definition) guid() string {
	h := md5.New()
	h.Write([]byte(d.Text))
	for _, r := range d.References {
		h.Write([]byte(r.Name))
		h.Write([]byte(r.Subject))
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(int32(r.Version))))
	}
	if d.Metadata != nil {
		h.Write([]byte{1}) // to tell empty from none
		d.Metadata.hash(h)
	}
	if d.RuleSet != nil {
		h.Write([]byte{1})
		d.RuleSet.hash(h)
	}
	return frame.GUID(h.Sum(nil)).String()
}

// unnumbered is the guid of the definition without the number of its version.
func (d Definition) unnumbered() string {
	d.Metadata = d.Metadata.numbered(0)
	return d.guid()
}

// key is the definition as one string, for caches.
func (d Definition) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\x00%s", d.Type, d.Text)
	for _, r := range d.References {
		fmt.Fprintf(&b, "\x00%s\x00%s\x00%d", r.Name, r.Subject, r.Version)
	}
	for _, part := range []any{d.Metadata, d.RuleSet} {
		if text, err := marshal(part); err == nil { // maps and lists of strings always marshal
			b.WriteByte(0)
			b.Write(text)
		}
	}
	return b.String()
}
