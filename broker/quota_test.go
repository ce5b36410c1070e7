package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// quotaOf sets one quota of a client id; nil is the default of all.
func quotaOf(t *testing.T, r *raw, client *string, key string, value float64) int16 {
	t.Helper()
	req := &kmsg.AlterClientQuotasRequest{Entries: []kmsg.AlterClientQuotasRequestEntry{{
		Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "client-id", Name: client}},
		Ops:    []kmsg.AlterClientQuotasRequestEntryOp{{Key: key, Value: value, Remove: value == 0}},
	}}}
	return do[*kmsg.AlterClientQuotasResponse](r, req, 1).Entries[0].ErrorCode
}

// On virtual time: a client that produces and consumes beyond its quota gets just what it may, is told to wait, and is made to.
func TestQuotasThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Start(t.Context(), Config{Dir: "/data", FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		admin, r := dialRaw(t, b), dialRaw(t, b)
		_ = admin.nc.SetDeadline(time.Time{})
		_ = r.nc.SetDeadline(time.Time{})
		createTopic(t, b, "t", 1)
		self := kmsg.StringPtr("raw")
		for _, key := range []string{"producer_byte_rate", "consumer_byte_rate"} {
			if code := quotaOf(t, admin, self, key, 10_000); code != 0 {
				t.Fatal(code)
			}
		}
		batch := record.Build(record.NoProducer(), []record.Record{{Value: make([]byte, 5000), Timestamp: time.Now().UnixMilli()}})
		began, told := time.Now(), int32(0)
		const n = 40 // 200 KB: 20 s, of which the first is free
		for range n {
			resp := do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, 1, batch), 9)
			told += resp.ThrottleMillis
		}
		do[*kmsg.ApiVersionsResponse](r, kmsg.NewPtrApiVersionsRequest(), 0) // after the last wait
		if took := time.Since(began); took < 18*time.Second || took > 21*time.Second || time.Duration(told)*time.Millisecond < 18*time.Second {
			t.Errorf("produced for %v, told to wait %d ms", took, told)
		}
		began, told = time.Now(), 0
		bytes := 0
		for offset := int64(0); offset < n; {
			resp := do[*kmsg.FetchResponse](r, fetchOf("t", [16]byte{}, offset, 0), 11)
			p := resp.Topics[0].Partitions[0]
			got := len(values(t, p.RecordBatches))
			if bytes += len(p.RecordBatches); len(p.RecordBatches) > 10_000 && got > 1 {
				t.Errorf("a response of %d bytes, more than a second's worth", len(p.RecordBatches))
			}
			offset += int64(got)
			told += resp.ThrottleMillis
		}
		do[*kmsg.ApiVersionsResponse](r, kmsg.NewPtrApiVersionsRequest(), 0)
		if took := time.Since(began); bytes < 200_000 || took < 18*time.Second || took > 21*time.Second || time.Duration(told)*time.Millisecond < 18*time.Second {
			t.Errorf("consumed %d bytes in %v, told to wait %d ms", bytes, took, told)
		}
		// Others are not touched, and a quota that is taken away holds no more.
		for _, key := range []string{"producer_byte_rate", "consumer_byte_rate"} {
			quotaOf(t, admin, self, key, 0)
		}
		began = time.Now()
		for range n {
			do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, 1, batch), 9)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("without a quota: %v", took)
		}
		admin.nc.Close()
		r.nc.Close()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A muted connection does not keep the broker from closing.
func TestCloseOfMutedConnections(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	quotaOf(t, dialRaw(t, b), nil, "producer_byte_rate", 1)
	r := dialRaw(t, b)
	if resp := do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, 1, batch("a value")), 9); resp.ThrottleMillis < 10_000 {
		t.Errorf("told to wait %d ms", resp.ThrottleMillis)
	}
	began := time.Now()
	if err := b.Close(); err != nil || time.Since(began) > 30*time.Second {
		t.Errorf("close took %v: %v", time.Since(began), err)
	}
}

func TestRequestQuota(t *testing.T) {
	b := start(t, nil)
	r := dialRaw(t, b)
	if code := quotaOf(t, r, nil, "request_percentage", 0.001); code != 0 {
		t.Fatal(code)
	}
	var told int32
	for i := 0; i < 200 && told == 0; i++ { // the quota of a second is 10 us
		told = do[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 9).ThrottleMillis
	}
	if told == 0 {
		t.Error("200 requests within 0.001% of a processor")
	}
}

func TestQuotasAreKeptAndDescribed(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Security: Security{MaxQuotas: 3}}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	name := kadm.StringPtr
	adm := func() *kadm.Client {
		return kadm.NewClient(newClient(t, []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())}))
	}
	entry := func(key string, value float64, es ...kadm.ClientQuotaEntityComponent) kadm.AlterClientQuotaEntry {
		return kadm.AlterClientQuotaEntry{Entity: es, Ops: []kadm.AlterClientQuotaOp{{Key: key, Value: value}}}
	}
	user, anyClient := kadm.ClientQuotaEntityComponent{Type: "user", Name: name("u")}, kadm.ClientQuotaEntityComponent{Type: "client-id"}
	res, err := adm().AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{
		entry("producer_byte_rate", 1e6, user), entry("consumer_byte_rate", 2e6, user, anyClient), entry("request_percentage", 50, anyClient),
		entry("producer_byte_rate", 1e6, kadm.ClientQuotaEntityComponent{Type: "user", Name: name("beyond")}),
		entry("controller_mutation_rate", 1, user), entry("producer_byte_rate", -1, user), entry("producer_byte_rate", 1, user, user), entry("producer_byte_rate", 1),
		entry("connection_creation_rate", 1, kadm.ClientQuotaEntityComponent{Type: "ip", Name: name("10.0.0.1")}),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, nil, nil, kerr.PolicyViolation, kerr.InvalidRequest, kerr.InvalidRequest, kerr.InvalidRequest, kerr.InvalidRequest, kerr.InvalidRequest} {
		if got := res[i].Err; got != want { //nolint:errorlint // kadm hands out the bare codes
			t.Errorf("entry %d: %v, want %v", i, got, want)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct {
		strict bool
		comps  []kadm.DescribeClientQuotaComponent
		want   int
	}{
		{false, nil, 3}, {true, nil, 0},
		{false, []kadm.DescribeClientQuotaComponent{{Type: "user", MatchName: name("u"), MatchType: kmsg.QuotasMatchTypeExact}}, 2},
		{true, []kadm.DescribeClientQuotaComponent{{Type: "user", MatchName: name("u"), MatchType: kmsg.QuotasMatchTypeExact}}, 1},
		{true, []kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchType: kmsg.QuotasMatchTypeDefault}}, 1},
		{false, []kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchType: kmsg.QuotasMatchTypeAny}}, 2},
		{false, []kadm.DescribeClientQuotaComponent{{Type: "user", MatchName: name("v"), MatchType: kmsg.QuotasMatchTypeExact}}, 0},
	} {
		qs, err := adm().DescribeClientQuotas(ctx, c.strict, c.comps)
		if err != nil || len(qs) != c.want {
			t.Errorf("%+v: %v, %+v", c, err, qs)
		}
	}
}

func TestNoQuotasAreNotNull(t *testing.T) {
	r := dialRaw(t, start(t, nil))
	if got := do[*kmsg.DescribeClientQuotasResponse](r, kmsg.NewPtrDescribeClientQuotasRequest(), 1); got.ErrorCode != 0 || got.Entries == nil || len(got.Entries) != 0 {
		t.Errorf("%+v: Java's client needs an empty list", got)
	}
}
