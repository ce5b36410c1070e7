package streamstest_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// foreignOf is the foreign key of the vectors: what stands before the first ':', none when that is empty or 'none'.
func foreignOf(_, v str) (str, bool) {
	fk := upTo(v, ":")
	return fk, fk != nil && *fk != "" && *fk != "none"
}

var _ = more(map[string]func(x *vector){
	"fk-join-inner": func(x *vector) {
		l, r := leftRight(x)
		l.JoinForeign("fk", r, foreignOf, join2).ToStream().To(strs("out"))
	},
	"fk-join-inner-stored": func(x *vector) {
		l, r := leftRight(x)
		l.JoinForeign("fk", r, foreignOf, join2, x.kv[str, str]("j")).ToStream().To(strs("out"))
	},
	"fk-join-left": func(x *vector) {
		l, r := leftRight(x)
		l.LeftJoinForeign("fk", r, foreignOf, leftJoin2).ToStream().To(strs("out"))
	},
	"fk-join-left-stored": func(x *vector) {
		l, r := leftRight(x)
		l.LeftJoinForeign("fk", r, foreignOf, leftJoin2, x.kv[str, str]("j")).ToStream().To(strs("out"))
	},
	"fk-join-key-and-value": func(x *vector) {
		l, r := leftRight(x)
		l.JoinForeign("fk", r, func(k, v str) (str, bool) { return p(runes(*k)[0] + runes(*v)[0]), true }, join2).ToStream().To(strs("out"))
	},
	"fk-join-chain": func(x *vector) {
		pipe := func(_, l, r str) (str, error) { return p(text(l) + "|" + text(r)), nil }
		a, b := x.Table(strs("A"), x.kv[str, str]("a")), x.Table(strs("B"), x.kv[str, str]("b"))
		ab := a.JoinForeign("fk1", b, foreignOf, pipe, x.kv[str, str]("ab"))
		c := x.Table(strs("C"), x.kv[str, str]("c"))
		ab.JoinForeign("fk2", c, func(_, v str) (str, bool) {
			_, after, _ := strings.Cut(*v, "|")
			return upTo(p(after), ":"), true
		}, pipe).ToStream().To(strs("out"))
	},
	"fk-join-self": func(x *vector) {
		a := x.Table(strs("A"), x.kv[str, str]("a"))
		a.LeftJoinForeign("fk", a, func(_, v str) (str, bool) {
			_, after, found := strings.Cut(*v, ":")
			return p(after), found && after != "none"
		}, func(_, l str, r *str) (str, error) { return p(text(l) + "<" + sideText(r)), nil }).ToStream().To(strs("out"))
	},
	"fk-join-group": func(x *vector) {
		l, r := leftRight(x)
		l.JoinForeign("fk", r, foreignOf, func(_, _, r str) (str, error) { return r, nil }, x.kv[str, str]("j")).
			GroupBy(func(k, v str) (str, str, error) { return v, k, nil }).
			Count(x.kv[str, int64]("n")).ToStream().To(topic[str, int64]("out"))
	},
	"fk-join-of-filters": func(x *vector) {
		l := x.Table(strs("L"), x.kv[str, str]("l")).Filter(func(_, v str) bool { return !strings.HasSuffix(*v, "0") })
		r := x.Table(strs("R"), x.kv[str, str]("r")).Filter(func(_, v str) bool { return !strings.HasSuffix(*v, "1") })
		l.JoinForeign("fk", r, foreignOf, join2).ToStream().To(strs("out"))
	},
})

// 82: what a foreign-key join writes to its topics and its store is Kafka's, to the byte.
func TestForeignKeyRecordsEqualKafkas(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(vectorsDir(), "formats.json"))
	if err != nil {
		t.Fatal(err)
	}
	type record struct {
		Input, Topic string
		Key, Value   *string
		TS           int64 `json:"ts"`
		Headers      [][2]string
	}
	var formats struct {
		Foreign struct{ Vectors map[string][]record } `json:"foreign_key"`
	}
	if err := json.Unmarshal(raw, &formats); err != nil {
		t.Fatal(err)
	}
	for name, want := range formats.Foreign.Vectors {
		build := map[string]string{"left": "fk-join-left", "inner": "fk-join-inner"}[name]
		_, topology := buildVector(t, vectorTopologies[build])
		d := streamstest.New(t, topology, streams.Config{AppID: "v"})
		d.SendRaw("R", []byte("f"), []byte("F1"), at(1))
		for _, topic := range []string{"v-fk-subscription-registration-topic", "v-fk-subscription-response-topic", "v-fk-subscription-store-changelog"} {
			d.ReadRaw(topic)
			input := ""
			var w, g []string
			d := streamstest.New(t, topology, streams.Config{AppID: "v"})
			d.SendRaw("R", []byte("f"), []byte("F1"), at(1))
			for _, r := range want {
				if r.Input != input {
					input = r.Input
					sendForeign(d, input)
				}
				if r.Topic == topic {
					headers := len(r.Headers)
					if strings.HasSuffix(topic, "-changelog") {
						headers = 0 // Leat's changelogs have none
					}
					w = append(w, canonical([]any{r.Key, r.Value, r.TS, headers}))
				}
			}
			for _, r := range d.ReadRaw(topic) {
				g = append(g, canonical([]any{hexOrNil(r.Key), hexOrNil(r.Value), r.Timestamp.UnixMilli(), len(r.Headers)}))
			}
			if diff := cmp.Diff(w, g); diff != "" {
				t.Errorf("%s, %s (-Kafka +Leat):\n%s", name, topic, diff)
			}
		}
	}
	if len(formats.Foreign.Vectors) == 0 {
		t.Error("no vectors")
	}
}

// sendForeign sends an input of formats.json: topic|key|value|timestamp|headers, '~' for null.
func sendForeign(d *streamstest.Driver, input string) {
	in := strings.Split(input, "|")
	bytes := func(s string) []byte {
		if s == "~" {
			return nil
		}
		return []byte(s)
	}
	ts, _ := strconv.ParseInt(in[3], 10, 64)
	opts := []streamstest.Option{at(ts)}
	for _, h := range in[4:] {
		name, value, _ := strings.Cut(h, "=")
		opts = append(opts, streamstest.Headers(streams.Header{Key: name, Value: []byte(value)}))
	}
	d.SendRaw(in[0], bytes(in[1]), bytes(in[2]), opts...)
}

func hexOrNil(b []byte) any {
	if b == nil {
		return nil
	}
	return hex.EncodeToString(b)
}
