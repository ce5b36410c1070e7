package wire

import (
	"bytes"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// FuzzParseName gives any bytes: what is understood is written back as it was.
func FuzzParseName(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 2})
	f.Add(append([]byte{1}, make([]byte, 17)...))
	f.Add([]byte{2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		n, rest, err := parseName(data)
		if err != nil {
			return
		}
		w := Written[int]{ID: n.id, GUID: n.guid}
		prefix := w.AppendPrefix(nil)
		if data[0] == guidPrefix {
			prefix = append([]byte{guidPrefix}, n.guid[:]...)
		}
		if again := append(prefix, rest...); !bytes.Equal(again, data) {
			t.Fatalf("% x is % x", data, again)
		}
		if data[0] != guidPrefix {
			return
		}
		if guid, err := parseGUID(guidText(n.guid)); err != nil || guid != n.guid {
			t.Fatalf("% x as text is %s, %v", n.guid, guidText(n.guid), err)
		}
	})
}
