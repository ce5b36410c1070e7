package registry_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/broker/brokertest"
	"github.com/leatstream/leat/registry"
)

func startOn(t *testing.T, b *broker.Broker) *registry.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := registry.Start(ctx, registry.Config{ClientOpts: []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestOnBroker keeps schemas in Leat's own broker, in process, through a restart of both.
func TestOnBroker(t *testing.T) {
	dir := t.TempDir()
	b := brokertest.Start(t, broker.Config{Dir: dir})
	s := startOn(t, b)
	ids := make(map[string]int)
	for i := range 20 {
		text := fmt.Sprintf(`{"type":"fixed","name":"F%d","size":%d}`, i, i)
		got, err := s.Backend().Register(t.Context(), fmt.Sprintf("s%d", i%4), registry.Definition{Text: text})
		if i >= 4 {
			if err == nil {
				t.Fatalf("%s is accepted after another name", text)
			}
			got, err = s.Backend().Register(t.Context(), fmt.Sprintf("s%d", i), registry.Definition{Text: text})
		}
		if err != nil {
			t.Fatal(err)
		}
		ids[text] = got.ID
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	s = startOn(t, brokertest.Start(t, broker.Config{Dir: dir}))
	for text, id := range ids {
		if d, err := s.Backend().SchemaByID(t.Context(), id); err != nil || d.Text != text {
			t.Errorf("schema %d: %q, %v, want %q", id, d.Text, err, text)
		}
	}
	if got, err := s.Backend().Register(t.Context(), "new", registry.Definition{Text: `"int"`}); err != nil || got.ID != len(ids)+1 {
		t.Errorf("the next schema: %+v, %v", got, err)
	}
}

// TestBrokerRestarts has the registry live through the restart of its broker: what it knows is served meanwhile, what is
// registered afterwards is kept.
func TestBrokerRestarts(t *testing.T) {
	dir := t.TempDir()
	b := brokertest.Start(t, broker.Config{Dir: dir, Listen: []string{"127.0.0.1:0"}})
	addr := b.Addr()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := registry.Start(ctx, registry.Config{Brokers: []string{addr}, WriteTimeout: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.Backend().Register(ctx, "a", registry.Definition{Text: `"int"`}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Backend().SchemaByID(ctx, 1); err != nil || d.Text != `"int"` {
		t.Errorf("without the broker: %v, %v", d, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // begun without the broker, done with it
		if got, err := s.Backend().Register(ctx, "b", registry.Definition{Text: `"long"`}); err != nil || got.ID != 2 {
			t.Errorf("registered %+v, %v", got, err)
		}
	})
	brokertest.Start(t, broker.Config{Dir: dir, Listen: []string{addr}})
	wg.Wait()
	if d, err := s.Backend().SchemaByID(ctx, 2); err != nil || d.Text != `"long"` {
		t.Errorf("afterwards: %v, %v", d, err)
	}
}

// exampleDir is a directory for an example's data.
func exampleDir() string {
	dir, err := os.MkdirTemp("", "leat-example-")
	if err != nil {
		panic(err)
	}
	return dir
}

// Example embeds a registry, and asks it over HTTP as any client would.
func Example() {
	ctx := context.Background()
	dir := exampleDir()
	defer os.RemoveAll(dir)
	b, err := broker.Start(ctx, broker.Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()
	s, err := registry.Start(ctx, registry.Config{Listen: "127.0.0.1:0", ClientOpts: []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	var reg registry.Client // what serdes are given
	reg.Bind(s.Backend())
	order, err := reg.Register(ctx, "orders-value", registry.Definition{Text: `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"}]}`})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("id", order.ID, "version", order.Version)

	h, err := registry.NewHTTP("http://"+s.Addr(), registry.HTTPConfig{Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = h.Register(ctx, "orders-value", registry.Definition{Text: `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},{"name":"coupon","type":["null","string"]}]}`})
	_, fix, _ := strings.Cut(err.Error(), "Fix: ")
	fmt.Println("refused:", fix)
	// Output:
	// id 1 version 1
	// refused: add "default": null to field "coupon"
}

func ExampleCheckAvro() {
	err := registry.CheckAvro(registry.Backward,
		`{"type":"record","name":"Order","fields":[{"name":"total","type":"string"}]}`,
		`{"type":"record","name":"Order","fields":[{"name":"total","type":"long"}]}`)
	_, fix, _ := strings.Cut(err.Error(), "Fix: ")
	fmt.Println(fix)
	// Output: keep the type of field "total" at long, or add a new field with a default for the new type
}
