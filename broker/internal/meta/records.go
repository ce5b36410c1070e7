package meta

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// Kind is a family of records that the store keeps for others without looking into them: the broker's security, quotas and groups.
type Kind string

// The kinds. Each is the first part of a key in the journal.
const (
	Scram Kind = "scram" // credentials, by mechanism and user
	ACL   Kind = "acl"   // access control bindings, by their own text
	Quota Kind = "quota" // client quotas, by entity
	Group Kind = "group" // configurations of consumer groups, by group id
)

var kinds = []Kind{Scram, ACL, Quota, Group}

// Change is one change of a record. A nil Value deletes it; otherwise it is marshalled to JSON.
type Change struct {
	Name  string
	Value any
}

// Records returns the records of a kind by name. The map is the caller's; the values must not be changed.
func (s *Store) Records(k Kind) map[string]json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.mu.records[k])
}

// ChangeRecords writes changes of one kind, all or none. They are in force when it returns without an error.
func (s *Store) ChangeRecords(k Kind, changes ...Change) error {
	if len(changes) == 0 {
		return nil
	}
	entries := make([]Entry, len(changes))
	for i, c := range changes {
		key := string(k) + "/" + c.Name
		if entries[i] = (Entry{Key: []byte(key)}); c.Value != nil {
			entries[i] = entry(key, c.Value)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.journal.Append(entries...); err != nil {
		return err
	}
	for i, c := range changes {
		s.applyLocked(k, c.Name, entries[i].Value)
	}
	return nil
}

func (s *Store) applyLocked(k Kind, name string, value []byte) {
	if value == nil {
		delete(s.mu.records[k], name)
		return
	}
	s.mu.records[k][name] = value
}

// replayRecord takes in an entry that is neither a topic nor about the broker itself.
func (s *Store) replayRecord(e Entry) error {
	kind, name, _ := strings.Cut(string(e.Key), "/")
	if _, ok := s.mu.records[Kind(kind)]; !ok {
		return errors.New("unknown kind: was it written by a newer version?")
	}
	if e.Value != nil && !json.Valid(e.Value) {
		return fmt.Errorf("a value that is no JSON")
	}
	var value []byte
	if e.Value != nil {
		value = append(value, e.Value...)
	}
	s.applyLocked(Kind(kind), name, value)
	return nil
}

// Record returns one record of a kind; its bytes must not be changed.
func (s *Store) Record(k Kind, name string) (value json.RawMessage, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok = s.mu.records[k][name]
	return value, ok
}

// CountRecords is how many records of a kind there are.
func (s *Store) CountRecords(k Kind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.records[k])
}
