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

	"github.com/leatstream/leat/registry/internal/avsc"
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
	schema     *avsc.Schema
	known      []*avsc.Schema
}

// parse reads a definition, with the schemas that it refers to. strict is for schemas that are new.
func (c *core) parse(d Definition, strict bool) (*parsed, error) {
	if d.typeName() != TypeAvro {
		return nil, fail(codeInvalidSchema, "Invalid schema type %s: this registry knows %s", d.Type, TypeAvro)
	}
	if strings.TrimSpace(d.Text) == "" {
		return nil, fail(codeInvalidSchema, "Empty schema")
	}
	p := &parsed{Definition: d}
	p.Type = ""
	p.References = c.pin(d.References)
	if err := c.resolve(d.References, &p.known, make(map[Reference]bool)); err != nil {
		return nil, err
	}
	var err error
	p.schema, err = avsc.Parse(d.Text, avsc.Options{Strict: strict, Known: p.known})
	if err != nil {
		return nil, invalidSchema(d, err)
	}
	p.Text = p.schema.Text(p.known...)
	return p, nil
}

func invalidSchema(d Definition, err error) *Error {
	text := d.Text
	if len(text) > 500 {
		text = text[:500] + "…"
	}
	e := fail(codeInvalidSchema, "Invalid schema %s with refs %v of type %s, details: %s", text, d.References, d.typeName(),
		strings.TrimPrefix(err.Error(), avsc.ErrSchema.Error()+": "))
	e.cause = err
	return e
}

// pin replaces the latest version in references by the one that it is now.
func (c *core) pin(refs []Reference) []Reference {
	if len(refs) == 0 {
		return nil
	}
	refs = slices.Clone(refs)
	for i := range refs {
		if e := c.version(refs[i].Subject, refs[i].Version, true); e != nil {
			refs[i].Version = e.Version
		}
	}
	return refs
}

// resolve appends the schemas that refs name, and before them those that they name, each once.
func (c *core) resolve(refs []Reference, known *[]*avsc.Schema, seen map[Reference]bool) error {
	for _, r := range refs {
		if seen[r] {
			continue
		}
		seen[r] = true
		if len(seen) > maxReferences {
			return fail(codeInvalidSchema, "More than %d schema references", maxReferences)
		}
		e := c.version(r.Subject, r.Version, true)
		if e == nil {
			return fail(codeInvalidSchema, "No schema reference found for subject \"%s\" and version %d", r.Subject, r.Version)
		}
		if err := c.resolve(e.References, known, seen); err != nil {
			return err
		}
		s, err := avsc.Parse(e.Text, avsc.Options{Known: *known})
		if err != nil {
			return invalidSchema(e.Definition, err)
		}
		*known = append(*known, s)
	}
	return nil
}

// normalize puts what has no order into one.
func (p *parsed) normalize() {
	p.Text = p.schema.Normal(p.known...)
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
	if subject == "__GLOBAL" || subject == "__EMPTY" || strings.ContainsFunc(subject, unicode.IsControl) {
		return fail(codeInvalidSubject, "The specified subject '%s' is not a valid.", subject)
	}
	return nil
}

// checkWritable refuses changes of a subject that is read-only.
func (c *core) checkWritable(subject string) error {
	mode, ok := c.state.mode(subject)
	if !ok {
		mode, _ = c.state.mode("")
	}
	if mode == "READONLY" || mode == "READONLY_OVERRIDE" {
		return fail(codeOperationNotPermitted, "Subject %s in context . is in read-only mode", subject)
	}
	return nil
}

// find looks for the definition in the subject: by its content, then, for schemas that differ only in how they refer to
// others, by the text with the references written out.
func (c *core) find(subject string, p *parsed, deleted bool) *entry {
	list := c.state.versions(subject, deleted)
	guid := p.guid()
	for _, e := range slices.Backward(list) {
		if e.GUID == guid {
			return e
		}
	}
	if len(p.References) > 0 || !slices.ContainsFunc(list, func(e *entry) bool { return len(e.References) > 0 }) {
		return nil
	}
	full := p.schema.Text()
	for _, e := range slices.Backward(list) {
		if len(e.References) == 0 {
			continue
		}
		if old, err := c.parse(e.Definition, false); err == nil && old.schema.Text() == full {
			return e
		}
	}
	return nil
}

// register is Confluent's algorithm: the same definition gives the same id everywhere, and the same version within a
// subject; a new one must be compatible with what the subject's level asks for.
func (c *core) register(ctx context.Context, subject string, d Definition, normalize bool) (Schema, error) {
	if err := checkSubject(subject); err != nil {
		return Schema{}, err
	}
	if err := c.checkWritable(subject); err != nil {
		return Schema{}, err
	}
	p, err := c.parse(d, true)
	if err != nil {
		return Schema{}, err
	}
	if normalize || c.normalizes(subject) {
		p.normalize()
	}
	// Most registrations are of what is there: programs register on every start.
	if e := c.find(subject, p, false); e != nil {
		return e.Schema, nil
	}
	if err := c.log.lock(ctx); err != nil {
		return Schema{}, unavailable(err)
	}
	defer c.log.unlock()
	if e := c.find(subject, p, false); e != nil {
		return e.Schema, nil
	}
	if err := c.compatible(subject, p); err != nil {
		return Schema{}, err
	}
	return c.addLocked(ctx, subject, p)
}

// normalizes says whether schemas of the subject are normalised without being asked to.
func (c *core) normalizes(subject string) bool {
	for _, scope := range []string{subject, ""} {
		if conf, ok := c.state.config(scope); ok && conf.Normalize != nil {
			return *conf.Normalize
		}
	}
	return false
}

// addLocked writes a new version. Should the log turn out to hold another schema under the id that was chosen (another
// registry is writing), the record is taken back and the next id tried.
func (c *core) addLocked(ctx context.Context, subject string, p *parsed) (Schema, error) {
	all := c.state.versions(subject, true)
	s := Schema{Definition: p.Definition, Subject: subject, Version: 1, GUID: p.guid()}
	if len(all) > 0 {
		s.Version = all[len(all)-1].Version + 1
	}
	id, known := c.state.idOf(p.Definition)
	for range 5 {
		if s.ID = id; !known {
			s.ID = c.state.nextID()
		}
		value, err := encodeSchema(&s)
		if err != nil {
			return s, err
		}
		// The new record first: the id must at no moment be without a version.
		records := append([]record{{schemaKey(subject, s.Version), value}}, c.retire(all, s.ID)...)
		if err := c.log.writeLocked(ctx, records...); err != nil {
			return s, writeFailed(err)
		}
		if e := c.version(subject, s.Version, true); e != nil && e.ID == s.ID && e.GUID == s.GUID {
			return e.Schema, nil
		}
		if err := c.log.writeLocked(ctx, record{schemaKey(subject, s.Version), nil}); err != nil {
			return s, writeFailed(err)
		}
		id, known = c.state.idOf(p.Definition)
	}
	return s, storeError(errors.New("another registry writes to the same topic: every id that was tried is taken; run one registry only"))
}

// retire makes tombstones for soft-deleted versions that have the id which a new version takes over.
func (c *core) retire(all []*entry, id int) []record {
	var list []record
	for _, e := range all {
		if e.Deleted && e.ID == id && len(c.state.referrers(e.Subject, e.Version, true)) == 0 {
			list = append(list, record{schemaKey(e.Subject, e.Version), nil})
		}
	}
	return list
}

// lookup finds the version of the subject that is d.
func (c *core) lookup(subject string, d Definition, normalize, deleted bool) (*entry, error) {
	if len(c.state.versions(subject, deleted)) == 0 {
		return nil, subjectNotFound(subject)
	}
	p, err := c.parse(d, false)
	if err != nil {
		return nil, err
	}
	if normalize || c.normalizes(subject) {
		p.normalize()
	}
	if e := c.find(subject, p, deleted); e != nil {
		return e, nil
	}
	return nil, fail(codeSchemaNotFound, "Schema not found")
}

// get finds a version of a subject.
func (c *core) get(subject string, version int, deleted bool) (*entry, error) {
	if e := c.version(subject, version, deleted); e != nil {
		return e, nil
	}
	if len(c.state.versions(subject, deleted)) == 0 {
		return nil, subjectNotFound(subject)
	}
	return nil, versionNotFound(version)
}

// unavailable is the answer where the right to write was not to be had.
func unavailable(err error) error {
	e := storeError(err)
	if errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) {
		e.Status, e.Code = http.StatusServiceUnavailable, http.StatusServiceUnavailable
	}
	return e
}

// writeFailed is the answer to a write that failed or whose outcome is not known.
func writeFailed(err error) error {
	switch {
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return fail(codeSchemaTooLarge, "Register operation failed because schema is too large")
	case errors.Is(err, context.DeadlineExceeded):
		e := fail(codeTimeout, "Register operation timed out")
		e.cause = err
		return e
	}
	return storeError(err)
}
