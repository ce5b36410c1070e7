package journal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, fs vfs.FS) (*log.Log, *Journal) {
	t.Helper()
	l, err := log.Open(fs, "/j-0", log.Config{Name: "j-0"}, nil) // without a syncer every append is synced at once
	if err != nil {
		t.Fatal(err)
	}
	return l, New(l)
}

func TestReplay(t *testing.T) {
	fs := vfs.NewMem()
	l, j := open(t, fs)
	end, err := j.Append([]Entry{{[]byte("a"), []byte("1")}, {[]byte("b"), nil}})
	if err != nil || end != 2 {
		t.Fatalf("end %d, %v", end, err)
	}
	refused := errors.New("not today")
	if _, err := j.AppendTxn(Producer{7, 3}, []Entry{{[]byte("c"), []byte("x")}}, func() error { return refused }); !errors.Is(err, refused) {
		t.Errorf("refused: %v", err)
	}
	if end, err = j.AppendTxn(Producer{7, 3}, []Entry{{[]byte("c"), []byte("2")}}, func() error { return nil }); err != nil || end != 3 {
		t.Fatalf("end %d, %v", end, err)
	}
	if err := j.WaitSynced(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendMarker(7, 3, true, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, j = open(t, fs)
	defer l.Close()
	var got []string
	v := Visitor{
		Record: func(producerID, offset int64, key, value []byte) error {
			got = append(got, fmt.Sprintf("%d:%d:%s=%s:%v", offset, producerID, key, value, value == nil))
			return nil
		},
		Marker: func(producerID int64, commit bool) error {
			got = append(got, fmt.Sprintf("%d commit=%v", producerID, commit))
			return nil
		},
	}
	if err := j.Replay(v); err != nil {
		t.Fatal(err)
	}
	if s := strings.Join(got, " "); s != "0:-1:a=1:false 1:-1:b=:true 2:7:c=2:false 7 commit=true" {
		t.Errorf("replayed: %s", s)
	}
	v.Record = func(int64, int64, []byte, []byte) error { return refused }
	if err := j.Replay(v); !errors.Is(err, refused) {
		t.Errorf("a visitor's error: %v", err)
	}
	if err := j.Replay(Visitor{}); err != nil {
		t.Errorf("nobody looks: %v", err)
	}
}
