package broker

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The broker's own topics are not begun anew, nor gone on with, when something that was on disk is missing at their ends: lists of who may
// do what would be back at what they were. The start is refused, and refused again, until somebody decides.
func TestInternalTopicsThatLackTheirEndsAreRefused(t *testing.T) {
	for _, topic := range []string{metadataTopic, offsetsTopic} {
		for _, how := range []string{"halved", "emptied", "removed"} {
			dir := t.TempDir()
			cfg := Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
			b, err := Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			createTopic(t, b, "t", 1)
			do[*kmsg.OffsetCommitResponse](dialRaw(t, b), &kmsg.OffsetCommitRequest{Group: "g", Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}}, 8)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, topic+"-0", "00000000000000000000.log")
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			switch how {
			case "halved":
				err = os.Truncate(name, info.Size()/2)
			case "emptied":
				err = os.Truncate(name, 0)
			case "removed":
				err = os.Remove(name)
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if b, err := Start(t.Context(), cfg); err == nil {
					_ = b.Close()
					t.Errorf("%s %s: started", topic, how)
				} else if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "remove the .seal and .snapshot") {
					t.Errorf("%s %s: the error does not say what to do: %v", topic, how, err)
				}
			}
			if topic == metadataTopic && how != "halved" {
				continue // then nothing is left to go on with
			}
			for _, suffix := range []string{"*.seal", "*.snapshot"} {
				found, err := filepath.Glob(filepath.Join(dir, topic+"-0", suffix))
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range found {
					if err := os.Remove(f); err != nil {
						t.Fatal(err)
					}
				}
			}
			startWith(t, cfg)
		}
	}
}

// A byte of the metadata rots, and the process is killed: what comes behind the damage was acknowledged, and is not taken for what a crash
// left of a write.
func TestDamageInTheMidstOfMetadataIsRefused(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	b := startWith(t, Config{Dir: dir})
	createTopic(t, b, "first", 1)
	createTopic(t, b, "second", 1)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(copied, metadataTopic+"-0", "00000000000000000000.log")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: copied, Logger: slog.New(slog.DiscardHandler)}
	for _, topic := range []string{"first", "second"} {
		last := topic == "second" // nothing tells this from the remains of a crash
		data := bytes.Clone(whole)
		data[bytes.LastIndex(data, []byte(topic))] ^= 1
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Start(t.Context(), cfg)
		if (err == nil) != last {
			t.Errorf("the record of the %s topic: %v", topic, err)
		}
		if err != nil && (!strings.Contains(err.Error(), name+" at byte ") || !strings.Contains(err.Error(), "from a copy")) {
			t.Errorf("the error does not say where and what to do: %v", err)
		}
		if err == nil && b.Close() != nil {
			t.Error("not closed")
		}
	}
}
