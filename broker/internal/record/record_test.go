package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sample() []Record {
	return []Record{
		{Timestamp: 1000, Key: []byte("a"), Value: []byte("one")},
		{Timestamp: 990, Key: nil, Value: []byte{}},
		{Timestamp: 1500, Key: []byte{}, Value: nil, Headers: []Header{{"h", nil}, {"", []byte("x")}}},
		{Timestamp: 1001, Key: []byte("long"), Value: bytes.Repeat([]byte("v"), 300)},
	}
}

// collect copies all records of a batch.
func collect(b Batch, d *Decompressor) ([]Record, error) {
	var out []Record
	it := NewIterator(b, d)
	for it.Next() {
		r := *it.Record()
		r.Headers = append([]Header(nil), r.Headers...)
		out = append(out, r)
	}
	return out, it.Err()
}

// recompress replaces the payload of an uncompressed batch.
func recompress(b Batch, c Codec, payload []byte) Batch {
	out := append(append(Batch(nil), b[:HeaderBytes]...), payload...)
	binary.BigEndian.PutUint32(out[offLength:], uint32(len(out)-OverheadBytes))
	out[offAttr+1] = out[offAttr+1]&^AttrCodec | byte(c)
	out.seal()
	return out
}

func compress(t testing.TB, c Codec, src []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	switch c {
	case Gzip:
		w := gzip.NewWriter(&buf)
		w.Write(src)
		w.Close()
	case Snappy:
		return s2.EncodeSnappy(nil, src)
	case LZ4:
		w := lz4.NewWriter(&buf)
		w.Write(src)
		w.Close()
	case Zstd:
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		return w.EncodeAll(src, nil)
	}
	return buf.Bytes()
}

// xerial frames src as snappy-java does, in blocks of at most size bytes.
func xerial(src []byte, size int) []byte {
	out := append([]byte(nil), xerialMagic...)
	out = append(out, 0, 0, 0, 1, 0, 0, 0, 1)
	for len(src) > 0 {
		n := min(size, len(src))
		block := s2.EncodeSnappy(nil, src[:n])
		out = binary.BigEndian.AppendUint32(out, uint32(len(block)))
		out = append(out, block...)
		src = src[n:]
	}
	return out
}

func TestBuildHeader(t *testing.T) {
	recs := sample()
	b := Build(BatchInfo{BaseOffset: 7, LeaderEpoch: 3, Transactional: true, ProducerID: 9, ProducerEpoch: 2, BaseSequence: 5}, recs)
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(b.BaseOffset(), b.LastOffset(), b.LeaderEpoch(), b.Codec(), b.Transactional(), b.Control(), b.LogAppendTime(),
		b.BaseTimestamp(), b.MaxTimestamp(), b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.LastSequence(), b.Count(), b.Length() == len(b))
	if want := "7 10 3 0 true false false 1000 1500 9 2 5 8 4 true"; got != want {
		t.Errorf("header is %s, want %s", got, want)
	}
	// An independent reader of the format agrees.
	var k kmsg.RecordBatch
	if err := k.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	if k.FirstOffset != 7 || k.LastOffsetDelta != 3 || k.MaxTimestamp != 1500 || uint32(k.CRC) != b.CRC() || k.NumRecords != 4 {
		t.Errorf("kmsg reads %+v", k)
	}
}

func TestRoundTripAllCodecs(t *testing.T) {
	want := sample()
	for i := range want {
		want[i].Offset = int64(i)
	}
	plain := Build(NoProducer(), sample())
	var d Decompressor
	for name, b := range map[string]Batch{
		"none":          plain,
		"gzip":          recompress(plain, Gzip, compress(t, Gzip, plain.Payload())),
		"snappy":        recompress(plain, Snappy, compress(t, Snappy, plain.Payload())),
		"snappy-xerial": recompress(plain, Snappy, xerial(plain.Payload(), 100)),
		"lz4":           recompress(plain, LZ4, compress(t, LZ4, plain.Payload())),
		"zstd":          recompress(plain, Zstd, compress(t, Zstd, plain.Payload())),
	} {
		for range 2 { // the second time with pooled state
			got, err := collect(b, &d)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}

func TestBombsAreRefused(t *testing.T) {
	big := make([]byte, 32<<20)
	d := Decompressor{MaxBytes: 1 << 20}
	plain := Build(NoProducer(), sample())
	claim := binary.AppendUvarint(nil, 1<<32-1) // snappy: claims 4 GiB
	for name, b := range map[string]Batch{
		"gzip":         recompress(plain, Gzip, compress(t, Gzip, big)),
		"snappy":       recompress(plain, Snappy, compress(t, Snappy, big)),
		"snappy-claim": recompress(plain, Snappy, append(claim, 0, 0, 0)),
		"xerial":       recompress(plain, Snappy, xerial(big, 1<<19)),
		"lz4":          recompress(plain, LZ4, compress(t, LZ4, big)),
		"zstd":         recompress(plain, Zstd, compress(t, Zstd, big)),
	} {
		if _, err := collect(b, &d); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", name, err)
		}
	}
	if _, err := collect(recompress(plain, 5, nil), &d); !errors.Is(err, ErrCodec) {
		t.Errorf("codec 5: %v", err)
	}
}

func TestLogAppendTime(t *testing.T) {
	b := Build(NoProducer(), sample())
	b.SetLogAppendTime(5000)
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
	recs, err := collect(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		if r.Timestamp != 5000 {
			t.Errorf("record %d has time %d", r.Offset, r.Timestamp)
		}
	}
}

func TestOffsetsOutsideTheCRC(t *testing.T) {
	b := Build(NoProducer(), sample())
	b.SetBaseOffset(1 << 40)
	b.SetLeaderEpoch(77)
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	b := Build(NoProducer(), sample()[:2])
	for i := offCRC; i < len(b); i++ {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if b.Validate() == nil {
				t.Errorf("bit %d of byte %d", bit, i)
			}
			b[i] ^= 1 << bit
		}
	}
}

func TestControlMarker(t *testing.T) {
	for _, commit := range []bool{false, true} {
		b := ControlMarker(11, 4, commit, 99, 12345)
		if err := b.Validate(); err != nil {
			t.Fatal(err)
		}
		if b.Attributes() != 0x30 || b.ProducerID() != 11 || b.ProducerEpoch() != 4 || b.BaseSequence() != -1 || b.Count() != 1 {
			t.Errorf("header %x", b[:HeaderBytes])
		}
		m, known, err := ParseMarker(b)
		if err != nil || !known || m.Commit != commit || m.CoordinatorEpoch != 99 {
			t.Errorf("marker %+v %v %v", m, known, err)
		}
		it := NewIterator(b, nil)
		it.Next()
		var key kmsg.ControlRecordKey
		var end kmsg.EndTxnMarker
		if err := key.ReadFrom(it.Record().Key); err != nil {
			t.Fatal(err)
		}
		if err := end.ReadFrom(it.Record().Value); err != nil {
			t.Fatal(err)
		}
		if (key.Type == kmsg.ControlRecordKeyTypeCommit) != commit || end.CoordinatorEpoch != 99 {
			t.Errorf("kmsg reads %+v %+v", key, end)
		}
	}
}

func TestSequenceWrap(t *testing.T) {
	for _, c := range []struct{ seq, n, want int32 }{
		{0, 1, 1}, {1<<31 - 1, 1, 0}, {1<<31 - 2, 3, 1}, {5, 0, 5}, {-1, 4, -1},
	} {
		if got := AddSequence(c.seq, c.n); got != c.want {
			t.Errorf("%d + %d = %d, want %d", c.seq, c.n, got, c.want)
		}
	}
}

func TestIterateDoesNotAllocate(t *testing.T) {
	recs := make([]Record, 100)
	for i := range recs {
		recs[i] = Record{Key: []byte("key"), Value: []byte("value")}
	}
	b := Build(NoProducer(), recs)
	it := NewIterator(b, nil)
	if n := testing.AllocsPerRun(100, func() {
		it.Reset(b, nil)
		for it.Next() {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if it.Err() != nil {
		t.Error(it.Err())
	}
}

// FuzzBatch feeds bytes from outside: no panic, and what is accepted can be read within the limit.
func FuzzBatch(f *testing.F) {
	plain := Build(NoProducer(), sample())
	f.Add([]byte(plain))
	for c := Gzip; c <= Zstd; c++ {
		f.Add([]byte(recompress(plain, c, compress(f, c, plain.Payload()))))
	}
	f.Add([]byte(recompress(plain, Snappy, xerial(plain.Payload(), 50))))
	f.Add([]byte(ControlMarker(1, 2, true, 3, 4)))
	d := &Decompressor{MaxBytes: 1 << 20}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse(data)
		if err != nil {
			return
		}
		if len(b) < HeaderBytes || len(b) != b.Length() {
			t.Fatalf("Parse accepted %d bytes, length %d", len(b), b.Length())
		}
		_ = b.Validate()
		n := int32(0)
		it := NewIterator(b, d)
		for it.Next() {
			r := it.Record()
			if r.Offset < b.BaseOffset() || r.Offset > b.LastOffset() {
				t.Fatalf("offset %d outside of %d..%d", r.Offset, b.BaseOffset(), b.LastOffset())
			}
			n++
		}
		if it.Err() == nil && n != b.Count() {
			t.Fatalf("%d records, header says %d", n, b.Count())
		}
		ParseMarker(b)
	})
}
