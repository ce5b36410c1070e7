package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Lease says whether changelogs may be written to until the next Flush: nil, or why this session is over. It is asked before the
// first record of them.
//
// A member that the group has given up on does not know it. With transactions what it writes then is aborted, as its commit is
// fenced. Without, its commit is fenced and its records stay: values of before, on top of those that the next owner of its
// partitions has written, for the one after that to restore. What was counted in between is lost (KAFKA-12693). So without
// transactions a session that has not heard from the coordinator for half of the session timeout writes no more, and what it has
// written is on its way for at most the other half (most): the group gives its partitions away later than that.
//
// That holds where the group waits for the session timeout. A process that takes another one's InstanceID is given its partitions
// at once, and the other learns it by its next heartbeat.
func (s *Session) Lease(ctx context.Context) error {
	if s.txnal {
		return nil
	}
	if err := s.brokenErr(); err != nil {
		return err
	}
	if s.wanted.Load() || s.silent() > s.cfg.SessionTimeout/2 {
		// Of a membership that is over the client tells between two polls, and no sooner: this may be why it wants a rebalance. And it
		// sends no heartbeat while it waits to join, for as long as a rebalance takes. So the coordinator is asked.
		if err := s.stays(ctx); err != nil {
			return Wrap("keep the partitions of group "+s.cfg.Group, err)
		}
	}
	s.endLease()
	s.lease = time.AfterFunc(s.most(), s.cancel)
	return nil
}

func (s *Session) endLease() {
	if s.lease != nil {
		s.lease.Stop()
		s.lease = nil
	}
}

// silent is for how long the coordinator has not been heard from.
func (s *Session) silent() time.Duration { return time.Since(s.opened) - time.Duration(s.heard.Load()) }

// stays asks the coordinator whether this is still the member that the assignment was given to. During a rebalance it is.
func (s *Session) stays(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.SessionTimeout/4)
	defer cancel()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group = s.cfg.Group
	if s.cfg.InstanceID != "" {
		req.InstanceID = &s.cfg.InstanceID
	}
	if req.MemberID, req.Generation = s.cl.GroupMetadata(); req.MemberID != s.Member() {
		return errForgotten
	}
	sent := time.Since(s.opened)
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return fmt.Errorf("the coordinator has not answered for %v: %w", s.silent(), err)
	}
	err = kerr.ErrorForCode(resp.ErrorCode)
	if err != nil && !errors.Is(err, kerr.RebalanceInProgress) && !errors.Is(err, kerr.IllegalGeneration) {
		return err
	}
	s.heard.Store(int64(sent))
	return nil
}

// leaseHook hears that the coordinator answers.
type leaseHook struct{ s *Session }

// OnBrokerE2E implements kgo.HookBrokerE2E. What counts is when the request was sent: the coordinator counts from later on. A
// heartbeat after a long silence counts for nothing: the answer may be that the member is none any more.
func (h leaseHook) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if e2e.Err() != nil || key != int16(kmsg.Heartbeat) && key != int16(kmsg.SyncGroup) {
		return
	}
	at, before := int64(time.Since(h.s.opened)-e2e.DurationE2E()), h.s.heard.Load()
	if at > before && (key == int16(kmsg.SyncGroup) || time.Duration(at-before) <= h.s.cfg.SessionTimeout/2) {
		h.s.heard.CompareAndSwap(before, at)
	}
}
