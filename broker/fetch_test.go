package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/record"
)

func fetchOf(topic string, id [16]byte, offset int64, parts ...int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 0, 1, 1<<20
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.TopicID = topic, id
	for _, p := range parts {
		fp := kmsg.NewFetchRequestTopicPartition()
		fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes = p, offset, 1<<20
		ft.Partitions = append(ft.Partitions, fp)
	}
	req.Topics = append(req.Topics, ft)
	return req
}

// values decodes fetched batches.
func values(t testing.TB, batches []byte) (out []string) {
	t.Helper()
	for len(batches) > 0 {
		b, err := record.Parse(batches)
		if err != nil {
			t.Fatal(err)
		}
		batches = batches[len(b):]
		it := record.NewIterator(b, nil)
		for it.Next() {
			out = append(out, fmt.Sprintf("%d=%s", it.Record().Offset, it.Record().Value))
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
	}
	return out
}

func TestFetchEveryVersion(t *testing.T) {
	b := start(t, func(c *Config) { c.Flush = FlushAlways })
	createTopic(t, b, "t", 2)
	id, _ := b.topicID("t")
	r := dialRaw(t, b)
	for p := range int32(2) {
		for i := range 3 {
			req := produceRequest1("t", p, -1, batch(fmt.Sprint("p", p, "-", i)))
			req.Topics[0].TopicID = id
			if resp := do[*kmsg.ProduceResponse](r, req, int16(3+5*p)); resp.Topics[0].Partitions[0].ErrorCode != 0 {
				t.Fatal(resp)
			}
		}
	}
	for v := int16(4); v <= 17; v++ {
		for _, level := range []int8{0, 1} {
			req := fetchOf("t", id, 1, 0, 1)
			req.IsolationLevel = level
			resp := do[*kmsg.FetchResponse](r, req, v)
			if resp.ErrorCode != 0 || resp.SessionID != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 2 {
				t.Fatalf("version %d: %+v", v, resp)
			}
			for p, got := range resp.Topics[0].Partitions {
				want := fmt.Sprintf("1=p%d-1 2=p%d-2", p, p)
				if vs := strings.Join(values(t, got.RecordBatches), " "); vs != want || got.HighWatermark != 3 || got.LastStableOffset != 3 {
					t.Fatalf("version %d partition %d: %q, want %q; hw %d lso %d", v, p, vs, want, got.HighWatermark, got.LastStableOffset)
				}
				if (got.AbortedTransactions == nil) != (level == 0) && len(got.AbortedTransactions) > 0 || v >= 11 && got.PreferredReadReplica != -1 {
					t.Fatalf("version %d: aborted %v, replica %d", v, got.AbortedTransactions, got.PreferredReadReplica)
				}
			}
		}
	}
}

func TestFetchErrors(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	id, _ := b.topicID("t")
	r := dialRaw(t, b)
	do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, 1, batch("x")), 9)
	epoch := func(req *kmsg.FetchRequest, e int32) *kmsg.FetchRequest {
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = e
		return req
	}
	current := b.topic("t").parts[0].LeaderEpoch()
	for _, c := range []struct {
		name    string
		req     *kmsg.FetchRequest
		version int16
		want    *kerr.Error
	}{
		{"unknown topic", fetchOf("nope", id, 0, 0), 12, kerr.UnknownTopicOrPartition},
		{"unknown id", fetchOf("", [16]byte{1}, 0, 0), 13, kerr.UnknownTopicID},
		{"unknown partition", fetchOf("", id, 0, 5), 17, kerr.UnknownTopicOrPartition},
		{"beyond the end", fetchOf("t", id, 2, 0), 12, kerr.OffsetOutOfRange},
		{"negative", fetchOf("t", id, -5, 0), 12, kerr.OffsetOutOfRange},
		{"future epoch", epoch(fetchOf("t", id, 0, 0), current+1), 12, kerr.UnknownLeaderEpoch},
		{"the end", fetchOf("t", id, 1, 0), 12, nil},
	} {
		c.req.MaxWaitMillis = 60_000
		if c.want == nil {
			c.req.MaxWaitMillis = 0
		}
		began := time.Now()
		p := do[*kmsg.FetchResponse](r, c.req, c.version).Topics[0].Partitions[0]
		if p.ErrorCode != errorCode(asError(c.want)) || time.Since(began) > 30*time.Second {
			t.Errorf("%s: error %v, want %v, after %v", c.name, kerr.ErrorForCode(p.ErrorCode), c.want, time.Since(began))
		}
	}
	session := fetchOf("t", id, 0, 0)
	session.SessionID, session.SessionEpoch = 5, 1
	if resp := do[*kmsg.FetchResponse](r, session, 12); resp.ErrorCode != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("a session that never was: error %d", resp.ErrorCode)
	}
}

func TestLongPoll(t *testing.T) {
	for _, flush := range []Flush{FlushAlways, FlushOS} {
		t.Run(flush.String(), func(t *testing.T) {
			b := start(t, func(c *Config) { c.Flush = flush })
			createTopic(t, b, "t", 2)
			id, _ := b.topicID("t")
			r, w := dialRaw(t, b), dialRaw(t, b)

			// Nothing to read: the answer comes when the time is over, not before.
			req := fetchOf("t", id, 0, 0, 1)
			req.MaxWaitMillis = 80
			began := time.Now()
			resp := do[*kmsg.FetchResponse](r, req, 17)
			if took := time.Since(began); took < 75*time.Millisecond || took > 30*time.Second || len(resp.Topics) != 1 {
				t.Fatalf("an empty poll of 80 ms took %v: %+v", took, resp)
			}

			// MinBytes is counted over partitions: one batch is not enough, the second one is.
			one := batch(strings.Repeat("x", 1000))
			req = fetchOf("t", id, 0, 0, 1)
			req.MaxWaitMillis, req.MinBytes = 60_000, int32(len(one)+1)
			r.send(req, 17)
			answered := make(chan []byte, 1)
			go func() { _, body := r.receive(); answered <- body }()
			do[*kmsg.ProduceResponse](w, produceRequest1("t", 0, -1, one), 9)
			select {
			case <-answered:
				t.Fatal("answered below MinBytes")
			case <-time.After(50 * time.Millisecond):
			}
			do[*kmsg.ProduceResponse](w, produceRequest1("t", 1, -1, batch(strings.Repeat("y", 1000))), 9)
			select {
			case body := <-answered:
				ps := decode[*kmsg.FetchResponse](t, req, body).Topics[0].Partitions
				if len(values(t, ps[0].RecordBatches)) != 1 || len(values(t, ps[1].RecordBatches)) != 1 {
					t.Fatal("records are missing")
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("the poll was not woken")
			}

			// Deletion ends a poll.
			req = fetchOf("t", id, 1, 0)
			req.MaxWaitMillis = 60_000
			r.send(req, 17)
			go func() { _, body := r.receive(); answered <- body }()
			if err := b.deleteTopic("t"); err != nil {
				t.Fatal(err)
			}
			select {
			case body := <-answered:
				if p := decode[*kmsg.FetchResponse](t, req, body).Topics[0].Partitions[0]; p.ErrorCode == 0 {
					t.Fatal("a deleted partition was read")
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("a poll outlives its topic")
			}
		})
	}
}

// A batch larger than every limit still comes, alone; within the limits whole batches come, partitions in request order.
func TestFetchLimits(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 3)
	id, _ := b.topicID("t")
	r := dialRaw(t, b)
	size := 0
	for p := range int32(3) {
		for range 4 {
			bt := batch(strings.Repeat("x", 10_000))
			size = len(bt)
			do[*kmsg.ProduceResponse](r, produceRequest1("t", p, 1, bt), 9)
		}
	}
	counts := func(maxBytes, partitionMax int) (n [3]int) {
		req := fetchOf("t", id, 0, 2, 0, 1)
		req.MaxBytes = int32(maxBytes)
		for i := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[i].PartitionMaxBytes = int32(partitionMax)
		}
		for i, p := range do[*kmsg.FetchResponse](r, req, 17).Topics[0].Partitions {
			n[i] = len(values(t, p.RecordBatches))
		}
		return n
	}
	for _, c := range []struct {
		maxBytes, partitionMax int
		want                   [3]int
	}{
		{1, 1, [3]int{1, 0, 0}},
		{1 << 20, 1, [3]int{1, 0, 0}},
		{1 << 20, size, [3]int{1, 1, 1}},
		{1 << 20, 2*size + 5, [3]int{2, 2, 2}},
		{5 * size, 4 * size, [3]int{4, 1, 0}},
		{1 << 20, 1 << 20, [3]int{4, 4, 4}},
		{0, 0, [3]int{1, 0, 0}},
	} {
		if got := counts(c.maxBytes, c.partitionMax); got != c.want {
			t.Errorf("max %d, per partition %d: %v batches, want %v", c.maxBytes, c.partitionMax, got, c.want)
		}
	}
}
