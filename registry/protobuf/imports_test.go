package protobuf

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/apipb"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/protos"
	"github.com/leatstream/leat/registry/internal/registrytest"
	"github.com/leatstream/leat/registry/internal/wire"
)

// TestImports registers what a file imports before the file itself, and reads the whole again.
func TestImports(t *testing.T) {
	c, _ := registrytest.New(t)
	file, err := protos.Parse(`syntax = "proto3"; package shop; import "shop/price.proto"; import "google/protobuf/timestamp.proto";
		message Order { Price price = 1; google.protobuf.Timestamp at = 2; }`, []protos.Dependency{
		{Name: "shop/money.proto", Text: `syntax = "proto3"; package shop; message Money { int64 cents = 1; }`},
		{Name: "shop/price.proto", Text: `syntax = "proto3"; package shop; import "shop/money.proto"; message Price { Money money = 1; }`},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &messages[*apipb.Api]{message: file.File.Messages().Get(0), own: file} // a generated type would have such a file
	s.Init(c, wire.Options{}, wire.Language[protoreflect.FileDescriptor, []byte]{})
	if _, err := s.references(t.Context(), false); err == nil {
		t.Error("what was never registered is found")
	}
	refs, err := s.references(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]registry.Reference{{Name: "shop/price.proto", Subject: "shop/price.proto", Version: 1}}, refs); d != "" {
		t.Errorf("references (-want +got):\n%s", d)
	}
	d := registry.Definition{Type: registry.TypeProtobuf, Text: s.text(file), References: refs}
	if _, err := c.Register(t.Context(), "orders-value", d); err != nil {
		t.Fatal(err)
	}
	if _, err := s.reader(t.Context(), d); err != nil {
		t.Errorf("read again: %v", err)
	}
}
