package registry

import (
	"fmt"

	"github.com/leatstream/leat/registry/internal/frame"
)

// CheckRecord says whether a record's key or value carries a schema of its topic: in the header that was given, if it is
// not nil, else in front of the data, by an id or a GUID that is registered, and not deleted, under the subject
// `<topic>-key` or `<topic>-value`. Null has no schema and passes. It is what a broker's Config.CheckSchema needs; it asks
// nobody, and may be called by several goroutines.
func (s *Server) CheckRecord(topic string, key bool, data, header []byte) error {
	if data == nil {
		return nil
	}
	c, err := s.ready()
	if err != nil {
		return err
	}
	name := data
	if header != nil {
		name = header
	}
	subject := topic + "-value"
	if key {
		subject = topic + "-key"
	}
	n, _, err := frame.Parse(name)
	if err != nil {
		return fmt.Errorf("it names no schema: write it with a serializer of the schema registry, under subject %q", subject)
	}
	id := int(int32(n.ID))
	if n.GUID != (frame.GUID{}) {
		id, _ = c.state.idOfGUID(defaultContext, n.GUID.String())
	}
	for _, e := range c.state.withID(defaultContext, id, false) {
		if e.Subject == subject {
			return nil
		}
	}
	return fmt.Errorf("its schema, id %d, is not registered under subject %q", id, subject)
}
