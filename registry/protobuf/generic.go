package protobuf

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/protos"
	"github.com/leatstream/leat/serde"
)

// Generic is the serde of messages whose schema is known at run time only. Their fields are reached through
// [protoreflect.Message], and protojson writes them as JSON.
//
// schema is a file's source; what is written, and what everything is read as, is one of its messages: Options.Message, or
// the first. Empty means that each record is read as the message that it was written as, and that nothing can be written.
// A message to write must be of [MessageOf] the same source, or of another descriptor with the same fields.
func Generic(reg *registry.Client, schema string, o ...Options) serde.Serde[*dynamicpb.Message] {
	s := &messages[*dynamicpb.Message]{fresh: func(m protoreflect.MessageDescriptor) proto.Message { return dynamicpb.NewMessage(m) }}
	var err error
	if options := first(o); schema != "" {
		s.message, err = MessageOf(schema, options.Message, options.Imports)
	}
	s.check = func(v *dynamicpb.Message) error {
		if v == nil {
			return errors.New("it is nil: wrap the serde in serde.Nullable for that")
		}
		if got, want := v.Descriptor().FullName(), s.message.FullName(); got != want {
			return fmt.Errorf("it is a message %s, and the serde writes %s", got, want)
		}
		return nil
	}
	return s.init(reg, o, err)
}

// MessageOf finds a message in a file's source: the one with the full name, or the first where the name is empty. imports
// are the sources of the files that it imports, by their paths. The error wraps [ErrSchema].
func MessageOf(schema, name string, imports map[string]string) (protoreflect.MessageDescriptor, error) {
	deps := make([]protos.Dependency, 0, len(imports))
	for path, text := range imports {
		deps = append(deps, protos.Dependency{Name: path, Text: text})
	}
	parsed, err := protos.Parse(schema, deps)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if m := find(parsed.File.Messages(), protoreflect.FullName(name)); m != nil {
		return m, nil
	}
	if name == "" {
		return nil, fmt.Errorf("%w: it has no message", ErrSchema)
	}
	return nil, fmt.Errorf("%w: it has no message %s", ErrSchema, name)
}

// find looks for a message by its full name, the nested ones too; the empty name is the first's.
func find(in protoreflect.MessageDescriptors, name protoreflect.FullName) protoreflect.MessageDescriptor {
	for i := range in.Len() {
		m := in.Get(i)
		if name == "" || m.FullName() == name {
			return m
		}
		if nested := find(m.Messages(), name); nested != nil {
			return nested
		}
	}
	return nil
}
