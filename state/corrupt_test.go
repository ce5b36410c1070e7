package state

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/leatstream/leat/serde"
)

// spoil damages the files of a directory that match.
func spoil(t *testing.T, how func(path string) error, dir string, patterns ...string) {
	t.Helper()
	n := 0
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			n++
			if err := how(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n == 0 {
		t.Fatalf("no %v in %s", patterns, dir)
	}
}

// flip changes bytes in the middle of a file, flipAll from its beginning on.
func flip(path string) error    { return flipFrom(path, 1, 4) }
func flipAll(path string) error { return flipFrom(path, 0, 4) }

func flipFrom(path string, part, of int) error {
	b, err := os.ReadFile(path)
	for i := len(b)*part/of + 8; i < len(b)*3/4; i += 97 {
		b[i] ^= 0x5a
	}
	return errors.Join(err, os.WriteFile(path, b, 0o600))
}

func withRows(t *testing.T, dir string, m Medium) {
	t.Helper()
	db := must[*DB](t)(Open(Options{Dir: dir}))
	sh := must[*Shard](t)(db.Shard("s", 0, ShardOptions{Medium: m}))
	var recs []Restored
	for i := range 20_000 {
		recs = append(recs, Restored{Key: []byte(be(uint64(i))), Value: []byte(be(uint64(i)))})
	}
	err := sh.Restore(recs, Position{Offset: 20_000})
	if _, idErr := db.InstanceID(); err == nil {
		err = idErr
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// readRows reads every row, and returns how many there are.
func readRows(db *DB, m Medium) (n int, err error) {
	sh, err := db.Shard("s", 0, ShardOptions{Medium: m})
	if err != nil {
		return 0, err
	}
	for _, err = range ViewKeyValue(sh, serde.String, serde.Int64, "").All() {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// A table that is not what was written ends the database, and nothing panics; the next start begins without it.
func TestACorruptTableIsNoticedAndLeftBehind(t *testing.T) {
	dir := t.TempDir()
	withRows(t, dir, Disk)
	spoil(t, flip, filepath.Join(dir, "data"), "*.sst")
	db := must[*DB](t)(Open(Options{Dir: dir}))
	if n, err := readRows(db, Disk); err == nil {
		t.Errorf("%d rows of a corrupt table were read", n)
	}
	if err := db.Err(); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), ".sst") || !strings.Contains(err.Error(), "changelogs") {
		t.Errorf("the database says %v, want ErrCorrupt, the file, and what comes next", err)
	}
	if err := db.Close(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Close returned %v", err)
	}
	var said bytes.Buffer
	db = must[*DB](t)(Open(Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&said, nil))}))
	defer db.Close()
	if n, err := readRows(db, Disk); n != 0 || err != nil || db.Err() != nil {
		t.Errorf("%d rows, %v, %v after a start that leaves the table behind, want none", n, err, db.Err())
	}
	if sh := must[*Shard](t)(db.Shard("s", 0, ShardOptions{})); !strings.Contains(said.String(), "rebuilt from their changelogs") {
		t.Errorf("the log says %q", said.String())
	} else if pos, has := sh.Position(); has {
		t.Errorf("the shard stands at %v, want nowhere", pos)
	}
	if _, err := os.Stat(filepath.Join(dir, instanceFile)); err != nil {
		t.Error("the instance's identity is gone:", err)
	}
	if _, err := os.Stat(filepath.Join(dir, corruptFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the mark stays:", err)
	}
}

// What Pebble needs to open its directory may be damaged, too, or gone.
func TestADirectoryThatDoesNotOpenIsLeftBehind(t *testing.T) {
	for name, how := range map[string]func(dir string){
		"manifest":  func(dir string) { spoil(t, flipAll, dir, "MANIFEST-*") },
		"catalogue": func(dir string) { spoil(t, flipAll, dir, "*.sst") },
		"table":     func(dir string) { spoil(t, os.Remove, dir, "*.sst") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			withRows(t, dir, Disk)
			how(filepath.Join(dir, "data"))
			db, err := Open(Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if n, err := readRows(db, Disk); n != 0 || err != nil {
				t.Errorf("%d rows, %v, want none", n, err)
			}
		})
	}
}

// Nothing brings back what has no changelog, so nothing removes it.
func TestCorruptStateWithoutChangelogsStays(t *testing.T) {
	dir := t.TempDir()
	withRows(t, dir, Logged)
	spoil(t, flip, filepath.Join(dir, "logged"), "*.sst", "*.log")
	for range 2 {
		db, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = readRows(db, Logged); err == nil {
			t.Error("rows of a corrupt table were read")
		}
		if err := db.Close(); err != nil && !strings.Contains(err.Error(), "without a changelog") {
			t.Errorf("Close returned %v", err)
		}
	}
	if found, err := filepath.Glob(filepath.Join(dir, "logged", "*.sst")); len(found) == 0 || err != nil {
		t.Errorf("the tables are gone: %v", err)
	}
}
