package broker

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// sessionIdle is how long a fetch session is safe from those that want its place, as Kafka's
	// min.incremental.fetch.session.eviction.ms.
	sessionIdle = 2 * time.Minute
	// maxSessionPartitions bounds what all sessions remember together: some 150 bytes each.
	maxSessionPartitions = 500_000

	initialEpoch = 0  // the client wants a session
	finalEpoch   = -1 // the client wants none, and gives up the one it names
)

// fetchSessions are the incremental fetch sessions (KIP-227): the broker remembers which partitions a client reads and what it was
// told of them, so that requests and answers name only what changed. A session is no promise: when there is no place for one, the
// client is told session id 0 and goes on sending everything; when its session is gone, it begins another.
type fetchSessions struct {
	most int // sessions

	mu         sync.Mutex // protects following fields
	byID       map[int32]*fetchSession
	partitions int // of all sessions
}

// fetchSession is one of them. Everything in it belongs to the holder of fetchSessions.mu.
type fetchSession struct {
	id, epoch int32
	used      time.Time
	byID      bool       // topics by id: from v13 on
	parts     *list.List // of *sessionPart; what was served last comes last, so that all partitions have their turn
	index     map[sessionKey]*list.Element
}

type sessionKey struct {
	name  string
	id    [16]byte
	index int32
}

// sessionPart is a partition as asked for, and what the client was told last.
type sessionPart struct {
	key           sessionKey
	ask           fetchPart
	highWatermark int64
	logStart      int64
	told          bool // what follows an error is told whatever it is
}

func newFetchSessions(most int) *fetchSessions {
	return &fetchSessions{most: most, byID: map[int32]*fetchSession{}}
}

// begin makes req the request it stands for: an incremental one gets all the partitions of its session. The error is the whole
// request's: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
func (s *fetchSessions) begin(req *fetchRequest, byID bool, now time.Time) *kerr.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.epoch == initialEpoch || req.epoch == finalEpoch {
		if old := s.byID[req.sessionID]; old != nil {
			s.removeLocked(old)
		}
		req.sessionID = 0
		if req.epoch == initialEpoch {
			s.createLocked(req, byID, now)
		}
		return nil
	}
	ses := s.byID[req.sessionID]
	switch {
	case ses == nil:
		return kerr.FetchSessionIDNotFound
	case ses.epoch != req.epoch:
		return kerr.InvalidFetchSessionEpoch
	case ses.byID != byID:
		return kerr.FetchSessionTopicIDError
	}
	if ses.epoch++; ses.epoch <= 0 { // wrapped around
		ses.epoch = 1
	}
	ses.used = now
	s.updateLocked(ses, req)
	if ses.parts.Len() == 0 {
		s.removeLocked(ses)
		req.sessionID, req.topics, req.parts = 0, nil, nil
		return nil
	}
	req.incremental = true
	ses.fill(req)
	return nil
}

// createLocked remembers the partitions of a full request, if there is a place for them.
func (s *fetchSessions) createLocked(req *fetchRequest, byID bool, now time.Time) {
	if len(req.parts) == 0 || !s.makeRoomLocked(len(req.parts), now) {
		return
	}
	ses := &fetchSession{epoch: 1, used: now, byID: byID, parts: list.New(), index: make(map[sessionKey]*list.Element, len(req.parts))}
	for ses.id == 0 || s.byID[ses.id] != nil {
		ses.id = rand.Int32() // not negative
	}
	s.byID[ses.id] = ses
	s.updateLocked(ses, req)
	req.sessionID = ses.id
}

// makeRoomLocked ends sessions that have not been used for a while, the longest unused first, until there is room for one more of
// so many partitions.
func (s *fetchSessions) makeRoomLocked(partitions int, now time.Time) bool {
	for len(s.byID) >= s.most || s.partitions+partitions > maxSessionPartitions {
		var oldest *fetchSession
		for _, ses := range s.byID {
			if oldest == nil || ses.used.Before(oldest.used) {
				oldest = ses
			}
		}
		if oldest == nil || now.Sub(oldest.used) < sessionIdle {
			return false
		}
		s.removeLocked(oldest)
	}
	return true
}

func (s *fetchSessions) removeLocked(ses *fetchSession) {
	delete(s.byID, ses.id)
	s.partitions -= ses.parts.Len()
}

// updateLocked takes over what a request adds, changes and forgets. A session that would grow beyond the limit keeps what it has: the
// partitions it has no room for are left out, and their client, told nothing of them, asks again.
func (s *fetchSessions) updateLocked(ses *fetchSession, req *fetchRequest) {
	parts := req.parts
	for i := range req.topics {
		t := &req.topics[i]
		for j := range parts[:t.count] {
			key := sessionKey{t.name, t.id, parts[j].index}
			if el := ses.index[key]; el != nil {
				el.Value.(*sessionPart).ask = parts[j]
				continue
			}
			if s.partitions < maxSessionPartitions {
				ses.index[key] = ses.parts.PushBack(&sessionPart{key: key, ask: parts[j]})
				s.partitions++
			}
		}
		parts = parts[t.count:]
	}
	for _, key := range req.forgotten {
		if el := ses.index[key]; el != nil {
			ses.parts.Remove(el)
			delete(ses.index, key)
			s.partitions--
		}
	}
}

// fill puts the session's partitions into the request, in their order.
func (ses *fetchSession) fill(req *fetchRequest) {
	req.topics = req.topics[:0]
	req.parts = make([]fetchPart, 0, ses.parts.Len())
	for el := ses.parts.Front(); el != nil; el = el.Next() {
		p := el.Value.(*sessionPart)
		if n := len(req.topics); n == 0 || req.topics[n-1].name != p.key.name || req.topics[n-1].id != p.key.id {
			req.topics = append(req.topics, topicHead{name: p.key.name, id: p.key.id})
		}
		req.topics[len(req.topics)-1].count++
		req.parts = append(req.parts, p.ask)
	}
}

// finish notes what the client is about to be told, and takes out of an incremental answer what it knows already.
func (s *fetchSessions) finish(req *fetchRequest) {
	if req.sessionID == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := s.byID[req.sessionID]
	topics, parts, keptTopics, keptParts := req.topics, req.parts, req.topics[:0:0], req.parts[:0]
	for _, t := range topics {
		kept := 0
		for _, p := range parts[:t.count] {
			if !ses.tell(sessionKey{t.name, t.id, p.index}, &p) && req.incremental {
				continue
			}
			keptParts = append(keptParts, p)
			kept++
		}
		parts = parts[t.count:]
		if kept > 0 || !req.incremental {
			t.count = kept
			keptTopics = append(keptTopics, t)
		}
	}
	req.topics, req.parts = keptTopics, keptParts
}

// tell reports whether an answer holds something that the client does not know, and notes that it will. ses may be nil: the session has
// ended meanwhile, and everything is told.
func (ses *fetchSession) tell(key sessionKey, p *fetchPart) bool {
	if ses == nil {
		return true
	}
	el := ses.index[key]
	if el == nil {
		return true
	}
	known := el.Value.(*sessionPart)
	news := !known.told || p.code != 0 || len(p.batches) > 0 || known.highWatermark != p.bounds.HighWatermark || known.logStart != p.bounds.LogStart
	known.told = p.code == 0
	known.highWatermark, known.logStart = p.bounds.HighWatermark, p.bounds.LogStart
	if len(p.batches) > 0 {
		ses.parts.MoveToBack(el)
	}
	return news
}
