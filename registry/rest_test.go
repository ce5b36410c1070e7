package registry

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

const (
	orderV1 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"total","type":"long"}]}`
	orderV2 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"total","type":"long"},{"name":"currency","type":"string","default":"EUR"}]}`
	orderV3 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"total","type":"long"},{"name":"coupon","type":["null","string"]}]}`
)

var timestamps = regexp.MustCompile(`,"ts":\d+`)

// TestREST runs the scripts in testdata/rest: each request with the status and body that it must get. `go test -run
// TestREST -rewrite` writes what was got. In a script:
//
//	request             the first line is method and path, then headers as "Name: value", then the body as it is
//	schema              the same, but the lines after the first are a schema, which is sent as {"schema": "…"}
//	topic               what the _schemas topic holds
func TestREST(t *testing.T) {
	datadriven.Walk(t, "testdata/rest", func(t *testing.T, path string) {
		c := newCluster(t)
		s := start(t, c.ListenAddrs())
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "request", "schema":
				return request(t, s, d.Cmd == "schema", d.Input)
			case "topic":
				var b strings.Builder
				for _, r := range records(t, c.ListenAddrs(), "_schemas") {
					value := string(r.Value)
					if r.Value == nil {
						value = "null"
					}
					fmt.Fprintf(&b, "%s %s\n", r.Key, value)
				}
				return b.String()
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

func request(t *testing.T, s *Server, isSchema bool, input string) string {
	lines := strings.Split(input, "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	lines = lines[1:]
	var headers []string
	header := regexp.MustCompile(`^([A-Z][A-Za-z-]+): (.*)$`)
	for len(lines) > 0 && header.MatchString(lines[0]) {
		m := header.FindStringSubmatch(lines[0])
		headers = append(headers, m[1], m[2])
		lines = lines[1:]
	}
	body := strings.Join(lines, "\n")
	if isSchema {
		body = schemaBody(body)
	}
	a := do(t, s, method, path, body, headers...)
	text := timestamps.ReplaceAllString(a.body, "")
	if ct := a.header.Get("Content-Type"); ct != "application/vnd.schemaregistry.v1+json" {
		text = ct + " " + text
	}
	return fmt.Sprintf("%d %s\n", a.status, text)
}
