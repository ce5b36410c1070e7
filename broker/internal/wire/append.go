package wire

import "encoding/binary"

// AppendInt16 appends v big-endian.
func AppendInt16(dst []byte, v int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }

// AppendInt32 appends v big-endian.
func AppendInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }

// AppendInt64 appends v big-endian.
func AppendInt64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

// AppendUvarint appends v as an unsigned varint.
func AppendUvarint(dst []byte, v uint32) []byte { return binary.AppendUvarint(dst, uint64(v)) }

// AppendCount appends the length of an array that is not null.
func AppendCount(dst []byte, compact bool, n int) []byte {
	if compact {
		return AppendUvarint(dst, uint32(n)+1)
	}
	return AppendInt32(dst, int32(n))
}

// AppendNullArray appends a null array.
func AppendNullArray(dst []byte, compact bool) []byte {
	if compact {
		return append(dst, 0)
	}
	return AppendInt32(dst, -1)
}

// AppendString appends a string that is not null.
func AppendString(dst []byte, compact bool, s string) []byte {
	if compact {
		dst = AppendUvarint(dst, uint32(len(s))+1)
	} else {
		dst = AppendInt16(dst, int16(len(s)))
	}
	return append(dst, s...)
}

// AppendTags appends an empty set of tagged fields if compact.
func AppendTags(dst []byte, compact bool) []byte {
	if compact {
		return append(dst, 0)
	}
	return dst
}
