package serde_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/leatstream/leat/serde"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = serde.Place{Topic: "orders"}

// check encodes v, compares with the bytes that Kafka's own serializer writes, and decodes them again.
func check[T any](t *testing.T, s serde.Serde[T], v T, want string) {
	t.Helper()
	before := []byte("before")
	got, err := s.Append(before, at, v)
	if err != nil {
		t.Fatalf("%v: %v", v, err)
	}
	if string(got) != "before"+want {
		t.Errorf("%v: appended % x, want % x", v, got[len(before):], want)
	}
	data := []byte(want)
	back, err := s.Decode(at, data)
	if err != nil {
		t.Fatalf("decode % x: %v", want, err)
	}
	clear(data) // data is valid during the call only
	if d := cmp.Diff(v, back); d != "" {
		t.Errorf("% x (-want +got):\n%s", want, d)
	}
	if f, ok := s.(serde.Fixed); ok && f.FixedSize() != len(want) {
		t.Errorf("FixedSize is %d, and %v has %d bytes", f.FixedSize(), v, len(want))
	}
}

// TestKafkaBytes compares with Kafka's StringSerializer, BytesSerializer, ShortSerializer, IntegerSerializer,
// LongSerializer, FloatSerializer, DoubleSerializer and BooleanSerializer.
func TestKafkaBytes(t *testing.T) {
	check(t, serde.String, "", "")
	check(t, serde.String, "Straße ☃", "Stra\xc3\x9fe \xe2\x98\x83")
	check(t, serde.Bytes, []byte("\x00\xff"), "\x00\xff")
	check(t, serde.Bytes, []byte{}, "")
	check(t, serde.Bool, true, "\x01")
	check(t, serde.Bool, false, "\x00")
	check(t, serde.Int16, -2, "\xff\xfe")
	check(t, serde.Int32, 0x01020304, "\x01\x02\x03\x04")
	check(t, serde.Int32, math.MinInt32, "\x80\x00\x00\x00")
	check(t, serde.Int64, -1, "\xff\xff\xff\xff\xff\xff\xff\xff")
	check(t, serde.Int64, math.MaxInt64, "\x7f\xff\xff\xff\xff\xff\xff\xff")
	check(t, serde.Int, 258, "\x00\x00\x00\x00\x00\x00\x01\x02")
	check(t, serde.Uint32, math.MaxUint32, "\xff\xff\xff\xff")
	check(t, serde.Uint64, 1<<63, "\x80\x00\x00\x00\x00\x00\x00\x00")
	check(t, serde.Float32, 1.5, "\x3f\xc0\x00\x00")
	check(t, serde.Float64, -2, "\xc0\x00\x00\x00\x00\x00\x00\x00")
	check(t, serde.Float64, math.Inf(1), "\x7f\xf0\x00\x00\x00\x00\x00\x00")
	check(t, serde.Time, time.UnixMilli(258).UTC(), "\x00\x00\x00\x00\x00\x00\x01\x02")
	check(t, serde.Time, time.UnixMilli(-1).UTC(), "\xff\xff\xff\xff\xff\xff\xff\xff")
}

func TestJSON(t *testing.T) {
	type order struct {
		ID    string `json:"id"`
		Cents int    `json:"cents,omitempty"`
	}
	check(t, serde.JSON[order](), order{"o1", 5}, `{"id":"o1","cents":5}`)
	check(t, serde.JSON[[]int](), []int{1, 2}, `[1,2]`)
	check(t, serde.JSON[*order](), nil, `null`)
	if _, err := serde.JSON[order]().Decode(at, []byte(`{"id":7}`)); err == nil || !strings.Contains(err.Error(), `value of topic "orders"`) {
		t.Errorf("error %v", err)
	}
	if _, err := serde.JSON[chan int]().Append([]byte{}, at, nil); err == nil || !strings.Contains(err.Error(), `value of topic "orders"`) {
		t.Errorf("error %v", err)
	}
	if serde.IsNullAware(serde.JSON[*order]()) {
		t.Error("JSON takes null")
	}
}

func TestOf(t *testing.T) {
	odd := errors.New("odd")
	points := serde.Of("point", func(dst []byte, p [2]byte) ([]byte, error) {
		if p[0] == 13 {
			return nil, odd
		}
		return append(dst, p[:]...), nil
	}, func(data []byte) (p [2]byte, err error) {
		if len(data) != 2 {
			return [2]byte{1}, odd
		}
		return [2]byte(data), nil
	})
	check(t, points, [2]byte{'x', 'y'}, "xy")
	_, err := points.Append([]byte{}, at, [2]byte{13})
	if want := `encode value of topic "orders" as point: odd`; !errors.Is(err, odd) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	p, err := points.Decode(at, []byte("xyz"))
	if want := `decode value of topic "orders" as point: odd`; !errors.Is(err, odd) || err.Error() != want || p != [2]byte{} {
		t.Errorf("got %v, %v; want %s", p, err, want)
	}
	if f := serde.FormatOf(points); f != "point" {
		t.Errorf("format %q", f)
	}
	// What has nothing to write is empty, and not null: a tombstone has to be asked for.
	nothing := serde.Of("", func([]byte, bool) ([]byte, error) { return nil, nil }, func([]byte) (bool, error) { return false, odd })
	if b, err := nothing.Append([]byte{}, at, true); b == nil || err != nil {
		t.Errorf("nothing to write is %v, %v; want no bytes, which is not null", b, err)
	}
	if _, err := nothing.Decode(at, []byte{}); err == nil || err.Error() != `decode value of topic "orders": odd` {
		t.Error(err)
	}
	if n, err := serde.Nullable(points).Append([]byte{}, at, nil); n != nil || err != nil {
		t.Errorf("null is %v, %v", n, err)
	}
}

func TestNullable(t *testing.T) {
	s := serde.Nullable(serde.Int32)
	if got, err := s.Append([]byte{}, at, nil); got != nil || err != nil {
		t.Errorf("nil is written as %v, %v", got, err)
	}
	if got, err := s.Decode(at, nil); got != nil || err != nil {
		t.Errorf("null is read as %v, %v", got, err)
	}
	v := int32(7)
	check(t, s, &v, "\x00\x00\x00\x07")
	// Empty is a value: of a string, the empty one; of an int, an error.
	if got, err := serde.Nullable(serde.String).Decode(at, []byte{}); err != nil || got == nil || *got != "" {
		t.Errorf("empty is read as %v, %v", got, err)
	}
	if _, err := s.Decode(at, []byte{}); !errors.Is(err, serde.ErrLength) {
		t.Errorf("no bytes as an int: %v", err)
	}
	if !serde.IsNullAware(s) || !serde.IsNullAware(serde.Bytes) || serde.IsNullAware(serde.String) {
		t.Error("IsNullAware is wrong")
	}
	if got, err := serde.Bytes.Append([]byte("x"), at, nil); got != nil || err != nil {
		t.Errorf("nil bytes are written as %v, %v", got, err)
	}
	if got, err := serde.Bytes.Decode(at, nil); got != nil || err != nil {
		t.Errorf("null is read as %v, %v", got, err)
	}
}

// TestWindowedKeys compares with Kafka Streams' TimeWindowedSerializer and SessionWindowedSerializer.
func TestWindowedKeys(t *testing.T) {
	start := time.UnixMilli(0x0102030405060708).UTC()
	end := start.Add(time.Minute)
	key := serde.WindowedKey[string]{Key: "k", Start: start, End: end}
	check(t, serde.Windowed(serde.String, time.Minute), key, "k\x01\x02\x03\x04\x05\x06\x07\x08")
	check(t, serde.SessionWindowed(serde.String), key, "k\x01\x02\x03\x04\x05\x06\xf1\x68"+"\x01\x02\x03\x04\x05\x06\x07\x08")
	check(t, serde.Windowed(serde.Int64, time.Minute), serde.WindowedKey[int64]{Key: 1, Start: start, End: end},
		"\x00\x00\x00\x00\x00\x00\x00\x01"+"\x01\x02\x03\x04\x05\x06\x07\x08")
	for name, s := range map[string]serde.Serde[serde.WindowedKey[string]]{"time": serde.Windowed(serde.String, 1), "session": serde.SessionWindowed(serde.String)} {
		data, err := s.Append([]byte{}, at, key)
		if err != nil {
			t.Fatal(err)
		}
		if n := s.(serde.Inner).InnerLen(data); string(data[:n]) != "k" {
			t.Errorf("%s: the key's own bytes are %q", name, data[:n])
		}
		if n := s.(serde.Inner).InnerLen(nil); n != 0 {
			t.Errorf("%s: InnerLen of nothing is %d", name, n)
		}
		if _, err := s.Decode(at, data[len(data)-7:]); !errors.Is(err, serde.ErrLength) {
			t.Errorf("%s: seven bytes: %v", name, err)
		}
	}
	broken := serde.Windowed(serde.Int32, time.Minute)
	if _, err := broken.Decode(at, make([]byte, 9)); !errors.Is(err, serde.ErrLength) {
		t.Errorf("a key of one byte as an int: %v", err)
	}
}

func TestWrongLengths(t *testing.T) {
	place := serde.Place{Topic: "t", Key: true}
	for n := range 10 {
		data := make([]byte, n)
		for name, err := range map[string]error{
			"Bool": errOf(serde.Bool.Decode(place, data)), "Int16": errOf(serde.Int16.Decode(place, data)),
			"Int32": errOf(serde.Int32.Decode(place, data)), "Int64": errOf(serde.Int64.Decode(place, data)),
			"Float32": errOf(serde.Float32.Decode(place, data)), "Time": errOf(serde.Time.Decode(place, data)),
		} {
			size := map[string]int{"Bool": 1, "Int16": 2, "Int32": 4, "Int64": 8, "Float32": 4, "Time": 8}[name]
			if (err == nil) != (n == size) {
				t.Errorf("%s of %d bytes: %v", name, n, err)
			}
			if err != nil && (!errors.Is(err, serde.ErrLength) || !strings.Contains(err.Error(), `key of topic "t"`)) {
				t.Errorf("%s of %d bytes: %v", name, n, err)
			}
		}
	}
	if _, err := serde.Bool.Decode(place, []byte{2}); err == nil {
		t.Error("2 is a bool")
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestFor(t *testing.T) {
	ok := func(name string, err error) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok("string", errOf(serde.For[string]()))
	ok("[]byte", errOf(serde.For[[]byte]()))
	ok("bool", errOf(serde.For[bool]()))
	ok("int16", errOf(serde.For[int16]()))
	ok("int32", errOf(serde.For[int32]()))
	ok("int64", errOf(serde.For[int64]()))
	ok("int", errOf(serde.For[int]()))
	ok("uint32", errOf(serde.For[uint32]()))
	ok("uint64", errOf(serde.For[uint64]()))
	ok("float32", errOf(serde.For[float32]()))
	ok("float64", errOf(serde.For[float64]()))
	ok("time.Time", errOf(serde.For[time.Time]()))
	ok("*string", errOf(serde.For[*string]()))
	ok("*bool", errOf(serde.For[*bool]()))
	ok("*int16", errOf(serde.For[*int16]()))
	ok("*int32", errOf(serde.For[*int32]()))
	ok("*int64", errOf(serde.For[*int64]()))
	ok("*int", errOf(serde.For[*int]()))
	ok("*uint32", errOf(serde.For[*uint32]()))
	ok("*uint64", errOf(serde.For[*uint64]()))
	ok("*float32", errOf(serde.For[*float32]()))
	ok("*float64", errOf(serde.For[*float64]()))
	ok("*time.Time", errOf(serde.For[*time.Time]()))
	s, err := serde.For[*int64]()
	ok("*int64", err)
	if !serde.IsNullAware(s) {
		t.Error("the serde of a pointer does not take null")
	}
	type order struct{}
	if _, err := serde.For[order](); !errors.Is(err, serde.ErrNoSerde) || !strings.Contains(err.Error(), "serde.JSON[serde_test.order]()") {
		t.Errorf("a struct: %v", err)
	}
}

// TestRoundTrips has values by the thousand, and checks that numbers of the same sign sort as their bytes do, which
// stores rely on.
func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roundTrip(t, serde.String, rapid.String().Draw(t, "string"))
		roundTrip(t, serde.Int64, rapid.Int64().Draw(t, "int64"))
		roundTrip(t, serde.Float64, rapid.Float64().Draw(t, "float64"))
		roundTrip(t, serde.Nullable(serde.Int16), rapid.Ptr(rapid.Int16(), true).Draw(t, "*int16"))
		start := time.UnixMilli(rapid.Int64Range(0, 1<<45).Draw(t, "start")).UTC()
		key := serde.WindowedKey[string]{Key: rapid.String().Draw(t, "key"), Start: start, End: start.Add(time.Hour)}
		roundTrip(t, serde.Windowed(serde.String, time.Hour), key)
		roundTrip(t, serde.SessionWindowed(serde.String), key)

		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		if order := bytes.Compare(encode(t, serde.Uint64, a), encode(t, serde.Uint64, b)); (a < b) != (order < 0) {
			t.Fatalf("%d and %d sort as %d", a, b, order)
		}
	})
}

func encode[T any](t *rapid.T, s serde.Serde[T], v T) []byte {
	data, err := s.Append([]byte{}, at, v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func roundTrip[T any](t *rapid.T, s serde.Serde[T], v T) {
	got, err := s.Decode(at, encode(t, s, v))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(v, got); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
}

func TestPlace(t *testing.T) {
	if got := (serde.Place{Topic: "t", Key: true}).String(); got != `key of topic "t"` {
		t.Error(got)
	}
}

func BenchmarkInt64(b *testing.B) {
	buf := make([]byte, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		data, err := serde.Int64.Append(buf, at, 42)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := serde.Int64.Decode(at, data); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleNullable() {
	prices := serde.Nullable(serde.Int64) // a Serde[*int64]
	place := serde.Place{Topic: "prices"}
	null, _ := prices.Append([]byte{}, place, nil)
	five := int64(5)
	data, _ := prices.Append([]byte{}, place, &five)
	fmt.Println(null == nil, data)
	// Output: true [0 0 0 0 0 0 0 5]
}

func ExampleJSON() {
	type Order struct {
		ID    string `json:"id"`
		Cents int    `json:"cents"`
	}
	orders := serde.JSON[Order]()
	place := serde.Place{Topic: "orders"}
	data, err := orders.Append([]byte{}, place, Order{"o1", 500})
	fmt.Println(string(data), err)
	o, err := orders.Decode(place, data)
	fmt.Println(o.Cents, err)
	// Output:
	// {"id":"o1","cents":500} <nil>
	// 500 <nil>
}

func ExampleWindowed() {
	counts := serde.Windowed(serde.String, time.Minute)
	place := serde.Place{Topic: "counts", Key: true}
	start := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	data, err := counts.Append([]byte{}, place, serde.WindowedKey[string]{Key: "de", Start: start})
	fmt.Println(len(data), err)
	key, err := counts.Decode(place, data)
	fmt.Println(key.Key, key.Start.Format(time.TimeOnly), key.End.Format(time.TimeOnly), err)
	// Output:
	// 10 <nil>
	// de 03:04:00 03:05:00 <nil>
}

func ExampleFor() {
	_, err := serde.For[struct{}]()
	fmt.Println(err)
	// Output: serde: no serde for type struct {}: name one in the Topic or Store descriptor, for example serde.JSON[struct {}]()
}
