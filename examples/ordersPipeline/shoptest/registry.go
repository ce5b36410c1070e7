// Package shoptest gives tests of the shop's topologies the schema registry that their serdes need.
package shoptest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/registry"
)

// Registry binds shop.Registry to a registry of the test's own, in this process and without a port.
func Registry(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	b, err := broker.Start(ctx, broker.Config{Dir: filepath.Join(t.TempDir(), "broker"), Flush: broker.FlushOS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	r, err := registry.Start(ctx, registry.Config{Brokers: []string{b.Addr()}, ClientOpts: []kgo.Opt{kgo.Dialer(b.Dialer())}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	shop.Registry.Bind(r.Backend())
}
