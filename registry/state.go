package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// entry is one version of a subject.
type entry struct {
	Schema
	at time.Time // when the record was written
}

// state is what the `_schemas` topic says, read up to some offset. One goroutine, the log's reader, changes it; anyone
// may read it through its methods.
type state struct {
	logger *slog.Logger

	mu struct {
		sync.RWMutex
		subjects map[string]map[int]*entry
		spaces   map[string]*space // by context
		contexts map[string]bool   // those that were made known
		configs  map[string]configValue
		modes    map[string]string
	}
}

// space is the ids of one context.
type space struct {
	byID   map[int]Definition
	byGUID map[string]int // content to id
	places map[int][]subjectVersion
	maxID  int
}

func newState(logger *slog.Logger) *state {
	s := &state{logger: logger}
	s.mu.subjects = make(map[string]map[int]*entry)
	s.mu.spaces = make(map[string]*space)
	s.mu.contexts = make(map[string]bool)
	s.mu.configs = make(map[string]configValue)
	s.mu.modes = make(map[string]string)
	return s
}

// spaceLocked is the space of a context; reading an empty one is allowed, and only create makes it stay.
func (s *state) spaceLocked(context string, create bool) *space {
	p := s.mu.spaces[context]
	if p == nil {
		p = &space{}
		if create {
			p.byID, p.byGUID, p.places = make(map[int]Definition), make(map[string]int), make(map[int][]subjectVersion)
			s.mu.spaces[context] = p
		}
	}
	return p
}

// apply takes one record in. A record that cannot be understood is logged and skipped, as Confluent's registry does:
// one bad record must not take every schema away.
func (s *state) apply(offset int64, key, value []byte, at time.Time) {
	if err := s.applyRecord(key, value, at); err != nil {
		s.logger.Warn("skipped a record of the _schemas topic", "offset", offset, "err", err)
	}
}

func (s *state) applyRecord(key, value []byte, at time.Time) error {
	var k recordKey
	if err := json.Unmarshal(key, &k); err != nil {
		return fmt.Errorf("key %.200q: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch k.Keytype {
	case keySchema:
		return s.applySchemaLocked(k, value, at)
	case keyConfig:
		return applyTo(s.mu.configs, k.Subject, value, func(v configValue) configValue { return v })
	case keyMode:
		return applyTo(s.mu.modes, k.Subject, value, func(v modeValue) string { return v.Mode })
	case keyDeleteSubject:
		return s.deleteSubjectLocked(k, value)
	case keyClearSubject:
		s.clearSubjectLocked(k.Subject)
	case keyContext:
		if value == nil {
			delete(s.mu.contexts, k.Context)
		} else {
			s.mu.contexts[k.Context] = true
		}
	}
	// Other kinds, NOOP among them, say nothing that this registry keeps.
	return nil
}

// applyTo sets or, for a null value, removes the subject's entry of a map.
func applyTo[V, R any](m map[string]R, subject string, value []byte, of func(V) R) error {
	if value == nil {
		delete(m, subject)
		return nil
	}
	var v V
	if err := json.Unmarshal(value, &v); err != nil {
		return fmt.Errorf("value %.200q: %w", value, err)
	}
	m[subject] = of(v)
	return nil
}

func (s *state) applySchemaLocked(k recordKey, value []byte, at time.Time) error {
	if value == nil {
		s.removeLocked(k.Subject, k.Version)
		return nil
	}
	var v schemaValue
	if err := json.Unmarshal(value, &v); err != nil {
		return fmt.Errorf("value %.200q: %w", value, err)
	}
	if v.ID <= 0 || k.Version <= 0 {
		return fmt.Errorf("schema with id %d and version %d", v.ID, k.Version)
	}
	d := Definition{Text: v.Schema, References: v.References, Metadata: v.Metadata, RuleSet: v.RuleSet}
	if v.SchemaType != TypeAvro {
		d.Type = v.SchemaType
	}
	context, _ := splitSubject(k.Subject)
	p := s.spaceLocked(context, true)
	guid := d.guid()
	if bound, ok := p.byID[v.ID]; ok && bound.guid() != guid {
		return fmt.Errorf("id %d of subject %q version %d belongs to another schema", v.ID, k.Subject, k.Version)
	}
	s.removeLocked(k.Subject, k.Version)
	if s.mu.subjects[k.Subject] == nil {
		s.mu.subjects[k.Subject] = make(map[int]*entry)
	}
	s.mu.subjects[k.Subject][k.Version] = &entry{at: at, Schema: Schema{Definition: d, Subject: k.Subject,
		Version: k.Version, ID: v.ID, GUID: guid, Deleted: v.Deleted}}
	p.byID[v.ID] = d
	p.places[v.ID] = append(p.places[v.ID], subjectVersion{k.Subject, k.Version})
	if old, ok := p.byGUID[guid]; !ok || v.ID < old {
		p.byGUID[guid] = v.ID
	}
	p.maxID = max(p.maxID, v.ID)
	return nil
}

// removeLocked forgets a version, and its id with the last version that has it.
func (s *state) removeLocked(subject string, version int) {
	e := s.mu.subjects[subject][version]
	if e == nil {
		return
	}
	delete(s.mu.subjects[subject], version)
	if len(s.mu.subjects[subject]) == 0 {
		delete(s.mu.subjects, subject)
	}
	context, _ := splitSubject(subject)
	p := s.spaceLocked(context, true)
	p.places[e.ID] = slices.DeleteFunc(p.places[e.ID], func(v subjectVersion) bool { return v == subjectVersion{subject, version} })
	if len(p.places[e.ID]) == 0 {
		delete(p.places, e.ID)
		delete(p.byID, e.ID)
		if p.byGUID[e.GUID] == e.ID {
			delete(p.byGUID, e.GUID)
			p.refind(e.GUID)
		}
	}
}

// refind looks for another id of the same content: a topic that was imported may have several.
func (p *space) refind(guid string) {
	for id, d := range p.byID {
		if d.guid() != guid {
			continue
		}
		if old, ok := p.byGUID[guid]; !ok || id < old {
			p.byGUID[guid] = id
		}
	}
}

func (s *state) deleteSubjectLocked(k recordKey, value []byte) error {
	var v struct{ Version int }
	if value == nil {
		return nil
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return fmt.Errorf("value %.200q: %w", value, err)
	}
	for version, e := range s.mu.subjects[k.Subject] {
		if version <= v.Version {
			gone := *e // readers may hold e
			gone.Deleted = true
			s.mu.subjects[k.Subject][version] = &gone
		}
	}
	return nil
}

// clearSubjectLocked forgets the soft-deleted versions of a subject, or of all that a scope has.
func (s *state) clearSubjectLocked(scope string) {
	for name, versions := range s.mu.subjects {
		if !inScope(scope, name) {
			continue
		}
		for version, e := range versions {
			if e.Deleted {
				s.removeLocked(name, version)
			}
		}
	}
}

// inScope says whether a subject is scope, or in the context that scope is. The empty scope is the default context.
func inScope(scope, subject string) bool {
	context, name := splitSubject(scope)
	of, _ := splitSubject(subject)
	return subject == scope || name == "" && context == of
}

// byID finds a definition in a context.
func (s *state) byID(context string, id int) (Definition, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d, ok := s.spaceLocked(context, false).byID[id]
	return d, ok
}

// idOf finds the id that a definition whose text is canonical has in a context.
func (s *state) idOf(context string, d Definition) (int, bool) { return s.idOfGUID(context, d.guid()) }

// idOfGUID finds the id of a schema by its content identifier.
func (s *state) idOfGUID(context, guid string) (int, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.spaceLocked(context, false).byGUID[guid]
	return id, ok
}

// contexts lists the contexts in order, the default one first.
func (s *state) contexts() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[string]bool{defaultContext: true}
	maps.Copy(all, s.mu.contexts)
	for context, p := range s.mu.spaces {
		if len(p.byID) > 0 {
			all[context] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// versions returns the versions of a subject in ascending order.
func (s *state) versions(subject string, deleted bool) []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.versionsLocked(subject, deleted)
}

func (s *state) versionsLocked(subject string, deleted bool) []*entry {
	list := make([]*entry, 0, len(s.mu.subjects[subject]))
	for _, e := range s.mu.subjects[subject] {
		if deleted || !e.Deleted {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int { return a.Version - b.Version })
	return list
}

// all returns every version of every subject that begins with prefix, in order. A prefix without a context is of the
// default one; [everyContext] is every subject.
func (s *state) all(prefix string, deleted bool) []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	context, _ := splitSubject(prefix)
	var list []*entry
	for _, subject := range slices.Sorted(maps.Keys(s.mu.subjects)) {
		of, _ := splitSubject(subject)
		if prefix == everyContext || of == context && strings.HasPrefix(subject, prefix) {
			list = append(list, s.versionsLocked(subject, deleted)...)
		}
	}
	return list
}

// withID returns every version that has the id in a context, in order.
func (s *state) withID(context string, id int, deleted bool) []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*entry
	for _, at := range s.spaceLocked(context, false).places[id] {
		if e := s.mu.subjects[at.Subject][at.Version]; deleted || !e.Deleted {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int {
		return cmp.Or(strings.Compare(a.Subject, b.Subject), a.Version-b.Version)
	})
	return list
}

// referrers returns the versions, soft-deleted ones too if asked for, that refer to a version of subject.
func (s *state) referrers(subject string, version int, deleted bool) []*entry {
	return slices.DeleteFunc(s.all(everyContext, deleted), func(e *entry) bool {
		return !slices.ContainsFunc(e.References, func(r Reference) bool {
			return r.Subject == subject && r.Version == version
		})
	})
}

// config returns the configuration of exactly this subject; the empty subject is the global one.
func (s *state) config(subject string) (configValue, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, ok := s.mu.configs[subject]
	return c, ok
}

// mode returns the mode of exactly this subject; the empty subject is the global one.
func (s *state) mode(subject string) (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m, ok := s.mu.modes[subject]
	return m, ok
}

// modesWithin lists the subjects and scopes within scope that have a mode of their own.
func (s *state) modesWithin(scope string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.mu.modes)), func(of string) bool { return !inScope(scope, of) })
}

// nextID is an id that no schema of a context has had since the topic's oldest record.
func (s *state) nextID(context string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.spaceLocked(context, false).maxID + 1
}

// count returns how many subjects and ids there are.
func (s *state) count() (subjects, ids int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.mu.spaces {
		ids += len(p.byID)
	}
	return len(s.mu.subjects), ids
}
