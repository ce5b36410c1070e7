package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/examples/ordersPipeline/email"
	"github.com/leatstream/leat/examples/ordersPipeline/mailbox"
	"github.com/leatstream/leat/examples/ordersPipeline/orders"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/examples/ordersPipeline/verify"
	"github.com/leatstream/leat/registry"
)

// TestMain makes the test binary the program itself when it is called as such: the tests run, and kill, real processes.
func TestMain(m *testing.M) {
	if os.Getenv("SHOP_TEST_RUN_AS_PROGRAM") != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// child is the shop as a process of its own.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	cancel context.CancelFunc
	stdout *bufio.Reader
	stderr said
	rest   chan string // what stdout said after the ready block
	waited bool

	web, kafka, registry string
}

// said is what a shop has written, while it goes on writing.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

var announced = regexp.MustCompile(`^  (Order intake|Kafka|Schema registry) +(?:POST )?(?:http://)?(localhost:\d+)`)

// startShop runs the shop with free ports and waits until it is ready.
func startShop(t *testing.T, args ...string) *child {
	t.Helper()
	c := launch(t, args...)
	c.ready()
	return c
}

// launch runs the shop with free ports.
func launch(t *testing.T, args ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // one that hangs is killed, and the test fails
	args = append([]string{"--kafka-port", "0", "--registry-port", "0", "--http-port", "0", "--smtp-port", "0"}, args...)
	c := &child{t: t, cmd: exec.CommandContext(ctx, exe, args...), cancel: cancel, rest: make(chan string, 1)}
	c.cmd.Env = append(os.Environ(), "SHOP_TEST_RUN_AS_PROGRAM=1")
	c.cmd.Stderr = &c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.stdout = bufio.NewReader(stdout)
	t.Cleanup(func() { c.cancel(); c.wait() })
	return c
}

// ready waits for the block that says where everything is.
func (c *child) ready() {
	c.t.Helper()
	for {
		line, err := c.stdout.ReadString('\n')
		if m := announced.FindStringSubmatch(line); m != nil {
			*map[string]*string{"Order intake": &c.web, "Kafka": &c.kafka, "Schema registry": &c.registry}[m[1]] = m[2]
		}
		if strings.Contains(line, "Ctrl-C") {
			break
		}
		if err != nil {
			code := c.wait()
			c.t.Fatalf("the shop did not become ready: exit %d: %s", code, &c.stderr)
		}
	}
	go func() {
		text, _ := io.ReadAll(c.stdout)
		c.rest <- string(text)
	}()
}

func (c *child) wait() int {
	if !c.waited {
		c.waited = true
		_ = c.cmd.Wait()
	}
	return c.cmd.ProcessState.ExitCode()
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	c.wait()
}

// stop sends SIGTERM and expects a clean end.
func (c *child) stop() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Error(err)
	}
	rest := <-c.rest
	if code := c.wait(); code != 0 {
		c.t.Errorf("after SIGTERM: exit %d, %s%s", code, rest, &c.stderr)
	}
}

// customer places orders over HTTP for as long as the test lasts, whatever happens to the shop, and remembers which
// ones were accepted. An order whose answer was lost is sent again, under the same client id, until it is answered.
type customer struct {
	mu struct {
		sync.Mutex
		web      string
		accepted map[string]bool
	}
	lost int // answers that were lost
}

func (c *customer) visit(web string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.web = web
}

func (c *customer) run(ctx context.Context, t *testing.T) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		body := fmt.Sprintf(`{"client_order_id":"customer-%d","customer":"Customer","email":"c@example.org","country":"PL","product":"pen","quantity":1}`, n)
		for ctx.Err() == nil {
			c.mu.Lock()
			url := "http://" + c.mu.web + "/orders"
			c.mu.Unlock()
			id, err := place(ctx, client, url, body)
			if err == nil {
				c.mu.Lock()
				c.mu.accepted[id] = true
				c.mu.Unlock()
				break
			}
			if errors.Is(err, errRefused) {
				t.Error(err)
				return
			}
			c.lost++
			pause(ctx, 20*time.Millisecond)
		}
		pause(ctx, 10*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

var errRefused = errors.New("order refused")

func place(ctx context.Context, client *http.Client, url, body string) (id string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	switch {
	case res.StatusCode >= 500:
		return "", fmt.Errorf("%d %s", res.StatusCode, text)
	case res.StatusCode >= 300:
		return "", fmt.Errorf("%w: %d %s", errRefused, res.StatusCode, text)
	}
	_, after, ok := strings.Cut(string(text), `"id":"`)
	id, _, ok2 := strings.Cut(after, `"`)
	if !ok || !ok2 {
		return "", fmt.Errorf("%w: no id in %s", errRefused, text)
	}
	return id, nil
}

var (
	killsFlag = flag.Int("kills", 16, "how often TestBooksAgreeAfterKills kills the shop")
	seedFlag  = flag.Uint64("seed", 0, "seed of TestBooksAgreeAfterKills, 0 for a new one")
)

// TestBooksAgreeAfterKills runs the shop under load, kills it at random moments, starts it again, and then proves from
// the topics and the databases that nothing was lost and nothing counted twice.
func TestBooksAgreeAfterKills(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for a minute")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	data := filepath.Join(t.TempDir(), "leat")

	buyer := &customer{}
	buyer.mu.accepted = map[string]bool{}
	ctx, leave := context.WithCancel(t.Context())
	var buying sync.WaitGroup
	defer buying.Wait()
	defer leave()
	begin := time.Now()
	for i := range *killsFlag {
		c := launch(t, "--data", data, "--rate", "150", "--seed", fmt.Sprint(seed+uint64(i)))
		if i%4 == 3 { // some while it is still starting
			pause(t.Context(), time.Duration(rng.Int64N(int64(700*time.Millisecond))))
			c.kill()
			continue
		}
		c.ready()
		buyer.visit(c.web)
		if i == 0 {
			buying.Go(func() { buyer.run(ctx, t) })
		}
		pause(t.Context(), time.Duration(rng.Int64N(int64(2*time.Second))))
		c.kill()
	}
	t.Logf("%d kills in %v", *killsFlag, time.Since(begin).Round(time.Millisecond))
	last := startShop(t, "--data", data, "--rate", "0")
	buyer.visit(last.web)
	pause(t.Context(), 200*time.Millisecond)
	leave()
	buying.Wait()

	begin = time.Now()
	report := checkFromOutside(t, last, data, buyer.mu.accepted)
	t.Logf("settled in %v; %d orders, %d rejected, %d published twice, %d mails sent again, %d answers lost",
		time.Since(begin).Round(time.Millisecond), report.Orders, report.Rejected, report.Republished, report.Resent, buyer.lost)
	last.stop()

	// The program's own verdict, in a process of its own, after a clean stop.
	own := startShop(t, "--data", data, "--rate", "0", "--for", "1ms")
	text := <-own.rest
	if code := own.wait(); code != 0 || !strings.Contains(text, "The books agree.") {
		t.Errorf("--for: exit %d\n%s%s", code, text, &own.stderr)
	}
}

// TestServicesInProcessesOfTheirOwn runs each service in a process of its own against one broker, and kills one after
// the other while the rest goes on.
func TestServicesInProcessesOfTheirOwn(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	data := filepath.Join(t.TempDir(), "leat")
	cluster, err := openPlatform(t.Context(), &config{data: data, logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	}()
	buyer := &customer{}
	buyer.mu.accepted = map[string]bool{}
	rate := "100"
	begin := func(services string) *child {
		c := startShop(t, "--data", data, "--bootstrap-server", cluster.kafka, "--registry", cluster.registry, "--rate", rate, "--only", services)
		if c.web != "" {
			buyer.visit(c.web)
		}
		return c
	}
	parts := []string{"orders,load", "inventory", "analytics", "email,mailbox"}
	running := make([]*child, len(parts))
	for i, services := range parts {
		running[i] = begin(services)
	}
	ctx, leave := context.WithCancel(t.Context())
	var buying sync.WaitGroup
	defer buying.Wait()
	defer leave()
	buying.Go(func() { buyer.run(ctx, t) })
	for i := range 12 {
		pause(t.Context(), time.Duration(rng.Int64N(int64(time.Second))))
		running[i%len(parts)].kill()
		running[i%len(parts)] = begin(parts[i%len(parts)])
	}
	pause(t.Context(), 200*time.Millisecond)
	leave()
	buying.Wait()
	running[0].stop()
	rate = "0"
	running[0] = begin(parts[0])
	running[0].kafka, running[0].registry = cluster.kafka, strings.TrimPrefix(cluster.registry, "http://")
	report := checkFromOutside(t, running[0], data, buyer.mu.accepted)
	t.Logf("%d orders, %d rejected, %d published twice, %d mails sent again, %d answers lost",
		report.Orders, report.Rejected, report.Republished, report.Resent, buyer.lost)
	for _, c := range running {
		c.stop()
	}
}

// checkFromOutside reads topics and databases with clients of the test's own.
func checkFromOutside(t *testing.T, c *child, data string, accepted map[string]bool) verify.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	schemas, err := registry.NewHTTP("http://"+c.registry, registry.HTTPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer schemas.Close()
	shop.Registry.Bind(schemas)
	store, err := orders.OpenStore(ctx, filepath.Join(data, "shop", "orders.db"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ledger, err := email.OpenLedger(ctx, filepath.Join(data, "shop", "email.db"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	box, err := mailbox.Open(ctx, filepath.Join(data, "shop", "mail.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	books := verify.Books{Opts: []kgo.Opt{kgo.SeedBrokers(c.kafka)}, Orders: store, Emails: ledger, Mail: box}
	report, err := books.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Agrees() {
		var b strings.Builder
		report.Print(&b)
		t.Errorf("%s\nthe shop says: %s", &b, &c.stderr)
	}
	for id := range accepted {
		if _, err := store.Find(ctx, id); err != nil {
			t.Errorf("order %s was accepted: %v", id, err)
		}
	}
	if len(accepted) == 0 || report.Orders <= int64(len(accepted)) {
		t.Errorf("%d orders by the customer, %d in all: too few for the test to mean anything", len(accepted), report.Orders)
	}
	return report
}
