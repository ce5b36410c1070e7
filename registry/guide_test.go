package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/registry/jsonschema"
	"github.com/leatstream/leat/serde"
)

// The programs of docs/registry.md.

// embedded runs a broker and a registry within the program.
func embedded(ctx context.Context) (*registry.Server, func(), error) {
	dir, err := os.MkdirTemp("", "leat-example-")
	if err != nil {
		return nil, nil, err
	}
	b, err := broker.Start(ctx, broker.Config{Dir: dir})
	if err != nil {
		return nil, nil, err
	}
	s, err := registry.Start(ctx, registry.Config{ClientOpts: []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}})
	return s, func() {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
		if err := errors.Join(err, b.Close(), os.RemoveAll(dir)); err != nil {
			fmt.Println(err)
		}
	}, err
}

func ExampleServer() {
	s, stop, err := embedded(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	var reg registry.Client
	reg.Bind(s.Backend())

	type Order struct {
		ID    string `avro:"id"`
		Total int64  `avro:"total"`
	}
	at := serde.Place{Topic: "orders"}
	data, err := avro.Of[Order](&reg).Append([]byte{}, at, Order{"o1", 500})
	fmt.Printf("% x %v\n", data, err)

	// A later version of the program, whose new field has a default, reads it.
	type OrderV2 struct {
		ID       string `avro:"id"`
		Total    int64  `avro:"total"`
		Currency string `avro:"currency"`
	}
	v2 := avro.Options{Schema: `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},
		{"name":"total","type":"long"},{"name":"currency","type":"string","default":"EUR"}]}`}
	o, err := avro.Of[OrderV2](&reg, v2).Decode(at, data)
	fmt.Println(o, err)

	// One without the default is refused before anything is written.
	v3 := avro.Options{Schema: strings.Replace(v2.Schema, `,"default":"EUR"`, "", 1)}
	_, err = avro.Of[OrderV2](&reg, v3).Append([]byte{}, at, OrderV2{"o2", 600, "EUR"})
	if why, ok := errors.AsType[*registry.IncompatibleError](err); ok {
		fmt.Println(why.Fix)
	}
	// Output:
	// 00 00 00 00 01 04 6f 31 e8 07 <nil>
	// {o1 500 EUR} <nil>
	// add "default": "" to field "currency"
}

func ExampleAdmin() {
	s, stop, err := embedded(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	ctx := context.Background()
	reg, ok := s.Backend().(registry.Admin)
	if !ok {
		return
	}
	v1 := registry.Definition{Type: registry.TypeJSON, Text: `{"type":"object","properties":{"id":{"type":"string"}},"additionalProperties":false}`}
	if _, err := reg.Register(ctx, "orders-value", v1); err != nil {
		fmt.Println(err)
		return
	}
	v2 := registry.Definition{Type: registry.TypeJSON, Text: `{"type":"object","properties":{"id":{"type":"integer"}},"additionalProperties":false}`}
	err = reg.Check(ctx, "orders-value", registry.Latest, v2)
	fmt.Println(errors.Is(err, registry.ErrIncompatible))
	fmt.Println(reg.SetLevel(ctx, "orders-value", registry.None))
	fmt.Println(reg.Check(ctx, "orders-value", registry.Latest, v2))
	// Output:
	// true
	// <nil>
	// <nil>
}

func Example_jsonSchema() {
	s, stop, err := embedded(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	var reg registry.Client
	reg.Bind(s.Backend())
	type Order struct {
		ID    string `json:"id"`
		Total int64  `json:"total"`
	}
	data, err := jsonschema.Of[Order](&reg).Append([]byte{}, serde.Place{Topic: "orders"}, Order{"o1", 500})
	fmt.Printf("%q %v\n", data, err)
	d, err := reg.SchemaByVersion(context.Background(), "orders-value", registry.Latest)
	fmt.Println(d.Text, err)
	// Output:
	// "\x00\x00\x00\x00\x01{\"id\":\"o1\",\"total\":500}" <nil>
	// {"$schema":"http://json-schema.org/draft-07/schema#","title":"Order","type":"object","properties":{"id":{"type":"string"},"total":{"type":"integer"}},"required":["id","total"],"additionalProperties":false} <nil>
}
