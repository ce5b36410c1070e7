package state

import "encoding/binary"

// Position returns where the data of a store and partition stand that the directory has on disk, without making a shard of
// it; false if it has none. Whoever gives out tasks prefers an instance that has most of their state.
func (db *DB) Position(store string, partition int32) (Position, bool) {
	if err := db.acquire(); err != nil {
		return Position{}, false
	}
	defer db.release()
	e, err := db.engine(Disk)
	if err != nil {
		return Position{}, false
	}
	v, c, err := e.get(catalogueKey(shardName{store: store, partition: partition, medium: Disk}))
	if err != nil {
		return Position{}, false
	}
	n := uint32(0)
	if len(v) == 5 {
		n = binary.BigEndian.Uint32(v)
	}
	if c.Close() != nil || n == 0 {
		return Position{}, false
	}
	v, c, err = e.get(number(n))
	if err != nil {
		return Position{}, false
	}
	p, err := parsePosition(v)
	return p, firstError(err, c.Close()) == nil
}
