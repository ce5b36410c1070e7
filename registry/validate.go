package registry

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
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
	var id int
	switch {
	case len(name) >= 5 && name[0] == 0:
		id = int(int32(binary.BigEndian.Uint32(name[1:])))
	case len(name) >= 17 && name[0] == 1:
		g := hex.EncodeToString(name[1:17])
		id, _ = c.state.idOfGUID(defaultContext, g[:8]+"-"+g[8:12]+"-"+g[12:16]+"-"+g[16:20]+"-"+g[20:])
	default:
		return fmt.Errorf("it names no schema: write it with a serializer of the schema registry, under subject %q", subject)
	}
	for _, e := range c.state.withID(defaultContext, id, false) {
		if e.Subject == subject {
			return nil
		}
	}
	return fmt.Errorf("its schema, id %d, is not registered under subject %q", id, subject)
}
