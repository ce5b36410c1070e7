//go:build interop

package interop

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/leatstream/leat/broker"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestDumpLogSegments has Apache Kafka's own tool read the files of a partition, every record of them: segments with
// batches of each codec and a transaction, and their indexes.
func TestDumpLogSegments(t *testing.T) {
	libs := kafkaLibs(t)
	dir := t.TempDir()
	b, err := broker.Start(t.Context(), broker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"*.log", "*.index", "*.timeindex", "*.txnindex"} {
		found, err := filepath.Glob(filepath.Join(dir, "dump-0", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	out := run(t, "", nil, "java", "-cp", libs+"/*", "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--print-data-log", "--files", strings.Join(files, ","))
	if n := strings.Count(out, "payload: of codec"); n != 5*100 {
		t.Errorf("the tool read %d records, want 500", n)
	}
	for _, want := range []string{"compresscodec: zstd", "compresscodec: lz4", "compresscodec: snappy", "compresscodec: gzip", "endTxnMarker: ABORT", "isvalid: true"} {
		if !strings.Contains(out, want) {
			t.Errorf("the tool does not print %q", want)
		}
	}
	for _, bad := range []string{"isvalid: false", "Found timestamp mismatch", "Found out of order", "mismatches", "Mismatches"} {
		if strings.Contains(out, bad) {
			t.Errorf("the tool says %q:\n%s", bad, out[:min(len(out), 4000)])
		}
	}
}

// fill writes 100 records of each codec in small segments, and a transaction that is aborted.
func fill(t *testing.T, b *broker.Broker) {
	t.Helper()
	client := func(opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer()), kgo.DefaultProduceTopic("dump"))...)
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	plain := client()
	defer plain.Close()
	small := "65536"
	if _, err := kadm.NewClient(plain).CreateTopic(t.Context(), 1, 1, map[string]*string{"segment.bytes": &small}, "dump"); err != nil {
		t.Fatal(err)
	}
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		cl := client(kgo.ProducerBatchCompression(codec))
		for range 100 {
			r := kgo.KeyStringRecord("k", "of codec "+strings.Repeat("leat ", 200))
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		cl.Close()
	}
	txn := client(kgo.TransactionalID("dump"))
	defer txn.Close()
	if err := txn.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := txn.ProduceSync(t.Context(), kgo.StringRecord("never")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := txn.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}
