package broker

import (
	"github.com/leatstream/leat/broker/internal/record"
)

// recordCheck is what the logs of a topic ask about each record that clients send, nil if the topic does not want its
// schemas checked. Every batch is then decompressed, and its records walked.
func (b *Broker) recordCheck(topic string, keys, values bool) func(*record.Record) string {
	if !keys && !values {
		return nil
	}
	check := b.cfg.CheckSchema
	return func(r *record.Record) string {
		if check == nil {
			return "the topic wants schemas checked (leat.key.schema.validation, leat.value.schema.validation), and no schema registry runs with the broker"
		}
		if keys {
			if err := check(topic, true, r.Key, lastHeader(r, "__key_schema_id")); err != nil {
				return "key: " + err.Error()
			}
		}
		if values {
			if err := check(topic, false, r.Value, lastHeader(r, "__value_schema_id")); err != nil {
				return "value: " + err.Error()
			}
		}
		return ""
	}
}

// lastHeader is the value of the record's last header of a name, nil if there is none.
func lastHeader(r *record.Record, name string) []byte {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if string(r.Headers[i].Key) == name {
			return r.Headers[i].Value
		}
	}
	return nil
}
