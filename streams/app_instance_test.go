package streams_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/streams"
)

// named is the configuration of an instance with a name, whose session outlives the test: nobody gets its tasks but by its name.
func (b *bench) named(dir string) streams.Config {
	c := b.config(dir)
	c.InstanceID, c.SessionTimeout = "pod-0", 5*time.Minute
	return c
}

func TestANamedInstanceComesBackWithoutItsDisk(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) { b.takesOver(b.named("first"), b.named("second")) })
}

func TestTwoInstancesOfOneNameFenceEachOther(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		first := b.start(b.named("first"), nil)
		first.ready(t)
		second := b.start(b.named("second"), nil)
		var err error
		select {
		case <-first.done:
			err = first.err
		case <-second.done:
			err = second.err
		case <-time.After(time.Minute):
			t.Fatal("both go on")
		}
		if !errors.Is(err, kerr.FencedInstanceID) || !strings.Contains(err.Error(), "Config.InstanceID") {
			t.Errorf("Run returned %v, want FENCED_INSTANCE_ID and what to do", err)
		}
	})
}

func TestASessionThatTheBrokersRefuseIsAnError(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		c := b.config("a")
		c.SessionTimeout = time.Hour
		app := b.start(c, nil)
		if err := app.wait(t); !errors.Is(err, kerr.InvalidSessionTimeout) || !strings.Contains(err.Error(), "Config.SessionTimeout") {
			t.Errorf("Run returned %v, want INVALID_SESSION_TIMEOUT and the field", err)
		}
	})
}
