package orders

import "sync"

// waiters are the requests that wait for an order's decision.
type waiters struct {
	mu struct {
		sync.Mutex
		byOrder map[string]map[chan struct{}]struct{}
	}
}

// add returns a channel that receives when id is decided, and a function that ends the waiting.
func (w *waiters) add(id string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.byOrder == nil {
		w.mu.byOrder = map[string]map[chan struct{}]struct{}{}
	}
	if w.mu.byOrder[id] == nil {
		w.mu.byOrder[id] = map[chan struct{}]struct{}{}
	}
	w.mu.byOrder[id][c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.mu.byOrder[id], c)
		if len(w.mu.byOrder[id]) == 0 {
			delete(w.mu.byOrder, id)
		}
	}
}

func (w *waiters) wake(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.mu.byOrder[id] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
