package registry_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/broker/brokertest"
	"github.com/leatstream/leat/registry"
)

// child is the environment variable by which the test's own binary becomes the registry that is killed: the address it
// listens on and the broker's.
const child = "LEAT_TEST_REGISTRY"

// TestCrashChild is that registry; in a normal run it does nothing.
func TestCrashChild(t *testing.T) {
	listen, brokerAddr, ok := strings.Cut(os.Getenv(child), " ")
	if !ok {
		t.Skip("only for TestKilledWhileRegistering")
	}
	if _, err := registry.Start(t.Context(), registry.Config{Listen: listen, Brokers: []string{brokerAddr}}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	select {} // until it is killed
}

// spawn starts the registry as a process and returns when it is ready.
func spawn(t *testing.T, listen, brokerAddr string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
	c.Env = append(os.Environ(), child+"="+listen+" "+brokerAddr)
	c.Stderr = t.Output()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "ready") {
			return c
		}
		t.Log(lines.Text())
	}
	_ = c.Wait()
	t.Fatal("the registry did not start")
	return nil
}

// TestKilledWhileRegistering has 64 clients register schemas that they share and schemas of their own while the registry is
// killed, again and again: each schema has one id, no id has two schemas, and nothing that was acknowledged is lost.
func TestKilledWhileRegistering(t *testing.T) {
	const clients, each, kills = 64, 6, 4
	b := brokertest.Start(t, broker.Config{Dir: t.TempDir(), Listen: []string{"127.0.0.1:0"}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	backend, err := registry.NewHTTP("http://"+listen, registry.HTTPConfig{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()

	var acknowledged sync.Map // text to id
	var count atomic.Int64
	process := spawn(t, listen, b.Addr())
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for n := range each {
				for _, name := range []string{fmt.Sprintf("shared%d", n), fmt.Sprintf("own%dx%d", client, n)} {
					text := `{"type":"record","name":"` + name + `","fields":[]}`
					s, err := registerUntilKnown(ctx, backend, "subject-"+name, text)
					if err != nil {
						t.Error(err)
						return
					}
					if id, known := acknowledged.LoadOrStore(text, s.ID); known && id != s.ID {
						t.Errorf("%s has the ids %d and %d", name, id, s.ID)
					}
					count.Add(1)
				}
			}
		})
	}
	total := int64(clients * each * 2)
	for kill := range int64(kills) {
		for count.Load() < total*(kill+1)/(kills+2) && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // for the clients to get on
		}
		if err := errors.Join(process.Process.Kill(), ignoreKilled(process.Wait())); err != nil {
			t.Error(err)
		}
		process = spawn(t, listen, b.Addr())
	}
	wg.Wait()
	used := make(map[int]string)
	acknowledged.Range(func(text, id any) bool {
		if other, taken := used[id.(int)]; taken {
			t.Errorf("id %d is %s and %s", id, text, other)
		}
		used[id.(int)] = text.(string)
		if d, err := backend.SchemaByID(ctx, id.(int)); err != nil || d.Text != text {
			t.Errorf("schema %d is %q, %v: want %s", id, d.Text, err, text)
		}
		return true
	})
	if want := clients*each + each; len(used) != want {
		t.Errorf("%d schemas, want %d", len(used), want)
	}
	if err := errors.Join(process.Process.Kill(), ignoreKilled(process.Wait())); err != nil {
		t.Error(err)
	}
}

// registerUntilKnown repeats a registration whose outcome the crash hides.
func registerUntilKnown(ctx context.Context, b registry.Backend, subject, text string) (registry.Schema, error) {
	for {
		s, err := b.Register(ctx, subject, registry.Definition{Text: text})
		if err == nil || ctx.Err() != nil || !errors.Is(err, registry.ErrRegistryUnavailable) {
			return s, err
		}
		time.Sleep(5 * time.Millisecond) // the registry is being started again
	}
}

func ignoreKilled(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}
