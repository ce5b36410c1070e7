package registry

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/leatstream/leat/registry/internal/avsc"
)

// The kinds of key in the `_schemas` topic that this registry understands.
const (
	keySchema        = "SCHEMA"
	keyConfig        = "CONFIG"
	keyMode          = "MODE"
	keyDeleteSubject = "DELETE_SUBJECT"
	keyClearSubject  = "CLEAR_SUBJECT"
	keyContext       = "CONTEXT"
	keyNoop          = "NOOP"
)

// recordKey is a parsed key.
type recordKey struct {
	Keytype string `json:"keytype"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
	Context string `json:"context"`
	Magic   int    `json:"magic"`
}

// schemaKey and its like write keys by hand: compaction compares bytes, so they must be those that Jackson writes for
// Confluent's registry, member for member.
func schemaKey(subject string, version int) []byte {
	b := avsc.AppendString([]byte(`{"keytype":"SCHEMA","subject":`), subject)
	b = strconv.AppendInt(append(b, `,"version":`...), int64(version), 10)
	return append(b, `,"magic":1}`...)
}

// subjectKey is the key of a subject's record of another kind; the empty subject of CONFIG and MODE is the global one.
func subjectKey(keytype, subject string) []byte {
	b := append([]byte(`{"keytype":"`), keytype...)
	b = append(b, '"')
	if subject != "" {
		b = avsc.AppendString(append(b, `,"subject":`...), subject)
	}
	return append(b, `,"magic":0}`...)
}

func noopKey() []byte { return []byte(`{"keytype":"NOOP","magic":0}`) }

// schemaValue is the value of a SCHEMA record.
type schemaValue struct {
	Subject    string      `json:"subject"`
	Version    int         `json:"version"`
	ID         int         `json:"id"`
	SchemaType string      `json:"schemaType"`
	References []Reference `json:"references"`
	Metadata   *Metadata   `json:"metadata"`
	RuleSet    *RuleSet    `json:"ruleSet"`
	Schema     string      `json:"schema"`
	Deleted    bool        `json:"deleted"`
}

// encodeSchema is the value of a SCHEMA record as Confluent's registry 8 writes it.
func encodeSchema(s *Schema) ([]byte, error) {
	b := avsc.AppendString([]byte(`{"subject":`), s.Subject)
	b = strconv.AppendInt(append(b, `,"version":`...), int64(s.Version), 10)
	b = strconv.AppendInt(append(b, `,"id":`...), int64(s.ID), 10)
	b = avsc.AppendString(append(b, `,"schemaType":`...), s.typeName())
	if len(s.References) > 0 {
		b = append(b, `,"references":[`...)
		for i, r := range s.References {
			if i > 0 {
				b = append(b, ',')
			}
			b = avsc.AppendString(append(b, `{"name":`...), r.Name)
			b = avsc.AppendString(append(b, `,"subject":`...), r.Subject)
			b = append(strconv.AppendInt(append(b, `,"version":`...), int64(r.Version), 10), '}')
		}
		b = append(b, ']')
	}
	if s.Metadata != nil {
		m, err := marshal(s.Metadata)
		if err != nil {
			return nil, fmt.Errorf("encode the metadata of subject %q: %w", s.Subject, err)
		}
		b = append(append(b, `,"metadata":`...), m...)
	}
	if s.RuleSet != nil {
		m, err := marshal(s.RuleSet)
		if err != nil {
			return nil, fmt.Errorf("encode the rule set of subject %q: %w", s.Subject, err)
		}
		b = append(append(b, `,"ruleSet":`...), m...)
	}
	b = avsc.AppendString(append(b, `,"schema":`...), s.Text)
	b = strconv.AppendBool(append(b, `,"deleted":`...), s.Deleted)
	return append(b, '}'), nil
}

// contextKey and contextValue make a context known.
func contextKey(context string) []byte {
	b := avsc.AppendString([]byte(`{"keytype":"CONTEXT","tenant":"default","context":`), context)
	return append(b, `,"magic":0}`...)
}

func contextValue(context string) []byte {
	b := avsc.AppendString([]byte(`{"tenant":"default","context":`), context)
	return append(b, '}')
}

// clearSubjectValue is the value of a CLEAR_SUBJECT record.
func clearSubjectValue(subject string) []byte {
	if subject == "" {
		return []byte(`{}`)
	}
	return append(avsc.AppendString([]byte(`{"subject":`), subject), '}')
}

func encodeDeleteSubject(subject string, version int) []byte {
	b := avsc.AppendString([]byte(`{"subject":`), subject)
	return append(strconv.AppendInt(append(b, `,"version":`...), int64(version), 10), '}')
}

// configValue is the value of a CONFIG record, and the answer to requests about configuration. What this registry does
// not act on, validateRules, is kept all the same.
type configValue struct {
	Subject             string    `json:"subject,omitempty"`
	Alias               string    `json:"alias,omitempty"`
	Normalize           *bool     `json:"normalize,omitempty"`
	ValidateFields      *bool     `json:"validateFields,omitempty"`
	ValidateNewSchemas  *bool     `json:"validateNewSchemas,omitempty"`
	ValidateRules       *bool     `json:"validateRules,omitempty"`
	CompatibilityLevel  string    `json:"compatibilityLevel,omitempty"`
	CompatibilityPolicy string    `json:"compatibilityPolicy,omitempty"`
	CompatibilityGroup  string    `json:"compatibilityGroup,omitempty"`
	DefaultMetadata     *Metadata `json:"defaultMetadata,omitempty"`
	OverrideMetadata    *Metadata `json:"overrideMetadata,omitempty"`
	DefaultRuleSet      *RuleSet  `json:"defaultRuleSet,omitempty"`
	OverrideRuleSet     *RuleSet  `json:"overrideRuleSet,omitempty"`
}

// modeValue is the value of a MODE record.
type modeValue struct {
	Subject string `json:"subject,omitempty"`
	Mode    string `json:"mode"`
}

// marshal is JSON as Jackson writes it: on one line, with <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}
