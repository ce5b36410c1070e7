package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func TestBrokerServeWithUsersAndMetrics(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("# first users\n\nadmin:pass:word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "broker", "serve", "--listen", "localhost:0", "--data", t.TempDir(), "--sasl", "SCRAM-SHA-512", "--users", users,
		"--authorize", "--super-user", "User:admin", "--metrics-listen", "localhost:0")
	url := p.expect(`^Metrics and health on (http://localhost:\d+)$`)
	addr := p.expect(`^Kafka broker ready on (localhost:\d+), data in `)
	for password, want := range map[string]bool{"pass:word": true, "password": false} {
		client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("t"), kgo.RequestRetries(0), kgo.SASL(scram.Auth{User: "admin", Pass: password}.AsSha512Mechanism()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err = client.Ping(ctx); err == nil { // a produce request would go on trying with the wrong password
			err = client.ProduceSync(ctx, kgo.StringRecord("v")).FirstErr()
		}
		cancel()
		client.Close()
		if (err == nil) != want {
			t.Errorf("password %s: %v", password, err)
		}
	}
	for path, want := range map[string]string{"/metrics": "leat_broker_request_duration_seconds_count", "/livez": "ok", "/readyz": "ok"} {
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, %v: %.200s", path, res.StatusCode, err, body)
		}
	}
	if code, _ := p.stop(); code != 0 {
		t.Errorf("exit %d: %s", code, p.stderr)
	}
}

func TestSecurityFlagsThatCannotBeMeant(t *testing.T) {
	open := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(open, []byte("a:b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--users", open, "--sasl", "PLAIN"}, "others can read it"},
		{[]string{"--sasl", "GSSAPI"}, "not served"},
		{[]string{"--tls-cert", "x"}, "tls-key"},
		{[]string{"--tls-client-ca", "x"}, "needs --tls-cert"},
		{[]string{"--metrics-listen", "0.0.0.0:0"}, "--insecure"},
		{[]string{"--listen", "0.0.0.0:0", "--sasl", "PLAIN"}, "--insecure"}, // passwords in clear
	} {
		p := start(t, append([]string{"broker", "serve", "--data", t.TempDir(), "--listen", "localhost:0"}, c.args...)...)
		if code, _ := p.wait(); code == 0 || !strings.Contains(p.stderr.String(), c.says) {
			t.Errorf("%v: exit %d, %s", c.args, code, p.stderr)
		}
	}
}
