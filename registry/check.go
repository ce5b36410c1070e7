package registry

import (
	"fmt"
	"slices"
)

// maxOldText is how much of the old schema a message quotes, in bytes.
const maxOldText = 10 * 1024

// verdict is the outcome of a compatibility check; no messages mean compatible.
type verdict struct {
	messages []string
	fix      string
}

// differentType is Confluent's message for a schema in another language than the versions before it.
const differentType = "Incompatible because of different schema type"

// level returns the level in force for a subject.
func (c *core) level(subject string) Level {
	for _, scope := range scopes(subject) {
		conf, _ := c.state.config(scope)
		if l, ok := parseLevel(conf.CompatibilityLevel); ok {
			return l
		}
	}
	return Backward
}

// compatible checks a schema against the history of a subject under the rules in force.
func (c *core) compatible(subject string, p *parsed) error {
	v, err := c.judgeIn(subject, p, c.state.versions(subject, false))
	if err != nil {
		return err
	}
	return v.err(subject)
}

// policy is what a schema must satisfy to follow others.
type policy struct {
	level Level
	// lenient lets JSON schemas add properties to objects that allow any: compatibilityPolicy LENIENT.
	lenient bool
	// reserved asks that fields which metadata reserves stay reserved and unused: validateFields.
	reserved bool
}

func (c *core) policy(subject string) policy {
	name, _ := effective(c, subject, func(v configValue) (string, bool) { return v.CompatibilityPolicy, v.CompatibilityPolicy != "" })
	reserved, _ := effective(c, subject, func(v configValue) (bool, bool) {
		return v.ValidateFields != nil && *v.ValidateFields, v.ValidateFields != nil
	})
	return policy{level: c.level(subject), lenient: name == policyLenient, reserved: reserved}
}

// judgeIn compares a schema with versions of a subject, in their order, under the rules in force there.
func (c *core) judgeIn(subject string, p *parsed, versions []*entry) (verdict, error) {
	rules := c.policy(subject)
	var reserved []string
	if rules.reserved {
		var latest *entry
		if len(versions) > 0 {
			latest = versions[len(versions)-1]
		}
		reserved = p.checkReserved(latest)
	}
	v, err := c.judge(rules, p, c.grouped(subject, p, versions))
	if err != nil || len(reserved) == 0 {
		return v, err
	}
	if len(v.messages) == 0 {
		reserved = append(reserved, rules.message())
		v.fix = "take the fields out of the schema that its metadata reserves, and keep those reserved that were"
	}
	v.messages = append(reserved, v.messages...)
	return v, nil
}

// message is the last of the messages about a schema that does not fit.
func (r policy) message() string {
	return fmt.Sprintf("{validateFields: '%t', compatibility: '%s'}", r.reserved, r.level)
}

func (v verdict) err(subject string) error {
	if len(v.messages) == 0 {
		return nil
	}
	return &IncompatibleError{Subject: subject, Messages: v.messages, Fix: v.fix}
}

// grouped is the versions of a subject that p must fit, the newest first: all of them, or, where the subject has a
// compatibility group, those whose property of that name has the same value.
func (c *core) grouped(subject string, p *parsed, versions []*entry) []*entry {
	list := slices.Clone(versions)
	slices.Reverse(list)
	group, ok := effective(c, subject, func(v configValue) (string, bool) { return v.CompatibilityGroup, v.CompatibilityGroup != "" })
	if !ok {
		return list
	}
	return slices.DeleteFunc(list, func(e *entry) bool { return e.Metadata.property(group) != p.Metadata.property(group) })
}

// judge compares a schema with others, the newest first, as the rules ask for. It ends at the first that does not fit.
func (c *core) judge(rules policy, p *parsed, history []*entry) (verdict, error) {
	switch rules.level {
	case None:
		return verdict{}, nil
	case Backward, Forward, Full:
		history = history[:min(1, len(history))]
	}
	for _, old := range history {
		v, err := c.judgeOne(rules, p, old)
		if err != nil {
			return v, err
		}
		if len(v.messages) > 0 {
			v.messages = append(v.messages, rules.message())
			return v, nil
		}
	}
	return verdict{}, nil
}

func (c *core) judgeOne(rules policy, p *parsed, old *entry) (verdict, error) {
	level := rules.level
	if old.typeName() != p.typeName() {
		return verdict{messages: []string{differentType}, fix: "register the new schema under another subject"}, nil
	}
	before, err := c.parse(old.Definition, contextOf(old.Subject), false)
	if err != nil {
		return verdict{}, err
	}
	var v verdict
	if level == Forward || level == ForwardTransitive || level == Full || level == FullTransitive {
		v.add(before.model.reads(p.model, comparison{lenient: rules.lenient}))
	}
	// As Confluent's: of a full check, only the backward half tells which version it is about.
	tell := len(v.messages) > 0 && (level == Forward || level == ForwardTransitive)
	if level == Backward || level == BackwardTransitive || level == Full || level == FullTransitive {
		tell = v.add(p.model.reads(before.model, comparison{newReads: true, lenient: rules.lenient}))
	}
	if tell {
		v.messages = append(v.messages, fmt.Sprintf("{oldSchemaVersion: %d}", old.Version))
		if len(old.Text) <= maxOldText {
			v.messages = append(v.messages, "{oldSchema: '"+old.Text+"'}")
		} else {
			v.messages = append(v.messages, fmt.Sprintf("{oldSchema: <truncated to %d characters> '%s'}", maxOldText, old.Text[:maxOldText]))
		}
	}
	return v, nil
}

// add takes the outcome of one direction in and reports whether there is any.
func (v *verdict) add(messages []string, fix string) bool {
	v.messages = append(v.messages, messages...)
	if v.fix == "" {
		v.fix = fix
	}
	return len(messages) > 0
}

// CheckAvro is [Check] for Avro schemas.
func CheckAvro(level Level, text string, history ...string) error {
	return Check(level, TypeAvro, text, history...)
}

// Check compares a new schema with old ones of the same type, the newest first, without a registry. It returns nil if
// the level allows the change, else an [*IncompatibleError]; an error that wraps [ErrInvalidSchema] if one of the texts
// is no schema.
func Check(level Level, schemaType, text string, history ...string) error {
	c := core{}
	p, err := c.parse(Definition{Type: schemaType, Text: text}, defaultContext, true)
	if err != nil {
		return err
	}
	list := make([]*entry, len(history))
	for i, h := range history {
		old, err := c.parse(Definition{Type: schemaType, Text: h}, defaultContext, false)
		if err != nil {
			return err
		}
		list[i] = &entry{Schema: Schema{Definition: old.Definition, Version: len(history) - i}}
	}
	v, err := c.judge(policy{level: level}, p, list)
	if err != nil {
		return err
	}
	return v.err("")
}
