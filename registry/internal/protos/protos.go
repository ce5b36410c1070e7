// Package protos is Leat's reading of Protobuf schemas: a file with what it imports, its canonical text, and the rules by
// which Confluent's registry compares two of them. Compiling is protocompile's, printing is protoprint's work.
package protos

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// ErrSchema is wrapped by every error of [Parse]: the text is no Protobuf schema.
var ErrSchema = errors.New("not a valid Protobuf schema")

const (
	// mainName is the file's name to what it is compiled with; no schema sees it.
	mainName = "default"
	// maxDepth bounds how deeply messages, and everything else in brackets, may nest.
	maxDepth = 64
)

// Schema is one file, compiled.
type Schema struct {
	File protoreflect.FileDescriptor
}

// Dependency is a file that another imports by its name.
type Dependency struct{ Name, Text string }

// Parse compiles a file: its source, or, as Python's client sends it, the base64 of its descriptor. The well-known types
// need no dependency.
func Parse(text string, deps []Dependency) (*Schema, error) {
	sources := map[string]string{mainName: text}
	for _, d := range deps {
		sources[d.Name] = d.Text
	}
	c := protocompile.Compiler{MaxParallelism: 1, Resolver: protocompile.WithStandardImports(protocompile.ResolverFunc(
		func(path string) (protocompile.SearchResult, error) {
			source, ok := sources[path]
			if !ok {
				return protocompile.SearchResult{}, fmt.Errorf("no schema reference has the name %q", path)
			}
			return search(path, source)
		}))}
	files, err := c.Compile(context.Background(), mainName)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return &Schema{files[0]}, nil
}

// search reads one file, in either form.
func search(path, source string) (protocompile.SearchResult, error) {
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(source)); err == nil {
		fd := new(descriptorpb.FileDescriptorProto)
		if err := (proto.UnmarshalOptions{RecursionLimit: 2 * maxDepth}).Unmarshal(raw, fd); err == nil {
			fd.Name = &path
			nameInJSON(fd.GetMessageType(), fd.GetExtension())
			return protocompile.SearchResult{Proto: fd}, nil
		}
	}
	if depth(source) > maxDepth {
		return protocompile.SearchResult{}, fmt.Errorf("it nests more than %d levels deep", maxDepth)
	}
	return protocompile.SearchResult{Source: strings.NewReader(source)}, nil
}

// nameInJSON gives fields their names in JSON where the descriptor has none, as those that protoc puts into generated Python
// have none: the compiler takes a missing one for an empty one.
func nameInJSON(messages []*descriptorpb.DescriptorProto, fields []*descriptorpb.FieldDescriptorProto) {
	for _, f := range fields {
		if f.JsonName == nil {
			f.JsonName = proto.String(jsonName(f.GetName()))
		}
	}
	for _, m := range messages {
		nameInJSON(m.GetNestedType(), slices.Concat(m.GetField(), m.GetExtension()))
	}
}

// jsonName is the name in JSON that protoc gives a field: order_id is orderId.
func jsonName(name string) string {
	b := make([]byte, 0, len(name))
	upper := false
	for i := range len(name) {
		c := name[i]
		if c == '_' {
			upper = true
			continue
		}
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		b, upper = append(b, c), false
	}
	return string(b)
}

// depth is how deeply brackets nest in a source, those in texts and comments aside.
func depth(source string) int {
	most, now := 0, 0
	for i := 0; i < len(source); i++ {
		switch c := source[i]; c {
		case '"', '\'':
			for i++; i < len(source) && source[i] != c && source[i] != '\n'; i++ {
				if source[i] == '\\' {
					i++
				}
			}
		case '/':
			if strings.HasPrefix(source[i:], "//") {
				i += max(0, strings.IndexByte(source[i:], '\n'))
			} else if strings.HasPrefix(source[i:], "/*") {
				i += 2 + max(0, strings.Index(source[i+2:], "*/"))
			}
		case '{', '[', '(', '<':
			now++
			most = max(most, now)
		case '}', ']', ')', '>':
			now--
		}
	}
	return most
}

// Text is the file as source in one form, whatever form it had: without comments, with two spaces for each level.
func (s *Schema) Text() string { return s.print(false) }

// Normal is the text with what has no order put into one.
func (s *Schema) Normal() string { return s.print(true) }

func (s *Schema) print(sorted bool) string {
	p := protoprint.Printer{OmitComments: protoprint.CommentsAll, Compact: true, Indent: "  ", SortElements: sorted}
	text, err := p.PrintProtoToString(s.File)
	if err != nil { // a file that was compiled can be printed
		return ""
	}
	return text
}

// Serialized is the base64 of the file's descriptor.
func (s *Schema) Serialized() string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(protodesc.ToFileDescriptorProto(s.File))
	if err != nil { // a descriptor that was built can be written
		return ""
	}
	return base64.StdEncoding.EncodeToString(b)
}
