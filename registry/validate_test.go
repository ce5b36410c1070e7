package registry_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/broker/brokertest"
	"github.com/leatstream/leat/registry"
)

// TestBrokerChecksSchemas has a topic whose values must carry a schema of its subject: the broker refuses all others.
func TestBrokerChecksSchemas(t *testing.T) {
	var server atomic.Pointer[registry.Server] // the broker is there first
	b := brokertest.Start(t, broker.Config{Dir: t.TempDir(), CheckSchema: func(topic string, key bool, data, header []byte) error {
		if s := server.Load(); s != nil {
			return s.CheckRecord(topic, key, data, header)
		}
		return errors.New("the registry is starting")
	}})
	s := startOn(t, b)
	server.Store(s)
	mine, err := s.Backend().Register(t.Context(), "orders-value", registry.Definition{Text: `"string"`})
	if err != nil || mine.ID != 1 {
		t.Fatal(mine, err)
	}
	if _, err := s.Backend().Register(t.Context(), "other-value", registry.Definition{Text: `"int"`}); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer()), kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	yes, no := "true", "false"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{"leat.value.schema.validation": &yes}, "orders"); err != nil {
		t.Fatal(err)
	}
	guid, err := hex.DecodeString(strings.ReplaceAll(mine.GUID, "-", ""))
	if err != nil {
		t.Fatal(err)
	}
	inHeader := []kgo.RecordHeader{{Key: "__value_schema_id", Value: append([]byte{1}, guid...)}}
	for _, r := range []struct {
		what    string
		value   []byte
		headers []kgo.RecordHeader
		reason  string
	}{
		{"the topic's schema", []byte{0, 0, 0, 0, 1, 2, 'x'}, nil, ""},
		{"its GUID", append(append([]byte{1}, guid...), 2, 'x'), nil, ""},
		{"its GUID in a header", []byte{2, 'x'}, inHeader, ""},
		{"a tombstone", nil, nil, ""},
		{"another topic's schema", []byte{0, 0, 0, 0, 2, 2}, nil, "id 2"},
		{"an unknown id", []byte{0, 0, 0, 0, 9, 2}, nil, "id 9"},
		{"JSON", []byte(`{"id":"o1"}`), nil, "names no schema"},
		{"nothing", []byte{}, nil, "names no schema"},
		{"a broken header", []byte{0, 0, 0, 0, 1, 2, 'x'}, []kgo.RecordHeader{{Key: "__value_schema_id", Value: []byte{7}}}, "names no schema"},
	} {
		err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Key: []byte("k"), Value: r.value, Headers: r.headers}).FirstErr()
		if (r.reason == "") != (err == nil) || err != nil && !errors.Is(err, kerr.InvalidRecord) {
			t.Errorf("%s: %v", r.what, err)
		}
	}
	if err := s.CheckRecord("orders", false, []byte(`{"id":"o1"}`), nil); err == nil || !strings.Contains(err.Error(), `subject "orders-value"`) {
		t.Errorf("JSON: %v", err)
	}
	// Turned off again, the topic takes anything.
	if _, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "leat.value.schema.validation", Value: &no}}, "orders"); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: []byte("anything")}).FirstErr(); err != nil {
		t.Error(err)
	}
}
