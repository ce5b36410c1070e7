package engine

import (
	"encoding/base64"
	"encoding/binary"
)

// observed is the stream time that one operator has seen, which may lag behind the task's (docs/semantics.md 2).
type observed struct {
	name string
	at   *int64
}

// restoredTimes is what one partition's metadata said. The partitions of a task may have been committed at different
// times; since no time goes back, the latest of what they say holds.
type restoredTimes struct {
	streamTime int64
	lag        map[string]int64 // those that differed
}

// metadataVersion is the first byte of the committed metadata. Kafka Streams uses 2 for its own form.
const metadataVersion = 0x4c

// metadataMax bounds the metadata; brokers refuse more than 4,096 bytes with a commit.
const metadataMax = 3 << 10

// Observe registers the observed stream time of an operator, so that what was late stays late after a restart. It
// returns where the operator keeps it: -1 at first, or what the last commit's metadata says.
func (t *Task) Observe(name string) *int64 {
	at := new(int64)
	*at = -1
	for _, m := range t.restored {
		v, ok := m.lag[name]
		if !ok {
			v = m.streamTime
		}
		*at = max(*at, v)
	}
	t.clocks = append(t.clocks, observed{name, at})
	return at
}

// Metadata is the text to commit with each of the task's offsets: its stream time, and those observed times that differ.
// Past 3 KiB the largest lags are kept; the rest start at the task's stream time.
func (t *Task) Metadata() string {
	if t.streamTime < 0 {
		return ""
	}
	b := append(make([]byte, 0, 32), metadataVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(t.streamTime))
	lags := t.lags()
	for _, o := range lags {
		entry := binary.AppendUvarint(nil, uint64(len(o.name)))
		entry = append(entry, o.name...)
		entry = binary.AppendVarint(entry, *o.at)
		if base64.StdEncoding.EncodedLen(len(b)+len(entry)) > metadataMax {
			break
		}
		b = append(b, entry...)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// lags returns the observed times that differ from the task's stream time, the largest lag first.
func (t *Task) lags() []observed {
	var out []observed
	for _, o := range t.clocks {
		if *o.at == t.streamTime {
			continue
		}
		i := len(out)
		for i > 0 && *out[i-1].at > *o.at {
			i--
		}
		out = append(out, observed{})
		copy(out[i+1:], out[i:])
		out[i] = o
	}
	return out
}

// restoreMetadata reads what Metadata wrote; anything else is ignored, since another program may have committed it.
func (t *Task) restoreMetadata(text string) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) < 9 || b[0] != metadataVersion {
		return
	}
	m := restoredTimes{streamTime: int64(binary.BigEndian.Uint64(b[1:])), lag: make(map[string]int64)}
	b = b[9:]
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 || uint64(len(b)-w) < n {
			return
		}
		name := string(b[w : w+int(n)])
		b = b[w+int(n):]
		at, w := binary.Varint(b)
		if w <= 0 {
			return
		}
		b = b[w:]
		m.lag[name] = at
	}
	t.streamTime = max(t.streamTime, m.streamTime)
	t.restored = append(t.restored, m)
}
