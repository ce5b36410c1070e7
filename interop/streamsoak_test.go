//go:build interop

package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

const (
	// streamSoakTimeEnv is how long the streams soak churns, as a duration: 10s unless it is set.
	streamSoakTimeEnv = "LEAT_STREAMS_SOAK"
	// streamSoakKeysEnv is how many distinct keys it counts at least, however long that takes: 200,000 unless it is set.
	streamSoakKeysEnv = "LEAT_STREAMS_SOAK_KEYS"

	churnPartitions = 4
	churnMemory     = 32 << 20
)

// churn is an application whose keys are ever new, on a broker in a process of its own.
type churn struct {
	t    *testing.T
	addr string
	dir  string

	keys atomic.Int64 // written and acknowledged
	seen atomic.Int64 // counted by the application
	stop chan struct{}
}

// held is what a process holds.
type held struct {
	heap       int64 // bytes in use after a collection
	goroutines int
	files      int // open
	disk       int // files of state
}

func (h held) String() string {
	return fmt.Sprintf("%d MiB of heap, %d goroutines, %d open files, %d files of state", h.heap>>20, h.goroutines, h.files, h.disk)
}

// TestStreamsSoak counts records whose keys are ever new, in a store whose rows live for a while, in windows and in a store of
// bounded size, while workers are added and removed and a second instance comes and goes: neither heap nor goroutines nor files
// grow.
func TestStreamsSoak(t *testing.T) {
	length := 10 * time.Second
	if text := os.Getenv(streamSoakTimeEnv); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", streamSoakTimeEnv, err)
		}
	}
	keys := int64(200_000)
	if text := os.Getenv(streamSoakKeysEnv); text != "" {
		var err error
		if keys, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", streamSoakKeysEnv, err)
		}
	}
	node := &soak{t: t, addr: freeAddr(t), dir: filepath.Join(t.TempDir(), "data")}
	node.start()
	t.Cleanup(func() { node.kill() })
	c := &churn{t: t, addr: node.addr, dir: t.TempDir(), stop: make(chan struct{})}
	c.createTopics()
	app, end := c.start("first")
	defer end()
	var load sync.WaitGroup
	load.Go(c.produce)
	defer load.Wait()
	defer close(c.stop)

	c.churnFor(app, length/3, keys/3)
	before := c.measure(app)
	t.Logf("after %d keys: %v", c.seen.Load(), before)
	c.churnFor(app, length-length/3, keys)
	after := c.measure(app)
	t.Logf("after %d keys: %v", c.seen.Load(), after)
	// What may differ at two moments of the same churn: caches that fill, connections and compactions that come and go.
	if after.heap > before.heap+before.heap/2+churnMemory {
		t.Errorf("the heap has grown from %d to %d bytes", before.heap, after.heap)
	}
	if after.goroutines > before.goroutines+20 {
		buf := make([]byte, 1<<20)
		t.Errorf("goroutines have grown from %d to %d:\n%s", before.goroutines, after.goroutines, buf[:runtime.Stack(buf, true)])
	}
	if after.files > before.files+30 {
		t.Errorf("open files have grown from %d to %d", before.files, after.files)
	}
	if after.disk > 2*before.disk+100 {
		t.Errorf("files of state have grown from %d to %d", before.disk, after.disk)
	}
}

func (c *churn) createTopics() {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.addr))
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	// The log itself grows no further than this: it is the application that is looked at.
	configs := map[string]*string{"retention.bytes": kadm.StringPtr("67108864"), "segment.bytes": kadm.StringPtr("16777216")}
	if _, err := kadm.NewClient(cl).CreateTopic(c.t.Context(), churnPartitions, 1, configs, "churn"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *churn) topology() *streams.Topology {
	var b streams.Builder
	in := b.Stream(streams.Topic[string, string]{Name: "churn"}).Peek(func(string, string) { c.seen.Add(1) })
	g := in.GroupByKey()
	g.Count(streams.Store[string, int64]{Name: "living", TTL: 2 * time.Second})
	g.Count(streams.Store[string, int64]{Name: "latest", MaxEntries: 5000})
	g.WindowedBy(streams.Tumbling(time.Second)).Count(streams.WindowStore[string, int64]{Name: "windows"})
	topology, err := b.Build()
	if err != nil {
		c.t.Fatal(err)
	}
	return topology
}

// start starts an instance, waits until it runs, and returns it with what stops it.
func (c *churn) start(name string) (*streams.App, func()) {
	c.t.Helper()
	app, err := streams.New(c.topology(), streams.Config{AppID: "churn", Brokers: []string{c.addr}, StateDir: filepath.Join(c.dir, name),
		MemoryBytes: churnMemory, Standbys: 1, LeaveOnStop: true})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	select {
	case <-app.Ready():
	case err := <-done:
		c.t.Fatalf("%s: %v", name, err)
	case <-time.After(time.Minute):
		c.t.Fatalf("%s does not get ready", name)
	}
	return app, func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("%s: %v", name, err)
		}
	}
}

// produce writes keys that nobody has seen, as fast as they are counted: the lag stays small.
func (c *churn) produce() {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.addr), kgo.DefaultProduceTopic("churn"))
	if err != nil {
		c.t.Error(err)
		return
	}
	defer cl.Close()
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		if n%1000 == 0 {
			if err := cl.Flush(context.Background()); err != nil {
				c.t.Error(err)
				return
			}
			for c.keys.Load() > c.seen.Load()+50_000 {
				select {
				case <-c.stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}
		cl.Produce(context.Background(), &kgo.Record{Key: []byte("key-" + strconv.Itoa(n)), Value: []byte("x")}, func(_ *kgo.Record, err error) {
			if err == nil {
				c.keys.Add(1)
			}
		})
	}
}

// churnFor adds and removes workers and an instance for so long, and until so many keys were counted in all.
func (c *churn) churnFor(app *streams.App, length time.Duration, keys int64) {
	c.t.Helper()
	begun, counted, progress := time.Now(), c.seen.Load(), time.Now()
	calm := min(length/20, 5*time.Second) // a long run is to count, too, and not only to move tasks
	for round := 0; time.Since(begun) < length || c.seen.Load() < keys; round++ {
		if n := c.seen.Load(); n > counted {
			counted, progress = n, time.Now()
		} else if time.Since(progress) > 2*time.Minute {
			c.t.Fatalf("%d keys were counted after %v, and none for %v", n, time.Since(begun), time.Since(progress))
		}
		switch round % 2 {
		case 0:
			if _, err := app.AddWorker(); err != nil {
				c.t.Fatal(err)
			}
			<-time.After(500 * time.Millisecond)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			if _, err := app.RemoveWorker(ctx); err != nil {
				c.t.Fatal(err)
			}
			cancel()
		case 1:
			_, end := c.start("second")
			<-time.After(500 * time.Millisecond)
			end()
		}
		<-time.After(calm)
	}
}

// measure waits until the first instance alone runs all tasks, and looks at what the process holds.
func (c *churn) measure(app *streams.App) held {
	c.t.Helper()
	late := time.After(2 * time.Minute)
	for running := 0; running < churnPartitions; {
		running = 0
		for _, s := range app.Tasks() {
			if s.Role == streams.TaskRunning {
				running++
			}
		}
		select {
		case <-late:
			c.t.Fatalf("not all tasks run: %+v", app.Tasks())
		case <-time.After(10 * time.Millisecond):
		}
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one has given to finalizers
	runtime.ReadMemStats(&m)
	h := held{heap: int64(m.HeapAlloc), goroutines: runtime.NumGoroutine()}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		h.files = len(fds)
	}
	err := filepath.WalkDir(filepath.Join(c.dir, "first"), func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			h.disk++
		}
		return nil // files come and go
	})
	if err != nil {
		c.t.Error(err)
	}
	return h
}
