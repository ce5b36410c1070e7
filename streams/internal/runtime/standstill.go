package runtime

import (
	"sync"
	"sync/atomic"
)

// standstill keeps the workers from processing while a global table is loaded anew: what they joined with it meanwhile would find a
// table that is empty, or of which a part is there. It is as at a start, where the tables are loaded before the first record.
// Workers commit what they have, and go on with their sessions.
type standstill struct {
	on      atomic.Bool
	working sync.RWMutex // held by workers that process
}

// stand has the workers stop, and waits until none processes. end has them go on.
func (rt *Runtime) stand() (end func()) {
	rt.still.on.Store(true)
	rt.wakeAll()
	rt.still.working.Lock() // whoever has not seen it yet is let finish, and sees it then
	rt.still.working.Unlock()
	return func() {
		rt.still.on.Store(false)
		rt.wakeAll()
	}
}

// work says that a worker begins to process; false: it must not. done is after it.
func (s *standstill) work() (done func(), ok bool) {
	s.working.RLock()
	if s.on.Load() {
		s.working.RUnlock()
		return nil, false
	}
	return s.working.RUnlock, true
}
