package query

import (
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"iter"
	"sync"
)

// Merge yields the rows of several sources, each of which is in order, in one order: of keys for key-value stores, of starts
// and then keys for windows, of ends, keys and starts for sessions, of what an index finds them by. It begins all of them before the first row; if one fails
// then, begun is not called and the error comes alone. A source that fails later ends the iteration with its error.
func Merge(op Op, backward bool, sources []iter.Seq2[Row, error], begun func()) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		m := merger{op: op, backward: backward}
		all := make([]*pulled, len(sources))
		for i, s := range sources {
			all[i] = &pulled{}
			all[i].pull, all[i].stop = iter.Pull2(s)
			defer all[i].stop()
		}
		var wg sync.WaitGroup
		for _, p := range all {
			wg.Go(p.next)
		}
		wg.Wait()
		var errs []error
		for _, p := range all {
			errs = append(errs, p.err)
			if p.ok {
				m.heads = append(m.heads, p)
			}
		}
		if err := errors.Join(errs...); err != nil {
			yield(Row{}, err)
			return
		}
		if begun != nil {
			begun()
		}
		heap.Init(&m)
		for len(m.heads) > 0 {
			p := m.heads[0]
			if !yield(p.row, nil) {
				return
			}
			switch p.next(); {
			case p.err != nil:
				yield(Row{}, p.err)
				return
			case p.ok:
				heap.Fix(&m, 0)
			default:
				heap.Pop(&m)
			}
		}
	}
}

// pulled is a source with its next row.
type pulled struct {
	pull func() (Row, error, bool)
	stop func()
	row  Row
	err  error
	ok   bool
}

func (p *pulled) next() {
	if p.row, p.err, p.ok = p.pull(); p.err != nil {
		p.ok = false
	}
}

// merger is a heap of sources by their next rows.
type merger struct {
	op       Op
	backward bool
	heads    []*pulled
}

func (m *merger) Len() int { return len(m.heads) }

func (m *merger) Less(i, j int) bool {
	c := compare(m.op, &m.heads[i].row, &m.heads[j].row)
	if m.backward {
		c = -c
	}
	return c < 0
}

func (m *merger) Swap(i, j int) { m.heads[i], m.heads[j] = m.heads[j], m.heads[i] }

func (m *merger) Push(x any) { m.heads = append(m.heads, x.(*pulled)) }

func (m *merger) Pop() any {
	last := m.heads[len(m.heads)-1]
	m.heads = m.heads[:len(m.heads)-1]
	return last
}

// compare is the order of two rows of different partitions.
func compare(op Op, a, b *Row) int {
	switch op {
	case Starts, Fetch:
		return cmp.Or(cmp.Compare(a.Start, b.Start), bytes.Compare(a.Key, b.Key), cmp.Compare(a.Partition, b.Partition))
	case Ends, Sessions:
		return cmp.Or(cmp.Compare(a.End, b.End), bytes.Compare(a.Key, b.Key), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Partition, b.Partition))
	case ByIndex:
		return cmp.Or(bytes.Compare(a.By, b.By), bytes.Compare(a.Key, b.Key), cmp.Compare(a.Partition, b.Partition))
	}
	return cmp.Or(bytes.Compare(a.Key, b.Key), cmp.Compare(a.Partition, b.Partition))
}
