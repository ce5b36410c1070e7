package state

const (
	subBits = 6 // the index is split in 64, so that growing one part is a short pause
	subLen  = 1 << subBits
)

// index finds the slab slot of a hash: open addressing, linear probing. An index slot is 0, or 32 bits of the hash and
// 32 bits of slab slot + 1. The parts have their slots in common blocks, one for each size.
type index struct {
	subs   [subLen]subIndex
	blocks map[int]*indexBlock // by slots of one part
}

// subIndex is one part: len(slots) is a power of two.
type subIndex struct {
	slots []uint64
	mask  uint32
	n     uint32
}

type indexBlock struct {
	slots []uint64
	users int
}

func (x *index) clear() {
	empty := make([]uint64, 1)
	for i := range x.subs {
		x.subs[i] = subIndex{slots: empty}
	}
	x.blocks = map[int]*indexBlock{}
}

func (x *index) insert(h uint64, idx uint32) {
	part := int(h >> (64 - subBits))
	sub := &x.subs[part]
	if (sub.n+1)*4 > uint32(len(sub.slots))*3 {
		x.grow(part)
	}
	sub.put(uint64(uint32(h))<<32 | uint64(idx+1))
	sub.n++
}

func (sub *subIndex) put(v uint64) {
	i := uint32(v>>32) & sub.mask
	for sub.slots[i] != 0 {
		i = (i + 1) & sub.mask
	}
	sub.slots[i] = v
}

// grow doubles one part. The hash spreads keys evenly, so the others soon follow into the same block.
func (x *index) grow(part int) {
	sub := &x.subs[part]
	old := sub.slots
	size := max(4, 2*len(old))
	b := x.blocks[size]
	if b == nil {
		b = &indexBlock{slots: make([]uint64, size*subLen)}
		onLargePages(b.slots)
		x.blocks[size] = b
	}
	b.users++
	sub.slots = b.slots[part*size : (part+1)*size : (part+1)*size]
	sub.mask = uint32(size - 1)
	for _, v := range old {
		if v != 0 {
			sub.put(v)
		}
	}
	if b := x.blocks[len(old)]; b != nil {
		if b.users--; b.users == 0 {
			delete(x.blocks, len(old))
		}
	}
}

// remove takes slab slot idx out, and moves up what was pushed past it.
func (x *index) remove(h uint64, idx uint32) {
	sub := &x.subs[h>>(64-subBits)]
	v := uint64(uint32(h))<<32 | uint64(idx+1)
	i := uint32(h) & sub.mask
	for sub.slots[i] != v {
		if sub.slots[i] == 0 {
			panic("state: cached entry is not in the index")
		}
		i = (i + 1) & sub.mask
	}
	sub.n--
	for j := (i + 1) & sub.mask; sub.slots[j] != 0; j = (j + 1) & sub.mask {
		home := uint32(sub.slots[j]>>32) & sub.mask
		if (j-home)&sub.mask >= (j-i)&sub.mask {
			sub.slots[i] = sub.slots[j]
			i = j
		}
	}
	sub.slots[i] = 0
}
