package schema

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFromGo derives a schema from a type that is not exported, of a package main whose own tests fail. It runs the go
// command, as the command does.
func TestFromGo(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles and links")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	g := generation{fromGo: "testdata/shop", kind: "avro", namespace: "com.shop"}
	got, err := g.schemaOf(ctx, "order")
	want := `{"type":"record","name":"order","namespace":"com.shop","fields":[{"name":"id","type":"string"},{"name":"total","type":"long"},` +
		`{"name":"note","type":["null","string"],"default":null},{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"sku","type":"string"}]}}}]}` + "\n"
	if err != nil || string(got) != want {
		t.Fatalf("got %s, %v, want %s", got, err, want)
	}
	if _, err := g.schemaOf(ctx, "None"); err == nil || !strings.Contains(err.Error(), "undefined: None") {
		t.Errorf("a type that is not there: %v", err)
	}
	if _, err := os.Stat(filepath.Join("testdata", "shop", "leat_schema_test.go")); err == nil {
		t.Error("it writes into the package's folder")
	}
}

func TestFromGoErrors(t *testing.T) {
	for name, g := range map[string]generation{
		"not a Go package": {fromGo: t.TempDir(), kind: "avro"},
		"--type":           {fromGo: "testdata/shop", kind: "proto"},
		"--namespace":      {fromGo: "testdata/shop", kind: "json", namespace: "x"},
	} {
		if _, err := g.schemaOf(t.Context(), "order"); err == nil || !strings.Contains(err.Error(), name) && name != "not a Go package" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCompareLarge compares texts whose table would not fit into memory.
func TestCompareLarge(t *testing.T) {
	long := func(prefix string) []string {
		list := []string{"{"}
		for range 1 << 12 {
			list = append(list, prefix)
		}
		return append(list, "}")
	}
	lines := compare(long("a"), long("b"))
	if len(lines) != 2<<12+2 || lines[0] != (changedLine{" ", "{"}) || lines[1] != (changedLine{"-", "a"}) || lines[len(lines)-1] != (changedLine{" ", "}"}) {
		t.Errorf("%d lines", len(lines))
	}
}
