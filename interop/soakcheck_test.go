//go:build interop

package interop

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commit commits for a member and notes what is acknowledged. A refusal is no failure: the partition has gone to another member.
func (s *soak) commit(ctx context.Context, cl *kgo.Client, group string, next map[int32]kgo.EpochOffset) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{"events": next}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		acked := s.commits[group]
		if acked == nil {
			acked = map[int32]int64{}
			s.commits[group] = acked
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if kerr.ErrorForCode(p.ErrorCode) == nil {
					acked[p.Partition] = max(acked[p.Partition], next[p.Partition].Offset)
				}
			}
		}
	})
}

// check compares what is there with what was acknowledged.
func (s *soak) check() {
	s.t.Helper()
	adm := kadm.NewClient(s.client())
	defer adm.Close()
	s.markEnds()
	ends := s.settled(adm)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkEvents(s.read("events", ends))
	s.checkTransactions(s.read("ledger", ends, kgo.FetchIsolationLevel(kgo.ReadCommitted())))
	s.checkKeys(s.readCompacted(ends))
	for group, acked := range s.commits {
		committed, err := adm.FetchOffsets(s.t.Context(), group)
		if err != nil {
			s.t.Fatal(err)
		}
		for p, want := range acked {
			got, ok := committed.Lookup("events", p)
			end, _ := ends.Lookup("events", p)
			if !ok || got.At < want || got.At > end.Offset {
				s.t.Errorf("group %s: %d is committed for partition %d, %d was acknowledged, the log ends at %d", group, got.At, p, want, end.Offset)
			}
		}
		s.t.Logf("group %s: %d partitions committed", group, len(acked))
	}
}

const endKey = "end"

// markEnds gives each partition of the compacted topic a last record: without one, a compacted log may end with offsets whose records are
// gone, and a reader waits for them in vain.
func (s *soak) markEnds() {
	cl := s.client()
	defer cl.Close()
	for p := range int32(soakPartitions) {
		cl.Produce(s.t.Context(), &kgo.Record{Topic: "keys", Partition: p, Key: []byte(endKey)}, nil)
	}
	s.flush(cl)
}

// settled waits until no transaction is open, and returns where the partitions end.
func (s *soak) settled(adm *kadm.Client) kadm.ListedOffsets {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		ends, err := adm.ListEndOffsets(s.t.Context(), "events", "ledger", "keys")
		if err != nil {
			s.t.Fatal(err)
		}
		stable, err := adm.ListCommittedOffsets(s.t.Context(), "ledger")
		if err != nil {
			s.t.Fatal(err)
		}
		open := 0
		stable.Each(func(l kadm.ListedOffset) {
			if end, _ := ends.Lookup(l.Topic, l.Partition); l.Offset < end.Offset {
				open++
			}
		})
		if open == 0 {
			return ends
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d partitions still have an open transaction", open)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// read reads a topic from its beginning to where it ends, partition by partition.
func (s *soak) read(topic string, ends kadm.ListedOffsets, opts ...kgo.Opt) map[int32][]*kgo.Record {
	s.t.Helper()
	cl := s.client(append([]kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords()}, opts...)...)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	all, at := map[int32][]*kgo.Record{}, map[int32]int64{}
	behind := func() bool {
		for p := range int32(soakPartitions) {
			if end, _ := ends.Lookup(topic, p); at[p] < end.Offset {
				return true
			}
		}
		return false
	}
	for behind() {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			s.t.Fatalf("read %s: %v (at %v)", topic, err, at)
		}
		for r := range fs.RecordsAll() {
			if r.Offset < at[r.Partition] {
				s.t.Errorf("%s-%d: offset %d comes after %d", topic, r.Partition, r.Offset, at[r.Partition]-1)
			}
			at[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				all[r.Partition] = append(all[r.Partition], r)
			}
		}
	}
	return all
}

// readCompacted reads the compacted topic again and again until something of it is compacted away.
func (s *soak) readCompacted(ends kadm.ListedOffsets) map[int32][]*kgo.Record {
	s.t.Helper()
	sent := 0
	for _, n := range s.keys {
		sent = max(sent, n)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		found, records := s.read("keys", ends), 0
		for _, rs := range found {
			records += len(rs)
		}
		if records < sent {
			return found
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("of %d records of %d keys all are there: nothing was compacted", sent, len(s.keys))
		}
		<-time.After(100 * time.Millisecond)
	}
}

func (s *soak) checkEvents(found map[int32][]*kgo.Record) {
	last, present, records := map[string]int{}, map[string]map[int]bool{}, 0
	for _, rs := range found {
		for _, r := range rs {
			id := string(r.Key)
			n, err := strconv.Atoi(string(r.Value))
			if err != nil || s.events[id] == nil || n > s.events[id].sent {
				s.t.Fatalf("%s=%s was never sent", r.Key, r.Value)
			}
			if n <= last[id] {
				s.t.Errorf("events-%d: %s sent %d, after %d: doubled or out of order", r.Partition, id, n, last[id])
			}
			last[id] = n
			if present[id] == nil {
				present[id] = map[int]bool{}
			}
			present[id][n] = true
			records++
		}
	}
	acked := 0
	for id, st := range s.events {
		for n := range st.acked {
			acked++
			if !present[id][n] {
				s.t.Errorf("%s=%d was acknowledged and is lost", id, n)
			}
		}
	}
	s.t.Logf("%d kills; events: %d acknowledged, %d found", s.kills, acked, records)
}

func (s *soak) checkTransactions(found map[int32][]*kgo.Record) {
	count := map[string]map[int32]int{}
	for p, rs := range found {
		for _, r := range rs {
			name := string(r.Value)
			if count[name] == nil {
				count[name] = map[int32]int{}
			}
			count[name][p]++
		}
	}
	outcomes := map[outcome]int{}
	for name, o := range s.txns {
		outcomes[o]++
		got := count[name]
		delete(count, name)
		whole := len(got) == soakPartitions
		for _, n := range got {
			whole = whole && n == 1
		}
		switch {
		case len(got) > 0 && !whole:
			s.t.Errorf("transaction %s (%s) is torn: %v", name, o, got)
		case o == committed && !whole:
			s.t.Errorf("transaction %s was acknowledged and is lost", name)
		case o == aborted && len(got) > 0:
			s.t.Errorf("transaction %s was aborted and is visible", name)
		}
	}
	if len(count) > 0 {
		s.t.Errorf("transactions that nobody has begun: %v", count)
	}
	s.t.Logf("transactions: %v", outcomes)
}

func (s *soak) checkKeys(found map[int32][]*kgo.Record) {
	last, records := map[string]int{}, 0
	for _, rs := range found {
		for _, r := range rs {
			if string(r.Key) == endKey {
				continue
			}
			text, _, _ := strings.Cut(string(r.Value), " ")
			n, err := strconv.Atoi(text)
			if err != nil || n <= last[string(r.Key)] {
				s.t.Errorf("keys: %s=%s after %d", r.Key, text, last[string(r.Key)])
			}
			last[string(r.Key)] = n
			records++
		}
	}
	sent := 0
	for key, n := range s.keys {
		sent = max(sent, n)
		if last[key] < n {
			s.t.Errorf("%s=%d was acknowledged, the last value there is %d", key, n, last[key])
		}
	}
	s.t.Logf("keys: %d records sent, %s", sent, fmt.Sprintf("%d left of %d keys", records, len(s.keys)))
}
