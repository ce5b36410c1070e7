package registry

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

// configUpdate is the body of a request that changes configuration: what it does not name stays as it is, and what it
// names as null goes.
type configUpdate struct {
	Compatibility string `json:"compatibility"`
	configValue          // its compatibilityLevel and subject are not read
	nulls         []string
}

// UnmarshalJSON implements [json.Unmarshaler].
func (u *configUpdate) UnmarshalJSON(b []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return err
	}
	for name, text := range members {
		if string(text) == "null" {
			u.nulls = append(u.nulls, name)
		}
	}
	type plain configUpdate
	return json.Unmarshal(b, (*plain)(u))
}

func (u configUpdate) apply(v *configValue) {
	fields := map[string]func(){
		"compatibility": func() { v.CompatibilityLevel = "" }, "compatibilityPolicy": func() { v.CompatibilityPolicy = "" },
		"compatibilityGroup": func() { v.CompatibilityGroup = "" }, "alias": func() { v.Alias = "" },
		"normalize": func() { v.Normalize = nil }, "validateFields": func() { v.ValidateFields = nil },
		"validateNewSchemas": func() { v.ValidateNewSchemas = nil }, "validateRules": func() { v.ValidateRules = nil },
		"defaultMetadata": func() { v.DefaultMetadata = nil }, "overrideMetadata": func() { v.OverrideMetadata = nil },
		"defaultRuleSet": func() { v.DefaultRuleSet = nil }, "overrideRuleSet": func() { v.OverrideRuleSet = nil },
	}
	for _, name := range u.nulls {
		if forget, ok := fields[name]; ok {
			forget()
		}
	}
	for _, text := range []struct{ from, to *string }{
		{&u.Alias, &v.Alias}, {&u.CompatibilityGroup, &v.CompatibilityGroup}, {&u.CompatibilityPolicy, &v.CompatibilityPolicy},
	} {
		if *text.from != "" {
			*text.to = *text.from
		}
	}
	for _, b := range []struct{ from, to **bool }{
		{&u.Normalize, &v.Normalize}, {&u.ValidateFields, &v.ValidateFields},
		{&u.ValidateNewSchemas, &v.ValidateNewSchemas}, {&u.ValidateRules, &v.ValidateRules},
	} {
		if *b.from != nil {
			*b.to = *b.from
		}
	}
	for _, m := range []struct{ from, to **Metadata }{
		{&u.DefaultMetadata, &v.DefaultMetadata}, {&u.OverrideMetadata, &v.OverrideMetadata},
	} {
		if *m.from != nil {
			*m.to = (*m.from).sorted()
		}
	}
	for _, r := range []struct{ from, to **RuleSet }{
		{&u.DefaultRuleSet, &v.DefaultRuleSet}, {&u.OverrideRuleSet, &v.OverrideRuleSet},
	} {
		if *r.from != nil {
			*r.to = *r.from
		}
	}
}

// The values of compatibilityPolicy.
const (
	policyStrict  = "STRICT"
	policyLenient = "LENIENT"
)

// setConfig changes the configuration of a subject, or the global one.
func (c *core) setConfig(ctx context.Context, subject string, u configUpdate) (configValue, error) {
	if err := checkSubject(subject); err != nil {
		return configValue{}, err
	}
	var level Level
	if u.Compatibility != "" {
		var ok bool
		if level, ok = parseLevel(u.Compatibility); !ok {
			return configValue{}, fail(codeInvalidCompatibility, "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive")
		}
	}
	if u.CompatibilityPolicy = strings.ToUpper(u.CompatibilityPolicy); u.CompatibilityPolicy != "" && u.CompatibilityPolicy != policyStrict && u.CompatibilityPolicy != policyLenient {
		return configValue{}, fail(codeInvalidCompatibility, "Invalid compatibility policy. Valid values are STRICT and LENIENT")
	}
	for _, rules := range []*RuleSet{u.DefaultRuleSet, u.OverrideRuleSet} {
		if err := rules.check(); err != nil {
			return configValue{}, err
		}
	}
	if err := c.log.lock(ctx); err != nil {
		return configValue{}, unavailable(err)
	}
	defer c.log.unlock()
	if err := c.checkWritable(subject); err != nil {
		return configValue{}, err
	}
	v, _ := c.state.config(subject)
	v.Subject = subject
	u.apply(&v)
	if level != "" {
		v.CompatibilityLevel = string(level)
	}
	b, err := marshal(v)
	if err != nil {
		return v, err
	}
	if err := c.log.writeLocked(ctx, record{subjectKey(keyConfig, subject), b}); err != nil {
		return v, writeFailed(err)
	}
	return v, nil
}

// deleteConfig removes the configuration of a subject, or resets the global one, and returns what it was.
func (c *core) deleteConfig(ctx context.Context, subject string) (configValue, error) {
	if err := c.log.lock(ctx); err != nil {
		return configValue{}, unavailable(err)
	}
	defer c.log.unlock()
	if err := c.checkWritable(subject); err != nil {
		return configValue{}, err
	}
	v, ok := c.state.config(subject)
	if !ok && subject != "" {
		return v, subjectNotFound(subject)
	}
	if err := c.log.writeLocked(ctx, record{subjectKey(keyConfig, subject), nil}); err != nil {
		return v, writeFailed(err)
	}
	if v.CompatibilityLevel == "" {
		v.CompatibilityLevel = string(Backward)
	}
	return v, nil
}

// subjects lists the subjects that begin with prefix: the live ones, with the soft-deleted, or only these.
func (c *core) subjects(prefix string, deleted, deletedOnly bool) []string {
	list := []string{}
	live := make(map[string]bool)
	for _, e := range c.state.all(prefix, deleted || deletedOnly) {
		if !slices.Contains(list[max(0, len(list)-1):], e.Subject) {
			list = append(list, e.Subject)
		}
		live[e.Subject] = live[e.Subject] || !e.Deleted
	}
	if deletedOnly {
		list = slices.DeleteFunc(list, func(s string) bool { return live[s] })
	}
	return list
}

// checkVersion compares a schema with one version of a subject under the level in force. The latest version of a
// subject that does not exist is compatible with everything.
func (c *core) checkVersion(subject string, version int, d Definition, normalize bool) (verdict, error) {
	e := c.version(subject, version, false)
	if e == nil && version != Latest {
		return verdict{}, versionNotFound(version)
	}
	p, err := c.parseNew(subject, d, normalize)
	if err != nil {
		return verdict{}, err
	}
	var history []*entry
	if e != nil {
		history = []*entry{e}
	}
	return c.judgeIn(subject, p, history)
}
