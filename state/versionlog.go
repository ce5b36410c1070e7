package state

// loggedVersion is a put that is yet to go to the changelog. Its bytes are in the arena.
type loggedVersion struct {
	key, value []byte
	at         int64
}

// encodePut encodes a value for the changelog.
func (s *VersionedStore[K, V]) encodePut(v V, has bool, at int64) (p loggedVersion, err error) {
	p.at = at
	if !has {
		return p, nil
	}
	b, err := s.inner.Append(s.rows.bytes.tail(64), s.rows.valAt, v)
	if b != nil {
		p.value = s.rows.bytes.done(b)
	}
	return p, err
}
