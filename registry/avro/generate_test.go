package avro_test

import (
	"errors"
	"flag"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/registry/avro/internal/shop"
)

var rewrite = flag.Bool("rewrite", false, "write what the tests generate")

// TestGenerateGo generates the package internal/shop, which is compiled with this test.
func TestGenerateGo(t *testing.T) {
	schema, err := os.ReadFile("internal/shop/order.avsc")
	if err != nil {
		t.Fatal(err)
	}
	src, err := avro.GenerateGo("shop", string(schema))
	if err != nil {
		t.Fatal(err)
	}
	const golden = "internal/shop/order.go"
	if *rewrite {
		if err := os.WriteFile(golden, src, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(src)); d != "" {
		t.Errorf("another source than %s, which -rewrite replaces (-want +got):\n%s", golden, d)
	}
}

// TestGeneratedTypes writes and reads values of the generated types.
func TestGeneratedTypes(t *testing.T) {
	c, _ := newRegistry(t)
	s := shop.OrderSerde(c)
	in := shop.Order{OrderID: "o1", Total: big.NewRat(512, 100), Status: shop.StatusPaid, Coupon: ptr("x"), At: time.UnixMilli(1700000000123).UTC(),
		On: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Took: 1500 * time.Millisecond, Hash: [4]byte{1, 2, 3, 4}, Lines: []shop.Line{{SKU: "a", N: 1}, {SKU: "b", N: 2}},
		More: map[string]any{"n": int32(5), "s": "text"}, Parent: &shop.Order{OrderID: "p", Total: new(big.Rat), Status: shop.StatusPlaced, Lines: []shop.Line{},
			At: time.UnixMilli(0).UTC(), On: time.Unix(0, 0).UTC(), More: map[string]any{}, Raw: []byte{}, Tags: []*string{}},
		Raw: []byte("raw"), Tags: []*string{ptr("t"), nil}}
	sameRat := cmp.Comparer(func(a, b *big.Rat) bool { return a.Cmp(b) == 0 })
	if d := cmp.Diff(in, decode(t, s, value, encode(t, s, value, in)), sameRat); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// The schema that is generated is the one that it was generated from.
	got, err := c.SchemaByID(t.Context(), 1)
	if err != nil || !strings.Contains(got.Text, `"order_id"`) {
		t.Errorf("registered %+v, %v", got, err)
	}
	generic := decode(t, avro.Generic(c, ""), value, encode(t, s, value, in))
	if generic["order_id"] != "o1" || generic["status"] != "PAID" {
		t.Errorf("read without the types: %v", generic)
	}
}

func TestGenerateErrors(t *testing.T) {
	for name, text := range map[string]string{
		"no schema":  `{"type":"strong"}`,
		"no record":  `"int"`,
		"two fields": `{"type":"record","name":"R","fields":[{"name":"a_b","type":"int"},{"name":"aB","type":"int"}]}`,
		"its serde":  `{"type":"record","name":"R","fields":[{"name":"r","type":{"type":"record","name":"RSerde","fields":[]}}]}`,
		"two types":  `{"type":"record","name":"R","namespace":"a","fields":[{"name":"r","type":{"type":"record","name":"R","namespace":"b","fields":[]}}]}`,
	} {
		if _, err := avro.GenerateGo("shop", text); !errors.Is(err, avro.ErrSchema) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := avro.GenerateGo("my-shop", shop.OrderSchema); err == nil {
		t.Error("a package called my-shop")
	}
	known := `{"type":"enum","name":"Kind","namespace":"shop","symbols":["A"]}`
	src, err := avro.GenerateGo("shop", `{"type":"record","name":"R","namespace":"shop","fields":[{"name":"kind","type":"Kind"}]}`, known)
	if err != nil || !strings.Contains(string(src), "type Kind string") {
		t.Errorf("with a reference: %s, %v", src, err)
	}
	if got, err := avro.SchemaOf[struct {
		A int32 `avro:"a"`
	}](""); err == nil {
		t.Errorf("a struct without a name is %s", got)
	}
	if got, err := avro.SchemaOf[OrderV1]("shop"); err != nil || !strings.HasPrefix(got, `{"type":"record","name":"OrderV1","namespace":"shop"`) {
		t.Errorf("%s, %v", got, err)
	}
}
