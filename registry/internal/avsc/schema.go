// Package avsc is Leat's own reading of Avro schemas: a parser, the canonical text that Java's Schema.toString writes
// (which is what decides identity in a Confluent registry), Avro's parsing canonical form and fingerprint, the
// reader/writer compatibility check with every incompatibility and its place, and a walk over encoded data that bounds
// what a decoder may be made to allocate.
//
// The libraries at hand differ from Java in each of these; a registry that others take for Confluent's must not.
package avsc

// Kind is the type of a schema node.
type Kind uint8

// The kinds of schema.
const (
	Null Kind = iota
	Boolean
	Int
	Long
	Float
	Double
	Bytes
	String
	Record
	Enum
	Array
	Map
	Union
	Fixed
)

var kindNames = [...]string{"null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "enum",
	"array", "map", "union", "fixed"}

// String is the name used in schemas, for example "int".
func (k Kind) String() string { return kindNames[k] }

// primitiveKind finds the primitive called name.
func primitiveKind(name string) (Kind, bool) {
	for k := Null; k <= String; k++ {
		if kindNames[k] == name {
			return k, true
		}
	}
	return 0, false
}

// Name is the name of a record, enum or fixed. An empty Space is the null namespace.
type Name struct{ Space, Base string }

// Full is the name with its namespace.
func (n Name) Full() string {
	if n.Space == "" {
		return n.Base
	}
	return n.Space + "." + n.Base
}

// qualified is how the name is written where space is the enclosing namespace.
func (n Name) qualified(space string) string {
	if n.Space != space {
		return n.Full()
	}
	if _, primitive := primitiveKind(n.Base); primitive {
		return n.Full()
	}
	return n.Base
}

// Schema is one node of a parsed schema. It is read-only, and a named type that is used twice is one node with two
// parents, so a schema may have cycles.
type Schema struct {
	Kind     Kind
	Name     Name      // of a Record, Enum or Fixed
	Fields   []*Field  // of a Record
	Symbols  []string  // of an Enum
	Size     int       // of a Fixed, in bytes
	Items    *Schema   // of an Array or a Map
	Branches []*Schema // of a Union
	// EnumDefault is the symbol that stands for unknown ones, empty for none.
	EnumDefault string

	aliases []Name
	doc     *string
	isError bool
	open    bool // while it is being parsed
	props   []prop
}

// Field is one field of a record.
type Field struct {
	Name    string
	Aliases []string
	Type    *Schema
	// HasDefault says whether the field has a default; DefaultText is its JSON.
	HasDefault  bool
	DefaultText string

	def   value
	doc   *string
	order string // empty for ascending
	props []prop
}

type prop struct {
	key string
	val value
}

// LogicalType returns the schema's logical type, or an empty string.
func (s *Schema) LogicalType() string {
	for i := range s.props {
		if s.props[i].key == "logicalType" && s.props[i].val.kind == '"' {
			return s.props[i].val.text
		}
	}
	return ""
}

func (s *Schema) named() bool { return s.Kind == Record || s.Kind == Enum || s.Kind == Fixed }
