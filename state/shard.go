package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

var (
	// ErrLocked is wrapped by the error of Open for a directory that another process uses.
	ErrLocked = errors.New("state: directory is in use")
	// ErrVersion is wrapped by the error of Open for a directory that a later version of Leat wrote.
	ErrVersion = errors.New("state: unknown format version")
	// ErrClosed is returned by what is used after Close.
	ErrClosed = errors.New("state: closed")
	// ErrUndecodable is wrapped by the error of a row whose key or value does not decode.
	ErrUndecodable = errors.New("state: stored row does not decode")
	// ErrCorrupt is wrapped by errors about bytes that cannot be what was written.
	ErrCorrupt = errors.New("state: corrupt data")
)

// Medium says where a shard's data lives.
type Medium uint8

const (
	// Disk is the zero value: on disk, with the changelog as its log.
	Disk Medium = iota
	// Memory keeps the data in memory; after a restart the position is gone and all is restored.
	Memory
	// Logged is on disk with a log of its own, synced at each batch: for stores without a changelog.
	Logged
)

// ShardOptions describe the data of a shard.
type ShardOptions struct {
	Medium Medium
	// Windowed is set for the shards of window stores: changelog keys end in 8 bytes of start and 4 of sequence.
	Windowed bool
	// Sessions is set, beside Windowed, for the shards of session stores: changelog keys end in 8 bytes of end and 8 of
	// start.
	Sessions bool
	// Versions is set for the shards of stores of versions: of each key they keep what changelog records say of all times.
	Versions bool
	// Indexes are secondary indexes over the rows; of key-value shards only. Who asks for a shard that is open already gets
	// it with the indexes that it has.
	Indexes []ShardIndex
	// Engine keeps the data in an engine of the user's own; nil: Pebble. Medium is then Disk, or Logged for an engine that
	// makes each batch durable.
	Engine *OwnEngine
}

// Position says up to where a shard holds its changelog.
type Position struct {
	// TopicID is the changelog topic's id.
	TopicID [16]byte
	// Offset is the next changelog offset to read.
	Offset int64
	// At is the wall-clock time of the batch, in milliseconds.
	At time.Time
	// Inputs are the positions of the input partitions, in a form of the caller's, for shards without a changelog.
	Inputs []byte
}

const (
	positionVersion = 1
	positionMin     = 1 + 16 + 8 + 8
)

func (p Position) append(dst []byte) []byte {
	dst = append(append(dst, positionVersion), p.TopicID[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Offset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.At.UnixMilli()))
	return append(dst, p.Inputs...)
}

func parsePosition(b []byte) (Position, error) {
	var p Position
	if len(b) < positionMin || b[0] != positionVersion {
		return p, fmt.Errorf("%w: position of %d bytes", ErrCorrupt, len(b))
	}
	copy(p.TopicID[:], b[1:])
	p.Offset = int64(binary.BigEndian.Uint64(b[17:]))
	p.At = time.UnixMilli(int64(binary.BigEndian.Uint64(b[25:])))
	if len(b) > positionMin {
		p.Inputs = bytes.Clone(b[positionMin:])
	}
	return p, nil
}

type shardName struct {
	store     string
	partition int32
	medium    Medium
	engine    string // of the user's own; empty: Pebble
}

// Shard is one partition's part of one store. Its methods are safe for use by several goroutines, but Wipe and Restore
// must not run while a typed store of the shard is processing.
type Shard struct {
	db       *DB
	eng      *engine
	name     shardName
	windowed bool
	sessions bool
	versions bool
	number   uint32 // even: key of the position; +1: prefix of the data
	indexes  []*shardIndex

	mu struct {
		sync.Mutex
		indexed bool  // all indexes are built
		owner   owner // the open typed store
		settled bool  // the catalogue entry is on disk: data may be ingested
	}
}

// owner is the typed store on a shard.
type owner interface {
	forget(localKey []byte) // the key was written behind the cache
	forgetAll()
	abandon() // the database is closing: give back iterators
}

// Shard returns the part of a store that lies on one partition, made if it does not exist. The same arguments give the
// same Shard. partition is not negative.
func (db *DB) Shard(store string, partition int32, o ShardOptions) (*Shard, error) {
	if store == "" || partition < 0 || o.Medium > Logged {
		return nil, fmt.Errorf("state: shard of store %q, partition %d, medium %d: a name, no negative partition and a known medium are needed",
			store, partition, o.Medium)
	}
	name := shardName{store: store, partition: partition, medium: o.Medium}
	if o.Engine != nil {
		err := o.Engine.Validate()
		if err == nil && o.Medium == Memory {
			err = fmt.Errorf("engine %q is not in memory by Medium: leave it out", o.Engine.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("state: store %q: %w", store, err)
		}
		name.engine = o.Engine.Name
	}
	s, err := db.shard(name, o)
	if err != nil {
		return nil, err
	}
	if err := db.acquire(); err != nil {
		return nil, err
	}
	defer db.release()
	return s, s.buildIndexes()
}

func (db *DB) shard(name shardName, o ShardOptions) (*Shard, error) {
	store, partition := name.store, name.partition
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mu.closing {
		return nil, ErrClosed
	}
	s := db.mu.shards[name]
	if s == nil {
		e, err := db.engineLocked(o.Medium, o.Engine)
		if err != nil {
			return nil, err
		}
		if s, err = db.catalogue(e, name, o); err == nil {
			err = db.setIndexes(s, o.Indexes)
		}
		if err != nil {
			return nil, fmt.Errorf("state: shard %s/%d: %w", store, partition, err)
		}
		db.mu.shards[name] = s
	}
	if s.windowed != o.Windowed || s.sessions != o.Sessions || s.versions != o.Versions {
		return nil, fmt.Errorf("state: store %q, partition %d, is kept as windowed=%t, sessions=%t, versions=%t, and was asked for as windowed=%t, sessions=%t, "+
			"versions=%t: give the new store another name", store, partition, s.windowed, s.sessions, s.versions, o.Windowed, o.Sessions, o.Versions)
	}
	return s, nil
}

// catalogue finds the shard's number, or gives it one.
func (db *DB) catalogue(e *engine, name shardName, o ShardOptions) (*Shard, error) {
	var flags byte
	if o.Windowed {
		flags = catalogueWindowed
	}
	if o.Sessions {
		flags |= catalogueSessions
	}
	if o.Versions {
		flags |= catalogueVersions
	}
	n, flags, err := db.numberOf(e, name, flags)
	if err != nil {
		return nil, err
	}
	return &Shard{db: db, eng: e, name: name, number: n, windowed: flags&catalogueWindowed != 0, sessions: flags&catalogueSessions != 0,
		versions: flags&catalogueVersions != 0}, nil
}

// numberOf finds the number and the flags of a name in the catalogue, or enters it with those given.
func (db *DB) numberOf(e *engine, name shardName, flags byte) (uint32, byte, error) {
	v, c, err := e.get(catalogueKey(name))
	switch {
	case err == nil:
		defer c.Close()
		if len(v) != 5 {
			return 0, 0, fmt.Errorf("%w: catalogue value of %d bytes", ErrCorrupt, len(v))
		}
		return binary.BigEndian.Uint32(v), v[4], nil
	case !errors.Is(err, pebble.ErrNotFound):
		return 0, 0, err
	}
	n := e.next
	if err := e.set(catalogueKey(name), append(number(n), flags)); err != nil {
		return 0, 0, err
	}
	e.wrote(1)
	e.next += 2
	return n, flags, nil
}

// Store returns the store's name.
func (s *Shard) Store() string { return s.name.store }

// Partition returns the partition's number.
func (s *Shard) Partition() int32 { return s.name.partition }

// Position returns where the applied data stands; false if nothing was ever written, or all was wiped, or the database
// cannot be read (then [DB.Err] tells).
func (s *Shard) Position() (Position, bool) {
	if err := s.db.acquire(); err != nil {
		return Position{}, false
	}
	defer s.db.release()
	v, c, err := s.eng.get(number(s.number))
	if errors.Is(err, pebble.ErrNotFound) {
		return Position{}, false
	}
	var p Position
	if err == nil {
		p, err = parsePosition(v)
		err = firstError(err, c.Close())
	}
	if err != nil {
		s.db.fail(fmt.Errorf("position of %s/%d: %w", s.name.store, s.name.partition, err))
		return Position{}, false
	}
	return p, true
}

// prefix is what each data key begins with, limit the first key after them.
func (s *Shard) prefix() []byte { return number(s.number + 1) }
func (s *Shard) limit() []byte  { return number(s.number + 2) }

// Wipe removes data and position.
func (s *Shard) Wipe() error {
	if err := s.db.acquire(); err != nil {
		return err
	}
	defer s.db.release()
	b := s.eng.db.NewBatch()
	defer b.Close()
	err := b.DeleteRange(number(s.number), s.limit(), nil)
	for _, x := range s.indexes {
		err = firstError(err, x.wipe(b))
	}
	if err == nil {
		err = s.eng.commit(b)
	}
	if err != nil {
		return fmt.Errorf("state: wipe %s/%d: %w", s.name.store, s.name.partition, err)
	}
	s.eng.wrote(1)
	s.withOwner(owner.forgetAll)
	return nil
}

func (s *Shard) withOwner(f func(owner)) {
	s.mu.Lock()
	o := s.mu.owner
	s.mu.Unlock()
	if o != nil {
		f(o)
	}
}

// setOwner takes the shard for a store; a shard carries one.
func (s *Shard) setOwner(o owner) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.owner != nil && o != nil {
		return fmt.Errorf("state: store %q, partition %d, is open already", s.name.store, s.name.partition)
	}
	s.mu.owner = o
	return nil
}

func (s *Shard) releaseOwner() { s.withOwner(owner.abandon) }

// ApproximateCount counts up to 10,000 applied rows; from there on it goes by size on disk. Any goroutine may call it.
func (s *Shard) ApproximateCount() (int64, error) {
	if err := s.db.acquire(); err != nil {
		return 0, err
	}
	defer s.db.release()
	it, err := s.newIter(span{})
	if err != nil {
		return 0, err
	}
	var n int64
	for ok := it.First(); ok && n < countedMost; ok = it.Next() {
		n++
	}
	if err := firstError(it.Error(), it.Close()); err != nil || n < countedMost {
		return n, err
	}
	return s.guessRows(n)
}

// guessRows estimates the number of rows: those that make up the size on disk, or at least the cached ones.
func (s *Shard) guessRows(cached int64) (int64, error) {
	size, err := s.eng.size(s.prefix(), s.limit())
	if err != nil {
		return 0, fmt.Errorf("state: size of %s/%d: %w", s.name.store, s.name.partition, err)
	}
	it, err := s.newIter(span{})
	if err != nil {
		return 0, err
	}
	var bytes, n int64
	for ok := it.First(); ok && n < 100; ok = it.Next() {
		n++
		v, err := it.ValueAndErr()
		if err != nil {
			return cached, firstError(err, it.Close())
		}
		bytes += int64(len(it.Key()) + len(v))
	}
	if err := firstError(it.Error(), it.Close()); err != nil || bytes == 0 {
		return cached, err
	}
	return max(cached, int64(size)*n/bytes), nil
}
