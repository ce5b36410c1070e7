// Package registrytest runs a schema registry for the tests of the serdes.
package registrytest

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/leatstream/leat/registry"
)

// New runs a registry on a fake cluster until the test ends, and binds a client to it, without HTTP. The fake cluster has no
// transactions: the registry writes without.
func New(t testing.TB) (*registry.Client, *registry.Server) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := registry.Start(ctx, registry.Config{Listen: "127.0.0.1:0", Brokers: cluster.ListenAddrs(), Unfenced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c := new(registry.Client)
	c.Bind(s.Backend())
	return c, s
}
