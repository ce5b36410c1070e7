package avsc

import (
	"fmt"
	"slices"
)

// tagsKey is the property that holds a record's or a field's tags.
const tagsKey = "confluent:tags"

// Tagged is a record or a field, and the tags that it has or is to have.
type Tagged struct {
	// Path is the record's full name, for a field with its name after it: "shop.Order.total".
	Path  string
	Field bool
	Tags  []string
}

// Tags lists what has tags in a schema, each record before its fields.
func (s *Schema) Tags() []Tagged {
	var list []Tagged
	s.eachRecord(make(map[*Schema]bool), func(rec *Schema) bool {
		if tags := tagsOf(rec.props); len(tags) > 0 {
			list = append(list, Tagged{Path: rec.Name.Full(), Tags: tags})
		}
		for _, f := range rec.Fields {
			if tags := tagsOf(f.props); len(tags) > 0 {
				list = append(list, Tagged{Path: rec.Name.Full() + "." + f.Name, Field: true, Tags: tags})
			}
		}
		return true
	})
	return list
}

// Retag parses a schema anew, with tags added to, and taken from, its records and fields. Types of o.Known are not
// changed: they belong to other schemas. The error names a path that the schema does not have.
func Retag(text string, o Options, add, remove []Tagged) (*Schema, error) {
	s, err := Parse(text, o)
	if err != nil {
		return nil, err
	}
	foreign := make(map[*Schema]bool)
	for _, k := range o.Known {
		k.eachRecord(foreign, func(*Schema) bool { return true })
	}
	for i, change := range append(slices.Clone(add), remove...) {
		props := s.find(change, foreign)
		if props == nil {
			return nil, fmt.Errorf("%w: No matching path '%s' found in the schema", ErrSchema, change.Path)
		}
		tags := tagsOf(*props)
		for _, tag := range change.Tags {
			at := slices.Index(tags, tag)
			switch {
			case i < len(add) && at < 0:
				tags = append(tags, tag)
			case i >= len(add) && at >= 0:
				tags = slices.Delete(tags, at, at+1)
			}
		}
		*props = withTags(*props, tags)
	}
	return s, nil
}

// eachRecord calls f for every record of s that is not in seen, outer before inner, until it returns false.
func (s *Schema) eachRecord(seen map[*Schema]bool, f func(*Schema) bool) bool {
	if seen[s] {
		return true
	}
	if s.Kind == Record {
		seen[s] = true
		if !f(s) {
			return false
		}
	}
	for _, field := range s.Fields {
		if !field.Type.eachRecord(seen, f) {
			return false
		}
	}
	for _, b := range s.Branches {
		if !b.eachRecord(seen, f) {
			return false
		}
	}
	return s.Items == nil || s.Items.eachRecord(seen, f)
}

// find returns the properties of what a path names, or nil. As in Confluent's registry a path without a namespace means
// the first record of that name.
func (s *Schema) find(at Tagged, foreign map[*Schema]bool) *[]prop {
	seen := make(map[*Schema]bool)
	for k := range foreign {
		seen[k] = true
	}
	var found *[]prop
	s.eachRecord(seen, func(rec *Schema) bool {
		for _, name := range []string{rec.Name.Full(), rec.Name.Base} {
			if !at.Field && at.Path == name {
				found = &rec.props
				return false
			}
			for _, f := range rec.Fields {
				if at.Field && at.Path == name+"."+f.Name {
					found = &f.props
					return false
				}
			}
		}
		return true
	})
	return found
}

func tagsOf(props []prop) []string {
	var tags []string
	for _, p := range props {
		if p.key != tagsKey || p.val.kind != '[' {
			continue
		}
		for _, item := range p.val.items {
			if item.kind == '"' {
				tags = append(tags, item.text)
			}
		}
	}
	return tags
}

func withTags(props []prop, tags []string) []prop {
	list := value{kind: '['}
	for _, tag := range tags {
		list.items = append(list.items, value{kind: '"', text: tag})
	}
	at := slices.IndexFunc(props, func(p prop) bool { return p.key == tagsKey })
	switch {
	case at < 0 && len(tags) == 0:
		return props
	case at < 0:
		return append(slices.Clone(props), prop{tagsKey, list})
	case len(tags) == 0:
		return slices.Delete(slices.Clone(props), at, at+1)
	}
	props = slices.Clone(props)
	props[at].val = list
	return props
}
