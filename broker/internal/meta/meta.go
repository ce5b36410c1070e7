// Package meta remembers what a broker must know about itself: its cluster id, its topics with their ids, partition counts and
// configurations, and the configuration set on the broker at run time.
//
// A [Store] holds the current state in memory and writes each change to a [Journal] before it takes effect; the journal is a
// compacted internal topic (docs/format/metadata.md). Topic configurations are checked against one table of definitions, see
// [Definitions].
package meta

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Errors of changes.
var (
	// ErrExists means that a topic of that name exists, or is still being deleted.
	ErrExists = errors.New("topic exists")
	// ErrUnknown means that there is no such topic.
	ErrUnknown = errors.New("no such topic")
	// ErrCorrupt marks journal entries that cannot be understood.
	ErrCorrupt = errors.New("metadata is corrupt")
)

// ID is a topic id.
type ID [16]byte

// String is the id in the form that Kafka's tools print.
func (id ID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// MarshalText is String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(b []byte) error {
	raw, err := base64.RawURLEncoding.DecodeString(string(b))
	if err != nil || len(raw) != len(id) {
		return fmt.Errorf("%q is no topic id", b)
	}
	copy(id[:], raw)
	return nil
}

// NewID makes a random id. Like Kafka's, it never starts with '-' when printed, so that it can be a command's argument.
func NewID() ID {
	for {
		var id ID
		_, _ = rand.Read(id[:]) // never fails
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if !strings.HasPrefix(id.String(), "-") {
			return id
		}
	}
}

// Topic is what is remembered of one topic. Values handed out are the caller's to keep and must not be changed.
type Topic struct {
	Name       string            `json:"-"`
	ID         ID                `json:"id"`
	Partitions int32             `json:"partitions"`
	Configs    map[string]string `json:"configs,omitempty"` // what was set; the rest is default
	Internal   bool              `json:"internal,omitempty"`
	CreatedMs  int64             `json:"createdMs,omitempty"`
	// Deleting is set while the partitions' files are being removed; the topic does not exist for clients any more.
	Deleting bool `json:"deleting,omitempty"`
}

// Entry is one record of the journal. A nil Value deletes the key.
type Entry struct {
	Key, Value []byte
}

// Journal is where changes are made to last.
type Journal interface {
	// Replay calls f for every entry in the order of writing.
	Replay(f func(Entry) error) error
	// Append writes entries all or none; they are as durable as the broker's flush policy says when it returns.
	Append(entries ...Entry) error
}

// Store is the state. All methods are safe for concurrent use; changes are made one at a time.
type Store struct {
	journal Journal

	mu struct {
		sync.Mutex
		clusterID string
		topics    map[string]Topic
		broker    map[string]string
		records   map[Kind]map[string]json.RawMessage
	}
}

// Keys of the journal: a kind, a slash, a name.
const (
	topicPrefix = "topic/"
	clusterKey  = "cluster"
	brokerKey   = "broker"
)

type clusterValue struct {
	ID string `json:"id"`
}

// Open replays the journal. A fresh one gets a cluster id.
func Open(j Journal) (*Store, error) {
	s := &Store{journal: j}
	s.mu.topics = map[string]Topic{}
	s.mu.records = map[Kind]map[string]json.RawMessage{}
	for _, k := range kinds {
		s.mu.records[k] = map[string]json.RawMessage{}
	}
	if err := j.Replay(s.replay); err != nil {
		return nil, fmt.Errorf("replay metadata: %w", err)
	}
	if s.mu.clusterID != "" {
		return s, nil
	}
	s.mu.clusterID = NewID().String()
	if err := j.Append(entry(clusterKey, clusterValue{s.mu.clusterID})); err != nil {
		return nil, fmt.Errorf("write cluster id: %w", err)
	}
	return s, nil
}

func entry(key string, value any) Entry {
	b, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("meta: %T does not marshal: %v", value, err)) // our own types only
	}
	return Entry{[]byte(key), b}
}

func (s *Store) replay(e Entry) error {
	key := string(e.Key)
	var err error
	switch name, isTopic := strings.CutPrefix(key, topicPrefix); {
	case isTopic && e.Value == nil:
		delete(s.mu.topics, name)
	case isTopic:
		var t Topic
		if err = json.Unmarshal(e.Value, &t); err == nil {
			t.Name = name
			s.mu.topics[name] = t
		}
	case key == clusterKey:
		var c clusterValue
		err = json.Unmarshal(e.Value, &c)
		s.mu.clusterID = c.ID
	case key == brokerKey:
		s.mu.broker = nil
		if e.Value != nil {
			err = json.Unmarshal(e.Value, &s.mu.broker)
		}
	default:
		err = s.replayRecord(e)
	}
	if err != nil {
		return fmt.Errorf("%w: entry %q: %w", ErrCorrupt, key, err)
	}
	return nil
}

// ClusterID is the same for the life of the data directory.
func (s *Store) ClusterID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.clusterID
}

// Topics returns all topics by name, those that are being deleted included.
func (s *Store) Topics() []Topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.mu.topics), func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
}

// Create remembers a new topic. It fails with ErrExists.
func (s *Store) Create(t Topic) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.mu.topics[t.Name]; ok {
		return ErrExists
	}
	return s.putLocked(t)
}

// Update changes a topic by f and returns the new value. It fails with ErrUnknown, or with what f returns.
func (s *Store) Update(name string, f func(*Topic) error) (Topic, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.mu.topics[name]
	if !ok || t.Deleting {
		return Topic{}, ErrUnknown
	}
	t.Configs = maps.Clone(t.Configs)
	if err := f(&t); err != nil {
		return Topic{}, err
	}
	return t, s.putLocked(t)
}

// Forget drops a topic whose files are gone.
func (s *Store) Forget(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.journal.Append(Entry{[]byte(topicPrefix + name), nil}); err != nil {
		return err
	}
	delete(s.mu.topics, name)
	return nil
}

func (s *Store) putLocked(t Topic) error {
	if err := s.journal.Append(entry(topicPrefix+t.Name, t)); err != nil {
		return err
	}
	s.mu.topics[t.Name] = t
	return nil
}

// rewriteBatch is how many entries are rewritten at once, far below the largest batch of the journal.
const rewriteBatch = 200

// Rewrite writes all that is in force to the journal once more: when it returns, nothing that was there before is needed. entries is
// how many that were.
func (s *Store) Rewrite() (entries int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Entry{entry(clusterKey, clusterValue{s.mu.clusterID})}
	if s.mu.broker != nil {
		all = append(all, entry(brokerKey, s.mu.broker))
	}
	for name, t := range s.mu.topics {
		all = append(all, entry(topicPrefix+name, t))
	}
	for k, records := range s.mu.records {
		for name, value := range records {
			all = append(all, Entry{[]byte(string(k) + "/" + name), value})
		}
	}
	for chunk := range slices.Chunk(all, rewriteBatch) {
		if err := s.journal.Append(chunk...); err != nil {
			return 0, err
		}
	}
	return len(all), nil
}

// BrokerConfigs is what has been set on the broker at run time.
func (s *Store) BrokerConfigs() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.mu.broker)
}

// SetBrokerConfigs replaces what has been set on the broker at run time.
func (s *Store) SetBrokerConfigs(configs map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.journal.Append(entry(brokerKey, configs)); err != nil {
		return err
	}
	s.mu.broker = maps.Clone(configs)
	return nil
}
