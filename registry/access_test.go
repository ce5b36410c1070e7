package registry

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/broker/brokertest"
)

// TestSecondWriterFencesTheFirst starts a second registry on the topic of the first: it takes the writing over, and what
// the first would still write is refused, while it goes on answering questions.
func TestSecondWriterFencesTheFirst(t *testing.T) {
	b := brokertest.Start(t, broker.Config{Listen: []string{"127.0.0.1:0"}})
	c := Config{Listen: "127.0.0.1:0", Brokers: []string{b.Addr()}, Logger: logger(t)}
	first := startWith(t, c)
	if a := do(t, first, "POST", "/subjects/s/versions", schemaBody(`"int"`)); a.status != 200 {
		t.Fatalf("before there is another: %s", a.body)
	}
	second := startWith(t, c)
	if a := do(t, second, "POST", "/subjects/s/versions", schemaBody(`"long"`)); a.status != 200 || !strings.Contains(a.body, `"id":2`) {
		t.Fatalf("the second: %s", a.body)
	}
	for range 2 {
		a := do(t, first, "POST", "/subjects/other/versions", schemaBody(`"string"`))
		if a.status != 500 || !strings.Contains(a.body, `"error_code":50004`) {
			t.Fatalf("the first after that: %d %s", a.status, a.body)
		}
	}
	if a := do(t, second, "POST", "/subjects/s/versions", schemaBody(`"float"`)); !strings.Contains(a.body, `"id":3`) {
		t.Fatalf("the second after that: %s", a.body)
	}
	// The first still follows the topic.
	for deadline := time.Now().Add(time.Minute); ; {
		a := do(t, first, "GET", "/subjects/s/versions", "")
		if a.body == "[1,2,3]" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the first knows %s", a.body)
		}
	}
	if a := do(t, second, "GET", "/subjects", ""); a.body != `["s"]` {
		t.Errorf("subjects: %s", a.body)
	}
}

// TestUsers asks with and without credentials, and as one who may only read.
func TestUsers(t *testing.T) {
	c := newCluster(t)
	s, err := Start(t.Context(), Config{Listen: "127.0.0.1:0", Brokers: c.ListenAddrs(), Unfenced: true,
		Users: []User{{Name: "ada", Password: "pä:ss"}, {Name: "bob", Password: "b", ReadOnly: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	as := func(name, password string) []string {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(name, password)
		return []string{"Authorization", r.Header.Get("Authorization")}
	}
	for _, q := range []struct {
		who          []string
		method, path string
		body         string
		want         int
	}{
		{nil, "GET", "/subjects", "", 401},
		{as("ada", "b"), "GET", "/subjects", "", 401},
		{as("", ""), "GET", "/subjects", "", 401},
		{as("ada", "pä:ss"), "POST", "/subjects/s/versions", schemaBody(`"int"`), 200},
		{as("bob", "b"), "GET", "/subjects", "", 200},
		{as("bob", "b"), "POST", "/subjects/s", schemaBody(`"int"`), 200},
		{as("bob", "b"), "POST", "/contexts/.c/subjects/s", schemaBody(`"int"`), 404},
		{as("bob", "b"), "POST", "/compatibility/subjects/s/versions/latest/", schemaBody(`"int"`), 200},
		{as("bob", "b"), "POST", "/subjects/s/versions/", schemaBody(`"int"`), 403},
		{as("bob", "b"), "POST", "/contexts/.c/subjects/s/versions", schemaBody(`"int"`), 403},
		{as("bob", "b"), "DELETE", "/subjects/s", "", 403},
		{as("bob", "b"), "PUT", "/config", `{"compatibility":"NONE"}`, 403},
		{as("bob", "b"), "PUT", "/mode", `{"mode":"READONLY"}`, 403},
	} {
		a := do(t, s, q.method, q.path, q.body, q.who...)
		if a.status != q.want {
			t.Errorf("%s %s as %v: %d %s, want %d", q.method, q.path, q.who, a.status, a.body, q.want)
		}
		if (a.header.Get("WWW-Authenticate") != "") != (q.want == 401) {
			t.Errorf("%s %s as %v: WWW-Authenticate is %q", q.method, q.path, q.who, a.header.Get("WWW-Authenticate"))
		}
	}
}

// TestStrangersPages asks as a browser does for a page of another site, and for one of its own.
func TestStrangersPages(t *testing.T) {
	c := newCluster(t)
	s, err := Start(t.Context(), Config{Listen: "127.0.0.1:0", Brokers: c.ListenAddrs(), Unfenced: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, q := range []struct {
		method, header, value string
		want                  int
	}{
		{"POST", "Origin", "http://evil.example", 403},
		{"POST", "Sec-Fetch-Site", "cross-site", 403},
		{"POST", "Sec-Fetch-Site", "same-origin", 200},
		{"POST", "Origin", "http://" + s.Addr(), 200},
		{"GET", "Origin", "http://evil.example", 200},
	} {
		path, body := "/subjects", ""
		if q.method == "POST" {
			path, body = "/subjects/s/versions", schemaBody(`"int"`)
		}
		if a := do(t, s, q.method, path, body, q.header, q.value); a.status != q.want {
			t.Errorf("%s with %s %s: %d %s, want %d", q.method, q.header, q.value, a.status, a.body, q.want)
		}
	}
}

// TestRebinding asks as a browser does for a page whose name was made to resolve to the registry's address, and under names of its own.
func TestRebinding(t *testing.T) {
	c := newCluster(t)
	s, err := Start(t.Context(), Config{Listen: "127.0.0.1:0", Brokers: c.ListenAddrs(), Unfenced: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for host, want := range map[string]int{"evil.example:8081": 403, "127.0.0.1.evil.example": 403, "localhost:8081": 200, "Localhost": 200, "[::1]:8081": 200, "10.0.0.1": 200} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.Addr()+"/subjects", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := httpClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("as %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

// TestTLS serves over TLS, to a client of ours and to none that speaks plainly.
func TestTLS(t *testing.T) {
	helper := httptest.NewTLSServer(nil) // for its certificate
	defer helper.Close()
	c := newCluster(t)
	s, err := Start(t.Context(), Config{Listen: "127.0.0.1:0", Brokers: c.ListenAddrs(), Unfenced: true, TLS: helper.TLS.Clone()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h, err := NewHTTP("https://"+s.Addr(), HTTPConfig{Transport: helper.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if got, err := h.Register(t.Context(), "s", Definition{Text: `"int"`}); err != nil || got.ID != 1 {
		t.Errorf("registered %+v, %v", got, err)
	}
	if a := do(t, s, "GET", "/subjects", ""); a.status == 200 {
		t.Errorf("plain HTTP got %s", a.body)
	}
	if _, err := Start(t.Context(), Config{TLS: &tls.Config{}}); err == nil {
		t.Error("TLS without a certificate is accepted")
	}
}
