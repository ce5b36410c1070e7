package broker

import (
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/record"
)

// exchange sends a prepared frame and reads the response into buf.
func exchange(b *testing.B, r *raw, frame, buf []byte) []byte {
	if _, err := r.nc.Write(frame); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(r.nc, buf[:4]); err != nil {
		b.Fatal(err)
	}
	n := int(binary.BigEndian.Uint32(buf))
	if _, err := io.ReadFull(r.nc, buf[:n]); err != nil {
		b.Fatal(err)
	}
	return buf[:n]
}

func bigBatch(records, size int) []byte {
	rs := make([]record.Record, records)
	for i := range rs {
		rs[i] = record.Record{Value: make([]byte, size), Timestamp: time.Now().UnixMilli()}
	}
	return record.Build(record.NoProducer(), rs)
}

// BenchmarkProduce is one request of one batch of 100 records of 100 bytes, in process, unsynced.
func BenchmarkProduce(b *testing.B) {
	br := start(b, nil)
	createTopic(b, br, "t", 1)
	r := dialRaw(b, br)
	req := produceRequest1("t", 0, -1, bigBatch(100, 100))
	req.SetVersion(9)
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	buf := make([]byte, 1<<10)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		exchange(b, r, frame, buf)
	}
}

// BenchmarkFetch is one request answered with 1 MiB of batches, in process.
func BenchmarkFetch(b *testing.B) {
	br := start(b, nil)
	createTopic(b, br, "t", 1)
	id, _ := br.topicID("t")
	r := dialRaw(b, br)
	for range 110 {
		do[*kmsg.ProduceResponse](r, produceRequest1("t", 0, 1, bigBatch(100, 100)), 9)
	}
	req := fetchOf("t", id, 0, 0)
	req.SetVersion(17)
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	buf := make([]byte, 2<<20)
	b.SetBytes(int64(len(exchange(b, r, frame, buf))))
	b.ReportAllocs()
	for b.Loop() {
		exchange(b, r, frame, buf)
	}
}
