package avsc

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The kinds of incompatibility, in Java Avro's spelling.
const (
	NameMismatch        = "NAME_MISMATCH"
	FixedSizeMismatch   = "FIXED_SIZE_MISMATCH"
	MissingEnumSymbols  = "MISSING_ENUM_SYMBOLS"
	MissingDefault      = "READER_FIELD_MISSING_DEFAULT_VALUE"
	TypeMismatch        = "TYPE_MISMATCH"
	MissingUnionBranch  = "MISSING_UNION_BRANCH"
	maxIncompatibility  = 1000
	maxComparisons      = 1 << 18
	maxComparisonsDepth = 64 * maxDepth
)

// ErrTooComplex is returned by [Reads] for a pair of schemas whose comparison takes more than a quarter of a million steps.
var ErrTooComplex = errors.New("the schemas are too complex to compare")

// Incompatibility is one reason why a reader cannot read what a writer wrote.
type Incompatibility struct {
	// Type is one of the constants above, Location a JSON pointer into the reader's schema, Message Java Avro's text.
	Type, Location, Message string
	// Field is the dotted path of the field it lies in, empty at the top.
	Field string
	// Reader and Writer are the schema nodes that do not fit.
	Reader, Writer *Schema
}

// Reads says whether data written with writer can be read with reader, and if not, every reason. It is Java's
// SchemaCompatibility to the letter: logical types are not compared, names match without their namespaces or by an
// alias of the reader, a pair that is being compared already counts as compatible. The error is [ErrTooComplex], or
// says that a field of the reader matches several of the writer.
func Reads(reader, writer *Schema) ([]Incompatibility, error) {
	c := checker{memo: make(map[pair]*outcome)}
	found := c.compare("", reader, writer)
	return found, c.err
}

type pair struct{ reader, writer *Schema }

type outcome struct {
	done  bool
	found []Incompatibility
}

// checker holds one comparison. memo is keyed by the nodes themselves, so that only uses of the same named type meet;
// a fingerprint as the key would confuse types that differ in their defaults.
type checker struct {
	memo     map[pair]*outcome
	location []string
	fields   []string
	depth    int
	err      error
}

func (c *checker) compare(token string, r, w *Schema) []Incompatibility {
	if c.err != nil {
		return nil
	}
	if o := c.memo[pair{r, w}]; o != nil {
		if !o.done {
			return nil
		}
		return o.found
	}
	if len(c.memo) >= maxComparisons || c.depth >= maxComparisonsDepth {
		c.err = ErrTooComplex
		return nil
	}
	o := new(outcome)
	c.memo[pair{r, w}] = o
	c.location = append(c.location, token)
	c.depth++
	o.found = c.check(r, w)
	o.done = true
	c.depth--
	c.location = c.location[:len(c.location)-1]
	return o.found
}

// compareApart compares a branch of a union. As in Java, what it finds counts its location from the branch; that shows
// only where the same pair of named types is met again later, and the result is remembered.
func (c *checker) compareApart(r, w *Schema) []Incompatibility {
	outer := c.location
	c.location = nil
	found := c.compare("", r, w)
	c.location = outer
	return found
}

func (c *checker) check(r, w *Schema) []Incompatibility {
	if r.Kind == w.Kind {
		return c.sameKind(r, w)
	}
	if w.Kind == Union {
		var found []Incompatibility
		for i, branch := range w.Branches {
			found = merge(found, c.compare(strconv.Itoa(i), r, branch))
		}
		return found
	}
	if r.Kind == Union {
		for _, branch := range r.Branches {
			if len(c.compareApart(branch, w)) == 0 {
				return nil
			}
		}
		return c.report(MissingUnionBranch, "reader union lacking writer type: "+upper(w.Kind), r, w)
	}
	if promotes(w.Kind, r.Kind) {
		return nil
	}
	return c.report(TypeMismatch, "reader type: "+upper(r.Kind)+" not compatible with writer type: "+upper(w.Kind), r, w)
}

// promotes says whether a value of from may be read as to.
func promotes(from, to Kind) bool {
	switch to {
	case Long:
		return from == Int
	case Float:
		return from == Int || from == Long
	case Double:
		return from == Int || from == Long || from == Float
	case Bytes:
		return from == String
	case String:
		return from == Bytes
	}
	return false
}

func (c *checker) sameKind(r, w *Schema) []Incompatibility {
	switch r.Kind {
	case Array:
		return c.compare("items", r.Items, w.Items)
	case Map:
		return c.compare("values", r.Items, w.Items)
	case Fixed:
		found := c.checkNames(r, w)
		if r.Size != w.Size {
			found = merge(found, c.reportAt("size", FixedSizeMismatch, fmt.Sprintf("expected: %d, found: %d", w.Size, r.Size), r, w))
		}
		return found
	case Enum:
		found := c.checkNames(r, w)
		return merge(found, c.checkSymbols(r, w))
	case Record:
		found := c.checkNames(r, w)
		return merge(found, c.checkFields(r, w))
	case Union:
		var found []Incompatibility
		for i, branch := range w.Branches {
			if len(c.compareApart(r, branch)) > 0 {
				found = merge(found, c.reportAt(strconv.Itoa(i), MissingUnionBranch,
					"reader union lacking writer type: "+upper(branch.Kind), r, branch))
			}
		}
		return found
	}
	return nil
}

func (c *checker) checkNames(r, w *Schema) []Incompatibility {
	if r.Name.Base == w.Name.Base || slices.Contains(r.aliases, w.Name) {
		return nil
	}
	return c.reportAt("name", NameMismatch, "expected: "+w.Name.Full(), r, w)
}

func (c *checker) checkSymbols(r, w *Schema) []Incompatibility {
	if r.EnumDefault != "" {
		return nil
	}
	known := make(map[string]bool, len(r.Symbols))
	for _, s := range r.Symbols {
		known[s] = true
	}
	var missing []string
	for _, s := range w.Symbols {
		if !known[s] {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return c.reportAt("symbols", MissingEnumSymbols, "["+strings.Join(missing, ", ")+"]", r, w)
}

func (c *checker) checkFields(r, w *Schema) []Incompatibility {
	written := make(map[string]*Field, len(w.Fields))
	for _, f := range w.Fields {
		written[f.Name] = f
	}
	var found []Incompatibility
	for i, f := range r.Fields {
		from, n := written[f.Name], 0
		if from != nil {
			n++
		}
		for _, a := range f.Aliases {
			if by := written[a]; by != nil {
				from = by
				n++
			}
		}
		if n > 1 && c.err == nil {
			c.err = fmt.Errorf("reader record field %s matches multiple fields in writer record schema %s", f.Name, w.Text())
		}
		c.location = append(c.location, "fields", strconv.Itoa(i))
		c.fields = append(c.fields, f.Name)
		switch {
		case from != nil:
			found = merge(found, c.compare("type", f.Type, from.Type))
		case f.HasDefault:
		case f.Type.Kind == Enum && f.Type.EnumDefault != "":
			// As Java: an enum's own default is not a default of the field; Java says so in this odd way.
			found = merge(found, c.compare("type", f.Type, w))
		default:
			found = merge(found, c.report(MissingDefault, f.Name, r, w))
		}
		c.fields = c.fields[:len(c.fields)-1]
		c.location = c.location[:len(c.location)-2]
	}
	return found
}

// merge joins results. Results of a named type that is used often are repeated, as in Java, but not without end.
func merge(a, b []Incompatibility) []Incompatibility {
	if len(a) == 0 {
		return b
	}
	if n := maxIncompatibility - len(a); len(b) > n {
		b = b[:max(0, n)]
	}
	return append(a[:len(a):len(a)], b...)
}

func (c *checker) reportAt(token, typ, message string, r, w *Schema) []Incompatibility {
	c.location = append(c.location, token)
	found := c.report(typ, message, r, w)
	c.location = c.location[:len(c.location)-1]
	return found
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func (c *checker) report(typ, message string, r, w *Schema) []Incompatibility {
	var at strings.Builder
	for i, token := range c.location[1:] {
		if i > 0 {
			at.WriteByte('/')
		}
		at.WriteString(pointerEscapes.Replace(token))
	}
	return []Incompatibility{{Type: typ, Location: "/" + at.String(), Message: message,
		Field: strings.Join(c.fields, "."), Reader: r, Writer: w}}
}

func upper(k Kind) string { return strings.ToUpper(k.String()) }

// Confluent is the text in which a Confluent registry reports i. reader and writer are "new" and "old", or the other
// way round where old readers must read new data.
func (i Incompatibility) Confluent(reader, writer string) string {
	var d string
	switch i.Type {
	case FixedSizeMismatch:
		d = fmt.Sprintf("The size of FIXED type field at path '%s' in the %s schema does not match with the %s schema", i.Location, reader, writer)
	case TypeMismatch:
		d = fmt.Sprintf("The type (path '%s') of a field in the %s schema does not match with the %s schema", i.Location, reader, writer)
	case NameMismatch:
		d = fmt.Sprintf("The name of the schema has changed (path '%s')", i.Location)
	case MissingEnumSymbols:
		d = fmt.Sprintf("The %s schema is missing enum symbols '%s' at path '%s' in the %s schema", reader, i.Message, i.Location, writer)
	case MissingUnionBranch:
		d = fmt.Sprintf("The %s schema is missing a type inside a union field at path '%s' in the %s schema", reader, i.Location, writer)
	case MissingDefault:
		d = fmt.Sprintf("The field '%s' at path '%s' in the %s schema has no default value and is missing in the %s schema", i.Message, i.Location, reader, writer)
	}
	return "{errorType:'" + i.Type + "', description:'" + d + "', additionalInfo:'" + i.Message + "'}"
}
