package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newCluster runs a fake Kafka cluster.
func newCluster(t testing.TB) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// start runs a registry on a fake cluster, with a port of its own. It is not fenced: now and then, under load, readers of
// the fake cluster do not hear for seconds that a transaction has ended. What fencing needs is tested on Leat's own broker.
func start(t testing.TB, brokers []string) *Server {
	t.Helper()
	return startWith(t, Config{Listen: "127.0.0.1:0", Brokers: brokers, WriteTimeout: 10 * time.Second, Unfenced: true, Logger: logger(t)})
}

func startWith(t testing.TB, c Config) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// logger writes to the test's log.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request with a JSON body, or none if body is empty.
func do(t testing.TB, s *Server, method, path, body string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := httpClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// httpClient keeps no connection open, so that none outlives a test.
var httpClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// schemaBody is the body of a request that brings an Avro schema.
func schemaBody(schema string) string {
	b, err := marshal(map[string]string{"schema": schema})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// compactJSON takes out what differs from run to run.
func withoutTime(t testing.TB, body string) string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	ts, ok := m["ts"]
	if !ok {
		return body
	}
	return strings.Replace(body, `,"ts":`+string(ts), "", 1)
}

// records reads a topic's records from the beginning to its end.
func records(t testing.TB, brokers []string, topic string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	// A mark at the end says when everything before it has been read.
	mark := []byte("end")
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: mark}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var list []*kgo.Record
	for {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		list = append(list, fetches.Records()...)
		if n := len(list); n > 0 && bytes.Equal(list[n-1].Key, mark) {
			return list[:n-1]
		}
	}
}
