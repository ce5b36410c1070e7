package state

import "encoding/binary"

// Holds reports whether the directory has data of that store and partition on disk, without making a shard of it: whoever
// gives out tasks prefers an instance that does.
func (db *DB) Holds(store string, partition int32) bool {
	if err := db.acquire(); err != nil {
		return false
	}
	defer db.release()
	e, err := db.engine(Disk)
	if err != nil {
		return false
	}
	v, c, err := e.db.Get(catalogueKey(shardName{store, partition, Disk}))
	if err != nil {
		return false
	}
	n := uint32(0)
	if len(v) == 5 {
		n = binary.BigEndian.Uint32(v)
	}
	if c.Close() != nil || n == 0 {
		return false
	}
	_, c, err = e.db.Get(number(n))
	return err == nil && c.Close() == nil
}
