package avsc

import (
	"fmt"
	"strings"
)

// Fix says in one sentence what to change in the new schema to be rid of i. newReads says that the new schema is the
// reader that fails; otherwise old readers fail on new data.
func (i Incompatibility) Fix(newReads bool) string {
	if newReads {
		return i.fixNew()
	}
	return i.fixOld()
}

// where names the place: `field "total"`, or "the schema".
func (i Incompatibility) where() string {
	if i.Field == "" {
		return "the schema"
	}
	return fmt.Sprintf("field %q", i.Field)
}

func (i Incompatibility) fixNew() string {
	r, w := i.Reader, i.Writer
	switch i.Type {
	case MissingDefault:
		return fixDefault(i.Field, fieldOf(r, i.Message))
	case NameMismatch:
		return fmt.Sprintf(`keep the name %s, or add "aliases": [%q] to %s`, w.Name.Full(), w.Name.Full(), r.Name.Full())
	case FixedSizeMismatch:
		return fmt.Sprintf("keep the size of %s at %d bytes, or add a field with a type of another name", r.Name.Base, w.Size)
	case MissingEnumSymbols:
		return fmt.Sprintf(`keep the symbols %s in enum %s, or give the enum a "default" symbol`, i.Message, r.Name.Base)
	case MissingUnionBranch:
		return fmt.Sprintf("keep %s in the union of %s", describe(w), i.where())
	}
	return fmt.Sprintf("keep the type of %s at %s, or add a new field with a default for the new type", i.where(), describe(w))
}

func (i Incompatibility) fixOld() string {
	r, w := i.Reader, i.Writer
	switch i.Type {
	case MissingDefault:
		return fmt.Sprintf("keep field %q: the old schema has no default for it, so old readers need it", i.Field)
	case NameMismatch:
		return fmt.Sprintf("keep the name %s: old readers know no other", r.Name.Full())
	case FixedSizeMismatch:
		return fmt.Sprintf("keep the size of %s at %d bytes, or add a field with a type of another name", r.Name.Base, r.Size)
	case MissingEnumSymbols:
		return fmt.Sprintf(`do not add the symbols %s to enum %s yet: old readers have no "default" symbol for them`, i.Message, r.Name.Base)
	case MissingUnionBranch:
		return fmt.Sprintf("do not add %s to the union of %s: old readers do not know it", describe(w), i.where())
	}
	return fmt.Sprintf("keep the type of %s at %s, or add a new field for the new type", i.where(), describe(r))
}

func fieldOf(rec *Schema, name string) *Field {
	for _, f := range rec.Fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}

func fixDefault(path string, f *Field) string {
	if f == nil {
		return fmt.Sprintf("add a default to field %q", path)
	}
	if d := exampleDefault(f.Type); d != "" {
		return fmt.Sprintf(`add "default": %s to field %q`, d, path)
	}
	if f.Type.Kind == Union {
		return fmt.Sprintf(`put "null" first in the union of field %q and add "default": null`, path)
	}
	return fmt.Sprintf(`make the type of field %q a union of "null" and %s, and add "default": null`, path, describe(f.Type))
}

// exampleDefault is a default that fits s, or an empty string where none suggests itself.
func exampleDefault(s *Schema) string {
	switch s.Kind {
	case Null:
		return "null"
	case Boolean:
		return "false"
	case Int, Long:
		return "0"
	case Float, Double:
		return "0.0"
	case Bytes, String:
		return `""`
	case Array:
		return "[]"
	case Map:
		return "{}"
	case Enum:
		if len(s.Symbols) > 0 {
			return string(AppendString(nil, s.Symbols[0]))
		}
	case Union:
		if len(s.Branches) > 0 && s.Branches[0].Kind == Null {
			return "null"
		}
	}
	return ""
}

// describe names a type for people: its own name, or what it is made of.
func describe(s *Schema) string {
	switch s.Kind {
	case Record, Enum, Fixed:
		return s.Name.Full()
	case Array, Map:
		return s.Kind.String() + " of " + describe(s.Items)
	case Union:
		names := make([]string, 0, len(s.Branches))
		for _, b := range s.Branches {
			names = append(names, b.Kind.String())
		}
		return "union of " + strings.Join(names, ", ")
	}
	return s.Kind.String()
}
