package protos

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Difference is a change that Confluent's registry takes for incompatible.
type Difference struct {
	// Type is Confluent's name of the change, Path where it is: "#/Order/3" is field 3 of message Order.
	Type, Path string
	// Fix is what to do about it.
	Fix string
}

// message is the text that a registry answers; original and update are "old" and "new" or the other way round.
func (d Difference) message(original, update string) string {
	return fmt.Sprintf(`{errorType:"%s", description:"The change %s at path '%s' in the %s schema is not compatible with the %s schema"}`,
		d.Type, d.Type, d.Path, update, original)
}

// Message is the text that a registry answers for a difference; the reader is the new schema, or the old one.
func (d Difference) Message(newReads bool) string {
	if newReads {
		return d.message("old", "new")
	}
	return d.message("new", "old")
}

// Reads says what keeps reader from reading what was written with writer. It follows Confluent's rules: names and packages
// do not matter, numbers do; fields come and go unless they are required; numbers of like encoding are alike.
func Reads(reader, writer *Schema) []Difference {
	c := checker{seen: make(map[[2]protoreflect.FullName]bool)}
	c.messages("#", writer.File.Messages(), reader.File.Messages())
	return c.found
}

type checker struct {
	found []Difference
	seen  map[[2]protoreflect.FullName]bool
}

func (c *checker) add(kind, path, fix string) {
	c.found = append(c.found, Difference{kind, path, fix})
}

func (c *checker) messages(path string, original, update protoreflect.MessageDescriptors) {
	for i := range original.Len() {
		m := original.Get(i)
		if m.IsMapEntry() {
			continue
		}
		at := path + "/" + string(m.Name())
		other := update.ByName(m.Name())
		if other == nil {
			c.add("MESSAGE_REMOVED", at, fmt.Sprintf("keep message %s", m.Name()))
			continue
		}
		c.message(at, m, other)
	}
}

func (c *checker) message(path string, original, update protoreflect.MessageDescriptor) {
	pair := [2]protoreflect.FullName{original.FullName(), update.FullName()}
	if c.seen[pair] {
		return
	}
	c.seen[pair] = true
	c.messages(path, original.Messages(), update.Messages())
	c.oneofs(path, original, update)
	for i := range original.Fields().Len() {
		f := original.Fields().Get(i)
		at := path + "/" + strconv.Itoa(int(f.Number()))
		other := update.Fields().ByNumber(f.Number())
		switch {
		case other != nil:
			c.field(at, f, other)
		case f.Cardinality() == protoreflect.Required:
			c.add("REQUIRED_FIELD_REMOVED", at, fmt.Sprintf("keep the required field %s", f.Name()))
		}
	}
	for i := range update.Fields().Len() {
		f := update.Fields().Get(i)
		if f.Cardinality() == protoreflect.Required && original.Fields().ByNumber(f.Number()) == nil {
			c.add("REQUIRED_FIELD_ADDED", path+"/"+strconv.Itoa(int(f.Number())), fmt.Sprintf("make field %s optional", f.Name()))
		}
	}
}

// oneofs compares the groups of fields of which one is set: what is in one stays in it, and what was beside another field
// does not go into a group with it.
func (c *checker) oneofs(path string, original, update protoreflect.MessageDescriptor) {
	for i := range original.Oneofs().Len() {
		o := original.Oneofs().Get(i)
		other := update.Oneofs().ByName(o.Name())
		if o.IsSynthetic() || other == nil {
			continue
		}
		for j := range o.Fields().Len() {
			f := o.Fields().Get(j)
			if other.Fields().ByNumber(f.Number()) == nil {
				c.add("ONEOF_FIELD_REMOVED", fmt.Sprintf("%s/%s/%d", path, o.Name(), f.Number()), fmt.Sprintf("keep field %s in oneof %s", f.Name(), o.Name()))
			}
		}
	}
	for i := range update.Oneofs().Len() {
		o := update.Oneofs().Get(i)
		if o.IsSynthetic() || original.Oneofs().ByName(o.Name()) != nil {
			continue
		}
		moved := 0
		for j := range o.Fields().Len() {
			if f := original.Fields().ByNumber(o.Fields().Get(j).Number()); f != nil && (f.ContainingOneof() == nil || f.ContainingOneof().IsSynthetic()) {
				moved++
			}
		}
		if moved > 1 {
			c.add("MULTIPLE_FIELDS_MOVED_TO_ONEOF", path+"/"+string(o.Name()), fmt.Sprintf("move at most one field that is there already into oneof %s", o.Name()))
		}
	}
}

func (c *checker) field(path string, original, update protoreflect.FieldDescriptor) {
	was, is := group(original), group(update)
	fix := fmt.Sprintf("keep the type of field %s, or add a field with another number", original.Name())
	switch {
	case (was == "message" || was == "map") != (is == "message" || is == "map"), was != is && (was == "map" || is == "map"):
		c.add("FIELD_KIND_CHANGED", path, fix)
	case was == "map":
		c.field(path, original.MapKey(), update.MapKey())
		c.field(path, original.MapValue(), update.MapValue())
	case was == "message":
		if localName(original.Message()) != localName(update.Message()) {
			c.add("FIELD_NAMED_TYPE_CHANGED", path, fix)
			return
		}
		c.message(path, original.Message(), update.Message())
	case was != is:
		c.add("FIELD_SCALAR_KIND_CHANGED", path, fix)
	case original.IsList() != update.IsList() && was != "string":
		c.add("FIELD_NUMERIC_LABEL_CHANGED", path, fmt.Sprintf("keep field %s repeated as it was or was not", original.Name()))
	}
}

// localName is a message's name within its package.
func localName(m protoreflect.MessageDescriptor) string {
	name, pkg := string(m.FullName()), string(m.ParentFile().Package())
	if pkg == "" {
		return name
	}
	return name[len(pkg)+1:]
}

// group is the kinds whose encodings are alike.
func group(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.BoolKind, protoreflect.EnumKind:
		return "number"
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return "signed number"
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind:
		return "fixed32"
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return "fixed64"
	case protoreflect.StringKind, protoreflect.BytesKind:
		return "string"
	case protoreflect.FloatKind:
		return "float"
	case protoreflect.DoubleKind:
		return "double"
	}
	if f.IsMap() {
		return "map"
	}
	return "message"
}
