package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Local is the instance that a Router belongs to.
type Local interface {
	// Partitions of a store that it can answer for; copies: from copies of state, too.
	Partitions(store string, copies bool) []int32
	// Rows yields rows of partitions that are here. An error comes last.
	Rows(ctx context.Context, r *Request) iter.Seq2[Row, error]
	// Count is the answer to a Count.
	Count(ctx context.Context, r *Request) (int64, error)
}

// Router finds the instances that have what a query asks for. It may be used from any goroutine.
type Router struct {
	Local  Local   // nil: the asker is no instance
	Client *Client // for the others
	// Find returns the URLs of the application's instances, by their ids.
	Find func(ctx context.Context) (map[string]string, error)

	mu struct {
		sync.Mutex
		known     map[string]known // by id of the instance
		at        time.Time
		refreshes chan struct{} // closed when the one under way is done; nil: none is
		err       error         // of the last one
	}
}

// known is an instance as it was last seen.
type known struct {
	url string
	Instance
}

// Known is an instance with its URL, or why it could not be asked.
type Known struct {
	ID, URL string
	Instance
	Err error
}

const (
	placementAge = 30 * time.Second       // after which placement is asked for anew
	refreshEvery = 50 * time.Millisecond  // at most
	askTime      = 2 * time.Second        // for one instance to say what it has
	firstWait    = 20 * time.Millisecond  // before a query is tried again
	lastWait     = 500 * time.Millisecond // and at most
)

// Rows yields the rows of the request's partitions from wherever they are, merged. While nobody has a partition, as during a
// rebalance, it asks again until deadline is over; an error after the first row is final. An error comes last.
func (r *Router) Rows(ctx context.Context, st Store, req *Request, within time.Duration) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		left := req.Limit
		begun, stopped := false, false
		err := r.again(ctx, within, func(try context.Context) error {
			parts, err := r.place(try, st, req)
			if err != nil {
				return err
			}
			run, cancel := context.WithCancelCause(ctx) // of rows, once there are some, only ctx is the bound
			defer cancel(nil)
			unbound := context.AfterFunc(try, func() {
				cancel(fmt.Errorf("%w: no answer", ErrUnavailable))
			})
			defer unbound()
			sources := r.sources(run, parts, req)
			for row, err := range Merge(req.Op, req.Backward, sources, func() { begun = unbound() }) {
				if err != nil {
					return err
				}
				if !yield(row, nil) {
					stopped = true
					return nil
				}
				if left--; left == 0 {
					return nil
				}
			}
			return nil
		}, func() bool { return begun })
		if err != nil && !stopped {
			yield(Row{}, err)
		}
	}
}

// Count sums what the partitions have.
func (r *Router) Count(ctx context.Context, st Store, req *Request, within time.Duration) (sum int64, err error) {
	err = r.again(ctx, within, func(try context.Context) error {
		sum = 0
		parts, err := r.place(try, st, req)
		if err != nil {
			return err
		}
		for url, ps := range parts {
			one := *req
			one.Partitions = ps
			var n int64
			if url == "" {
				n, err = r.Local.Count(try, &one)
			} else {
				n, err = r.Client.Count(try, url, &one)
			}
			if err != nil {
				return err
			}
			sum += n
		}
		return nil
	}, func() bool { return false })
	return sum, err
}

// again tries f until it works, it says that it is final, its error is not one that may pass, or the time is over, which ends
// f's context.
func (r *Router) again(ctx context.Context, within time.Duration, f func(try context.Context) error, final func() bool) error {
	try, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		err := f(try)
		if err == nil || final() || !retriable(err) || r.Find == nil {
			return err
		}
		r.forget()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-try.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), err)
			}
			return fmt.Errorf("%w (tried for %s)", err, within)
		}
	}
}

// sources are the iterations that together have what is asked for.
func (r *Router) sources(ctx context.Context, parts map[string][]int32, req *Request) (all []iter.Seq2[Row, error]) {
	for url, ps := range parts {
		one := *req
		one.Partitions = ps
		if url == "" {
			all = append(all, r.Local.Rows(ctx, &one))
		} else {
			all = append(all, r.Client.Rows(ctx, url, &one))
		}
	}
	return all
}

// place says whom to ask for which partitions: by URL, "" is here.
func (r *Router) place(ctx context.Context, st Store, req *Request) (map[string][]int32, error) {
	parts := map[string][]int32{}
	copies := req.Staleness > 0 && len(req.After) == 0
	var here []int32
	if r.Local != nil {
		here = r.Local.Partitions(st.Name, copies)
	}
	var missing []int32
	for _, p := range req.Partitions {
		if slices.Contains(here, p) {
			parts[""] = append(parts[""], p)
		} else {
			missing = append(missing, p)
		}
	}
	switch {
	case len(missing) == 0:
		return parts, nil
	case r.Find == nil && len(req.Partitions) == 1:
		return nil, Fail(CodeNotHere, "store %q, partition %d: no task of it runs here", st.Name, req.Partitions[0])
	case r.Find == nil:
		return nil, Fail(CodeNotReady, "store %q, partitions %v: no tasks of them run here", st.Name, missing)
	}
	all, err := r.placement(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range missing {
		url, ok := where(all, st, p, copies)
		if !ok {
			return nil, fmt.Errorf("%w: store %q, partition %d: %s", ErrUnavailable, st.Name, p, said(all))
		}
		parts[url] = append(parts[url], p)
	}
	return parts, nil
}

// where finds who has a partition: its owner, or, if that will do, somebody who keeps a copy.
func where(all []known, st Store, p int32, copies bool) (url string, ok bool) {
	for _, k := range all {
		for _, t := range k.Tasks {
			if !st.Global && (t.Sub != st.Sub || t.Partition != p) {
				continue
			}
			if t.Role == Running {
				return k.url, true
			}
			if copies && (t.Role == Standby || t.Role == WarmUp) && !ok {
				url, ok = k.url, true
			}
		}
		if st.Global && len(k.Tasks) > 0 {
			return k.url, true
		}
	}
	return url, ok
}

// said is for the error that nobody has a partition.
func said(all []known) string {
	if len(all) == 0 {
		return "no instance is known that answers queries (Config.Listen)"
	}
	var texts []string
	for _, k := range all {
		texts = append(texts, fmt.Sprintf("%s (%s) is %s", k.ID, k.url, k.State))
	}
	slices.Sort(texts)
	return "the instances that answer do not have it now: " + strings.Join(texts, ", ")
}

// forget makes the next query ask where tasks are.
func (r *Router) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.mu.at) > refreshEvery {
		r.mu.at = time.Time{}
	}
}

// placement returns what is known of the other instances, fresh enough. Of several askers one asks.
func (r *Router) placement(ctx context.Context) ([]known, error) {
	for {
		r.mu.Lock()
		if time.Since(r.mu.at) < placementAge {
			all := slices.Collect(maps.Values(r.mu.known))
			r.mu.Unlock()
			slices.SortFunc(all, func(a, b known) int { return cmp.Compare(a.ID, b.ID) })
			return all, nil
		}
		wait := r.mu.refreshes
		if wait == nil {
			r.mu.refreshes = make(chan struct{})
			r.mu.Unlock()
			all, err := r.Instances(ctx, false)
			r.mu.Lock()
			if err == nil {
				r.mu.at, r.mu.known = time.Now(), map[string]known{}
				for _, k := range all {
					if k.Err == nil {
						r.mu.known[k.ID] = known{k.URL, k.Instance}
					}
				}
			}
			close(r.mu.refreshes)
			r.mu.refreshes = nil
			r.mu.Unlock()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			continue
		}
		r.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Instances asks every instance that the group names what it has, by id.
func (r *Router) Instances(ctx context.Context, counts bool) ([]Known, error) {
	urls, err := r.Find(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Known, 0, len(urls))
	for _, id := range slices.Sorted(maps.Keys(urls)) {
		all = append(all, Known{ID: id, URL: urls[id]})
	}
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			k := &all[i]
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			k.Instance, k.Err = r.Client.Instance(ctx, k.URL, counts)
		})
	}
	wg.Wait()
	return all, nil
}
