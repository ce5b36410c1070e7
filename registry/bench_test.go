package registry_test

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/registry"
)

func benchBroker(b *testing.B) *broker.Broker {
	b.Helper()
	br, err := broker.Start(b.Context(), broker.Config{Dir: b.TempDir(), Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := br.Close(); err != nil {
			b.Error(err)
		}
	})
	return br
}

func benchServer(b *testing.B, addr, listen string) *registry.Server {
	b.Helper()
	s, err := registry.Start(b.Context(), registry.Config{Listen: listen, Brokers: []string{addr}})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkRegister registers new schemas, each under a subject of its own, on Leat's broker with flush=always: a transaction
// and its syncs each.
func BenchmarkRegister(b *testing.B) {
	s := benchServer(b, benchBroker(b).Addr(), "")
	defer s.Close()
	n := 0
	for b.Loop() {
		n++
		if _, err := s.Backend().Register(b.Context(), fmt.Sprintf("s%d", n), registry.Definition{Text: benchSchema(n)}); err != nil {
			b.Fatal(err)
		}
	}
}

func benchSchema(n int) string {
	return fmt.Sprintf(`{"type":"record","name":"Order%d","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"total","type":"long"},{"name":"currency","type":"string","default":"EUR"}]}`, n)
}

// BenchmarkLookup asks for schemas over HTTP, from several connections.
func BenchmarkLookup(b *testing.B) {
	s := benchServer(b, benchBroker(b).Addr(), "127.0.0.1:0")
	defer s.Close()
	const known = 100
	for n := range known {
		if _, err := s.Backend().Register(b.Context(), fmt.Sprintf("s%d", n), registry.Definition{Text: benchSchema(n)}); err != nil {
			b.Fatal(err)
		}
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	b.ResetTimer() // what was registered before does not count
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			resp, err := client.Get(fmt.Sprintf("http://%s/schemas/ids/%d", s.Addr(), 1+next.Add(1)%known))
			if err != nil {
				b.Error(err)
				return
			}
			_, err = io.Copy(io.Discard, resp.Body)
			if closeErr := resp.Body.Close(); err != nil || closeErr != nil || resp.StatusCode != 200 {
				b.Errorf("%d %v", resp.StatusCode, err)
				return
			}
		}
	})
}

// BenchmarkStart starts a registry on a topic of 10,000 schemas.
func BenchmarkStart(b *testing.B) {
	br := benchBroker(b)
	if err := benchServer(b, br.Addr(), "").Close(); err != nil { // creates the topic
		b.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(br.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	for n := 1; n <= 10_000; n++ {
		cl.Produce(b.Context(), &kgo.Record{Topic: "_schemas", Key: fmt.Appendf(nil, `{"keytype":"SCHEMA","subject":"s%d","version":1,"magic":1}`, n),
			Value: fmt.Appendf(nil, `{"subject":"s%d","version":1,"id":%d,"schemaType":"AVRO","schema":%q,"deleted":false}`, n, n, benchSchema(n))},
			func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
	}
	if err := cl.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s := benchServer(b, br.Addr(), "")
		if _, err := s.Backend().SchemaByID(b.Context(), 10_000); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
