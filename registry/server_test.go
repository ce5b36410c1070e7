package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// dump is everything that the API says about the schemas.
func dump(t *testing.T, s *Server) string {
	t.Helper()
	var b strings.Builder
	for _, path := range []string{"/schemas?deleted=true", "/subjects?deleted=true", "/config", "/config/a", "/config/b", "/mode"} {
		a := do(t, s, "GET", path, "")
		fmt.Fprintf(&b, "%s %d %s\n", path, a.status, a.body)
	}
	return b.String()
}

// TestRestart replays what a registry wrote.
func TestRestart(t *testing.T) {
	c := newCluster(t)
	s := start(t, c.ListenAddrs())
	for _, r := range []struct{ method, path, body string }{
		{"POST", "/subjects/a/versions", schemaBody(orderV1)},
		{"POST", "/subjects/a/versions", schemaBody(orderV2)},
		{"POST", "/subjects/b/versions", schemaBody(orderV1)},
		{"POST", "/subjects/c/versions", schemaBody(`"int"`)},
		{"POST", "/subjects/d/versions", schemaBody(`"long"`)},
		{"PUT", "/config/a", `{"compatibility":"FULL"}`},
		{"PUT", "/config", `{"compatibility":"NONE"}`},
		{"DELETE", "/subjects/a/versions/1", ""},
		{"DELETE", "/subjects/c", ""},
		{"DELETE", "/subjects/d", ""},
		{"DELETE", "/subjects/d?permanent=true", ""},
		{"POST", "/subjects/é\"%3C%26%3E/versions", schemaBody(`"double"`)},
	} {
		if a := do(t, s, r.method, r.path, r.body); a.status != 200 {
			t.Fatalf("%s %s: %d %s", r.method, r.path, a.status, a.body)
		}
	}
	want := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, c.ListenAddrs())
	if d := cmp.Diff(want, dump(t, s)); d != "" {
		t.Errorf("after a restart (-before +after):\n%s", d)
	}
	// Ids go on where they were.
	a := do(t, s, "POST", "/subjects/new/versions", schemaBody(`"float"`))
	if !strings.Contains(a.body, `"id":6`) && !strings.Contains(a.body, `"id":5`) {
		t.Errorf("a new schema: %s", a.body)
	}
}

// TestConfluentTopic serves a topic as older and newer registries of Confluent's wrote it, oddities included.
func TestConfluentTopic(t *testing.T) {
	null := "null"
	s := start(t, topicOf(t, [][2]string{
		{`{"keytype":"NOOP","magic":0}`, null},
		{`{"keytype":"CONFIG","subject":null,"magic":0}`, `{"compatibilityLevel":"FORWARD"}`},
		{`{"magic":0,"keytype":"CONFIG"}`, `{"compatibilityLevel":"FULL"}`},
		{`{"keytype":"SCHEMA","subject":"a","version":1,"magic":0}`, `{"subject":"a","version":1,"id":3,"schema":"\"string\"","deleted":false}`},
		{`{"keytype":"SCHEMA","subject":"a","version":2,"magic":1}`, `{"subject":"a","version":2,"id":4,"md5":"abc=","schemaType":"AVRO","references":[],"metadata":null,"ruleSet":{"domainRules":[]},"schema":"\"bytes\"","deleted":false}`},
		{`{"keytype":"SCHEMA","subject":"b","version":1,"magic":1}`, `{"subject":"b","version":1,"id":3,"schema":"\"string\"","deleted":false}`},
		{`{"keytype":"SCHEMA","subject":"p","version":1,"magic":1}`, `{"subject":"p","version":1,"id":9,"schemaType":"PROTOBUF","schema":"syntax = \"proto3\";","deleted":false}`},
		{`{"keytype":"SCHEMA","subject":"stolen","version":1,"magic":1}`, `{"subject":"stolen","version":1,"id":4,"schema":"\"int\"","deleted":false}`},
		{`{"keytype":"DELETE_SUBJECT","subject":"b","magic":0}`, `{"subject":"b","version":1}`},
		{`{"keytype":"MODE","subject":"b","magic":0}`, `{"subject":"b","mode":"READONLY"}`},
		{`{"keytype":"CONTEXT","tenant":"default","context":".x","magic":0}`, `{"tenant":"default","context":".x"}`},
		{`{"keytype":"ASSOC","tenant":"default","resourceName":"r","magic":0}`, `{"what":1}`},
		{`{"keytype":"FUTURE","magic":9}`, `{}`},
		{`{"keytype":"SCHEMA","subject":"broken","version":1,"magic":1}`, `{"subject":`},
		{`not JSON`, `{}`},
		{``, ``},
	}))
	for _, want := range []struct {
		path, body string
	}{
		{"/subjects?deleted=true", `["a","b","p"]`},
		{"/subjects", `["a","p"]`},
		{"/config", `{"compatibilityLevel":"FULL"}`},
		{"/mode/b", `{"mode":"READONLY"}`},
		{"/schemas/ids/3", `{"guid":"095d71cf-1255-6b9d-5e33-0ad575b3df5d","schemaType":"AVRO","schema":"\"string\""}`},
		{"/schemas/ids/4/schema", `"bytes"`},
		{"/subjects/p/versions/latest/schema", `syntax = "proto3";`},
	} {
		if a := do(t, s, "GET", want.path, ""); a.body != want.body {
			t.Errorf("GET %s: got %s, want %s", want.path, a.body, want.body)
		}
	}
	// Read-only stays read-only; new ids begin after all old ones; other types are not confused with Avro.
	if a := do(t, s, "POST", "/subjects/b/versions", schemaBody(`"string"`)); a.body != `{"error_code":42205,"message":"Subject b in context . is in read-only mode"}` {
		t.Errorf("read-only subject: %s", a.body)
	}
	if a := do(t, s, "POST", "/subjects/n/versions", schemaBody(`"int"`)); !strings.Contains(a.body, `"id":10`) {
		t.Errorf("a new schema: %s", a.body)
	}
	if a := do(t, s, "POST", "/subjects/p/versions", schemaBody(`"int"`)); a.status != 409 || !strings.Contains(a.body, "Incompatible because of different schema type") {
		t.Errorf("Avro after Protobuf: %s", a.body)
	}
}

// TestConcurrentRegistration has many clients register the same schemas and their own at once.
func TestConcurrentRegistration(t *testing.T) {
	c := newCluster(t)
	s := start(t, c.ListenAddrs())
	b := s.Backend()
	const clients, each = 16, 8
	var mu sync.Mutex
	ids := make(map[string]map[int]bool) // text to the ids that it got
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for n := range each {
				for _, name := range []string{fmt.Sprintf("shared%d", n), fmt.Sprintf("own%dx%d", i, n)} {
					text := `{"type":"record","name":"` + name + `","fields":[]}`
					got, err := b.Register(t.Context(), "subject-"+name, Definition{Text: text})
					if err != nil {
						t.Error(err)
						return
					}
					if d, err := b.SchemaByID(t.Context(), got.ID); err != nil || d.Text != text {
						t.Errorf("schema %d right after it was registered: %q, %v", got.ID, d.Text, err)
					}
					mu.Lock()
					if ids[text] == nil {
						ids[text] = make(map[int]bool)
					}
					ids[text][got.ID] = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	used := make(map[int]string)
	for text, got := range ids {
		if len(got) != 1 {
			t.Errorf("%s has ids %v", text, got)
		}
		for id := range got {
			if other, ok := used[id]; ok {
				t.Errorf("id %d is %s and %s", id, text, other)
			}
			used[id] = text
		}
	}
	if want := clients*each + each; len(used) != want {
		t.Errorf("%d ids, want %d", len(used), want)
	}
}

// What waits for its turn to write is decided by what holds then, not by what held when it came.
func TestDecidedWhenItIsWritten(t *testing.T) {
	s := start(t, newCluster(t).ListenAddrs())
	c, ctx := s.core.Load(), t.Context()
	base, err := c.register(ctx, "base", Definition{Text: `{"type":"record","name":"Base","fields":[]}`}, registration{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.register(ctx, "s", Definition{Text: `"int"`}, registration{}); err != nil {
		t.Fatal(err)
	}
	mode, err := marshal(modeValue{Subject: "s", Mode: modeReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	write := func(first func(), records ...record) {
		t.Helper()
		if err := c.log.lock(ctx); err != nil {
			t.Fatal(err)
		}
		defer c.log.unlock()
		first()
		if err := c.log.writeLocked(ctx, records...); err != nil {
			t.Fatal(err)
		}
	}
	gone := []record{{schemaKey("base", base.Version), nil}}
	readOnly := []record{{subjectKey(keyMode, "s"), mode}}
	for _, test := range []struct {
		what      string
		meanwhile []record
		code      int
		do        func() error
	}{
		{"a schema that refers to what is deleted", gone, codeInvalidSchema, func() error {
			_, err := c.register(ctx, "derived", Definition{Text: `{"type":"record","name":"D","fields":[{"name":"b","type":"Base"}]}`,
				References: []Reference{{Name: "Base", Subject: "base", Version: base.Version}}}, registration{})
			return err
		}},
		{"a schema of a subject that is read-only", readOnly, codeOperationNotPermitted, func() error {
			_, err := c.register(ctx, "s", Definition{Text: `"long"`}, registration{})
			return err
		}},
		{"the deletion of a subject that is read-only", readOnly, codeOperationNotPermitted, func() error {
			_, err := c.deleteSubject(ctx, "s", false)
			return err
		}},
		{"the deletion of a version that is read-only", readOnly, codeOperationNotPermitted, func() error {
			_, err := c.deleteVersion(ctx, "s", 1, false)
			return err
		}},
		{"the configuration of a subject that is read-only", readOnly, codeOperationNotPermitted, func() error {
			_, err := c.setConfig(ctx, "s", configUpdate{Compatibility: "NONE"})
			return err
		}},
		{"the end of the configuration of a subject that is read-only", readOnly, codeOperationNotPermitted, func() error {
			_, err := c.deleteConfig(ctx, "s")
			return err
		}},
	} {
		done := make(chan error, 1)
		write(func() {
			go func() { done <- test.do() }()
			time.Sleep(50 * time.Millisecond) // it waits now
		}, test.meanwhile...)
		var refused *Error
		if err := <-done; !errors.As(err, &refused) || refused.Code != test.code {
			t.Errorf("%s: %v, want code %d", test.what, err, test.code)
		}
		write(func() {}, record{subjectKey(keyMode, "s"), nil})
	}
}

// Who closes a registry does not take its producer away from a change that is being written: that one ends, with an error.
func TestCloseWhileItWrites(t *testing.T) {
	for _, unfenced := range []bool{true, false} {
		cluster := newCluster(t)
		s := startWith(t, Config{Brokers: cluster.ListenAddrs(), WriteTimeout: time.Minute, Unfenced: unfenced, Logger: logger(t)})
		writing := make(chan struct{}, 100)
		cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			writing <- struct{}{}
			return nil, nil, true // and no answer ever
		})
		done := make(chan error, 1)
		go func() {
			_, err := s.Backend().Register(t.Context(), "s", Definition{Text: `"int"`})
			done <- err
		}()
		<-writing
		began := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err == nil {
			t.Error("registered")
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("unfenced=%t: it took %s", unfenced, took)
		}
		if _, err := s.Backend().Register(t.Context(), "s", Definition{Text: `"int"`}); !errors.Is(err, ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Start(t.Context(), Config{Listen: l.Addr().String(), Brokers: []string{"127.0.0.1:1"}})
	if err == nil || !strings.Contains(err.Error(), "port in use: "+l.Addr().String()) || !strings.Contains(err.Error(), "choose another address") {
		t.Fatalf("error %v", err)
	}
}

// syncBuffer is a buffer that a logger may write to while the test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestBrokerUnreachable waits for a broker, says so, answers 503 meanwhile, and goes on when the broker is there.
func TestBrokerUnreachable(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	api, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	apiAddr := api.Addr().String()
	if err := errors.Join(free.Close(), api.Close()); err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	config := Config{Listen: apiAddr, Brokers: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Logger: slog.New(slog.NewTextHandler(&log, nil))}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { // gives up when it has been told what is waited for
		for ctx.Err() == nil && !strings.Contains(log.String(), "the schema registry waits for its broker") {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := Start(ctx, config); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if text := log.String(); !strings.Contains(text, "the schema registry waits for its broker") || !strings.Contains(text, fmt.Sprint(port)) {
		t.Errorf("log: %s", text)
	}

	type result struct {
		s   *Server
		err error
	}
	started := make(chan result, 1)
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		s, err := Start(ctx, config)
		started <- result{s, err}
	}()
	waiting := &Server{config: config} // only its address is used
	waiting.listener = fixedAddr{apiAddr}
	deadline := time.Now().Add(time.Minute)
	for {
		if conn, err := net.Dial("tcp", apiAddr); err == nil {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the registry does not listen while it waits")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if a := do(t, waiting, "GET", "/subjects", ""); a.status != 503 || !strings.Contains(a.body, "is starting") {
		t.Errorf("while it waits: %d %s", a.status, a.body)
	}
	cluster, err := kfake.NewCluster(kfake.Ports(port))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	r := <-started
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.s.Close()
	if a := do(t, r.s, "GET", "/subjects", ""); a.status != 200 {
		t.Errorf("when it is ready: %d %s", a.status, a.body)
	}
}

// fixedAddr is a listener of which only the address is used.
type fixedAddr struct{ addr string }

func (fixedAddr) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (fixedAddr) Close() error              { return nil }
func (f fixedAddr) Addr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", f.addr)
	if err != nil {
		panic(err)
	}
	return a
}

// TestUnfitTopics refuses topics that would lose schemas.
func TestUnfitTopics(t *testing.T) {
	c := newCluster(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	compact, del := "compact", "delete"
	if _, err := adm.CreateTopic(t.Context(), 3, 1, map[string]*string{"cleanup.policy": &compact}, "three"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &del}, "deleting"); err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]string{"three": "has 3 partitions and must have one", "deleting": "cleanup.policy=delete and must have compact"} {
		_, err := Start(t.Context(), Config{Brokers: c.ListenAddrs(), Topic: topic})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("topic %s: error %v", topic, err)
		}
	}
}

// TestWriteFails lets writes fail, with and without the record in the log, and looks that the registry recovers.
func TestWriteFails(t *testing.T) {
	c := newCluster(t)
	s := start(t, c.ListenAddrs())
	if a := do(t, s, "POST", "/subjects/a/versions", schemaBody(`"int"`)); a.status != 200 {
		t.Fatal(a.body)
	}
	refuse := func(code int16) {
		c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
			r := req.(*kmsg.ProduceRequest)
			resp := r.ResponseKind().(*kmsg.ProduceResponse)
			for _, rt := range r.Topics {
				st := kmsg.NewProduceResponseTopic()
				st.Topic, st.TopicID = rt.Topic, rt.TopicID
				for _, rp := range rt.Partitions {
					sp := kmsg.NewProduceResponseTopicPartition()
					sp.Partition, sp.ErrorCode = rp.Partition, code
					st.Partitions = append(st.Partitions, sp)
				}
				resp.Topics = append(resp.Topics, st)
			}
			return resp, nil, true
		})
	}
	refuse(kerr.MessageTooLarge.Code)
	if a := do(t, s, "POST", "/subjects/a/versions", schemaBody(`"long"`)); a.status != 422 || !strings.Contains(a.body, "42209") {
		t.Errorf("too large: %d %s", a.status, a.body)
	}
	refuse(kerr.TopicAuthorizationFailed.Code)
	if a := do(t, s, "POST", "/subjects/a/versions", schemaBody(`"long"`)); a.status != 500 || !strings.Contains(a.body, "50001") {
		t.Errorf("not allowed: %d %s", a.status, a.body)
	}
	a := do(t, s, "POST", "/subjects/a/versions", schemaBody(`"long"`))
	if a.status != 200 || !strings.Contains(a.body, `"version":2,"id":2,`) {
		t.Errorf("after that: %d %s", a.status, a.body)
	}
}

func TestBodyLimit(t *testing.T) {
	c := newCluster(t)
	s := start(t, c.ListenAddrs())
	a := do(t, s, "POST", "/subjects/a/versions", schemaBody(`"`+strings.Repeat("x", 1<<20)+`"`))
	if a.status != 413 || !strings.Contains(a.body, "larger than 1048576 bytes") {
		t.Errorf("%d %.200s", a.status, a.body)
	}
}

func TestValidate(t *testing.T) {
	for field, c := range map[string]Config{"Replication": {Replication: -1}, "WriteTimeout": {WriteTimeout: -1}, "MaxBodyBytes": {MaxBodyBytes: -1}} {
		if _, err := Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: error %v", field, err)
		}
	}
}
