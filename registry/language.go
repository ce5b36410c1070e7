package registry

import (
	"slices"
	"strings"

	"github.com/leatstream/leat/registry/internal/avsc"
	"github.com/leatstream/leat/registry/internal/jsons"
	"github.com/leatstream/leat/registry/internal/protos"
)

// The types of schema.
const (
	TypeAvro     = "AVRO" // also what an empty type means
	TypeJSON     = "JSON"
	TypeProtobuf = "PROTOBUF"
)

// model is a schema that was understood, whatever its language.
type model interface {
	// text is canonical: it decides which schemas are the same.
	text() string
	// normal is the text with what has no order put into one.
	normal() string
	// full is the text with the references written out, where the language can tell; else it is empty.
	full() string
	// reads says what keeps data that was written with writer, a model of the same language, from being read with this
	// schema: Confluent's messages, and what to do about the first.
	reads(writer model, how comparison) (messages []string, fix string)
	// hasField says whether the schema's record, first message or object has a field of this name.
	hasField(name string) bool
}

// tagged is implemented by the models of languages whose schemas keep tags in their text.
type tagged interface {
	tags() []schemaTags
	retag(add, remove []schemaTags) (model, error)
}

// comparison is how two schemas are compared.
type comparison struct {
	newReads bool // the reader is the new schema
	lenient  bool // by the rules of compatibilityPolicy LENIENT, which JSON has
}

// dependency is a schema that another refers to by a name.
type dependency struct {
	name  string
	text  string
	model model
}

// language is a type of schema. The error of parse says what is wrong with the text; strict asks for what is asked of new
// schemas only.
type language struct {
	name  string
	parse func(text string, deps []dependency, strict bool) (model, error)
}

// languages are the types of schema that this registry knows.
var languages = []language{
	{TypeAvro, parseAvro},
	{TypeJSON, parseJSON},
	{TypeProtobuf, parseProtobuf},
}

// avroModel is an Avro schema.
type avroModel struct {
	schema *avsc.Schema
	known  []*avsc.Schema
}

func parseAvro(text string, deps []dependency, strict bool) (model, error) {
	m := &avroModel{known: make([]*avsc.Schema, 0, len(deps))}
	for _, d := range deps {
		if of, ok := d.model.(*avroModel); ok {
			m.known = append(m.known, of.schema)
		}
	}
	var err error
	m.schema, err = avsc.Parse(text, avsc.Options{Strict: strict, Known: m.known})
	return m, err
}

func (m *avroModel) tags() []schemaTags {
	var list []schemaTags
	for _, t := range m.schema.Tags() {
		entity := schemaEntity{t.Path, entityRecord}
		if t.Field {
			entity.Type = entityField
		}
		list = append(list, schemaTags{entity, t.Tags})
	}
	return list
}

func (m *avroModel) retag(add, remove []schemaTags) (model, error) {
	plain := func(list []schemaTags) []avsc.Tagged {
		out := make([]avsc.Tagged, len(list))
		for i, t := range list {
			out[i] = avsc.Tagged{Path: t.Entity.Path, Field: t.Entity.Type == entityField, Tags: t.Tags}
		}
		return out
	}
	s, err := avsc.Retag(m.text(), avsc.Options{Known: m.known}, plain(add), plain(remove))
	return &avroModel{s, m.known}, err
}

func (m *avroModel) text() string   { return m.schema.Text(m.known...) }
func (m *avroModel) normal() string { return m.schema.Normal(m.known...) }
func (m *avroModel) full() string   { return m.schema.Text() }

func (m *avroModel) hasField(name string) bool {
	return slices.ContainsFunc(m.schema.Fields, func(f *avsc.Field) bool { return f.Name == name })
}

func (m *avroModel) reads(writer model, how comparison) (messages []string, fix string) {
	w, ok := writer.(*avroModel)
	if !ok {
		return []string{differentType}, ""
	}
	found, err := avsc.Reads(m.schema, w.schema)
	if err != nil {
		return []string{"Unexpected exception during compatibility check: " + err.Error()}, "make the names and aliases of each record's fields unique"
	}
	readerName, writerName := "old", "new"
	if how.newReads {
		readerName, writerName = "new", "old"
	}
	for _, i := range found {
		messages = append(messages, i.Confluent(readerName, writerName))
		if fix == "" {
			fix = i.Fix(how.newReads)
		}
	}
	return messages, fix
}

// detail is what an error of a language's parser says, without the sentinel before it.
func detail(err error) string {
	text := err.Error()
	for _, sentinel := range []error{avsc.ErrSchema, jsons.ErrSchema, protos.ErrSchema} {
		text = strings.TrimPrefix(text, sentinel.Error()+": ")
	}
	return text
}
