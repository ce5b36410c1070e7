package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/registry"
)

func TestParseUsers(t *testing.T) {
	got, err := parseUsers([]byte("# who\nada:pa:ss\n\nbob:b:ro\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]registry.User{{Name: "ada", Password: "pa:ss"}, {Name: "bob", Password: "b", ReadOnly: true}}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, text := range []string{"", "# nobody\n", "ada\n", ":x\n", "ada:\n"} {
		if got, err := parseUsers([]byte(text)); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if err := (&registrySecurity{cert: "none.pem", key: "none.pem"}).apply(new(registry.Config)); err == nil {
		t.Error("a certificate that is not there is taken")
	}
}
