package broker

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/wire"
)

// tinyTopics is a produce or fetch frame of about so many bytes that names as many topics as it can hold: each takes three
// bytes, and is a structure in memory.
func tinyTopics(key int16, bytes int) []byte {
	version, header := int16(9), []byte{0, 0xff, 0xff, 0, 0, 0, 1} // no transactional id, acks=all, timeout
	if key == keyFetch {
		version, header = 12, make([]byte, 4+4+4+4+1+4+4)
	}
	frame := wire.AppendInt16(make([]byte, 4), key)
	frame = wire.AppendInt16(frame, version)
	frame = append(frame, 0, 0, 0, 1, 0xff, 0xff, 0) // correlation, client id, tags
	frame = append(frame, header...)
	n := bytes / 3
	frame = wire.AppendCount(frame, true, n)
	for range n {
		frame = append(frame, 1, 1, 0) // empty name, no partitions, no tags
	}
	if key == keyFetch {
		frame = append(frame, 1, 1) // no forgotten topics, no rack
	}
	frame = append(frame, 0)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

// A frame that is valid and of no use to anyone costs its sender the connection, and the broker little more than its bytes.
func TestRequestsOfTinyTopicsAreBounded(t *testing.T) {
	for _, c := range []struct {
		name  string
		key   int16
		bytes int
		most  uint64
	}{
		// Reading it takes buffers of 8, 16 and 32 MiB; its ten million topics would take 480.
		{"produce", keyProduce, 30 << 20, 100 << 20},
		{"fetch", keyFetch, 1000 << 10, 4 << 20},
		{"fetch beyond the size of control requests", keyFetch, 30 << 20, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, nil)
			frame := tinyTopics(c.key, c.bytes)
			r := dialRaw(t, b)
			done := make(chan struct{})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			go func() {
				defer close(done)
				_, _ = r.nc.Write(frame) // the broker may close before it has all
			}()
			if !r.closed() {
				t.Error("the request was answered")
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > c.most {
				t.Errorf("%d bytes allocated for a frame of %d, at most %d expected", took, len(frame), c.most)
			}
			r.nc.Close()
			<-done
		})
	}
}

// Counted are all partitions of a request together, and what is at the limit is served.
func TestMaxRequestPartitions(t *testing.T) {
	b := start(t, func(c *Config) { c.MaxRequestPartitions = 4 })
	fetch := func(topics, partitions int) *kmsg.FetchRequest {
		req := kmsg.NewPtrFetchRequest()
		for range topics {
			rt := kmsg.NewFetchRequestTopic()
			rt.Topic, rt.Partitions = "t", make([]kmsg.FetchRequestTopicPartition, partitions)
			req.Topics = append(req.Topics, rt)
		}
		return req
	}
	produce := func(topics, partitions int) *kmsg.ProduceRequest {
		req := kmsg.NewPtrProduceRequest()
		req.Acks = 1
		for range topics {
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic, rt.Partitions = "t", make([]kmsg.ProduceRequestTopicPartition, partitions)
			req.Topics = append(req.Topics, rt)
		}
		return req
	}
	for _, c := range []struct {
		topics, partitions int
		served             bool
	}{{2, 2, true}, {4, 0, true}, {1, 5, false}, {2, 3, false}, {5, 0, false}} {
		for _, req := range []kmsg.Request{fetch(c.topics, c.partitions), produce(c.topics, c.partitions)} {
			r := dialRaw(t, b)
			r.send(req, 9)
			if got := !r.closed(); got != c.served {
				t.Errorf("%T with %d topics of %d partitions: served is %v", req, c.topics, c.partitions, got)
			}
		}
	}
}
