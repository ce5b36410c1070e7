package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkTransaction commits 100 records of 100 bytes per transaction, one producer, everything on disk.
func BenchmarkTransaction(b *testing.B) {
	for name, opts := range map[string][]kgo.Opt{"one-partition": {kgo.RecordPartitioner(kgo.ManualPartitioner())}, "four-partitions": nil} {
		b.Run(name, func(b *testing.B) {
			br := start(b, func(c *Config) { c.Flush = FlushAlways })
			createTopic(b, br, "out", 4)
			cl := newClient(b, inProcessOpts(br), append(opts, kgo.TransactionalID("bench"), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
			value := make([]byte, 100)
			b.ResetTimer()
			for i := 0; i < b.N; i++ {
				if err := cl.BeginTransaction(); err != nil {
					b.Fatal(err)
				}
				for j := range 100 {
					cl.Produce(b.Context(), &kgo.Record{Topic: "out", Key: []byte{byte(j)}, Value: value}, nil)
				}
				if err := cl.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
				if err := cl.EndTransaction(b.Context(), kgo.TryCommit); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}
