package serde

// Framed is implemented by serdes whose bytes may begin with the id of the schema that they were written with. What
// compares or hashes encoded values leaves it out: the same value written with another schema is the same value.
type Framed interface {
	// FrameLen returns how many of the leading bytes of an encoded value are not the value's own.
	FrameLen(data []byte) int
}

// FrameLen is that of the serde within.
func (n nullable[T]) FrameLen(data []byte) int {
	if f, ok := n.of.(Framed); ok {
		return f.FrameLen(data)
	}
	return 0
}
