package streams

import (
	"errors"
	"fmt"
	"iter"

	"github.com/leatstream/leat/state"
)

// ErrReadOnly is returned by what would write to a global store from a task: only its own processor writes it.
var ErrReadOnly = errors.New("global store is read-only here")

func (g *globalStore[K, V]) readOnly() error { return fmt.Errorf("%w: %q", ErrReadOnly, g.at.Topic) }

func (g *globalStore[K, V]) Put(K, V) error { return g.readOnly() }

func (g *globalStore[K, V]) PutIfAbsent(K, V) (old V, existed bool, err error) {
	return old, false, g.readOnly()
}

func (g *globalStore[K, V]) Delete(K) (old V, existed bool, err error) {
	return old, false, g.readOnly()
}

func (g *globalStore[K, V]) All() iter.Seq2[K, V] { return g.pairs(g.view.Range(nil, nil)) }

func (g *globalStore[K, V]) Backward() iter.Seq2[K, V] {
	return g.pairs(g.view.BackwardRange(nil, nil))
}

func (g *globalStore[K, V]) Range(from, to K) iter.Seq2[K, V] {
	return g.pairs(g.view.Range(&from, &to))
}

func (g *globalStore[K, V]) BackwardRange(from, to K) iter.Seq2[K, V] {
	return g.pairs(g.view.BackwardRange(&from, &to))
}

func (g *globalStore[K, V]) Prefix(prefix []byte) iter.Seq2[K, V] {
	return g.pairs(g.view.Prefix(prefix))
}

func (g *globalStore[K, V]) BackwardPrefix(prefix []byte) iter.Seq2[K, V] {
	return g.pairs(g.view.BackwardPrefix(prefix))
}

func (g *globalStore[K, V]) ApproximateCount() (int64, error) { return g.view.ApproximateCount() }

func (g *globalStore[K, V]) Err() error {
	err := g.err
	g.err = nil
	return err
}

func (g *globalStore[K, V]) pairs(rows iter.Seq2[state.Row[K, V], error]) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for r, err := range rows {
			if err != nil {
				g.err = errors.Join(g.err, err)
				return
			}
			if !yield(r.Key, r.Value) {
				return
			}
		}
	}
}

func errorsOr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}
