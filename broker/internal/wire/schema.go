package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// Schema describes the flexible versions of one request, just enough to walk over it: a decoder that believes counts can be let
// loose on a frame that has passed Check.
//
// Text form: fields separated by spaces. A number is a field of so many bytes; s is a string, bytes or null of either;
// [ … ] is an array of structures, ( … ) an array of one primitive; ?[ … ] is a structure or null. Behind a field, @4 means
// from version 4 on, @4-6 those versions only. Structures, and the request itself, end with tagged fields.
type Schema struct {
	fields []field
}

type kind uint8

const (
	fixed kind = iota
	text
	structs    // array of structures
	primitives // array of primitives
	optional   // one structure or null
)

type field struct {
	kind     kind
	size     int // of fixed
	min, max int16
	sub      []field
}

// ParseSchema reads the text form. It panics if the text is wrong: schemas are written in code.
func ParseSchema(s string) *Schema {
	for _, b := range []string{"?[", "[", "]", "(", ")"} {
		s = strings.ReplaceAll(s, b, " "+b+" ")
	}
	s = strings.ReplaceAll(s, "? [", "?[")
	p := &schemaParser{tokens: strings.Fields(s)}
	fields := p.fields("")
	if len(p.tokens) > 0 {
		panic("wire: schema goes on after its end: " + s)
	}
	return &Schema{fields}
}

type schemaParser struct{ tokens []string }

func (p *schemaParser) fields(end string) (fs []field) {
	for len(p.tokens) > 0 {
		t := p.tokens[0]
		p.tokens = p.tokens[1:]
		f := field{max: 1<<15 - 1}
		switch t {
		case end:
			return fs
		case "[", "?[":
			f.kind = structs
			if t == "?[" {
				f.kind = optional
			}
			f.sub = p.fields("]")
		case "(":
			f.kind, f.sub = primitives, p.fields(")")
		default:
			name, versions, _ := strings.Cut(t, "@")
			if name == "" && len(fs) > 0 { // the versions of the array before
				fs[len(fs)-1].versions(versions)
				continue
			}
			if name == "s" {
				f.kind = text
			} else if n, err := strconv.Atoi(name); err == nil {
				f.size = n
			} else {
				panic("wire: schema has a field " + t)
			}
			f.versions(versions)
		}
		fs = append(fs, f)
	}
	if end != "" {
		panic("wire: schema misses a " + end)
	}
	return fs
}

func (f *field) versions(s string) {
	if s == "" {
		return
	}
	low, high, isRange := strings.Cut(s, "-")
	lo, err := strconv.ParseInt(low, 10, 16)
	hi := int64(f.max)
	if isRange && err == nil {
		hi, err = strconv.ParseInt(high, 10, 16)
	}
	if err != nil {
		panic("wire: schema has versions " + s)
	}
	f.min, f.max = int16(lo), int16(hi)
}

// Check walks over the body of a request of a flexible version. It takes no memory, and time in proportion to the frame.
func (s *Schema) Check(body []byte, version int16) error {
	r := NewReader(body)
	checkFields(&r, s.fields, version)
	r.SkipTags()
	if r.Err() != nil {
		return fmt.Errorf("%w, %d bytes before its end", r.Err(), len(r.src))
	}
	return nil
}

// minBytes of an array element is 1: even an empty structure has its count of tags.
func checkFields(r *Reader, fs []field, version int16) {
	for i := range fs {
		f := &fs[i]
		if version < f.min || version > f.max {
			continue
		}
		switch f.kind {
		case fixed:
			r.Span(f.size)
		case text:
			r.String(true)
		case optional:
			if r.Int8() >= 0 && r.err == nil {
				checkFields(r, f.sub, version)
				r.SkipTags()
			}
		case structs, primitives:
			for n := r.Count(true, 1); n > 0 && r.err == nil; n-- {
				checkFields(r, f.sub, version)
				if f.kind == structs {
					r.SkipTags()
				}
			}
		}
		if r.err != nil {
			return
		}
	}
}
