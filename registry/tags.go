package registry

import (
	"net/http"
	"slices"
)

// The kinds of schemaEntity.
const (
	entityRecord = "sr_record"
	entityField  = "sr_field"
)

// schemaEntity names a part of a schema: "shop.Order" or "shop.Order.total".
type schemaEntity struct {
	Path string `json:"entityPath"`
	Type string `json:"entityType"`
}

// schemaTags are tags of a part of a schema.
type schemaTags struct {
	Entity schemaEntity `json:"schemaEntity"`
	Tags   []string     `json:"tags"`
}

// tagRequest is the body of a request that makes a version with other tags, metadata or rules of one that is there.
type tagRequest struct {
	NewVersion    int          `json:"newVersion"`
	TagsToAdd     []schemaTags `json:"tagsToAdd"`
	TagsToRemove  []schemaTags `json:"tagsToRemove"`
	Metadata      *Metadata    `json:"metadata"`
	RuleSet       *RuleSet     `json:"ruleSet"`
	RulesToMerge  *RuleSet     `json:"rulesToMerge"`
	RulesToRemove []string     `json:"rulesToRemove"`
}

func tagVersion(c *core, r *http.Request) (any, error) {
	var req tagRequest
	if err := body(r, &req); err != nil {
		return nil, err
	}
	e, err := pathVersion(c, r)
	if err != nil {
		return nil, err
	}
	d, err := c.retagged(e.Subject, e.Definition, tagChange{add: req.TagsToAdd, remove: req.TagsToRemove})
	if err != nil {
		return nil, err
	}
	if req.Metadata != nil {
		d.Metadata = req.Metadata
	}
	if d.RuleSet = req.RuleSet; req.RulesToMerge != nil || len(req.RulesToRemove) > 0 {
		d.RuleSet = req.RulesToMerge.over(e.RuleSet).without(req.RulesToRemove)
	}
	version := Latest
	if req.NewVersion > 0 {
		version = req.NewVersion
	}
	s, err := c.register(r.Context(), e.Subject, d, registration{version: version, normalize: flag(r.URL.Query(), "normalize")})
	if err != nil {
		return nil, err
	}
	return c.registeredJSON(s), nil
}

// tagChange is what becomes of the tags of a schema: those to add, among them, with propagate, those of the version before
// it, and those to remove.
type tagChange struct {
	add, remove []schemaTags
	propagate   bool
}

// retagged is a definition with other tags.
func (c *core) retagged(subject string, d Definition, t tagChange) (Definition, error) {
	context := contextOf(subject)
	if before := c.version(subject, Latest, false); t.propagate && before != nil {
		t.add = append(c.tagsOf(before.Definition, context, []string{"*"}), t.add...)
	}
	if len(t.add)+len(t.remove) == 0 {
		return d, nil
	}
	p, err := c.parse(d, context, false)
	if err != nil {
		return d, err
	}
	m, ok := p.model.(tagged)
	if !ok {
		return d, fail(codeInvalidSchema, "Invalid schema: tags are kept in Avro schemas only, and this one is of type %s: use metadata.tags instead", d.typeName())
	}
	changed, err := m.retag(t.add, t.remove)
	if err != nil {
		return d, invalidSchema(d, err)
	}
	d.Text = changed.text()
	return d, nil
}

// tagsOf lists the parts of a schema that have one of the tags; "*" stands for any.
func (c *core) tagsOf(d Definition, context string, wanted []string) []schemaTags {
	p, err := c.parse(d, context, false)
	if err != nil {
		return nil
	}
	m, ok := p.model.(tagged)
	if !ok {
		return nil
	}
	return slices.DeleteFunc(m.tags(), func(t schemaTags) bool {
		return !slices.Contains(wanted, "*") && !slices.ContainsFunc(t.Tags, func(tag string) bool { return slices.Contains(wanted, tag) })
	})
}
