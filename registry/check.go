package registry

import (
	"fmt"
	"slices"

	"github.com/leatstream/leat/registry/internal/avsc"
)

// maxOldText is how much of the old schema a message quotes, in bytes.
const maxOldText = 10 * 1024

// verdict is the outcome of a compatibility check; no messages mean compatible.
type verdict struct {
	messages []string
	fix      string
}

// level returns the level in force for a subject and whether it is the subject's own.
func (c *core) level(subject string) (Level, bool) {
	for _, scope := range []string{subject, ""} {
		conf, ok := c.state.config(scope)
		if l, known := parseLevel(conf.CompatibilityLevel); ok && known {
			return l, scope == subject && subject != ""
		}
	}
	return Backward, false
}

// compatible checks a schema against the history of a subject under the level in force.
func (c *core) compatible(subject string, p *parsed) error {
	level, _ := c.level(subject)
	v, err := c.judge(level, p, c.history(subject))
	if err != nil {
		return err
	}
	return v.err(subject)
}

func (v verdict) err(subject string) error {
	if len(v.messages) == 0 {
		return nil
	}
	return &IncompatibleError{Subject: subject, Messages: v.messages, Fix: v.fix}
}

// history is the live versions of a subject, the newest first.
func (c *core) history(subject string) []*entry {
	list := c.state.versions(subject, false)
	slices.Reverse(list)
	return list
}

// judge compares a schema with others, the newest first, as level asks for. It ends at the first that does not fit.
func (c *core) judge(level Level, p *parsed, history []*entry) (verdict, error) {
	if level == None {
		return verdict{}, nil
	}
	switch level {
	case Backward, Forward, Full:
		history = history[:min(1, len(history))]
	}
	for _, old := range history {
		v, err := c.judgeOne(level, p, old)
		if err != nil {
			return v, err
		}
		if len(v.messages) > 0 {
			v.messages = append(v.messages, fmt.Sprintf("{validateFields: 'false', compatibility: '%s'}", level))
			return v, nil
		}
	}
	return verdict{}, nil
}

func (c *core) judgeOne(level Level, p *parsed, old *entry) (verdict, error) {
	if old.typeName() != p.typeName() {
		return verdict{messages: []string{"Incompatible because of different schema type"},
			fix: "register the new schema under another subject"}, nil
	}
	before, err := c.parse(old.Definition, false)
	if err != nil {
		return verdict{}, err
	}
	var v verdict
	if level == Forward || level == ForwardTransitive || level == Full || level == FullTransitive {
		v.add(before.schema, p.schema, false)
	}
	// As Confluent's: of a full check, only the backward half tells which version it is about.
	tell := len(v.messages) > 0 && (level == Forward || level == ForwardTransitive)
	if level == Backward || level == BackwardTransitive || level == Full || level == FullTransitive {
		tell = v.add(p.schema, before.schema, true)
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

// add compares one direction and reports whether it found anything. newReads says that the reader is the new schema.
func (v *verdict) add(reader, writer *avsc.Schema, newReads bool) bool {
	found, err := avsc.Reads(reader, writer)
	if err != nil {
		v.messages = append(v.messages, "Unexpected exception during compatibility check: "+err.Error())
		if v.fix == "" {
			v.fix = "make the names and aliases of each record's fields unique"
		}
		return true
	}
	readerName, writerName := "old", "new"
	if newReads {
		readerName, writerName = "new", "old"
	}
	for _, i := range found {
		v.messages = append(v.messages, i.Confluent(readerName, writerName))
		if v.fix == "" {
			v.fix = i.Fix(newReads)
		}
	}
	return len(found) > 0
}

// CheckAvro compares a new Avro schema with old ones, the newest first, without a registry. It returns nil if the level
// allows the change, else an [*IncompatibleError]; an error that wraps [ErrInvalidSchema] if one of the texts is no
// schema.
func CheckAvro(level Level, text string, history ...string) error {
	c := core{}
	p, err := c.parse(Definition{Text: text}, true)
	if err != nil {
		return err
	}
	list := make([]*entry, len(history))
	for i, h := range history {
		old, err := c.parse(Definition{Text: h}, false)
		if err != nil {
			return err
		}
		list[i] = &entry{Schema: Schema{Definition: old.Definition, Version: len(history) - i}}
	}
	v, err := c.judge(level, p, list)
	if err != nil {
		return err
	}
	return v.err("")
}
