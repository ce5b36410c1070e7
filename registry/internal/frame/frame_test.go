package frame

import (
	"bytes"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestString(t *testing.T) {
	if got := (Name{ID: 7}).String(); got != "schema 7" {
		t.Error(got)
	}
	const text = "095d71cf-1255-6b9d-5e33-0ad575b3df5d"
	g, err := ParseGUID(text)
	if err != nil || (Name{GUID: g}).String() != "schema "+text {
		t.Errorf("%v, %v", g, err)
	}
	for _, broken := range []string{"", "x", text + "00"} {
		if _, err := ParseGUID(broken); err == nil {
			t.Errorf("%q is a GUID", broken)
		}
	}
}

// FuzzParse gives any bytes: what is understood is written back as it was.
func FuzzParse(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 2})
	f.Add(append([]byte{1}, make([]byte, 17)...))
	f.Add([]byte{2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		n, rest, err := Parse(data)
		if err != nil {
			return
		}
		prefix := AppendID(nil, n.ID)
		if data[0] == guidPrefix {
			prefix = AppendGUID(nil, n.GUID)
		}
		if again := append(prefix, rest...); !bytes.Equal(again, data) {
			t.Fatalf("% x is % x", data, again)
		}
		if g, err := ParseGUID(n.GUID.String()); err != nil || g != n.GUID {
			t.Fatalf("% x as text is %s, %v", n.GUID, n.GUID, err)
		}
	})
}
