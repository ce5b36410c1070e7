// Package frame is the frame of Confluent's wire format: how a record names the schema that it was written with, by an id or
// by the GUID of its content, in front of the data or in a header.
package frame

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	idPrefix   = 0 // then an id of four bytes
	guidPrefix = 1 // then a GUID of sixteen bytes
	idLen      = 5
	guidLen    = 17
)

// GUID identifies the content of a schema. The zero GUID is none.
type GUID [16]byte

// String is the GUID as text, as in "095d71cf-1255-6b9d-5e33-0ad575b3df5d".
func (g GUID) String() string {
	s := hex.EncodeToString(g[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// ParseGUID reads the text of a GUID.
func ParseGUID(text string) (g GUID, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(g) {
		return g, fmt.Errorf("%q is no GUID", text)
	}
	copy(g[:], b)
	return g, nil
}

// Name is how a record names its schema: by an id, or, where that is not zero, by a GUID.
type Name struct {
	ID   uint32
	GUID GUID
}

// String is "schema 7", or the same with a GUID.
func (n Name) String() string {
	if n.GUID == (GUID{}) {
		return fmt.Sprintf("schema %d", int32(n.ID))
	}
	return "schema " + n.GUID.String()
}

// AppendID appends the name by id, as it stands in front of a value.
func AppendID(dst []byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, idPrefix), id)
}

// AppendGUID appends the name by GUID, as it stands in a header.
func AppendGUID(dst []byte, g GUID) []byte {
	return append(append(dst, guidPrefix), g[:]...)
}

// Parse reads how a record names its schema, and returns what follows. The error says what data does instead, without a
// subject: "begins with …".
func Parse(data []byte) (Name, []byte, error) {
	var n Name
	switch {
	case len(data) >= idLen && data[0] == idPrefix:
		n.ID = binary.BigEndian.Uint32(data[1:])
		return n, data[idLen:], nil
	case len(data) >= guidLen && data[0] == guidPrefix:
		copy(n.GUID[:], data[1:])
		return n, data[guidLen:], nil
	case len(data) > 0 && data[0] > guidPrefix:
		return n, nil, fmt.Errorf("begins with byte 0x%02x instead of 0x00 or 0x01: it was written by another serializer", data[0])
	case len(data) >= idLen:
		return n, nil, fmt.Errorf("has %d bytes, and a schema's GUID alone takes %d", len(data), guidLen)
	}
	return n, nil, fmt.Errorf("has %d bytes, and a schema id alone takes %d", len(data), idLen)
}
