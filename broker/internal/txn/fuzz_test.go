package txn

import "testing"

// Whatever is in the journal, reading it is an error or a record that can be written again.
func FuzzDecode(f *testing.F) {
	r := record{state: Ongoing, producerID: 7, prevID: none, nextID: none, epoch: 3, version: 2, partitions: []TopicPartition{{"a", 0}, {"b", 1}}}
	f.Add(encodeKey("x"), r.encode())
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if id, ok, err := decodeKey(key); err == nil && ok {
			if again, _, err := decodeKey(encodeKey(id)); err != nil || again != id {
				t.Errorf("id %q, again %q: %v", id, again, err)
			}
		}
		got, err := decodeValue(value)
		if err != nil {
			return
		}
		again, err := decodeValue(got.encode())
		if err != nil || again.producerID != got.producerID || again.state != got.state || again.epoch != got.epoch || len(again.partitions) != len(got.partitions) {
			t.Errorf("%+v, again %+v: %v", got, again, err)
		}
	})
}
