//go:build interop

package interop

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/riferrei/srclient"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/registry/jsonschema"
	"github.com/leatstream/leat/registry/protobuf"
	"github.com/leatstream/leat/serde"
)

// leatRegistry runs a registry on a broker and returns its address.
func leatRegistry(t *testing.T, broker string) (string, *registry.Client) {
	t.Helper()
	s, err := registry.Start(t.Context(), registry.Config{Listen: "127.0.0.1:0", Brokers: []string{broker}})
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
	return "http://" + s.Addr(), c
}

type order struct {
	ID       string `avro:"id" json:"id"`
	Total    int64  `avro:"total" json:"total"`
	Currency string `avro:"currency,default=EUR" json:"currency"`
}

var orders = avro.Options{Namespace: "shop", Schema: `{"type":"record","name":"Order","namespace":"shop","fields":[
	{"name":"id","type":"string"},{"name":"total","type":"long"},{"name":"currency","type":"string","default":"EUR"}]}`}

func written[T any](t *testing.T, s serde.Serde[T], topic string, v T) string {
	t.Helper()
	data, err := s.Append([]byte{}, serde.Place{Topic: topic}, v)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(data)
}

func read[T any](t *testing.T, s serde.Serde[T], topic, text string) T {
	t.Helper()
	data, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Decode(serde.Place{Topic: topic}, data)
	if err != nil {
		t.Errorf("what another client wrote to %s: %v", topic, err)
	}
	return v
}

// TestRegistryPython runs Confluent's Python client with its Avro, JSON and Protobuf serializers, and reads what they
// wrote.
func TestRegistryPython(t *testing.T) {
	python := need(t, "python3", "python3-venv")
	venv := filepath.Join("registry", "node_modules", ".venv") // where nothing is committed
	inside := filepath.Join(venv, "bin", "python")
	if err := exists(inside); err != nil {
		if !installing() {
			t.Skipf("SKIPPED: confluent-kafka is not installed in %s: set LEAT_INTEROP_INSTALL=1", venv)
		}
		run(t, "", nil, python, "-m", "venv", venv)
	}
	if installing() {
		run(t, "", nil, inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", filepath.Join("registry", "requirements.txt"))
	}
	address, c := leatRegistry(t, leatBroker(t))
	ours, err := json.Marshal(map[string]string{
		"avro": written(t, avro.Of[order](c, orders), "leat-avro", order{"l1", 7, "CHF"}),
		"json": written(t, jsonschema.Of[order](c), "leat-json", order{"l1", 7, "CHF"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	var theirs map[string]string
	out := run(t, "", nil, inside, filepath.Join("registry", "check.py"), address, string(ours))
	if err := json.Unmarshal([]byte(out), &theirs); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	want := order{"p2", 6, "USD"}
	if got := read(t, avro.Of[order](c, orders), "py-avro", theirs["avro"]); got != want {
		t.Errorf("Avro from Python: %+v", got)
	}
	// The wire format of Protobuf: the id, the indexes, the message. That of another type is not read.
	data, err := hex.DecodeString(theirs["protobuf"])
	if err != nil || len(data) < 6 || data[5] != 0 {
		t.Errorf("Protobuf from Python: % x, %v", data, err)
	}
	if _, err := protobuf.Of[*wrapperspb.StringValue](c).Decode(serde.Place{Topic: "py-proto"}, data); err == nil {
		t.Error("an Order is read as a StringValue")
	}
}

func exists(path string) error {
	_, err := os.Stat(path)
	return err
}

// TestRegistryKafkaJS runs @kafkajs/confluent-schema-registry.
func TestRegistryKafkaJS(t *testing.T) {
	node, npm := need(t, "node", "nodejs"), need(t, "npm", "npm")
	if err := exists(filepath.Join("registry", "node_modules", "@kafkajs")); err != nil {
		run(t, "registry", nil, npm, "ci", "--no-audit", "--no-fund")
	}
	address, c := leatRegistry(t, leatBroker(t))
	s := avro.Of[order](c, orders)
	out := run(t, "registry", nil, node, "check.js", address, written(t, s, "leat-avro", order{"l1", 7, "CHF"}))
	if got := read(t, s, "js-avro", out); got != (order{"j2", 6, "USD"}) {
		t.Errorf("Avro from JavaScript: %+v", got)
	}
}

// TestRegistryJava runs Confluent's Java client, and Java's Avro.
func TestRegistryJava(t *testing.T) {
	java := need(t, "java", "default-jdk-headless")
	mvn := need(t, "mvn", "maven")
	if jars, _ := filepath.Glob(filepath.Join("registry", "libs", "flink-*.jar")); len(jars) == 0 {
		run(t, "registry", nil, mvn, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs")
	}
	address, c := leatRegistry(t, leatBroker(t))
	s := avro.Of[order](c, orders)
	out := run(t, "registry", nil, java, "-cp", filepath.Join("libs", "*"), "Check.java", address, written(t, s, "leat-avro", order{"l1", 7, "CHF"}))
	if got := read(t, s, "java-avro", out); got != (order{"j2", 6, "USD"}) {
		t.Errorf("Avro from Java: %+v", got)
	}
}

const (
	v1 = `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"}]}`
	v2 = `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},{"name":"total","type":"long","default":0}]}`
	v3 = `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},{"name":"note","type":"string"}]}`
)

// TestRegistryGoClients registers, evolves, is refused and deletes with franz-go's sr and with srclient, the registry's
// schemas being on our own broker and on Apache Kafka.
func TestRegistryGoClients(t *testing.T) {
	against(t, func(t *testing.T, broker string) {
		address, _ := leatRegistry(t, broker)
		t.Run("sr", func(t *testing.T) { franz(t, address) })
		t.Run("srclient", func(t *testing.T) { riferrei(t, address) })
	})
}

func franz(t *testing.T, address string) {
	c, err := sr.NewClient(sr.URLs(address))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	first, err := c.CreateSchema(ctx, "franz", sr.Schema{Schema: v1})
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.CreateSchema(ctx, "franz", sr.Schema{Schema: v2})
	if err != nil || second.ID == first.ID || second.Version != 2 {
		t.Fatalf("version 2: %+v, %v", second, err)
	}
	var refused *sr.ResponseError
	if _, err := c.CreateSchema(ctx, "franz", sr.Schema{Schema: v3}); !errors.As(err, &refused) || refused.SchemaError() != sr.ErrIncompatibleSchema {
		t.Errorf("version 3: %v", err)
	}
	if s, err := c.SchemaByID(ctx, second.ID); err != nil || s.Schema != v2 {
		t.Errorf("by id: %+v, %v", s, err)
	}
	if s, err := c.LookupSchema(ctx, "franz", sr.Schema{Schema: v1}); err != nil || s.ID != first.ID {
		t.Errorf("looked up: %+v, %v", s, err)
	}
	if r, err := c.CheckCompatibility(sr.WithParams(ctx, sr.Verbose), "franz", 2, sr.Schema{Schema: v3}); err != nil || r.Is || len(r.Messages) == 0 {
		t.Errorf("check: %+v, %v", r, err)
	}
	for _, r := range c.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatFull}, "franz") {
		if r.Err != nil || r.Level != sr.CompatFull {
			t.Errorf("level: %+v", r)
		}
	}
	for _, r := range c.SetMode(ctx, sr.ModeReadOnly, "franz") {
		if r.Err != nil || r.Mode != sr.ModeReadOnly {
			t.Errorf("mode: %+v", r)
		}
	}
	for _, r := range c.ResetMode(ctx, "franz") {
		if r.Err != nil {
			t.Errorf("reset mode: %v", r.Err)
		}
	}
	if _, err := c.DeleteSubject(ctx, "franz", sr.SoftDelete); err != nil {
		t.Error(err)
	}
	if versions, err := c.DeleteSubject(ctx, "franz", sr.HardDelete); err != nil || len(versions) != 2 {
		t.Errorf("deleted %v, %v", versions, err)
	}
}

func riferrei(t *testing.T, address string) {
	c := srclient.NewSchemaRegistryClient(address)
	c.CachingEnabled(false)
	first, err := c.CreateSchema("riferrei", v1, srclient.Avro)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.CreateSchema("riferrei", v2, srclient.Avro)
	if err != nil || second.ID() == first.ID() {
		t.Fatalf("version 2: %+v, %v", second, err)
	}
	var refused srclient.Error
	if _, err := c.CreateSchema("riferrei", v3, srclient.Avro); !errors.As(err, &refused) || refused.Code != 409 {
		t.Errorf("version 3: %v", err)
	}
	latest, err := c.GetLatestSchema("riferrei")
	if err != nil || latest.Version() != 2 || latest.ID() != second.ID() {
		t.Errorf("the latest: %+v, %v", latest, err)
	}
	if ok, err := c.IsSchemaCompatible("riferrei", v3, "latest", srclient.Avro); ok || err != nil {
		t.Errorf("check: %v, %v", ok, err)
	}
	for _, permanent := range []bool{false, true} {
		if err := c.DeleteSubject("riferrei", permanent); err != nil {
			t.Error(err)
		}
	}
}
