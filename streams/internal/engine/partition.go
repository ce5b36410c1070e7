package engine

import "encoding/binary"

// Murmur2 is the hash of Kafka's default partitioner.
func Murmur2(data []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for len(data) >= 4 {
		k := binary.LittleEndian.Uint32(data)
		k *= m
		k ^= k >> 24
		k *= m
		h *= m
		h ^= k
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}

// Partition is Kafka's default partition of a key that is not null, of n partitions.
func Partition(key []byte, n int32) int32 {
	if n <= 1 {
		return 0
	}
	return int32(Murmur2(key)&0x7fffffff) % n
}
