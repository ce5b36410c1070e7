package streamstest_test

import (
	"errors"

	"github.com/leatstream/leat/serde"
)

// framedSerde is a serde of strings with a schema id in front, as serdes of a registry have.
type framedSerde struct{ id *byte }

func (f *framedSerde) Append(dst []byte, _ serde.Place, v string) ([]byte, error) {
	return append(append(dst, 0, 0, 0, 0, *f.id), v...), nil
}

func (f *framedSerde) Decode(_ serde.Place, data []byte) (string, error) {
	if len(data) < 5 {
		return "", errors.New("no schema id")
	}
	return string(data[5:]), nil
}

func (f *framedSerde) FrameLen(data []byte) int { return min(5, len(data)) }
