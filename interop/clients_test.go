//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// TestKcat produces keyed records and tombstones with kcat under every codec, and reads them back: one by one with their
// offsets, as a group, and by the metadata listing.
func TestKcat(t *testing.T) {
	kcat := need(t, "kcat", "kcat")
	against(t, func(t *testing.T, addr string) {
		for _, codec := range codecs {
			t.Run(codec, func(t *testing.T) {
				topic := "kcat-" + codec
				var in strings.Builder
				for i := range 500 {
					fmt.Fprintf(&in, "k%d:value %d %s\n", i%7, i, strings.Repeat("x", i%50))
				}
				in.WriteString("k0:\n") // with -Z an empty value is null
				run(t, "", []byte(in.String()), kcat, "-b", addr, "-P", "-t", topic, "-z", codec, "-K:", "-Z")
				out := run(t, "", nil, kcat, "-b", addr, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-Z", "-f", "%k:%s\n")
				wantRecords(t, in.String(), out)
				group := run(t, "", nil, kcat, "-b", addr, "-G", "readers-"+codec, "-X", "auto.offset.reset=earliest", "-e", "-q", "-Z", "-f", "%k:%s\n", topic)
				wantRecords(t, in.String(), group)
				if list := run(t, "", nil, kcat, "-b", addr, "-L", "-t", topic); !strings.Contains(list, `topic "`+topic+`" with 3 partitions`) {
					t.Errorf("metadata lists:\n%s", list)
				}
			})
		}
	})
}

// wantRecords compares per key and in order: partitions are read one after another.
func wantRecords(t *testing.T, in, out string) {
	t.Helper()
	byKey := func(s string) map[string][]string {
		m := map[string][]string{}
		for line := range strings.Lines(s) {
			k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			if v == "" {
				v = "NULL" // how kcat prints null under -Z
			}
			m[k] = append(m[k], v)
		}
		return m
	}
	want, got := byKey(in), byKey(out)
	for k := range want {
		if strings.Join(got[k], "\n") != strings.Join(want[k], "\n") {
			t.Errorf("key %s: %d records came back, %d went in, or in another order", k, len(got[k]), len(want[k]))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d keys came back, want %d", len(got), len(want))
	}
}

// TestKafkaJS runs the beginner's tutorial of kafkajs under every codec.
func TestKafkaJS(t *testing.T) {
	node, npm := need(t, "node", "nodejs"), need(t, "npm", "npm")
	if _, err := os.Stat(filepath.Join("kafkajs", "node_modules", "kafkajs")); err != nil {
		run(t, "kafkajs", nil, npm, "ci", "--no-audit", "--no-fund")
	}
	against(t, func(t *testing.T, addr string) {
		for _, codec := range codecs {
			t.Run(codec, func(t *testing.T) {
				out := run(t, "kafkajs", nil, node, "tutorial.js", addr, codec)
				var users map[string]struct{ Name, City string }
				if err := json.Unmarshal([]byte(out), &users); err != nil {
					t.Fatalf("%v in %q", err, out)
				}
				if len(users) != 2 || users["ada"].City != "London" || users["linus"].City != "Portland" {
					t.Errorf("the latest values are %v: want Ada in London, Linus moved to Portland, Grace deleted", users)
				}
			})
		}
	})
}
