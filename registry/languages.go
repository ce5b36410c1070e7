package registry

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/leatstream/leat/registry/internal/jsons"
	"github.com/leatstream/leat/registry/internal/protos"
)

// protobufModel is a Protobuf file.
type protobufModel struct{ *protos.Schema }

func parseProtobuf(text string, deps []dependency, _ bool) (model, error) {
	list := make([]protos.Dependency, len(deps))
	for i, d := range deps {
		list[i] = protos.Dependency{Name: d.name, Text: d.text}
	}
	s, err := protos.Parse(text, list)
	return protobufModel{s}, err
}

func (m protobufModel) text() string       { return m.Text() }
func (m protobufModel) normal() string     { return m.Normal() }
func (m protobufModel) full() string       { return "" }
func (m protobufModel) serialized() string { return m.Serialized() }

func (m protobufModel) hasField(name string) bool {
	list := m.File.Messages()
	return list.Len() > 0 && list.Get(0).Fields().ByName(protoreflect.Name(name)) != nil
}

func (m protobufModel) reads(writer model, how comparison) (messages []string, fix string) {
	w, ok := writer.(protobufModel)
	if !ok {
		return []string{differentType}, ""
	}
	for _, d := range protos.Reads(m.Schema, w.Schema) {
		messages = append(messages, d.Message(how.newReads))
		if fix == "" {
			fix = d.Fix
		}
	}
	return messages, fix
}

// jsonModel is a JSON schema.
type jsonModel struct{ *jsons.Schema }

func parseJSON(text string, deps []dependency, _ bool) (model, error) {
	list := make([]jsons.Dependency, len(deps))
	for i, d := range deps {
		list[i] = jsons.Dependency{Name: d.name, Text: d.text}
	}
	s, err := jsons.Parse(text, list)
	return jsonModel{s}, err
}

func (m jsonModel) text() string   { return m.Text() }
func (m jsonModel) normal() string { return m.Normal() }
func (m jsonModel) full() string   { return "" }

func (m jsonModel) hasField(name string) bool { return m.HasProperty(name) }

func (m jsonModel) reads(writer model, how comparison) (messages []string, fix string) {
	w, ok := writer.(jsonModel)
	if !ok {
		return []string{differentType}, ""
	}
	for _, d := range jsons.Reads(m.Schema, w.Schema, how.lenient) {
		messages = append(messages, d.Message(how.newReads))
		if fix == "" {
			fix = d.Fix()
		}
	}
	return messages, fix
}
