package streams_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
)

// State that is not what was written to the disk is no record's fault: whatever the policy, no record is left out for it. The
// application ends and, started again, has its state from the changelogs.
func TestCorruptStateSkipsNoRecord(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		app := b.start(b.config("a"), nil)
		b.say(want, lines(2000, 3000)...)
		out.expect(want)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		tables, err := filepath.Glob(filepath.Join(b.dir, "a", b.app, "data", "*.sst"))
		if len(tables) == 0 || err != nil {
			t.Fatal("no tables", err)
		}
		for _, path := range tables {
			raw, err := os.ReadFile(path)
			for i := len(raw) / 4; i < len(raw)*3/4; i += 50 {
				raw[i] ^= 0x5a
			}
			if err := errors.Join(err, os.WriteFile(path, raw, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		cfg := b.config("a")
		cfg.OnError = func(context.Context, *streams.RecordError) streams.Decision { return streams.Skip() }
		b.say(want, lines(2000, 3000)...)
		stop, ended := make(chan struct{}), make(chan error, 1)
		go func() { // starts it again, as whatever runs it would
			for {
				app := b.start(cfg, nil)
				select {
				case <-app.done:
					if errors.Is(app.err, state.ErrCorrupt) {
						continue
					}
				case <-stop:
					app.stop()
					<-app.done
				}
				ended <- app.err
				return
			}
		}()
		out.expect(want)
		close(stop)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}
