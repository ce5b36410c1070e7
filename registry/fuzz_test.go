package registry

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"
)

// FuzzApply gives the state records of any bytes: it must neither panic nor contradict itself.
func FuzzApply(f *testing.F) {
	for _, r := range [][2]string{
		{`{"keytype":"SCHEMA","subject":"a","version":1,"magic":1}`, `{"subject":"a","version":1,"id":3,"schema":"\"string\"","deleted":false}`},
		{`{"keytype":"SCHEMA","subject":"a","version":2,"magic":1}`, `{"id":4,"schema":"\"bytes\"","references":[{"name":"x","subject":"a","version":1}]}`},
		{`{"keytype":"DELETE_SUBJECT","subject":"a","magic":0}`, `{"subject":"a","version":1}`},
		{`{"keytype":"CLEAR_SUBJECT","magic":0}`, `{}`},
		{`{"keytype":"CONFIG","magic":0}`, `{"compatibilityLevel":"FULL","normalize":true}`},
		{`{"keytype":"MODE","subject":"a","magic":0}`, `{"mode":"READONLY"}`},
	} {
		f.Add([]byte(r[0]), []byte(r[1]), false)
		f.Add([]byte(r[0]), []byte(r[1]), true)
	}
	f.Fuzz(func(t *testing.T, key, value []byte, null bool) {
		s := newState(slog.New(slog.DiscardHandler))
		s.apply(0, schemaKey("a", 1), []byte(`{"id":3,"schema":"\"string\""}`), time.UnixMilli(1))
		s.apply(1, schemaKey("b", 1), []byte(`{"id":3,"schema":"\"string\""}`), time.UnixMilli(1))
		if null {
			value = nil
		}
		s.apply(2, key, value, time.UnixMilli(2))
		s.apply(3, key, nil, time.UnixMilli(3))
		s.apply(4, key, value, time.UnixMilli(4))
		for _, e := range s.all(everyContext, true) {
			d, ok := s.byID(contextOf(e.Subject), e.ID)
			if !ok || d.guid() != e.GUID {
				t.Fatalf("%+v has an id that is %v %+v", e, ok, d)
			}
			if id, ok := s.idOf(contextOf(e.Subject), e.Definition); !ok || id > e.ID {
				t.Fatalf("%+v is found as %d, %v", e, id, ok)
			}
			if s.nextID(contextOf(e.Subject)) <= e.ID {
				t.Fatalf("the next id is %d after %d", s.nextID(defaultContext), e.ID)
			}
		}
	})
}

// TestContentWithTwoIDs is a topic in which the same content has several ids, as imports make them.
func TestContentWithTwoIDs(t *testing.T) {
	s := newState(slog.New(slog.DiscardHandler))
	text := `,"schema":"\"string\""}`
	s.apply(0, schemaKey("a", 1), []byte(`{"id":3`+text), time.UnixMilli(1))
	s.apply(1, schemaKey("b", 1), []byte(`{"id":7`+text), time.UnixMilli(1))
	s.apply(2, schemaKey("c", 1), []byte(`{"id":5`+text), time.UnixMilli(1))
	for i, want := range []int{3, 5, 7, 0} {
		if id, ok := s.idOf(defaultContext, Definition{Text: `"string"`}); id != want || ok != (want > 0) {
			t.Fatalf("found as %d, %v, want %d", id, ok, want)
		}
		s.apply(3, schemaKey([]string{"a", "c", "b", "none"}[i], 1), nil, time.UnixMilli(2))
	}
	if s.nextID(defaultContext) != 8 {
		t.Errorf("the next id is %d", s.nextID(defaultContext))
	}
}

// TestKeysAreJacksons compares keys that have something to escape; they must also be read back as they were.
func TestKeysAreJacksons(t *testing.T) {
	for subject, want := range map[string]string{
		"orders-value": `{"keytype":"SCHEMA","subject":"orders-value","version":12,"magic":1}`,
		"a\"b\\c<&>é ": "{\"keytype\":\"SCHEMA\",\"subject\":\"a\\\"b\\\\c<&>é \",\"version\":12,\"magic\":1}",
		"\u2028\x7f/":  "{\"keytype\":\"SCHEMA\",\"subject\":\"\u2028\x7f/\",\"version\":12,\"magic\":1}",
	} {
		key := schemaKey(subject, 12)
		if string(key) != want {
			t.Errorf("key %s, want %s", key, want)
		}
		var back recordKey
		if err := json.Unmarshal(key, &back); err != nil || back.Subject != subject {
			t.Errorf("read back %+v, %v", back, err)
		}
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		accept []string
		want   string
	}{
		{nil, "application/vnd.schemaregistry.v1+json"},
		{[]string{"*/*"}, "application/vnd.schemaregistry.v1+json"},
		{[]string{"application/vnd.schemaregistry.v1+json, application/vnd.schemaregistry+json; qs=0.9, application/json; qs=0.5"}, "application/vnd.schemaregistry.v1+json"},
		{[]string{"application/json"}, "application/json"},
		{[]string{"application/json;q=0.9", "application/vnd.schemaregistry+json;q=0.1"}, "application/json"},
		{[]string{"text/plain, */*;q=0"}, ""},
		{[]string{"image/png"}, ""},
	} {
		got, ok := negotiate(c.accept)
		if ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%q: %s, %v", c.accept, got, ok)
		}
	}
}
