package broker

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/internal/txnclient"
	"github.com/leatstream/leat/internal/vfs"
)

// A transaction begins while the markers of the one before are on their way to the disk, and the power fails: the one before is whole,
// and the new one, of which the journal has no word, goes on with all that was acknowledged. Also when it was about to end.
func TestPowerLossBetweenTransactions(t *testing.T) {
	for name, ending := range map[string]bool{"begun": false, "ending": true} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			disk := &vfs.Faulty{FS: mem}
			b, err := Start(t.Context(), Config{Dir: "/data", FS: disk, Flush: FlushAlways})
			if err != nil {
				t.Fatal(err)
			}
			createTopic(t, b, "out", 2)
			cl := txnClient(t, b, "x", kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			write := func(value string, partitions ...int32) {
				t.Helper()
				for _, p := range partitions {
					if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "out", Partition: p, Value: []byte(value)}).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
			}
			begin(t, cl) // the client finds out here that it may use version 2
			write("zeroth", 0)
			end(t, cl, kgo.TryCommit)
			begin(t, cl)
			write("first", 0, 1)
			stuck, release := make(chan struct{}, 64), make(chan struct{})
			disk.Fail(func(op vfs.Op, name string) error {
				if op == vfs.OpSync && strings.Contains(name, "/out-1/") {
					stuck <- struct{}{}
					<-release
				}
				return nil
			})
			end(t, cl, kgo.TryCommit)
			<-stuck // the marker in out-1
			begin(t, cl)
			write("second", 0)
			id, epoch, err := cl.ProducerID(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			if ending {
				go func() {
					ended <- txnclient.End(ctx, cl, kgo.TryCommit)
					close(ended)
				}()
				select {
				case err := <-ended:
					t.Errorf("the second transaction ended (%v) before the markers of the first were on disk", err)
				case <-time.After(50 * time.Millisecond):
				}
			}
			left := mem.CrashClone(0, nil)
			cancel()
			close(release)
			if ending {
				<-ended
			}
			cl.Close()
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}

			b = startWith(t, Config{Dir: "/data", FS: left, Flush: FlushAlways})
			req := kmsg.NewPtrEndTxnRequest()
			req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = "x", id, epoch, true
			if resp := do[*kmsg.EndTxnResponse](dialRaw(t, b), req, 5); resp.ErrorCode != 0 {
				t.Errorf("commit of the second transaction: %v", kerr.ErrorForCode(resp.ErrorCode))
			}
			settledLSO(t, b, "out")
			got := readAll(t, b, "out", kgo.ReadCommitted())
			slices.Sort(got)
			if want := "first first second zeroth"; strings.Join(got, " ") != want {
				t.Errorf("committed: %v, want %s", got, want)
			}
		})
	}
}
