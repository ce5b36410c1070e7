package runtime

import (
	"testing"

	"github.com/leatstream/leat/streams/internal/session"
)

func TestWhereReadingGoesOn(t *testing.T) {
	id, other, none := [16]byte{1}, [16]byte{2}, [16]byte{}
	for name, c := range map[string]struct {
		at             int64
		said, is       [16]byte
		start, end, to int64
		why            string
	}{
		"in the log":                            {at: 50, said: id, is: id, start: 10, end: 100, to: 50},
		"at its end":                            {at: 100, said: id, is: id, start: 10, end: 100, to: 100},
		"at its start":                          {at: 10, said: id, is: id, start: 10, end: 100, to: 10},
		"nobody knows the topic":                {at: 50, start: 10, end: 100, to: 50},
		"the brokers have no ids":               {at: 50, said: id, start: 10, end: 100, to: 50},
		"the log was cut":                       {at: 5, said: id, is: id, start: 10, end: 100, to: 10, why: gapCut},
		"the log was cut, nobody knows":         {at: 5, is: id, start: 10, end: 100, to: 10, why: gapCut},
		"the log has lost its end":              {at: 120, said: id, is: id, start: 10, end: 100, to: 100, why: gapLostEnd},
		"made anew, shorter":                    {at: 120, said: other, is: id, start: 0, end: 100, to: 0, why: gapRecreated},
		"made anew, longer":                     {at: 50, said: other, is: id, start: 0, end: 100, to: 0, why: gapRecreated},
		"beyond the end of nobody knows what":   {at: 120, is: id, start: 10, end: 100, to: 10, why: gapBeyond},
		"beyond the end, the brokers have none": {at: 120, said: id, is: none, start: 10, end: 100, to: 10, why: gapBeyond},
	} {
		g, ok := gapAt(session.Position{Offset: c.at, Metadata: withTopic("TAA=", c.said)}, c.is, c.start, c.end)
		if !ok {
			g.to = c.at
		}
		if g.to != c.to || g.why != c.why || ok && g.from != c.at {
			t.Errorf("%s: from %d to %d, %q; want %d, %q", name, g.from, g.to, g.why, c.to, c.why)
		}
	}
}

func TestMetadataNamesTheTopic(t *testing.T) {
	for _, text := range []string{"", "TAAAAAAAAAA=", "what another program says"} {
		for _, id := range [][16]byte{{}, {1, 2, 3, 0xff}} {
			if got, of := splitMetadata(withTopic(text, id)); got != text || of != id {
				t.Errorf("%q of %v came back as %q of %v", text, id, got, of)
			}
		}
	}
	if got, of := splitMetadata("a@b"); got != "a" || of != ([16]byte{}) {
		t.Errorf("a text that names no id gave %q, %v", got, of)
	}
}
