package avsc

import (
	"slices"
	"strconv"
	"strings"
)

// Text is what Java's Schema.toString writes: the string by which a Confluent registry tells schemas apart. White space
// and the order of attributes do not matter to it; doc, defaults and aliases do. Types of known are written by name.
func (s *Schema) Text(known ...*Schema) string {
	w := textWriter{seen: make(map[string]bool)}
	for _, k := range known {
		w.see(k)
	}
	return string(w.schema(nil, s, ""))
}

// Full is the text with every type's namespace written out and every reference by full name: for libraries that do not
// work out which namespace a name is in.
func (s *Schema) Full() string {
	w := textWriter{seen: make(map[string]bool), full: true}
	return string(w.schema(nil, s, ""))
}

// Normal is the text of the schema with everything that has no order put into one: aliases and properties sorted, names
// written in full. It is what is stored when normalisation is asked for.
func (s *Schema) Normal(known ...*Schema) string {
	w := textWriter{seen: make(map[string]bool), sorted: true}
	for _, k := range known {
		w.see(k)
	}
	return string(w.schema(nil, s, ""))
}

type textWriter struct {
	seen   map[string]bool
	sorted bool
	full   bool
}

// see marks the named types of s as written before.
func (w *textWriter) see(s *Schema) {
	if s.named() {
		if w.seen[s.Name.Full()] {
			return
		}
		w.seen[s.Name.Full()] = true
	}
	for _, f := range s.Fields {
		w.see(f.Type)
	}
	for _, b := range s.Branches {
		w.see(b)
	}
	if s.Items != nil {
		w.see(s.Items)
	}
}

func (w *textWriter) schema(b []byte, s *Schema, space string) []byte {
	switch s.Kind {
	case Union:
		b = append(b, '[')
		for i, br := range s.Branches {
			if i > 0 {
				b = append(b, ',')
			}
			b = w.schema(b, br, space)
		}
		return append(b, ']')
	case Array:
		b = w.schema(append(b, `{"type":"array","items":`...), s.Items, space)
	case Map:
		b = w.schema(append(b, `{"type":"map","values":`...), s.Items, space)
	case Record, Enum, Fixed:
		if w.seen[s.Name.Full()] {
			if w.full {
				return AppendString(b, s.Name.Full())
			}
			return AppendString(b, s.Name.qualified(space))
		}
		w.seen[s.Name.Full()] = true
		return w.named(b, s, space)
	default:
		if len(s.props) == 0 {
			return AppendString(b, s.Kind.String())
		}
		b = AppendString(append(b, `{"type":`...), s.Kind.String())
	}
	return append(w.props(b, s.props), '}')
}

func (w *textWriter) named(b []byte, s *Schema, space string) []byte {
	typ := s.Kind.String()
	if s.isError {
		typ = "error"
	}
	b = AppendString(append(b, `{"type":`...), typ)
	b = AppendString(append(b, `,"name":`...), s.Name.Base)
	if s.Name.Space != space || w.full && space != "" {
		b = AppendString(append(b, `,"namespace":`...), s.Name.Space)
	}
	if s.doc != nil {
		b = AppendString(append(b, `,"doc":`...), *s.doc)
	}
	switch s.Kind {
	case Record:
		b = append(b, `,"fields":[`...)
		for i, f := range s.Fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = w.field(b, f, s.Name.Space)
		}
		b = append(b, ']')
	case Enum:
		b = append(b, `,"symbols":`...)
		b = appendTexts(b, s.Symbols)
		if s.EnumDefault != "" {
			b = AppendString(append(b, `,"default":`...), s.EnumDefault)
		}
	case Fixed:
		b = strconv.AppendInt(append(b, `,"size":`...), int64(s.Size), 10)
	}
	b = w.props(b, s.props)
	if len(s.aliases) > 0 {
		names := make([]string, len(s.aliases))
		for i, a := range s.aliases {
			names[i] = a.qualified(s.Name.Space)
		}
		b = w.texts(append(b, `,"aliases":`...), names)
	}
	return append(b, '}')
}

func (w *textWriter) field(b []byte, f *Field, space string) []byte {
	b = AppendString(append(b, `{"name":`...), f.Name)
	b = w.schema(append(b, `,"type":`...), f.Type, space)
	if f.doc != nil {
		b = AppendString(append(b, `,"doc":`...), *f.doc)
	}
	if f.HasDefault {
		b = append(append(b, `,"default":`...), f.DefaultText...)
	}
	if f.order != "" {
		b = AppendString(append(b, `,"order":`...), f.order)
	}
	if len(f.Aliases) > 0 {
		b = w.texts(append(b, `,"aliases":`...), f.Aliases)
	}
	return append(w.props(b, f.props), '}')
}

func (w *textWriter) texts(b []byte, list []string) []byte {
	if w.sorted {
		list = slices.Sorted(slices.Values(list))
	}
	return appendTexts(b, list)
}

func (w *textWriter) props(b []byte, props []prop) []byte {
	if w.sorted {
		props = slices.Clone(props)
		slices.SortStableFunc(props, func(x, y prop) int { return strings.Compare(x.key, y.key) })
	}
	for i := range props {
		b = append(AppendString(append(b, ','), props[i].key), ':')
		b = appendValue(b, &props[i].val)
	}
	return b
}

func appendTexts(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, t := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, t)
	}
	return append(b, ']')
}

// Canonical is Avro's parsing canonical form: full names, and only what a reader needs to read.
func (s *Schema) Canonical() string { return string(canonical(nil, s, make(map[string]bool))) }

func canonical(b []byte, s *Schema, seen map[string]bool) []byte {
	switch s.Kind {
	case Union:
		b = append(b, '[')
		for i, br := range s.Branches {
			if i > 0 {
				b = append(b, ',')
			}
			b = canonical(b, br, seen)
		}
		return append(b, ']')
	case Array:
		return append(canonical(append(b, `{"type":"array","items":`...), s.Items, seen), '}')
	case Map:
		return append(canonical(append(b, `{"type":"map","values":`...), s.Items, seen), '}')
	case Record, Enum, Fixed:
		return canonicalNamed(b, s, seen)
	}
	return AppendString(b, s.Kind.String())
}

func canonicalNamed(b []byte, s *Schema, seen map[string]bool) []byte {
	full := s.Name.Full()
	if seen[full] {
		return AppendString(b, full)
	}
	seen[full] = true
	b = AppendString(append(b, `{"name":`...), full)
	b = AppendString(append(b, `,"type":`...), s.Kind.String())
	switch s.Kind {
	case Enum:
		b = appendTexts(append(b, `,"symbols":`...), s.Symbols)
	case Fixed:
		b = strconv.AppendInt(append(b, `,"size":`...), int64(s.Size), 10)
	default:
		b = append(b, `,"fields":[`...)
		for i, f := range s.Fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendString(append(b, `{"name":`...), f.Name)
			b = append(canonical(append(b, `,"type":`...), f.Type, seen), '}')
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// rabinEmpty is the fingerprint of no bytes at all, from the Avro specification.
const rabinEmpty = 0xc15d213aa4d7a795

// Fingerprint is the 64-bit Rabin fingerprint of the canonical form.
func (s *Schema) Fingerprint() uint64 {
	fp := uint64(rabinEmpty)
	for _, c := range []byte(s.Canonical()) {
		fp ^= uint64(c)
		for range 8 {
			fp = (fp >> 1) ^ (rabinEmpty & -(fp & 1))
		}
	}
	return fp
}
