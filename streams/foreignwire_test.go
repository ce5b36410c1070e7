package streams

import (
	"bytes"
	"testing"
)

// 82: records of foreign-key joins are read as they are written; other bytes are refused, not misread.
func TestForeignRecords(t *testing.T) {
	hash := rowHash{has: true}
	copy(hash.sum[:], "sixteen bytes ok")
	for _, s := range []subscription{
		{hash: hash, what: subscribeFound, key: []byte("k"), partition: 7},
		{what: unsubscribe, key: []byte{}, partition: 0},
	} {
		got, err := parseSubscription(s.append(nil))
		if err != nil || got.hash != s.hash || got.what != s.what || !bytes.Equal(got.key, s.key) || got.partition != s.partition {
			t.Errorf("%+v is read as %+v, %v", s, got, err)
		}
	}
	if got, err := parseSubscription([]byte{noHash, 2, 'k'}); err != nil || got.partition != -1 || string(got.key) != "k" {
		t.Errorf("version 0: %+v, %v", got, err)
	}
	for _, row := range [][]byte{nil, {}, []byte("row")} {
		for _, h := range []rowHash{{}, hash} {
			gotHash, gotRow, err := parseAnswer(appendAnswer(nil, h, row))
			if err != nil || gotHash != h || !bytes.Equal(gotRow, row) || (gotRow == nil) != (row == nil) {
				t.Errorf("row %v is read as %v (%v, %v)", row, gotRow, gotHash == h, err)
			}
		}
	}
	for _, bad := range []string{"", "\x01", "\x02\x01", "\x01\x04", "\x01\x02short", "\x81\x02abc"} {
		if _, err := parseSubscription([]byte(bad)); err == nil {
			t.Errorf("subscription %x is read", bad)
		}
	}
	for _, bad := range []string{"", "\x01", "\x00short"} {
		if _, _, err := parseAnswer([]byte(bad)); err == nil {
			t.Errorf("answer %x is read", bad)
		}
	}
}

// framed says that five bytes of a value are a schema's id.
type framed struct{}

func (framed) FrameLen([]byte) int { return 5 }

// 81: the schema id is no part of what is hashed and of a subscription's key.
func TestForeignHashesLeaveSchemaIDsOut(t *testing.T) {
	if got := bare(framed{}, []byte("\x00\x00\x00\x00\x07value")); string(got) != "value" {
		t.Errorf("bare is %q", got)
	}
	if got := bare(framed{}, []byte("shrt")); len(got) != 0 {
		t.Errorf("bare of less than a frame is %q", got)
	}
	if got := bare(struct{}{}, []byte("value")); string(got) != "value" {
		t.Errorf("bare without frames is %q", got)
	}
}
