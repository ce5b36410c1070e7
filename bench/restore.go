package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"
)

// P8 and P9: what a restart costs.

// counted is an application that has counted every key of a topic: its changelog holds one record a key, and its state
// directory the same.
type counted struct {
	f     *fixture
	state string
	job   job
}

func newCounted(ctx context.Context, s settings) (*counted, error) {
	f, err := newFixture(ctx, s, job{Topic: "keys", N: s.keys, Keys: s.keys})
	if err != nil {
		return nil, err
	}
	state, err := os.MkdirTemp("", "leat-bench-state-")
	if err != nil {
		return nil, err
	}
	c := &counted{f, state, job{Kind: "count", Addr: f.b.addr, Broker: f.b.pid, Topic: "keys", Out: "counted-out", ID: "counted",
		Dir: filepath.Join(state, "count"), N: s.keys, Keys: s.keys, Every: commitEvery, EOS: true}}
	_, err = work(ctx, "topology", c.job)
	return c, err
}

func (c *counted) close() {
	c.f.b.stop()
	os.RemoveAll(c.state)
}

// P8: the state directory is deleted, and the application started until it is ready.
func restoring(ctx context.Context, s settings) error {
	c, err := newCounted(ctx, s)
	if err != nil {
		return err
	}
	defer c.close()
	wiped := side{"wiped application", func(ctx context.Context, round int) (sample, error) {
		if err := os.RemoveAll(c.job.Dir); err != nil {
			return sample{}, err
		}
		return work(ctx, "restart", c.job)
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

// P9: an application that counts a steady stream over keys that it has all seen is killed and started again.
func killing(ctx context.Context, s settings) error {
	c, err := newCounted(ctx, s)
	if err != nil {
		return err
	}
	defer c.close()
	var ms, replayed []sample
	for range s.rounds {
		one, err := c.kill(ctx)
		if err != nil {
			return err
		}
		ms, replayed = append(ms, sample{Rate: one.P50 / 1e3}), append(replayed, sample{Rate: one.Extra})
	}
	fmt.Printf("%-18s %.0f ms from process start to the first record (target <= 1000)  spread %s ms  %s records replayed (target <= 300k, spread %s)  %s keys of state\n",
		"P9", median(ms, rate), spread(ms), thousands(median(replayed, rate)), spread(replayed), thousands(float64(s.keys)))
	return nil
}

// kill runs the application under a steady load of 100,000 records a second, kills it after three seconds, and measures
// the next start.
func (c *counted) kill(ctx context.Context) (sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	victim := c.job
	victim.N = 1 << 40 // never done
	cmd, err := childCommand(ctx, "topology", victim)
	if err != nil {
		return sample{}, err
	}
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	feed := c.job
	feed.RatePer, feed.N = 100_000, 300_000
	if _, err := work(ctx, "feed", feed); err != nil {
		return sample{}, errors.Join(err, cmd.Process.Kill())
	}
	if err := cmd.Process.Kill(); err != nil {
		return sample{}, err
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return sample{}, err
	}
	more := make(chan error, 1)
	go func() {
		_, err := work(ctx, "feed", feed) // so that there is a first record to meet
		more <- err
	}()
	again := c.job
	again.Restart = true
	s, err := work(ctx, "restart", again)
	return s, errors.Join(err, <-more)
}

// processStart is when this process was started, by the kernel's account, to 10 ms.
func processStart() (time.Time, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return time.Time{}, err
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseFloat(strings.Fields(string(up))[0], 64)
	if err != nil {
		return time.Time{}, err
	}
	age := time.Duration(seconds*float64(time.Second)) - time.Duration(ticks)*10*time.Millisecond
	return time.Now().Add(-age), nil
}
