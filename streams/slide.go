package streams

import "slices"

// slide is what a sliding aggregate knows of the windows around the record in hand.
type slide[A any] struct {
	enc    []byte
	starts []int64
	update []int64 // windows that exist and contain the record
	prev   int64   // time of the key's latest record before this one; -1: none is near

	leftIs, rightIs   bool // the windows that end at the record, and begin after it, exist
	left, right       A    // what these begin with, if they do not
	hasLeft, hasRight bool
	rightTime         int64
}

// slide adds a record to its sliding windows (docs/semantics.md 48, 49). A window begins, or ends, at each record: the
// record enters those that exist, and makes up to three new ones: the window after the previous record, the one that ends
// with this record, and the one that begins right after it.
func (n *windowNode[K, V, A]) slide(c *cursor, enc []byte, k K, v V, open int64) (refused bool, err error) {
	at, size := c.Time, n.w.size
	if at+size < open {
		c.Task.Counters.Late++
		return true, nil
	}
	s := &n.slid
	if enc == nil {
		if enc, err = n.st.Encode(k); err != nil {
			encode := func(_ []byte, k K) ([]byte, error) { return n.st.Encode(k) }
			if enc, err = noEntry(c, n.node, n.trail.key, nil, k, err, encode); err != nil {
				return false, unlessSkipped(err)
			}
		}
		s.enc = append(s.enc[:0], enc...)
		enc = s.enc
	}
	if s.starts, err = n.st.Starts(s.starts[:0], enc, max(0, at-2*size), at+1); err != nil {
		return false, storeFailed(c, n.node, err)
	}
	if err := n.look(enc, k, at); err != nil {
		return false, storeFailed(c, n.node, err)
	}
	into := func(start int64) error {
		if start+size < open {
			c.Task.Counters.Late++
			refused = true
			return nil
		}
		return n.add(c, enc, k, v, start)
	}
	for _, start := range s.update {
		if err := into(start); err != nil {
			return refused, err
		}
	}
	if at < size { // early: the first window begins at the epoch
		if err := n.rightOf(c, enc, k, at); err != nil {
			return refused, err
		}
	}
	if p := s.prev + 1; p > 0 && p+size >= at && !slices.Contains(s.update, p) {
		if err := into(p); err != nil {
			return refused, err
		}
		s.leftIs = s.leftIs || p == at-size
	}
	if at < size {
		return refused, into(0)
	}
	if !s.leftIs {
		if s.hasLeft {
			err = n.leftOf(c, enc, k, v, at, open)
		} else {
			err = into(at - size)
		}
		if err != nil {
			return refused, err
		}
	}
	return refused, n.rightOf(c, enc, k, at)
}

// look reads the windows around a record at at, from the latest to the earliest. Of what new windows begin with it takes
// copies, before the record changes it.
func (n *windowNode[K, V, A]) look(enc []byte, k K, at int64) error {
	s, size := &n.slid, n.w.size
	*s = slide[A]{enc: s.enc, starts: s.starts, update: s.update[:0], prev: -1}
	early := at < size
	for _, start := range slices.Backward(s.starts) {
		e, err := n.st.Entry(enc, k, start)
		if err != nil {
			return err
		}
		switch end := start + size; {
		case !e.Exists:
		case start == at+1:
			s.rightIs = true
		case end >= at:
			if e.Time > at && !s.rightIs && !s.hasRight && (early || end > at) {
				if s.right, err = n.st.Clone(e.Value); err != nil {
					return err
				}
				s.hasRight, s.rightTime = true, e.Time
			}
			if end == at || early && start == 0 {
				s.leftIs = true
				if e.Time < at {
					s.prev = e.Time
				}
			}
			if !early || start != 0 {
				s.update = append(s.update, start)
			}
		default:
			if s.prev < 0 {
				s.prev = e.Time
			}
			if !s.leftIs && e.Time >= at-size {
				if s.left, err = n.st.Clone(e.Value); err != nil {
					return err
				}
				s.hasLeft = true
			}
			return nil
		}
	}
	if early {
		slices.Reverse(s.update)
	}
	return nil
}

// leftOf makes the window that ends with the record, of what was in the one before it.
func (n *windowNode[K, V, A]) leftOf(c *cursor, enc []byte, k K, v V, at, open int64) error {
	if at < open {
		c.Task.Counters.Late++
		return nil
	}
	agg, has, err := n.step(c, k, v, n.slid.left, true)
	if err != nil {
		return unlessSkipped(err)
	}
	return n.make(c, enc, k, at-n.w.size, agg, has, at)
}

// rightOf makes the window that begins right after the record, if there are records in it.
func (n *windowNode[K, V, A]) rightOf(c *cursor, enc []byte, k K, at int64) error {
	s := &n.slid
	if s.rightIs || !s.hasRight {
		return nil
	}
	return n.make(c, enc, k, at+1, s.right, true, s.rightTime)
}

// make writes a new window.
func (n *windowNode[K, V, A]) make(c *cursor, enc []byte, k K, start int64, agg A, has bool, at int64) error {
	e, err := n.entry(c, enc, k, start)
	if err != nil {
		return unlessSkipped(err)
	}
	return n.put(c, enc, e, agg, has, at)
}
