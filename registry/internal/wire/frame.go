package wire

import "github.com/leatstream/leat/registry/internal/frame"

// FrameLen implements serde.Framed: it returns how long the name of the schema is in front of data, 0 if there is none.
func (c *Codec[R, W]) FrameLen(data []byte) int {
	_, rest, err := frame.Parse(data)
	if err != nil {
		return 0
	}
	return len(data) - len(rest)
}
