package streamstest_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// formats reads one section of formats.json.
func formats[T any](t *testing.T, section string) T {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(vectorsDir(), "formats.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct{ Vectors json.RawMessage }
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(all[section].Vectors, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// 61: windowed keys on topics, and the keys of windows and sessions in changelogs, are Kafka's to the byte.
func TestWindowedKeysEqualKafkas(t *testing.T) {
	seen := 0
	for _, v := range formats[[]struct {
		Kind, Inner, Hex string
		Key              any
		Start, End       int64
	}](t, "windowed_keys") {
		if v.Inner != "string" {
			continue
		}
		key := serde.WindowedKey[string]{Key: v.Key.(string), Start: time.UnixMilli(v.Start).UTC(), End: time.UnixMilli(v.End).UTC()}
		var s serde.Serde[serde.WindowedKey[string]]
		switch v.Kind {
		case "time":
			s = serde.Windowed(serde.String, time.Duration(v.End-v.Start)*time.Millisecond)
		case "session":
			s = serde.SessionWindowed(serde.String)
		default:
			continue
		}
		seen++
		got, err := s.Append([]byte{}, serde.Place{}, key)
		if err != nil || hex.EncodeToString(got) != v.Hex {
			t.Errorf("%s key %q [%d, %d]: %x, %v; want %s", v.Kind, v.Key, v.Start, v.End, got, err, v.Hex)
		}
		back, err := s.Decode(serde.Place{}, got)
		if err != nil || !back.Start.Equal(key.Start) || back.Key != key.Key || (v.End-v.Start < 1<<40 && !back.End.Equal(key.End)) {
			t.Errorf("%s key %q [%d, %d] is read as %+v, %v", v.Kind, v.Key, v.Start, v.End, back, err)
		}
	}
	if seen < 8 {
		t.Errorf("%d vectors", seen)
	}
}

// 83: the changelogs of small topologies are Kafka's to the byte: plain values, and the rows' timestamps as the records'. Of
// one commit Leat logs the keys in order.
func TestChangelogsEqualKafkas(t *testing.T) {
	type logged struct {
		Input, Topic, Key string
		Value             *string
		TS                int64 `json:"ts"`
	}
	all := formats[map[string][]logged](t, "changelogs")
	for name, build := range map[string]func(x *vector){
		"kv":       func(x *vector) { x.Stream(strs("A")).GroupByKey().Count(x.kv[str, int64]("n")) },
		"kv-table": func(x *vector) { x.Table(strs("A"), x.kv[str, str]("a")) },
		"window": func(x *vector) {
			x.Stream(strs("A")).GroupByKey().WindowedBy(streams.Tumbling(10 * milli).Grace(time.Hour)).
				Count(streams.WindowStore[str, int64]{Name: "w", Retention: 2 * time.Hour})
		},
		"session": func(x *vector) {
			x.Stream(strs("A")).GroupByKey().WindowedBySession(streams.Session(5 * milli).Grace(time.Hour)).
				Count(streams.SessionStore[str, int64]{Name: "s", Retention: 2 * time.Hour})
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, topology := buildVector(t, build)
			d := streamstest.New(t, topology, streams.Config{AppID: "v"})
			var want, got []string
			before := ""
			for _, r := range all[name] {
				if r.Input != before {
					sendInput(d, r.Input)
					before = r.Input
				}
				value := "null"
				if r.Value != nil {
					value = *r.Value
				}
				want = append(want, fmt.Sprint(r.Key, " ", value, " ", r.TS))
			}
			if len(want) == 0 {
				t.Fatal("no vectors")
			}
			for _, r := range d.ReadRaw(all[name][0].Topic) {
				value := "null"
				if r.Value != nil {
					value = hex.EncodeToString(r.Value)
				}
				got = append(got, fmt.Sprint(hex.EncodeToString(r.Key), " ", value, " ", r.Timestamp.UnixMilli()))
			}
			if name == "session" { // one record changes three keys, which are logged in order
				slices.Sort(want)
				slices.Sort(got)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-Kafka +Leat):\n%s", diff)
			}
		})
	}
}

// sendInput sends a record that is written as topic|key|value|timestamp|headers.
func sendInput(d *streamstest.Driver, input string) {
	in := strings.Split(input, "|")
	ts, _ := strconv.ParseInt(in[3], 10, 64)
	null := func(s string) []byte {
		if s == "~" {
			return nil
		}
		return []byte(s)
	}
	var hs []streams.Header
	for _, h := range in[4:] {
		name, value, _ := strings.Cut(h, "=")
		hs = append(hs, streams.Header{Key: name, Value: []byte(value)})
	}
	d.SendRaw(in[0], null(in[1]), null(in[2]), at(ts), streamstest.Headers(hs...))
}

// What serdes write is what Kafka's write.
func TestSerdesEqualKafkas(t *testing.T) {
	seen := 0
	for _, v := range formats[[]struct {
		Serde, Hex string
		Value      json.RawMessage
	}](t, "serdes") {
		var got []byte
		var err error
		switch v.Serde {
		case "string":
			got, err = encoded(serde.String, v.Value)
		case "int64":
			got, err = encoded(serde.Int64, v.Value)
		case "int32":
			got, err = encoded(serde.Int32, v.Value)
		case "int16":
			got, err = encoded(serde.Int16, v.Value)
		case "bool":
			got, err = encoded(serde.Bool, v.Value)
		default:
			continue
		}
		seen++
		if err != nil || hex.EncodeToString(got) != v.Hex {
			t.Errorf("%s %s is %x, %v; want %s", v.Serde, v.Value, got, err, v.Hex)
		}
	}
	if seen < 20 {
		t.Errorf("%d vectors", seen)
	}
}

func encoded[T any](s serde.Serde[T], value json.RawMessage) ([]byte, error) {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, err
	}
	return s.Append([]byte{}, serde.Place{}, v)
}
