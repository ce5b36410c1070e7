package broker

import (
	"bytes"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// What a client that is set up wrongly does is said in the log; that one came, or went in the middle, is not.
func TestMistakesOfClientsAreLogged(t *testing.T) {
	ca := newAuthority(t)
	hello := append([]byte{0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3}, make([]byte, 194)...)
	metadata := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1)
	for _, c := range []struct {
		name  string
		bytes []byte
		tls   bool
		says  string
	}{
		{"TLS to a listener in clear", hello, false, "speaks TLS"},
		{"in clear to a TLS listener", metadata, true, "does not look like a TLS handshake"},
		{"an unknown API", []byte{0, 0, 0, 8, 3, 0xe7, 0, 0, 0, 0, 0, 1}, false, "unknown API 999"},
		{"a frame that is too large", []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 9}, false, "limit"},
		{"nothing", nil, false, ""},
		{"half a request", metadata[:len(metadata)-3], false, ""},
	} {
		var said syncBuffer
		b := start(t, func(cfg *Config) {
			cfg.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))
			l := Listener{Addr: "127.0.0.1:0"}
			if c.tls {
				l.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(pkix.Name{CommonName: "broker"})}}
			}
			cfg.Listeners = []Listener{l}
		})
		r := dialRawTCP(t, b.Addr())
		if _, err := r.nc.Write(c.bytes); err != nil {
			t.Fatal(err)
		}
		if c.says == "" {
			_ = r.nc.(*net.TCPConn).CloseWrite()
		}
		_, _ = io.Copy(io.Discard, r.nc) // until the broker closes
		if got := said.String(); !strings.Contains(got, c.says) || c.says == "" && got != "" {
			t.Errorf("%s: logged %q", c.name, got)
		}
	}
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex // protects buf
	buf strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func TestApiVersionsOfANewerClient(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	// Version 99, flexible header, a body of no known shape.
	frame := []byte{0, 0, 0, 0, 0, 18, 0, 99, 0, 0, 0, 7, 0, 1, 'x', 0, 0xff, 0xff, 0xff}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	if _, err := r.nc.Write(frame); err != nil {
		t.Fatal(err)
	}
	corr, body := r.receive()
	req := kmsg.NewPtrApiVersionsRequest()
	resp := decode[*kmsg.ApiVersionsResponse](t, req, body) // of version 0
	if corr != 7 || resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) < 10 {
		t.Fatalf("correlation %d, error %d, %d keys", corr, resp.ErrorCode, len(resp.ApiKeys))
	}
	// The connection goes on.
	for v := int16(0); v <= 4; v++ {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "test", "1.0"
		resp := do[*kmsg.ApiVersionsResponse](r, req, v)
		if resp.ErrorCode != 0 {
			t.Fatalf("version %d: error %d", v, resp.ErrorCode)
		}
		for _, f := range resp.SupportedFeatures {
			if v < 4 && f.MinVersion == 0 {
				t.Errorf("version %d lists feature %s, which older Java clients refuse", v, f.Name)
			}
		}
		for _, k := range resp.ApiKeys {
			if k.ApiKey == 71 || k.ApiKey == 72 { // KIP-714: nor does a Kafka that no receiver is configured in
				t.Errorf("version %d lists API %d, and clients would send telemetry", v, k.ApiKey)
			}
		}
	}
	bad := kmsg.NewPtrApiVersionsRequest()
	bad.ClientSoftwareName, bad.ClientSoftwareVersion = "no spaces", "1"
	if resp := do[*kmsg.ApiVersionsResponse](r, bad, 3); resp.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("a bad software name got error %d", resp.ErrorCode)
	}
}

// Every advertised version of every API is decodable and answered in the form that clients decode.
func TestEveryAdvertisedVersionIsAnswered(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	for _, row := range b.routes {
		if row == nil {
			continue
		}
		for v := row.acceptMin; v <= row.max; v++ {
			req := kmsg.RequestForKey(row.key)
			if d, ok := req.(interface{ Default() }); ok {
				d.Default()
			}
			switch q := req.(type) {
			case *kmsg.ProduceRequest:
				q.Acks = 1
			case *kmsg.ApiVersionsRequest:
				q.ClientSoftwareName, q.ClientSoftwareVersion = "t", "1"
			case *kmsg.JoinGroupRequest, *kmsg.SyncGroupRequest: // answered with errors, if at all needed, by their own tests
			}
			do[kmsg.Response](r, req, v)
			if row.key == keySASLAuthenticate { // ends the connection: there was no handshake
				r = dialRaw(t, b)
			}
		}
	}
}

func TestHostileFrames(t *testing.T) {
	b := start(t, func(c *Config) { c.Listen = []string{"127.0.0.1:0"} })
	header := func(key, version int16, body ...byte) []byte {
		f := []byte{0, 0, 0, 0, byte(key >> 8), byte(key), byte(version >> 8), byte(version), 0, 0, 0, 1, 0xff, 0xff}
		f = append(f, body...)
		binary.BigEndian.PutUint32(f, uint32(len(f)-4))
		return f
	}
	huge := []byte{0x7f, 0xff, 0xff, 0xff}
	hugeCompact := []byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f}
	produce := func(version int16, count []byte) []byte {
		body := []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1}
		if version >= 9 {
			body = []byte{0, 0, 0xff, 0xff, 0, 0, 0, 1}
			count = hugeCompact[1:]
		}
		return header(0, version, append(body, count...)...)
	}
	for name, frame := range map[string][]byte{
		"size 2^31-1":             append(huge[:4:4], 0, 3, 0, 9, 0, 0),
		"size 2^31-1 of produce":  append(huge[:4:4], 0, 0, 0, 9, 0, 0),
		"negative size":           {0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0},
		"size 0":                  {0, 0, 0, 0, 0, 3, 0, 0},
		"unknown key":             header(999, 0),
		"negative key":            header(-1, 0),
		"inter-broker key":        header(4, 0),
		"unserved version":        header(3, 99),
		"negative version":        header(3, -1),
		"produce version 2":       header(0, 2),
		"HTTP":                    []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"no body":                 header(3, 9),
		"huge array":              header(3, 1, huge...),
		"huge compact array":      header(3, 9, hugeCompact...),
		"produce huge array":      produce(3, huge),
		"produce huge compact":    produce(9, nil),
		"fetch huge array":        header(1, 4, append(make([]byte, 17), huge...)...),
		"client id beyond frame":  {0, 0, 0, 10, 0, 3, 0, 0, 0, 0, 0, 1, 0x7f, 0xff},
		"header tags beyond":      header(3, 12, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"create topics huge":      header(19, 2, huge...),
		"describe configs nested": header(32, 1, append([]byte{0, 0, 0, 1, 2, 0, 1, 'x'}, huge...)...),
	} {
		r := dialRaw(t, b)
		if _, err := r.nc.Write(frame); err != nil {
			t.Fatal(name, err)
		}
		if !r.closed() {
			t.Errorf("%s: the connection goes on", name)
		}
	}
	// Nobody else noticed.
	if resp := do[*kmsg.MetadataResponse](dialRaw(t, b), kmsg.NewPtrMetadataRequest(), 9); len(resp.Brokers) != 1 {
		t.Fatal("no broker in metadata")
	}
}

func TestHostileFramesCostNoMemory(t *testing.T) {
	b := start(t, nil)
	frame := []byte{0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const tries = 300
	for range tries {
		nc, err := b.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write(frame)
		_, _ = nc.Read(make([]byte, 1))
		_ = nc.Close()
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / tries; per > 128<<10 {
		t.Fatalf("%d bytes allocated per frame of %d", per, len(frame))
	}
}

// batch is one uncompressed record batch.
func batch(value string) []byte {
	return record.Build(record.NoProducer(), []record.Record{{Value: []byte(value), Timestamp: time.Now().UnixMilli()}})
}

func produceRequest1(topic string, partition int32, acks int16, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, records
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

func createTopic(t testing.TB, b *Broker, name string, partitions int32) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = name, partitions, 1
	req.Topics = append(req.Topics, ct)
	if resp := do[*kmsg.CreateTopicsResponse](dialRaw(t, b), req, 7); resp.Topics[0].ErrorCode != 0 {
		t.Fatal(*resp.Topics[0].ErrorMessage)
	}
}

// Produce requests that are sent without waiting are appended and answered in order, synced or not, and what follows them on the
// connection sees them.
func TestPipelinedProduceStaysInOrder(t *testing.T) {
	for _, flush := range []Flush{FlushAlways, FlushOS} {
		t.Run(flush.String(), func(t *testing.T) {
			b := start(t, func(c *Config) { c.Flush = flush })
			createTopic(t, b, "t", 1)
			r := dialRaw(t, b)
			const n = 200
			last := kmsg.NewPtrListOffsetsRequest()
			go func() {
				for i := range n {
					r.send(produceRequest1("t", 0, []int16{-1, 1}[i%2], batch(fmt.Sprint(i))), 7)
				}
				lt := kmsg.NewListOffsetsRequestTopic()
				lt.Topic = "t"
				lp := kmsg.NewListOffsetsRequestTopicPartition()
				lp.Timestamp, lp.CurrentLeaderEpoch = -1, -1
				lt.Partitions = append(lt.Partitions, lp)
				last.Topics = append(last.Topics, lt)
				r.send(last, 5)
			}()
			for i := range n {
				corr, body := r.receive()
				req := kmsg.NewPtrProduceRequest()
				req.Version = 7
				p := decode[*kmsg.ProduceResponse](t, req, body).Topics[0].Partitions[0]
				if corr != int32(i+1) || p.ErrorCode != 0 || p.BaseOffset != int64(i) {
					t.Fatalf("response %d: correlation %d, error %d, offset %d", i, corr, p.ErrorCode, p.BaseOffset)
				}
			}
			_, body := r.receive()
			if p := decode[*kmsg.ListOffsetsResponse](t, last, body).Topics[0].Partitions[0]; p.Offset < n-1 {
				t.Fatalf("after %d acknowledged records the end offset is %d", n, p.Offset)
			}
		})
	}
}

func TestProduceErrors(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	r := dialRaw(t, b)
	corrupt := batch("x")
	corrupt[len(corrupt)-1] ^= 1
	two := append(batch("a"), batch("b")...)
	for _, c := range []struct {
		name string
		req  *kmsg.ProduceRequest
		want *kerr.Error
	}{
		{"unknown topic", produceRequest1("nope", 0, 1, batch("x")), kerr.UnknownTopicOrPartition},
		{"unknown partition", produceRequest1("t", 7, 1, batch("x")), kerr.UnknownTopicOrPartition},
		{"negative partition", produceRequest1("t", -1, 1, batch("x")), kerr.UnknownTopicOrPartition},
		{"acks 2", produceRequest1("t", 0, 2, batch("x")), kerr.InvalidRequiredAcks},
		{"internal topic", produceRequest1(metadataTopic, 0, 1, batch("x")), kerr.InvalidTopicException},
		{"corrupt", produceRequest1("t", 0, 1, corrupt), kerr.CorruptMessage},
		{"short", produceRequest1("t", 0, 1, batch("x")[:30]), kerr.CorruptMessage},
		{"nothing", produceRequest1("t", 0, 1, nil), kerr.InvalidRecord},
		{"two batches", produceRequest1("t", 0, 1, two), kerr.InvalidRecord},
		{"fine", produceRequest1("t", 0, 1, batch("x")), nil},
	} {
		p := do[*kmsg.ProduceResponse](r, c.req, 9).Topics[0].Partitions[0]
		if want := errorCode(asError(c.want)); p.ErrorCode != want {
			t.Errorf("%s: error %v, want %v", c.name, kerr.ErrorForCode(p.ErrorCode), c.want)
		}
		if (p.BaseOffset == -1) != (c.want != nil) {
			t.Errorf("%s: base offset %d", c.name, p.BaseOffset)
		}
	}
	// An error with acks=0 can only be told by closing.
	r.send(produceRequest1("nope", 0, 0, batch("x")), 9)
	if !r.closed() {
		t.Error("acks=0 to an unknown topic went by in silence")
	}
}

func asError(e *kerr.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func TestMetadataOfEveryVersionCreatesTopics(t *testing.T) {
	b := start(t, func(c *Config) { c.DefaultPartitions = 2; c.Listen = []string{"127.0.0.1:0"} })
	r := dialRaw(t, b)
	host, port, _ := net.SplitHostPort(b.Addr())
	for v := int16(0); v <= 13; v++ {
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = true
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(fmt.Sprint("auto-", v))
		req.Topics = append(req.Topics, rt)
		resp := do[*kmsg.MetadataResponse](r, req, v)
		if got := resp.Topics[0]; got.ErrorCode != 0 || len(got.Partitions) != 2 || got.Partitions[1].Leader != 1 {
			t.Fatalf("version %d: %+v", v, got)
		}
		if br := resp.Brokers[0]; br.Host != host || fmt.Sprint(br.Port) != port || v > 0 && resp.ControllerID != br.NodeID {
			t.Fatalf("version %d: broker %+v, controller %d", v, br, resp.ControllerID)
		}
		if v >= 4 {
			req.AllowAutoTopicCreation = false
			req.Topics[0].Topic = kmsg.StringPtr(fmt.Sprint("no-", v))
			if got := do[*kmsg.MetadataResponse](r, req, v).Topics[0]; got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
				t.Fatalf("version %d created a topic unasked: %+v", v, got)
			}
		}
	}
	all := kmsg.NewPtrMetadataRequest()
	if n := len(do[*kmsg.MetadataResponse](r, all, 0).Topics); n < 14 {
		t.Fatalf("an empty list in version 0 means all topics; got %d", n)
	}
	all.Topics = []kmsg.MetadataRequestTopic{}
	if n := len(do[*kmsg.MetadataResponse](r, all, 1).Topics); n != 0 {
		t.Fatalf("an empty list in version 1 means none; got %d", n)
	}
	byID := kmsg.NewPtrMetadataRequest()
	id, _ := b.topicID("auto-3")
	byID.Topics = []kmsg.MetadataRequestTopic{{TopicID: id}, {TopicID: [16]byte{9}}, {Topic: kmsg.StringPtr("bad/name")}}
	byID.AllowAutoTopicCreation = true
	resp := do[*kmsg.MetadataResponse](r, byID, 12)
	if ts := resp.Topics; *ts[0].Topic != "auto-3" || ts[1].ErrorCode != kerr.UnknownTopicID.Code || ts[2].ErrorCode != kerr.InvalidTopicException.Code {
		t.Fatalf("by id: %+v", ts)
	}
}

func TestAdvertisedAddress(t *testing.T) {
	b := start(t, func(c *Config) { c.Listen = []string{"127.0.0.1:0"}; c.Advertise = "kafka.example:9999" })
	br := do[*kmsg.MetadataResponse](dialRaw(t, b), kmsg.NewPtrMetadataRequest(), 9).Brokers[0]
	if br.Host != "kafka.example" || br.Port != 9999 {
		t.Fatalf("advertised %s:%d", br.Host, br.Port)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	_, err = Start(t.Context(), Config{Dir: dir, Listen: []string{l.Addr().String()}})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "another port") {
		t.Fatalf("got %v", err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Fatalf("the directory was touched: %v", names)
	}
}

func TestDirectoryInUse(t *testing.T) {
	b := start(t, nil)
	_, err := Start(t.Context(), Config{Dir: b.cfg.Dir})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) || !strings.Contains(err.Error(), b.cfg.Dir) {
		t.Fatalf("got %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for field, cfg := range map[string]Config{
		"Dir": {}, "Advertise": {Dir: "x", Advertise: "no port"}, "Flush": {Dir: "x", Flush: 7}, "MaxConnections": {Dir: "x", MaxConnections: -1},
		"IdleTimeout": {Dir: "x", IdleTimeout: -time.Second}, "InitialRebalanceDelay": {Dir: "x", InitialRebalanceDelay: -1},
	} {
		if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestConnectionLimit(t *testing.T) {
	b := start(t, func(c *Config) { c.Listen, c.MaxConnections = []string{"127.0.0.1:0"}, 2 })
	for range 2 {
		do[*kmsg.MetadataResponse](dialRaw(t, b), kmsg.NewPtrMetadataRequest(), 1)
	}
	if third := dialRaw(t, b); !third.closed() {
		t.Error("a third connection was let in")
	}
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startWith(t, Config{Dir: "/data", FS: vfs.NewMem(), IdleTimeout: 50 * time.Millisecond})
		r := dialRaw(t, b)
		do[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 1)
		if began := time.Now(); !r.closed() || time.Since(began) > time.Second {
			t.Errorf("an idle connection stayed open for %v", time.Since(began))
		}
	})
}

func TestFrameInManyPieces(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	r := dialRaw(t, b)
	req := produceRequest1("t", 0, 1, batch(strings.Repeat("long ", 50_000)))
	req.SetVersion(9)
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	for len(frame) > 0 {
		n := min(len(frame), 7_001)
		if _, err := r.nc.Write(frame[:n]); err != nil {
			t.Fatal(err)
		}
		frame = frame[n:]
	}
	_, body := r.receive()
	if p := decode[*kmsg.ProduceResponse](t, req, body).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(p.ErrorCode))
	}
	if !bytes.Equal(req.Topics[0].Partitions[0].Records[:8], make([]byte, 8)) {
		t.Fatal("test batch is not what it was")
	}
}

// A batch of an idempotent producer that is sent again is answered with its first offset, and is there once.
func TestIdempotentRetry(t *testing.T) {
	b := start(t, func(c *Config) { c.Flush = FlushAlways })
	createTopic(t, b, "t", 1)
	r := dialRaw(t, b)
	init := kmsg.NewPtrInitProducerIDRequest()
	producer := do[*kmsg.InitProducerIDResponse](r, init, 4)
	if producer.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(producer.ErrorCode))
	}
	numbered := func(seq int32) []byte {
		info := record.NoProducer()
		info.ProducerID, info.ProducerEpoch, info.BaseSequence = producer.ProducerID, producer.ProducerEpoch, seq
		return record.Build(info, []record.Record{{Value: []byte(fmt.Sprint(seq)), Timestamp: 1}})
	}
	for _, c := range []struct {
		seq    int32
		offset int64
		want   *kerr.Error
	}{{0, 0, nil}, {1, 1, nil}, {1, 1, nil}, {0, 0, nil}, {5, -1, kerr.OutOfOrderSequenceNumber}, {2, 2, nil}} {
		p := do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, -1, numbered(c.seq)), 9).Topics[0].Partitions[0]
		if p.BaseOffset != c.offset || p.ErrorCode != errorCode(asError(c.want)) {
			t.Errorf("sequence %d: offset %d, error %v; want %d, %v", c.seq, p.BaseOffset, kerr.ErrorForCode(p.ErrorCode), c.offset, c.want)
		}
	}
	if end := b.topic("t").parts[0].Bounds().End; end != 3 {
		t.Errorf("the log ends at %d, want 3", end)
	}
	described := kmsg.NewPtrDescribeProducersRequest()
	described.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	ps := do[*kmsg.DescribeProducersResponse](r, described, 0).Topics[0].Partitions[0].ActiveProducers
	if len(ps) != 1 || ps[0].ProducerID != producer.ProducerID || ps[0].LastSequence != 2 {
		t.Errorf("described producers: %+v", ps)
	}
}

func TestDescribeTopicPartitionsByPages(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "a", 3)
	createTopic(t, b, "b", 4)
	r := dialRaw(t, b)
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "b"}, {Topic: "a"}, {Topic: "missing"}}
	req.ResponsePartitionLimit = 2
	var got []string
	for range 10 {
		resp := do[*kmsg.DescribeTopicPartitionsResponse](r, req, 0)
		for _, dt := range resp.Topics {
			if dt.ErrorCode != 0 {
				got = append(got, *dt.Topic+"?")
			}
			for _, p := range dt.Partitions {
				got = append(got, fmt.Sprint(*dt.Topic, p.Partition))
				if p.EligibleLeaderReplicas == nil || p.LastKnownELR == nil {
					t.Error("null lists of eligible leaders: Java's tools fail on them")
				}
			}
		}
		if resp.NextCursor == nil {
			break
		}
		req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: resp.NextCursor.Topic, Partition: resp.NextCursor.Partition}
	}
	if want := "a0 a1 a2 b0 b1 b2 b3 missing?"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
