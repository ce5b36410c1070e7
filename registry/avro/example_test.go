package avro_test

import (
	"context"
	"fmt"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/serde"
)

// memory is a registry for examples: it keeps what it is given, in order.
type memory struct{ schemas []registry.Definition }

func (m *memory) Register(_ context.Context, subject string, d registry.Definition) (registry.Schema, error) {
	m.schemas = append(m.schemas, d)
	return registry.Schema{Subject: subject, ID: len(m.schemas), Definition: d}, nil
}

func (m *memory) Lookup(ctx context.Context, subject string, d registry.Definition) (registry.Schema, error) {
	return m.Register(ctx, subject, d)
}

func (m *memory) SchemaByID(_ context.Context, id int) (registry.Definition, error) {
	return m.schemas[id-1], nil
}

func (m *memory) SchemaByVersion(context.Context, string, int) (registry.Schema, error) {
	return registry.Schema{}, registry.ErrSchemaNotFound
}

// Example writes a record with the first version of a struct, and reads it with the second.
func Example() {
	var reg registry.Client
	reg.Bind(new(memory))
	place := serde.Place{Topic: "orders"}

	data := func() []byte {
		type Order struct {
			ID    string `avro:"id"`
			Total int32  `avro:"total"`
		}
		data, err := avro.Of[Order](&reg).Append([]byte{}, place, Order{"o1", 500})
		if err != nil {
			fmt.Println(err)
		}
		return data
	}()
	fmt.Printf("% x\n", data)

	type Order struct {
		ID       string  `avro:"id"`
		Total    int64   `avro:"total"`
		Currency string  `avro:"currency,default=EUR"`
		Coupon   *string `avro:"coupon"`
	}
	o, err := avro.Of[Order](&reg).Decode(place, data)
	fmt.Println(o.ID, o.Total, o.Currency, o.Coupon, err)
	// Output:
	// 00 00 00 00 01 04 6f 31 e8 07
	// o1 500 EUR <nil> <nil>
}

func ExampleGeneric() {
	var reg registry.Client
	reg.Bind(new(memory))
	place := serde.Place{Topic: "orders"}
	orders := avro.Generic(&reg, `{"type":"record","name":"Order","fields":[
		{"name":"id","type":"string"},{"name":"coupon","type":["null","string"],"default":null}]}`)
	data, err := orders.Append([]byte{}, place, map[string]any{"id": "o1", "coupon": map[string]any{"string": "TENOFF"}})
	fmt.Printf("% x %v\n", data, err)
	o, err := avro.Generic(&reg, "").Decode(place, data) // whatever the schema
	fmt.Println(o["id"], o["coupon"], err)
	// Output:
	// 00 00 00 00 01 04 6f 31 02 0c 54 45 4e 4f 46 46 <nil>
	// o1 map[string:TENOFF] <nil>
}
