package broker

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/internal/vfs"
)

// bubble starts a broker on virtual time: files in memory, connections in process.
func bubble(t *testing.T) *Broker {
	t.Helper()
	b, err := Start(t.Context(), Config{Dir: "/data", FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWholeBrokerRunsOnVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bubble(t)
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer()), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("t"),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if fs := cl.PollFetches(t.Context()); fs.Err() != nil || fs.NumRecords() != 1 {
			t.Fatal(fs.Err(), fs.NumRecords())
		}
		time.Sleep(time.Hour) // the client polls on, and refreshes its metadata
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("w")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if fs := cl.PollFetches(t.Context()); fs.Err() != nil || fs.NumRecords() != 1 {
			t.Fatal(fs.Err(), fs.NumRecords())
		}
		if took := time.Since(began); took < time.Hour || took > time.Hour+time.Minute {
			t.Errorf("took %v of virtual time", took)
		}
		cl.Close()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A consumer that closes gives its fetch session up with a request that names no partitions, and waits for the answer.
func TestFetchOfNothingIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bubble(t)
		createTopic(t, b, "t", 1)
		r := dialRaw(t, b)
		id, _ := b.topicID("t")
		open := fetchOf("t", id, 0, 0)
		open.SessionEpoch = 0
		session := do[*kmsg.FetchResponse](r, open, 17).SessionID
		end := kmsg.NewPtrFetchRequest()
		end.MaxWaitMillis, end.MinBytes, end.SessionID, end.SessionEpoch = 60_000, 1, session, -1
		began := time.Now()
		if resp := do[*kmsg.FetchResponse](r, end, 17); resp.ErrorCode != 0 || time.Since(began) > 0 {
			t.Errorf("error %d after %v", resp.ErrorCode, time.Since(began))
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A client that begins a frame and stops, and one that never says anything, do not stay.
func TestSlowLoris(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bubble(t)
		for _, c := range []struct {
			name   string
			bytes  []byte
			within time.Duration
		}{
			{"silent", nil, 10 * time.Minute},
			{"half a prefix", []byte{0, 0}, 10 * time.Minute},
			{"less than nothing", []byte{0xff, 0xff, 0xff, 0xff}, 0},
			{"half a frame", []byte{0, 0, 0, 50, 0, 3, 0, 1}, 31 * time.Second},
			{"a byte of a megabyte", []byte{0, 0x10, 0, 0, 0, 0, 0, 9, 0}, 50 * time.Second},
		} {
			nc, err := b.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := nc.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			if _, err := nc.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: was answered", c.name)
			}
			if took := time.Since(began); took > c.within {
				t.Errorf("%s: stayed for %v", c.name, took)
			}
			nc.Close()
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Clients that announce requests and do not send them, as strangers may, do not keep others waiting.
func TestAnnouncedRequestsHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bubble(t)
		for range 10 {
			nc, err := b.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := nc.Write([]byte{0, 0x10, 0, 0, 0, 3, 0, 9}); err != nil { // a metadata request of 1 MiB, and no more of it
				t.Fatal(err)
			}
		}
		synctest.Wait()
		began := time.Now()
		if do[*kmsg.MetadataResponse](dialRaw(t, b), kmsg.NewPtrMetadataRequest(), 9); time.Since(began) > 0 {
			t.Errorf("answered after %v", time.Since(began))
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Requests wait for memory instead of taking more than the limit: many clients that claim large frames hold each other up, and
// others go on when they leave.
func TestRequestsWaitForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Start(t.Context(), Config{Dir: "/data", FS: vfs.NewMem(), MaxRequestBytes: 1 << 20, MaxInFlightBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			nc, err := b.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := nc.Write([]byte{0, 0x10, 0, 0, 0, 0, 0, 9}); err != nil { // a produce request of 1 MiB, and no more of it
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if b.requestBytes.TryAcquire(1) {
			t.Error("claimed frames do not count")
		}
		r := dialRaw(t, b)
		_ = r.nc.SetDeadline(time.Time{})
		if !b.decodedBytes.TryAcquire(1 << 20) {
			t.Error("what nobody has sent counts as decoded")
		}
		b.decodedBytes.Release(1 << 20)
		began := time.Now()
		if resp := do[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 9); len(resp.Brokers) != 1 || time.Since(began) > 0 {
			t.Errorf("a small request has waited for %v", time.Since(began))
		}
		topics := make([]kmsg.MetadataRequestTopic, 3)
		for i := range topics {
			name := strings.Repeat("x", 30_000)
			topics[i].Topic = &name
		}
		if do[*kmsg.MetadataResponse](r, &kmsg.MetadataRequest{Topics: topics}, 1); time.Since(began) < frameTimeout {
			t.Errorf("a large one has waited for %v only", time.Since(began))
		}
		r.nc.Close()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
