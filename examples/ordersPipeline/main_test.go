package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/examples/ordersPipeline/pgtest"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/streams"
)

func TestCommandLinesThatCannotBeMeant(t *testing.T) {
	for args, says := range map[string]string{
		"--rat 5":      "unknown flag: --rat",
		"extra":        "extra",
		"--rate -1":    "--rate -1",
		"--for -1s":    "--for -1s",
		"--only email": "--only needs --bootstrap-server",
		"--only mail --bootstrap-server localhost:1":           `--only "mail"`,
		"--only email --for 1s --bootstrap-server localhost:1": "--for needs all services",
		"--registry http://localhost:1":                        "--registry needs --bootstrap-server",
		"--registry nonsense --bootstrap-server localhost:1":   "want a URL like",
		"--smtp-server localhost:1 --for 1s":                   "leave --smtp-server out",
		"--log-level loud":                                     "debug, info",
		"--data x --ephemeral":                                 "data ephemeral",
		"--http-port 70000":                                    "http-port",
	} {
		var out, errs strings.Builder
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code != 2 || !strings.Contains(errs.String(), says) {
			t.Errorf("%s: exit %d, %s%s", args, code, &out, &errs)
		}
	}
}

func TestPortInUseSaysWhichFlagHelps(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, flag := range []string{"--kafka-port", "--registry-port", "--http-port", "--smtp-port"} {
		args := []string{"--ephemeral"}
		for _, f := range []string{"--kafka-port", "--registry-port", "--http-port", "--smtp-port"} {
			p := "0"
			if f == flag {
				p = port
			}
			args = append(args, f, p)
		}
		var out, errs strings.Builder
		code := run(t.Context(), args, &out, &errs)
		if code != 1 || !strings.Contains(errs.String(), "port "+port+" is in use") || !strings.Contains(errs.String(), flag) || out.Len() > 0 {
			t.Errorf("%s: exit %d, %s%s", flag, code, &out, &errs)
		}
	}
}

func TestForEndsByItselfAndTheBooksAgree(t *testing.T) {
	c := startShop(t, "--ephemeral", "--rate", "100", "--for", "2s")
	text := <-c.rest
	if code := c.wait(); code != 0 || !strings.Contains(text, "The books agree.") || c.stderr.String() != "" {
		t.Errorf("exit %d\n%s%s", code, text, &c.stderr)
	}
}

func TestReadYourWritesAndTheNextStartGoesOn(t *testing.T) {
	data := filepath.Join(t.TempDir(), "leat")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	get := func(url string) string {
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	c := startShop(t, "--data", data, "--rate", "0")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	id, err := place(ctx, client, "http://"+c.web+"/orders", `{"customer":"Ada","email":"ada@example.org","country":"DE","product":"lamp","quantity":1}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := get("http://" + c.web + "/orders/" + id + "?wait=15s"); !strings.Contains(got, `"status":"RESERVED"`) {
		t.Errorf("got %s", got)
	}
	if got := get("http://" + c.web + "/"); !strings.Contains(got, "Orders pipeline") {
		t.Errorf("dashboard: %s", got)
	}
	stockAgrees(t, c, get)
	// An idle shop is behind by nothing: not even by the markers of transactions.
	lag := regexp.MustCompile(`"records":(-?\d+)`)
	for deadline := time.Now().Add(time.Minute); ; pause(t.Context(), 100*time.Millisecond) {
		snapshot := get("http://" + c.web + "/api/snapshot")
		all := lag.FindAllStringSubmatch(snapshot, -1)
		if len(all) == 4 && !slices.ContainsFunc(all, func(m []string) bool { return m[1] != "0" }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("an idle shop has a lag: %s", snapshot)
		}
	}
	// A second shop on the same data is told who has it.
	second := launch(t, "--data", data)
	if code := second.wait(); code != 1 || !strings.Contains(second.stderr.String(), "is in use by process") {
		t.Errorf("second: exit %d: %s", code, &second.stderr)
	}
	c.stop()
	if c.stderr.String() != "" {
		t.Errorf("stderr: %s", &c.stderr)
	}
	c = startShop(t, "--data", data, "--rate", "0")
	if got := get("http://" + c.web + "/orders/" + id); !strings.Contains(got, `"status":"RESERVED"`) {
		t.Errorf("after a restart: %s", got)
	}
	c.stop()
	if _, err := os.Stat(filepath.Join(data, "broker")); err != nil {
		t.Error(err)
	}
}

// stockAgrees asks both applications as the command leat app does, from outside, and the shop over HTTP. One lamp is reserved.
func stockAgrees(t *testing.T, c *child, get func(url string) string) {
	t.Helper()
	for _, app := range []string{shop.InventoryApp, shop.AnalyticsApp} {
		r, err := streams.NewRemote(streams.RemoteConfig{AppID: app, Brokers: []string{c.kafka}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		all, err := r.Instances(t.Context(), false)
		if err != nil || len(all) != 1 || all[0].Err != nil {
			t.Fatalf("%s: %v, %v, want one instance that answers", app, all, err)
		}
		if app != shop.InventoryApp {
			continue
		}
		v, err := r.View(streams.Store[string, []byte]{Name: shop.StockStore.Name})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := v.Get("lamp"); err != nil || !ok {
			t.Errorf("the row of lamp: %v, %v", ok, err)
		}
	}
	balance := regexp.MustCompile(`^\{"delivered":(\d+),"on_hand":\d+,"reserved":1\}\n$`)
	for deadline := time.Now().Add(time.Minute); ; pause(t.Context(), 20*time.Millisecond) {
		one := get("http://" + c.web + "/stock/lamp") // a row shows some milliseconds after its transaction
		if m := balance.FindStringSubmatch(one); m != nil && m[1] != "0" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("stock of lamp: %s", one)
		}
	}
	if got := get("http://" + c.web + "/stock"); !strings.Contains(got, `"lamp":{"delivered":`) || !strings.Contains(got, `"print-limited":{`) {
		t.Errorf("stock: %s", got)
	}
	if got := get("http://" + c.web + "/stock/nothing"); got != "there is no such product\n" {
		t.Errorf("stock of nothing: %s", got)
	}
}

func TestAClusterThatIsAwayIsWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := launch(t, "--bootstrap-server", addr, "--ephemeral")
	defer c.kill()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(c.stderr.String(), "waiting for the Kafka cluster"); pause(t.Context(), 20*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say that it waits: %s", &c.stderr)
		}
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := c.wait(); code != 0 || !strings.Contains(c.stderr.String(), addr) {
		t.Errorf("exit %d: %s", code, &c.stderr)
	}
}

// TestARecordThatIsNoOrderIsSetAside writes bytes that nobody can read to the shop's topics: they go to the dead
// letters, with the reason, and nothing stops.
func TestARecordThatIsNoOrderIsSetAside(t *testing.T) {
	c := startShop(t, "--ephemeral", "--rate", "50", "--for", "6s")
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka), kgo.ConsumeTopics(shop.DeadLetters), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	want := map[string]string{
		"unknown schema": "\x00\x00\x0f\x42\x3fdata", // id 999,999
		"no Avro":        "hello",
	}
	for key, value := range want {
		for _, topic := range []string{shop.TopicOrders, shop.TopicDecisions} {
			if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := map[string]string{}
	for n := 0; n < 4; {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%d dead letters: %v; the shop says %s", n, err, &c.stderr)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			headers := map[string]string{}
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			if headers["__streams.errors.message"] == "" {
				t.Errorf("no reason in %v", headers)
			}
			got[string(r.Key)+" in "+headers["__streams.errors.topic"]] = string(r.Value)
		})
	}
	for key, value := range want {
		for _, topic := range []string{shop.TopicOrders, shop.TopicDecisions} {
			if got[key+" in "+topic] != value {
				t.Errorf("%s in %s: got %q, want %q", key, topic, got[key+" in "+topic], value)
			}
		}
	}
	text := <-c.rest
	if code := c.wait(); code != 0 || !strings.Contains(text, "The books agree.") || !strings.Contains(text, "4 records did not decode") {
		t.Errorf("exit %d\n%s%s", code, text, &c.stderr)
	}
}

func TestTheShopOnPostgres(t *testing.T) {
	c := startShop(t, "--ephemeral", "--rate", "50", "--for", "1s", "--pg", pgtest.Start(t))
	text := <-c.rest
	if code := c.wait(); code != 0 || !strings.Contains(text, "The books agree.") || c.stderr.String() != "" {
		t.Errorf("exit %d\n%s%s", code, text, &c.stderr)
	}
}
