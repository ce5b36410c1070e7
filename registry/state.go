package registry

import (
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
		byID     map[int]Definition
		byGUID   map[string]int // content to id
		uses     map[int]int    // id to the number of versions that have it
		configs  map[string]configValue
		modes    map[string]string
		maxID    int
	}
}

func newState(logger *slog.Logger) *state {
	s := &state{logger: logger}
	s.mu.subjects = make(map[string]map[int]*entry)
	s.mu.byID = make(map[int]Definition)
	s.mu.byGUID = make(map[string]int)
	s.mu.uses = make(map[int]int)
	s.mu.configs = make(map[string]configValue)
	s.mu.modes = make(map[string]string)
	return s
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
	}
	// Other kinds, NOOP and CONTEXT among them, say nothing that this registry keeps.
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
	d := Definition{Text: v.Schema, References: v.References, Metadata: v.Metadata}
	if v.SchemaType != TypeAvro {
		d.Type = v.SchemaType
	}
	guid := d.guid()
	if bound, ok := s.mu.byID[v.ID]; ok && bound.guid() != guid {
		return fmt.Errorf("id %d of subject %q version %d belongs to another schema", v.ID, k.Subject, k.Version)
	}
	s.removeLocked(k.Subject, k.Version)
	if s.mu.subjects[k.Subject] == nil {
		s.mu.subjects[k.Subject] = make(map[int]*entry)
	}
	s.mu.subjects[k.Subject][k.Version] = &entry{at: at, Schema: Schema{Definition: d, Subject: k.Subject,
		Version: k.Version, ID: v.ID, GUID: guid, Deleted: v.Deleted}}
	s.mu.byID[v.ID] = d
	s.mu.uses[v.ID]++
	if old, ok := s.mu.byGUID[guid]; !ok || v.ID < old {
		s.mu.byGUID[guid] = v.ID
	}
	s.mu.maxID = max(s.mu.maxID, v.ID)
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
	if s.mu.uses[e.ID]--; s.mu.uses[e.ID] == 0 {
		delete(s.mu.uses, e.ID)
		delete(s.mu.byID, e.ID)
		if s.mu.byGUID[e.GUID] == e.ID {
			delete(s.mu.byGUID, e.GUID)
			s.refindLocked(e.GUID)
		}
	}
}

// refindLocked looks for another id of the same content: a topic that was imported may have several.
func (s *state) refindLocked(guid string) {
	for id, d := range s.mu.byID {
		if d.guid() != guid {
			continue
		}
		if old, ok := s.mu.byGUID[guid]; !ok || id < old {
			s.mu.byGUID[guid] = id
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

func (s *state) clearSubjectLocked(subject string) {
	for name, versions := range s.mu.subjects {
		if subject != "" && name != subject {
			continue
		}
		for version, e := range versions {
			if e.Deleted {
				s.removeLocked(name, version)
			}
		}
	}
}

// byID finds a definition.
func (s *state) byID(id int) (Definition, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d, ok := s.mu.byID[id]
	return d, ok
}

// idOf finds the id of a definition whose text is canonical.
func (s *state) idOf(d Definition) (int, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.mu.byGUID[d.guid()]
	return id, ok
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

// all returns every version of every subject that begins with prefix, in order.
func (s *state) all(prefix string, deleted bool) []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*entry
	for _, subject := range slices.Sorted(maps.Keys(s.mu.subjects)) {
		if strings.HasPrefix(subject, prefix) {
			list = append(list, s.versionsLocked(subject, deleted)...)
		}
	}
	return list
}

// withID returns every version that has the id, in order.
func (s *state) withID(id int, deleted bool) []*entry {
	return slices.DeleteFunc(s.all("", deleted), func(e *entry) bool { return e.ID != id })
}

// referrers returns the versions, soft-deleted ones too if asked for, that refer to a version of subject.
func (s *state) referrers(subject string, version int, deleted bool) []*entry {
	return slices.DeleteFunc(s.all("", deleted), func(e *entry) bool {
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

// nextID is an id that no schema has had since the topic's oldest record.
func (s *state) nextID() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.maxID + 1
}

// count returns how many subjects and ids there are.
func (s *state) count() (subjects, ids int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.mu.subjects), len(s.mu.byID)
}

// idOfGUID finds the id of a schema by its content identifier.
func (s *state) idOfGUID(guid string) (int, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.mu.byGUID[guid]
	return id, ok
}
