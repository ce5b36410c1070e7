package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"reflect"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"

	"github.com/leatstream/leat/serde"
)

const (
	slabBits = 10 // entries of one slab chunk: 1024
	slabLen  = 1 << slabBits
	slabMask = slabLen - 1
	slabGrow = 64 // most chunks made at once: 4 MiB of the smallest entries
)

// Flags of an entry.
const (
	flagRecent  uint8 = 1 << iota // read since the clock hand came by
	flagTouched                   // in table.touched: may differ from what it was at the last Flush
	flagDirty                     // Set or Remove since the last Flush
	flagUsed                      // the slot holds an entry
)

// table is what key-value and window stores share: a cache of decoded entries over a shard.
//
// Entries lie in a slab of chunks that never move. An open-addressing index finds them: each of its slots is a number,
// 32 bits of the key's hash and 32 bits of slab position, so that neither index nor, for pointer-free K and V, slab
// gives the garbage collector anything to scan, and a hit costs two cache misses: index, entry.
//
// An entry that differs from Pebble is never evicted: it is touched, or its epoch (the count of seals at its last
// flush) is later than the last applied one. If the shard was empty at the start and nothing was evicted since, a key
// that is not cached does not exist, and Pebble is not asked (complete).
type table[K, V any] struct {
	sh           *Shard
	db           *DB
	eng          *engine
	key          serde.Serde[K]
	val          serde.Serde[V]
	keyAt, valAt serde.Place
	opt          StoreOptions
	listener     func(Update[K, V]) error
	width        int // bytes of a fixed-size key of at most 8 bytes, else 0
	windowed     bool
	flat         bool // V holds no pointers
	plain        bool // flat, and equal values have equal memory
	closed       bool

	seed uint64
	hash maphash.Seed
	index
	slab     []*[slabLen]Entry[K, V]
	encs     []*[slabLen]string // encoded keys, if they are not fixed-size
	free     uint32             // 1 + the slot that was given back last, whose self is what free was before; 0: there is none
	high     uint32             // slots ever used
	live     int                // entries in the cache
	hand     uint32             // the clock's
	complete bool

	// Since the last Flush.
	touched   run           // pos: of the entry's old value
	sortedTo  int           // touched is in order up to here
	olds      []oldValue[V] // without NoBuffer, one for each of touched
	oldBuf    []byte        // encoded old values that are not flat
	spareOlds []oldValue[V] // olds and oldBuf of the interval before, for reuse
	spareBuf  []byte
	writes    uint32
	prev      oldValue[V] // NoBuffer: before the change that BeforeChange announced for prevOf
	prevBuf   []byte
	prevOf    *Entry[K, V]

	// Since the last Seal, and sealed but not applied.
	unsealed  []run // one for each Flush
	unsealedN int
	pending   *pebble.Batch
	bytes     arena
	sealed    []sealedEpoch
	spareRuns []run  // for reuse as touched
	epoch     uint32 // of the next seal
	applied   uint32 // latest epoch in Pebble

	streamTime, sealedTime int64 // window stores
	expired                int64 // windows up to this start are deleted; as of the pending batch
	sealedExpired          int64

	dir directory // where windows lie by key, if anybody has asked
	idx []*tableIndex[K, V]

	pre     []byte           // the shard's prefix
	iter    *pebble.Iterator // nil, or as new as applied
	keyBuf  []byte           // prefix and local key of a read
	encBuf  []byte
	valBuf  []byte
	wasBuf  []byte
	scratch []sortItem // for sorting touched
	changes []change
	err     error  // of an iteration
	fetched uint32 // keeps the compiler from dropping the reads of fetch

	fixedCost      int64 // bytes of an entry, its index slots and encoded key header
	used, reported int64 // bytes of the cache: now, and as the budget knows
	dirtyReported  int64 // bytes that wait for a commit, as the budget knows
	typical        int64 // size of an entry, roughly, for values that were not encoded yet
	dirtyExtra     int64 // of those, beyond the fixed cost
}

// oldValue is what an entry was when it was touched: the value itself if it is flat, else its encoding.
type oldValue[V any] struct {
	value  V
	time   int64
	off, n uint32 // in oldBuf
	exists bool
	kept   bool // false: nobody wants to know
}

// sealedEpoch is one Seal whose batch may not be applied yet.
type sealedEpoch struct {
	epoch uint32
	batch *Batch
	runs  []run
}

// run is a list of entries, as a rule in the order of their keys. k1 are the first 8 bytes of the local key.
type run []sortItem

func (s *table[K, V]) open(sh *Shard, key serde.Serde[K], val serde.Serde[V], o StoreOptions, windowed bool) error {
	if sh.windowed != windowed {
		return fmt.Errorf("state: open %q: the shard is kept as windowed=%t", sh.name.store, sh.windowed)
	}
	if o.Topic == "" {
		o.Topic = sh.name.store
	}
	if o.Now == nil {
		o.Now = func() int64 { return 0 }
	}
	s.sh, s.db, s.eng, s.key, s.val, s.opt, s.windowed = sh, sh.db, sh.eng, key, val, o, windowed
	s.keyAt, s.valAt = serde.Place{Topic: o.Topic, Key: true}, serde.Place{Topic: o.Topic}
	if f, ok := key.(serde.Fixed); ok && f.FixedSize() >= 1 && f.FixedSize() <= 8 {
		s.width = f.FixedSize()
	}
	s.pre = sh.prefix()
	s.flat, s.plain = isFlat(reflect.TypeFor[V]()), isPlain(reflect.TypeFor[V]())
	s.hash = maphash.MakeSeed()
	s.seed = maphash.String(s.hash, sh.name.store)
	s.index.clear()
	s.fixedCost = int64(unsafe.Sizeof(Entry[K, V]{})) + 16
	if s.width == 0 {
		s.fixedCost += int64(unsafe.Sizeof(""))
	}
	s.epoch = 1
	s.streamTime, s.sealedTime, s.expired, s.sealedExpired = noTime, noTime, noTime, noTime
	if err := s.db.Err(); err != nil {
		return err
	}
	if err := sh.setOwner(s); err != nil {
		return err
	}
	var err error
	if s.complete, err = sh.empty(); err != nil {
		sh.setOwner(nil)
		return err
	}
	s.db.budget.stores.Add(1)
	return nil
}

// isFlat reports whether values of t hold no pointers.
func isFlat(t reflect.Type) bool {
	switch k := t.Kind(); {
	case k >= reflect.Bool && k <= reflect.Complex128:
		return true
	case k == reflect.Array:
		return isFlat(t.Elem())
	case k == reflect.Struct:
		for i := range t.NumField() {
			if !isFlat(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return false
}

// isPlain reports whether values of t are equal exactly if their memory is: no pointers, no padding, no floats.
func isPlain(t reflect.Type) bool {
	switch k := t.Kind(); {
	case k >= reflect.Bool && k <= reflect.Uintptr:
		return true
	case k == reflect.Array:
		return isPlain(t.Elem())
	case k == reflect.Struct:
		var size uintptr
		for i := range t.NumField() {
			if f := t.Field(i); !isPlain(f.Type) || f.Name == "_" {
				return false
			}
			size += t.Field(i).Type.Size()
		}
		return size == t.Size()
	}
	return false
}

func (s *table[K, V]) at(idx uint32) *Entry[K, V] { return &s.slab[idx>>slabBits][idx&slabMask] }

// fixedBits is a fixed-size key as a number in the order of its bytes.
func fixedBits(enc []byte) uint64 {
	if len(enc) == 8 {
		return binary.BigEndian.Uint64(enc)
	}
	var b uint64
	for _, c := range enc {
		b = b<<8 | uint64(c)
	}
	return b
}

// appendFixed is the inverse of fixedBits.
func appendFixed(dst []byte, b uint64, width int) []byte {
	for i := width - 1; i >= 0; i-- {
		dst = append(dst, byte(b>>(8*i)))
	}
	return dst
}

const (
	mix1 = 0x9e3779b97f4a7c15
	mix2 = 0xe7037ed1a0b428db
)

// spread hashes a key's number and a window's start.
func (s *table[K, V]) spread(id uint64, start int64) uint64 {
	hi, lo := bits.Mul64(id^s.seed, mix1)
	h := hi ^ lo
	if start != 0 {
		hi, lo = bits.Mul64(h^uint64(start), mix2)
		h = hi ^ lo
	}
	return h
}

// get is the way of every typed read: the cache, then Pebble.
func (s *table[K, V]) get(enc []byte, k K, start int64) (*Entry[K, V], error) {
	if len(enc) == 8 && s.width == 8 {
		id := binary.BigEndian.Uint64(enc)
		h := s.spread(id, start)
		if e := s.find(h, id, start); e != nil {
			e.flags |= flagRecent
			return e, nil
		}
		return s.load(h, id, enc, k, start)
	}
	return s.getAny(enc, k, start)
}

func (s *table[K, V]) getAny(enc []byte, k K, start int64) (*Entry[K, V], error) {
	if enc == nil {
		var err error
		if enc, err = s.encodeKey(k); err != nil {
			return nil, err
		}
	}
	if s.width != 0 {
		if len(enc) != s.width {
			return nil, fmt.Errorf("%w: %s has %d bytes, want %d", serde.ErrLength, s.keyAt, len(enc), s.width)
		}
		id := fixedBits(enc)
		h := s.spread(id, start)
		if e := s.find(h, id, start); e != nil {
			e.flags |= flagRecent
			return e, nil
		}
		return s.load(h, id, enc, k, start)
	}
	id := maphash.Bytes(s.hash, enc)
	h := s.spread(id, start)
	if e := s.findBytes(h, id, enc, start); e != nil {
		e.flags |= flagRecent
		return e, nil
	}
	return s.load(h, id, enc, k, start)
}

// encodeKey encodes into a buffer that the next call overwrites.
func (s *table[K, V]) encodeKey(k K) ([]byte, error) {
	if s.encBuf == nil {
		s.encBuf = make([]byte, 0, 64)
	}
	enc, err := s.key.Append(s.encBuf[:0], s.keyAt, k)
	if err != nil {
		return nil, err
	}
	if enc == nil {
		return nil, fmt.Errorf("state: store %q: null is no key", s.sh.name.store)
	}
	s.encBuf = enc
	return enc, nil
}

// find looks a fixed-size key up in the cache.
func (s *table[K, V]) find(h, id uint64, start int64) *Entry[K, V] {
	sub := &s.subs[h>>(64-subBits)]
	tag := uint32(h)
	for i := tag & sub.mask; ; i = (i + 1) & sub.mask {
		v := sub.slots[i]
		if v == 0 {
			return nil
		}
		if uint32(v>>32) == tag {
			idx := uint32(v) - 1
			if e := &s.slab[idx>>slabBits][idx&slabMask]; e.id == id && e.Start == start {
				return e
			}
		}
	}
}

// findBytes looks any other key up; id is its hash.
func (s *table[K, V]) findBytes(h, id uint64, enc []byte, start int64) *Entry[K, V] {
	sub := &s.subs[h>>(64-subBits)]
	tag := uint32(h)
	for i := tag & sub.mask; ; i = (i + 1) & sub.mask {
		v := sub.slots[i]
		if v == 0 {
			return nil
		}
		if uint32(v>>32) == tag {
			idx := uint32(v) - 1
			if e := s.at(idx); e.id == id && e.Start == start && s.encs[idx>>slabBits][idx&slabMask] == string(enc) {
				return e
			}
		}
	}
}

// load brings a key into the cache, from Pebble if it may be there.
func (s *table[K, V]) load(h, id uint64, enc []byte, k K, start int64) (*Entry[K, V], error) {
	if s.closed {
		return nil, ErrClosed
	}
	s.makeRoom()
	idx := s.slot()
	e := s.at(idx)
	*e = Entry[K, V]{Key: k, Start: start, id: id, self: idx, flags: flagUsed | flagRecent}
	if !s.complete && !s.hidden(start) {
		if err := s.read(e, enc); err != nil {
			s.giveBack(e, idx)
			return nil, err
		}
	}
	if s.width == 0 {
		e.size += uint32(len(enc))
		s.encs[idx>>slabBits][idx&slabMask] = ownKey(enc, &e.Key)
	}
	s.insert(h, idx)
	s.live++
	s.used += s.fixedCost + int64(e.size)
	return e, nil
}

// ownKey keeps the encoded key; a string key that is its own encoding is kept once.
func ownKey[K any](enc []byte, k *K) string {
	if p, ok := any(k).(*string); ok {
		if *p == string(enc) {
			*p = string(enc)
			return *p
		}
	}
	return string(enc)
}

// slot returns a slot of the slab that nothing uses.
func (s *table[K, V]) slot() uint32 {
	if s.free != 0 {
		idx := s.free - 1
		s.free = s.at(idx).self
		return idx
	}
	if int(s.high) == len(s.slab)*slabLen {
		s.growSlab()
	}
	s.high++
	return s.high - 1
}

// growSlab adds as many chunks as there are, in one block, so that a large store lies on large pages.
func (s *table[K, V]) growSlab() {
	n := max(1, min(slabGrow, len(s.slab)))
	block := make([]Entry[K, V], n*slabLen)
	if s.flat {
		onLargePages(block)
	}
	for i := range n {
		s.slab = append(s.slab, (*[slabLen]Entry[K, V])(block[i*slabLen:]))
		if s.width == 0 {
			s.encs = append(s.encs, new([slabLen]string))
		}
	}
}

// read fills e from Pebble.
func (s *table[K, V]) read(e *Entry[K, V], enc []byte) error {
	if err := s.db.Err(); err != nil {
		return err
	}
	s.poll()
	if s.eng.own != nil {
		return s.readOwn(e, enc)
	}
	if s.iter == nil {
		it, err := s.eng.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
		if err != nil {
			return fmt.Errorf("state: read store %q: %w", s.sh.name.store, err)
		}
		s.iter = it
	}
	s.keyBuf = s.appendLocal(append(s.keyBuf[:0], s.pre...), enc, e.Start)
	if !s.iter.SeekPrefixGE(s.keyBuf) {
		if err := s.db.unreadableFile(s.iter.Error()); err != nil {
			return fmt.Errorf("state: read store %q: %w", s.sh.name.store, err)
		}
		return nil
	}
	raw, err := s.iter.ValueAndErr()
	if err = s.db.unreadableFile(err); err != nil {
		return fmt.Errorf("state: read store %q: %w", s.sh.name.store, err)
	}
	if e.Time, e.Value, err = s.decode(raw); err != nil {
		return err
	}
	e.Exists = true
	if !s.flat {
		e.size = uint32(len(raw))
	}
	return nil
}

// appendLocal appends the key as it lies in the shard: windows begin with their start, so that expiry is one range.
func (s *table[K, V]) appendLocal(dst, enc []byte, start int64) []byte {
	if s.windowed {
		dst = binary.BigEndian.AppendUint64(dst, uint64(start))
	}
	return append(dst, enc...)
}

// decode splits a stored value: 8 bytes of timestamp, then the value's encoding.
func (s *table[K, V]) decode(raw []byte) (ts int64, v V, err error) {
	return decodeValue(s.val, s.valAt, raw)
}

func decodeValue[V any](val serde.Serde[V], at serde.Place, raw []byte) (ts int64, v V, err error) {
	if len(raw) < 8 {
		return 0, v, fmt.Errorf("%w: %w: stored %s has %d bytes, want at least 8", ErrUndecodable, ErrCorrupt, at, len(raw))
	}
	if v, err = val.Decode(at, raw[8:]); err != nil {
		err = fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return int64(binary.BigEndian.Uint64(raw)), v, err
}

// poll notices batches that were applied, and lets go of an iterator that is older.
func (s *table[K, V]) poll() {
	for len(s.sealed) > 0 && s.sealed[0].batch.applied.Load() {
		s.applied = s.sealed[0].epoch
		for _, r := range s.sealed[0].runs {
			s.spare(r)
		}
		s.sealed[0] = sealedEpoch{}
		s.sealed = s.sealed[1:]
		s.closeIter()
	}
}

// spare keeps a run's memory for another.
func (s *table[K, V]) spare(r run) {
	if len(s.spareRuns) < 4 {
		s.spareRuns = append(s.spareRuns, r[:0])
	}
}

func (s *table[K, V]) closeIter() {
	if s.iter != nil {
		if err := s.iter.Close(); err != nil && !errors.Is(err, pebble.ErrClosed) {
			s.db.fail(err)
		}
		s.iter = nil
	}
}
