package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"
)

// P8: what it costs to get a wiped store back.

// P8: the state directory is deleted, and the application started until it is ready.
func restoring(ctx context.Context, s settings) error {
	c, err := newCounted(ctx, s, childCommand, s.broker)
	if err != nil {
		return err
	}
	defer c.close()
	wiped := side{"wiped application", func(ctx context.Context, round int) (sample, error) {
		if err := c.wipe(); err != nil {
			return sample{}, err
		}
		return c.run(ctx, "restart", c.job)
	}}
	hand := c.job
	hand.Topic = "counted-counts-changelog"
	byHand := side{"by hand", func(ctx context.Context, round int) (sample, error) { return work(ctx, "ingest", hand) }}
	return compare(ctx, "P8", ">= 0.70", s.rounds, wiped, byHand)
}

// ingestLoop consumes a changelog, keeps the last value of each key, sorts, and ingests one SST a partition.
func ingestLoop(ctx context.Context, j job) (sample, error) {
	dir, err := os.MkdirTemp("", "leat-bench-ingest-")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(dir)
	m := startMeter(j.Broker)
	db, err := pebble.Open(filepath.Join(dir, "db"), handPebble())
	if err != nil {
		return sample{}, err
	}
	rows, err := readChangelog(ctx, j)
	if err != nil {
		return sample{}, errors.Join(err, db.Close())
	}
	var files []string
	n := 0
	for p, recs := range rows {
		file := filepath.Join(dir, strconv.Itoa(int(p))+".sst")
		k, err := writeTable(db, file, p, recs)
		if err != nil {
			return sample{}, errors.Join(err, db.Close())
		}
		n += k
		files = append(files, file)
	}
	if err := db.Ingest(ctx, files); err != nil {
		return sample{}, errors.Join(err, db.Close())
	}
	s := m.done(n)
	if n != j.Keys {
		err = fmt.Errorf("ingested %d keys, want %d", n, j.Keys)
	}
	return s, errors.Join(err, db.Close())
}

func readChangelog(ctx context.Context, j job) (map[int32][]*kgo.Record, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.ConsumeTopics(j.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxPartitionBytes(8<<20))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	rows := map[int32][]*kgo.Record{}
	for got := 0; got < j.Keys; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return nil, err
		}
		fs.EachPartition(func(p kgo.FetchTopicPartition) { rows[p.Partition] = append(rows[p.Partition], p.Records...) })
		got += fs.NumRecords()
	}
	return rows, nil
}

// writeTable writes the last record of each key as a sorted table, its keys behind the partition, as stores share a Pebble.
func writeTable(db *pebble.DB, file string, partition int32, recs []*kgo.Record) (n int, err error) {
	slices.SortStableFunc(recs, func(a, b *kgo.Record) int { return bytes.Compare(a.Key, b.Key) })
	f, err := vfs.Default.Create(file, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), sstable.WriterOptions{TableFormat: db.TableFormat()})
	key := []byte{byte(partition)}
	for i, r := range recs {
		if i+1 < len(recs) && bytes.Equal(r.Key, recs[i+1].Key) {
			continue
		}
		n++
		if err := w.Set(append(key[:1], r.Key...), r.Value); err != nil {
			return n, errors.Join(err, w.Close())
		}
	}
	return n, w.Close()
}
