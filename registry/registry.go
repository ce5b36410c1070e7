// Package registry is a schema registry that Confluent's clients take for Confluent's, and the client that Leat's serdes
// use.
//
// A [Server], made by [Start], keeps its schemas in the compacted topic `_schemas` of any log that speaks the Kafka
// protocol, and serves them over Confluent's REST API. A program may embed it, or use one that runs elsewhere: both are
// a [Backend], the one from [Server.Backend] without HTTP, the other from [NewHTTP]. A [Client] stands between backends
// and serdes: it caches, and it lets a hundred goroutines that miss the same schema ask once.
//
//	var reg registry.Client // package variable, used by serdes
//
//	func main() {
//		backend, err := registry.NewHTTP("http://localhost:8081", registry.HTTPConfig{})
//		…
//		reg.Bind(backend)
//	}
//
// Schemas are Avro, Protobuf or JSON schemas. Packages registry/avro, registry/protobuf and registry/jsonschema have the
// serdes.
package registry

import (
	"context"
	"strings"
)

// Latest is the version number that stands for the newest version of a subject.
const Latest = -1

// Definition is a schema as it is registered. Two definitions are the same schema if their canonical texts, references,
// metadata and rule sets are the same.
type Definition struct {
	// Type is the schema's language; empty means [TypeAvro].
	Type string
	// Text is the schema itself.
	Text string
	// References name other registered schemas whose types the text uses.
	References []Reference
	// Metadata and RuleSet are kept and compared, but mean nothing to the registry.
	Metadata *Metadata
	RuleSet  *RuleSet
}

// Reference names a registered schema whose types another schema uses.
type Reference struct {
	// Name is the name by which the text refers to it; for Avro, the full name of a type.
	Name string `json:"name"`
	// Subject and Version say where it is registered. Version may be [Latest].
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// Schema is a definition in its place: one version of one subject.
type Schema struct {
	Definition
	// Subject is what versions are counted by: usually a topic's name with -key or -value.
	Subject string
	// Version counts from 1 within the subject. It is 0 where a backend does not know it.
	Version int
	// ID is the same in every subject that has this schema, and never changes.
	ID int
	// GUID identifies the content of the definition across registries; empty where a backend does not know it.
	GUID string
	// Deleted says that the version is soft-deleted: found by its id, and by nothing else unless asked for.
	Deleted bool
}

// Level says which changes of a subject's schema are allowed.
type Level string

// The compatibility levels. A new schema is compared with the latest version, or with all of them if transitive.
const (
	None               Level = "NONE"
	Backward           Level = "BACKWARD" // new readers read old data; the default
	BackwardTransitive Level = "BACKWARD_TRANSITIVE"
	Forward            Level = "FORWARD" // old readers read new data
	ForwardTransitive  Level = "FORWARD_TRANSITIVE"
	Full               Level = "FULL" // both
	FullTransitive     Level = "FULL_TRANSITIVE"
)

// parseLevel accepts a level in any case, as Confluent's registry does.
func parseLevel(s string) (Level, bool) {
	switch l := Level(strings.ToUpper(s)); l {
	case None, Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive:
		return l, true
	}
	return "", false
}

// Backend is what serdes need of a registry. Implementations are safe for use by several goroutines. Errors wrap
// [ErrSchemaNotFound] for what does not exist, [ErrIncompatible] or [ErrInvalidSchema] for what is refused, and
// [ErrRegistryUnavailable] for what may pass by itself.
type Backend interface {
	// Register makes d a version of the subject and returns it. A definition that the subject has already is returned
	// as it is; anything else must be compatible.
	Register(ctx context.Context, subject string, d Definition) (Schema, error)
	// Lookup finds the version of the subject that is d.
	Lookup(ctx context.Context, subject string, d Definition) (Schema, error)
	// SchemaByID finds a definition by its id, soft-deleted or not.
	SchemaByID(ctx context.Context, id int) (Definition, error)
	// SchemaByVersion finds a version of a subject, or the newest for [Latest].
	SchemaByVersion(ctx context.Context, subject string, version int) (Schema, error)
}

// Admin is implemented by backends that can do more than serdes need; those of this package can.
type Admin interface {
	Backend
	// Subjects lists the subjects in order, with the soft-deleted ones if asked for.
	Subjects(ctx context.Context, deleted bool) ([]string, error)
	// Versions lists the live versions of a subject in ascending order.
	Versions(ctx context.Context, subject string) ([]int, error)
	// Check says whether d could follow the given version of the subject under the level in force; nil if it could, else
	// an error that wraps [ErrIncompatible].
	Check(ctx context.Context, subject string, version int, d Definition) error
	// Level returns the level in force for a subject; the empty subject stands for the global level.
	Level(ctx context.Context, subject string) (Level, error)
	// SetLevel sets the level of a subject, or the global one.
	SetLevel(ctx context.Context, subject string, level Level) error
	// DeleteSubject soft-deletes all versions of a subject, or, after that, deletes them permanently.
	DeleteSubject(ctx context.Context, subject string, permanent bool) error
	// DeleteVersion does the same to one version.
	DeleteVersion(ctx context.Context, subject string, version int, permanent bool) error
}

// typeName is the type of the schema's language, spelled out.
func (d Definition) typeName() string {
	if d.Type == "" {
		return TypeAvro
	}
	return d.Type
}
