package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/twmb/franz-go/pkg/kerr"
)

// core is what the registry does, without HTTP: decisions on the state, and writes to the log.
type core struct {
	state *state
	log   *schemaLog
}

// maxReferences bounds how many schemas one schema may pull in.
const maxReferences = 200

// parsed is a definition that was understood.
type parsed struct {
	Definition // Text is canonical
	model      model
}

// parse reads a definition, with the schemas that it refers to; what these leave open is looked for in a context. strict
// is for schemas that are new.
func (c *core) parse(d Definition, context string, strict bool) (*parsed, error) {
	i := slices.IndexFunc(languages, func(l language) bool { return l.name == d.typeName() })
	if i < 0 {
		return nil, fail(codeInvalidSchema, "Invalid schema type %s", d.Type)
	}
	if strings.TrimSpace(d.Text) == "" {
		return nil, fail(codeInvalidSchema, "Empty schema")
	}
	p := &parsed{Definition: d}
	if p.Type == TypeAvro {
		p.Type = ""
	}
	p.Metadata = d.Metadata.sorted()
	if err := d.RuleSet.check(); err != nil {
		return nil, err
	}
	p.References = c.pin(d.References, context)
	var deps []dependency
	if err := c.resolve(d.References, context, &deps, make(map[Reference]bool)); err != nil {
		return nil, err
	}
	var err error
	if p.model, err = languages[i].parse(d.Text, deps, strict); err != nil {
		return nil, invalidSchema(d, err)
	}
	p.Text = p.model.text()
	return p, nil
}

func invalidSchema(d Definition, err error) *Error {
	text := d.Text
	if len(text) > 500 {
		text = text[:500] + "…"
	}
	e := fail(codeInvalidSchema, "Invalid schema %s with refs %v of type %s, details: %s", text, d.References, d.typeName(), detail(err))
	e.cause = err
	return e
}

// pin replaces the latest version in references by the one that it is now.
func (c *core) pin(refs []Reference, context string) []Reference {
	if len(refs) == 0 {
		return nil
	}
	refs = slices.Clone(refs)
	for i := range refs {
		if e := c.version(within(refs[i].Subject, context), refs[i].Version, true); e != nil {
			refs[i].Version = e.Version
		}
	}
	return refs
}

// within is a subject as a schema of a context means it: one without a context is of the same.
func within(subject, context string) string {
	if of, _ := splitSubject(subject); of != defaultContext || strings.HasPrefix(subject, ":.:") {
		return canonicalSubject(subject)
	}
	return qualify(context, subject)
}

// contextOf is the context of a subject.
func contextOf(subject string) string {
	context, _ := splitSubject(subject)
	return context
}

// resolve appends the schemas that refs name, and before them those that they name, each once.
func (c *core) resolve(refs []Reference, context string, deps *[]dependency, seen map[Reference]bool) error {
	for _, r := range refs {
		if seen[r] {
			continue
		}
		seen[r] = true
		if len(seen) > maxReferences {
			return fail(codeInvalidSchema, "More than %d schema references", maxReferences)
		}
		e := c.version(within(r.Subject, context), r.Version, true)
		if e == nil {
			return fail(codeInvalidSchema, "No schema reference found for subject \"%s\" and version %d", r.Subject, r.Version)
		}
		if err := c.resolve(e.References, contextOf(e.Subject), deps, seen); err != nil {
			return err
		}
		i := slices.IndexFunc(languages, func(l language) bool { return l.name == e.typeName() })
		if i < 0 {
			return fail(codeInvalidSchema, "Invalid schema type %s", e.Type)
		}
		m, err := languages[i].parse(e.Text, *deps, false)
		if err != nil {
			return invalidSchema(e.Definition, err)
		}
		*deps = append(*deps, dependency{r.Name, e.Text, m})
	}
	return nil
}

// normalize puts what has no order into one.
func (p *parsed) normalize() {
	p.Text = p.model.normal()
	p.References = slices.Clone(p.References)
	slices.SortFunc(p.References, func(a, b Reference) int {
		return strings.Compare(fmt.Sprint(a.Name, "\x00", a.Subject, "\x00", a.Version), fmt.Sprint(b.Name, "\x00", b.Subject, "\x00", b.Version))
	})
	p.References = slices.Compact(p.References)
}

// version finds a version of a subject, soft-deleted ones only if asked for; nil if there is none.
func (c *core) version(subject string, version int, deleted bool) *entry {
	list := c.state.versions(subject, deleted)
	if version == Latest {
		if len(list) == 0 {
			return nil
		}
		return list[len(list)-1]
	}
	i := slices.IndexFunc(list, func(e *entry) bool { return e.Version == version })
	if i < 0 {
		return nil
	}
	return list[i]
}

// checkSubject refuses the names that cannot be subjects.
func checkSubject(subject string) error {
	_, name := splitSubject(subject)
	if name == "__GLOBAL" || name == "__EMPTY" || strings.ContainsFunc(subject, unicode.IsControl) {
		return fail(codeInvalidSubject, "The specified subject '%s' is not a valid.", subject)
	}
	return nil
}

// find looks for the definition in the subject: by its content, then, for schemas that differ only in how they refer to
// others, by the text with the references written out.
func (c *core) find(subject string, p *parsed, deleted bool) *entry {
	list := c.state.versions(subject, deleted)
	guid := p.unnumbered()
	for _, e := range slices.Backward(list) {
		if e.GUID == guid || e.Metadata.property(versionProperty) != "" && e.unnumbered() == guid {
			return e
		}
	}
	if len(p.References) > 0 || !slices.ContainsFunc(list, func(e *entry) bool { return len(e.References) > 0 }) {
		return nil
	}
	full := p.model.full()
	if full == "" {
		return nil
	}
	for _, e := range slices.Backward(list) {
		if len(e.References) == 0 {
			continue
		}
		if old, err := c.parse(e.Definition, contextOf(subject), false); err == nil && old.model.full() == full {
			return e
		}
	}
	return nil
}

// registration is what a request asks for besides the definition.
type registration struct {
	normalize bool
	force     bool // no compatibility check
	id        int  // 0: the registry chooses; else the subject must be in mode IMPORT or FORWARD
	version   int  // 0: the next; Latest: the next, and the metadata is to say which that is
}

// register is Confluent's algorithm: the same definition gives the same id everywhere, and the same version within a
// subject; a new one must be compatible with what the subject's level asks for.
func (c *core) register(ctx context.Context, subject string, d Definition, r registration) (Schema, error) {
	if err := checkSubject(subject); err != nil {
		return Schema{}, err
	}
	p, err := c.admit(subject, d, r)
	if err != nil {
		return Schema{}, err
	}
	// Most registrations are of what is there: programs register on every start.
	if e := c.registered(subject, p, r); e != nil {
		return e.Schema, nil
	}
	if err := c.log.lock(ctx); err != nil {
		return Schema{}, unavailable(err)
	}
	defer c.log.unlock()
	// Once more, with nobody beside it: while it waited, what it refers to may have been deleted, or the mode changed.
	if p, err = c.admit(subject, d, r); err != nil {
		return Schema{}, err
	}
	if e := c.registered(subject, p, r); e != nil {
		return e.Schema, nil
	}
	if r.id == 0 {
		if p, err = c.inherit(subject, d, p, r); err != nil {
			return Schema{}, err
		}
		if e := c.registered(subject, p, r); e != nil {
			return e.Schema, nil
		}
		if !r.force {
			if err := c.compatible(subject, p); err != nil {
				return Schema{}, err
			}
		}
	}
	return c.addLocked(ctx, subject, p, r)
}

// admit reads a definition that is to be registered, if the mode allows it.
func (c *core) admit(subject string, d Definition, r registration) (*parsed, error) {
	if err := c.checkMode(subject, r.id > 0); err != nil {
		return nil, err
	}
	return c.parseNew(subject, d, r.normalize)
}

// inherit gives a new version p, which was parsed from d, the metadata and the rules of the one before it where it has none
// of its own, and the number of its version where that is asked for or kept already.
func (c *core) inherit(subject string, d Definition, p *parsed, r registration) (*parsed, error) {
	before := c.version(subject, Latest, false)
	if before != nil && (d.Metadata == nil && before.Metadata != nil || d.RuleSet == nil && before.RuleSet != nil) {
		if d.Metadata == nil {
			d.Metadata = before.Metadata
		}
		if d.RuleSet == nil {
			d.RuleSet = before.RuleSet
		}
		var err error
		if p, err = c.parseNew(subject, d, r.normalize); err != nil {
			return nil, err
		}
	}
	if r.version == 0 && p.Metadata.property(versionProperty) == "" {
		return p, nil
	}
	next := 1
	if all := c.state.versions(subject, true); len(all) > 0 {
		next = all[len(all)-1].Version + 1
	}
	p.Metadata = p.Metadata.numbered(next)
	return p, nil
}

// parseNew reads a definition that is to become a version of a subject, with what the configuration adds to it.
func (c *core) parseNew(subject string, d Definition, normalize bool) (*parsed, error) {
	conf := func(of func(configValue) *Metadata) *Metadata {
		m, _ := effective(c, subject, func(v configValue) (*Metadata, bool) { return of(v), of(v) != nil })
		return m
	}
	rules := func(of func(configValue) *RuleSet) *RuleSet {
		s, _ := effective(c, subject, func(v configValue) (*RuleSet, bool) { return of(v), of(v) != nil })
		return s
	}
	d.Metadata = conf(func(v configValue) *Metadata { return v.OverrideMetadata }).over(
		d.Metadata.over(conf(func(v configValue) *Metadata { return v.DefaultMetadata })))
	d.RuleSet = rules(func(v configValue) *RuleSet { return v.OverrideRuleSet }).over(
		d.RuleSet.over(rules(func(v configValue) *RuleSet { return v.DefaultRuleSet })))
	strict, set := effective(c, subject, func(v configValue) (bool, bool) {
		return v.ValidateNewSchemas != nil && *v.ValidateNewSchemas, v.ValidateNewSchemas != nil
	})
	p, err := c.parse(d, contextOf(subject), strict || !set)
	if err == nil && (normalize || c.normalizes(subject)) {
		p.normalize()
	}
	return p, err
}

// registered finds the version that a request would make, if it is there already.
func (c *core) registered(subject string, p *parsed, r registration) *entry {
	e := c.find(subject, p, false)
	if e == nil || r.id > 0 && e.ID != r.id || r.version > 0 && r.id > 0 && e.Version != r.version {
		return nil
	}
	return e
}

// effective is a configured value in the nearest scope that has it.
func effective[T any](c *core, subject string, of func(configValue) (T, bool)) (T, bool) {
	var none T
	for _, scope := range scopes(subject) {
		if conf, ok := c.state.config(scope); ok {
			if v, ok := of(conf); ok {
				return v, true
			}
		}
	}
	return none, false
}

// normalizes says whether schemas of the subject are normalised without being asked to.
func (c *core) normalizes(subject string) bool {
	v, _ := effective(c, subject, func(v configValue) (bool, bool) { return v.Normalize != nil && *v.Normalize, v.Normalize != nil })
	return v
}

// place chooses the version of a new schema, and checks the id that was given for it.
func (c *core) place(subject string, p *parsed, r registration, all []*entry) (Schema, error) {
	s := Schema{Definition: p.Definition, Subject: subject, Version: 1, GUID: p.guid(), ID: r.id}
	if len(all) > 0 {
		s.Version = all[len(all)-1].Version + 1
	}
	if r.version > 0 && r.version != s.Version {
		if r.id == 0 {
			return s, fail(codeInvalidSchema, "Version is not one more than previous version")
		}
		s.Version = r.version
	}
	if old, ok := c.state.byID(contextOf(subject), r.id); ok && old.guid() != s.GUID {
		return s, fail(codeOperationNotPermitted, "Overwrite new schema with id %d in context %s is not permitted.", r.id, contextOf(subject))
	}
	return s, nil
}

// addLocked writes a new version. Should the log turn out to hold another schema under the id that was chosen (another
// registry is writing), the record is taken back and the next id tried.
func (c *core) addLocked(ctx context.Context, subject string, p *parsed, r registration) (Schema, error) {
	all := c.state.versions(subject, true)
	s, err := c.place(subject, p, r, all)
	if err != nil {
		return s, err
	}
	in := contextOf(subject)
	var first []record
	if in != defaultContext && !slices.Contains(c.state.contexts(), in) {
		first = []record{{contextKey(in), contextValue(in)}}
	}
	id, known := c.state.idOf(in, p.Definition)
	for range 5 {
		switch {
		case r.id > 0:
		case known:
			s.ID = id
		default:
			s.ID = c.state.nextID(in)
		}
		value, err := encodeSchema(&s)
		if err != nil {
			return s, err
		}
		// The new record before what it makes superfluous: the id must at no moment be without a version.
		records := append(append(first, record{schemaKey(subject, s.Version), value}), c.retire(all, &s)...)
		if err := c.log.writeLocked(ctx, records...); err != nil {
			return s, writeFailed(err)
		}
		if e := c.version(subject, s.Version, true); e != nil && e.ID == s.ID && e.GUID == s.GUID {
			return e.Schema, nil
		}
		if err := c.log.writeLocked(ctx, record{schemaKey(subject, s.Version), nil}); err != nil {
			return s, writeFailed(err)
		}
		first = nil
		id, known = c.state.idOf(in, p.Definition)
	}
	return s, storeError(errors.New("another registry writes to the same topic: every id that was tried is taken; run one registry only"))
}

// retire makes tombstones for soft-deleted versions that have the id which a new version takes over.
func (c *core) retire(all []*entry, s *Schema) []record {
	var list []record
	for _, e := range all {
		if e.Deleted && e.ID == s.ID && e.Version != s.Version && len(c.state.referrers(e.Subject, e.Version, true)) == 0 {
			list = append(list, record{schemaKey(e.Subject, e.Version), nil})
		}
	}
	return list
}

// lookup finds the version of the subject that is d.
func (c *core) lookup(subject string, d Definition, normalize, deleted bool) (*entry, error) {
	known := false
	for _, subject := range c.everywhere(subject) {
		if len(c.state.versions(subject, deleted)) == 0 {
			continue
		}
		known = true
		p, err := c.parse(d, contextOf(subject), false)
		if err != nil {
			return nil, err
		}
		if normalize || c.normalizes(subject) {
			p.normalize()
		}
		if e := c.find(subject, p, deleted); e != nil {
			return e, nil
		}
	}
	if !known {
		return nil, subjectNotFound(subject)
	}
	return nil, fail(codeSchemaNotFound, "Schema not found")
}

// everywhere is a subject, and, if it names no context, the subjects of that name in all others: as in Confluent's
// registry, what the default context does not have is looked for in them.
func (c *core) everywhere(subject string) []string {
	list := []string{subject}
	if contextOf(subject) != defaultContext {
		return list
	}
	for _, context := range c.state.contexts() {
		if context != defaultContext {
			list = append(list, qualify(context, subject))
		}
	}
	return list
}

// get finds a version of a subject.
func (c *core) get(subject string, version int, deleted bool) (*entry, error) {
	known := false
	for _, subject := range c.everywhere(subject) {
		if e := c.version(subject, version, deleted); e != nil {
			return e, nil
		}
		known = known || len(c.state.versions(subject, deleted)) > 0
	}
	if !known {
		return nil, subjectNotFound(subject)
	}
	return nil, versionNotFound(version)
}

// unavailable is the answer where the right to write was not to be had.
func unavailable(err error) error {
	if errors.Is(err, errFenced) {
		return takenOver(err)
	}
	e := storeError(err)
	if errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) {
		e.Status, e.Code = http.StatusServiceUnavailable, http.StatusServiceUnavailable
	}
	return e
}

// writeFailed is the answer to a write that failed or whose outcome is not known.
func writeFailed(err error) error {
	switch {
	case errors.Is(err, errFenced):
		return takenOver(err)
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return fail(codeSchemaTooLarge, "Register operation failed because schema is too large")
	case errors.Is(err, context.DeadlineExceeded):
		e := fail(codeTimeout, "Register operation timed out")
		e.cause = err
		return e
	}
	return storeError(err)
}

// takenOver is the answer to changes where another registry is the one that writes. Clients that know both go on to it.
func takenOver(err error) error {
	e := fail(codeNoLeader, "Leader not known. Another registry has taken over the topic of the schemas, and this one only reads: send changes to the other")
	e.cause = err
	return e
}
