package avro_test

import (
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/registry/avro"
)

const generatedFrom = `{"type":"record","name":"Order","namespace":"shop","fields":[
	{"name":"order_id","type":"string"},{"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
	{"name":"status","type":{"type":"enum","name":"Status","symbols":["PLACED","PAID"]}},{"name":"coupon","type":["null","string"],"default":null},
	{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"hash","type":{"type":"fixed","name":"Hash","size":4}},
	{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"sku","type":"string"},{"name":"n","type":"int"}]}}},
	{"name":"more","type":{"type":"map","values":["int","string"]}},{"name":"parent","type":["null","Order"],"default":null}]}`

func TestGenerateGo(t *testing.T) {
	src, err := avro.GenerateGo("shop", generatedFrom)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(src), "\n// Status is")
	want := " the Avro enum shop.Status.\ntype Status string\n\n// The symbols of Status.\nconst (\n\tStatusPlaced Status = \"PLACED\"\n\tStatusPaid   Status = \"PAID\"\n)\n\n" +
		"// Line is the Avro record shop.Line.\ntype Line struct {\n\tSKU string `avro:\"sku\"`\n\tN   int32  `avro:\"n\"`\n}\n\n" +
		"// Order is the Avro record shop.Order.\ntype Order struct {\n\tOrderID string         `avro:\"order_id\"`\n\tTotal   *big.Rat       `avro:\"total\"`\n" +
		"\tStatus  Status         `avro:\"status\"`\n\tCoupon  *string        `avro:\"coupon\"`\n\tAt      time.Time      `avro:\"at\"`\n\tHash    [4]byte        `avro:\"hash\"`\n" +
		"\tLines   []Line         `avro:\"lines\"`\n\tMore    map[string]any `avro:\"more\"`\n\tParent  *Order         `avro:\"parent\"`\n}\n"
	if d := cmp.Diff(want, body); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "order.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	conf := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	if _, err := conf.Check("shop", fset, []*ast.File{f}, nil); err != nil {
		t.Errorf("it does not compile: %v", err)
	}
}

// TestGeneratedTypes writes and reads values of types as they are generated.
func TestGeneratedTypes(t *testing.T) {
	type Status string
	type Line struct {
		SKU string `avro:"sku"`
		N   int32  `avro:"n"`
	}
	type Order struct {
		OrderID string  `avro:"order_id"`
		Status  Status  `avro:"status"`
		Coupon  *string `avro:"coupon"`
		Hash    [4]byte `avro:"hash"`
		Lines   []Line  `avro:"lines"`
	}
	schema := `{"type":"record","name":"Order","fields":[{"name":"order_id","type":"string"},
		{"name":"status","type":{"type":"enum","name":"Status","symbols":["PLACED","PAID"]}},{"name":"coupon","type":["null","string"]},
		{"name":"hash","type":{"type":"fixed","name":"Hash","size":4}},
		{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"sku","type":"string"},{"name":"n","type":"int"}]}}}]}`
	c, _ := newRegistry(t)
	s := avro.Of[Order](c, avro.Options{Schema: schema})
	in := Order{"o1", "PAID", ptr("x"), [4]byte{1, 2, 3, 4}, []Line{{"a", 1}}}
	if d := cmp.Diff(in, decode(t, s, value, encode(t, s, value, in))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestGenerateErrors(t *testing.T) {
	for name, text := range map[string]string{
		"no schema":  `{"type":"strong"}`,
		"no record":  `"int"`,
		"two fields": `{"type":"record","name":"R","fields":[{"name":"a_b","type":"int"},{"name":"aB","type":"int"}]}`,
		"two types":  `{"type":"record","name":"R","namespace":"a","fields":[{"name":"r","type":{"type":"record","name":"R","namespace":"b","fields":[]}}]}`,
	} {
		if _, err := avro.GenerateGo("shop", text); !errors.Is(err, avro.ErrSchema) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := avro.GenerateGo("my-shop", generatedFrom); err == nil {
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
