package avsc

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// ErrSchema is wrapped by every error of [Parse]: the text is no Avro schema.
var ErrSchema = errors.New("not a valid Avro schema")

// Options says how strict [Parse] is.
type Options struct {
	// Strict asks for what a registry asks of new schemas: ASCII names and defaults that fit their types. Schemas that
	// were stored long ago are read without it.
	Strict bool
	// Known are schemas whose named types the text may use: references, already parsed, in order.
	Known []*Schema
}

// Parse reads a schema as Java's Schema.Parser does. Every error wraps [ErrSchema] and says what is wrong where.
func Parse(text string, o Options) (*Schema, error) {
	v, err := parseJSON(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	p := parser{strict: o.Strict, names: make(map[string]*Schema)}
	for _, k := range o.Known {
		p.learn(k)
	}
	s, err := p.parse(&v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return s, nil
}

type parser struct {
	strict bool
	names  map[string]*Schema
	space  string
}

// learn makes the named types of s known.
func (p *parser) learn(s *Schema) {
	if s.named() {
		if p.names[s.Name.Full()] != nil {
			return
		}
		p.names[s.Name.Full()] = s
	}
	for _, f := range s.Fields {
		p.learn(f.Type)
	}
	for _, b := range s.Branches {
		p.learn(b)
	}
	if s.Items != nil {
		p.learn(s.Items)
	}
}

// lookup finds a type by the name a schema uses for it: in the enclosing namespace, then in none.
func (p *parser) lookup(name string) *Schema {
	if k, ok := primitiveKind(name); ok {
		return &Schema{Kind: k}
	}
	n := makeName(name, p.space)
	if s := p.names[n.Full()]; s != nil {
		return s
	}
	return p.names[n.Base]
}

func makeName(name, space string) Name {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return Name{name[:i], name[i+1:]}
	}
	return Name{space, name}
}

func (p *parser) parse(v *value) (*Schema, error) {
	switch v.kind {
	case '"':
		s := p.lookup(v.text)
		if s == nil {
			return nil, fmt.Errorf("undefined name: %q", v.text)
		}
		return s, nil
	case '[':
		return p.parseUnion(v)
	case '{':
		return p.parseObject(v)
	}
	return nil, fmt.Errorf("a schema is a JSON string, array or object, not %s", appendValue(nil, v))
}

func (p *parser) parseUnion(v *value) (*Schema, error) {
	s := &Schema{Kind: Union, Branches: make([]*Schema, 0, len(v.items))}
	seen := make(map[string]bool, len(v.items))
	for i := range v.items {
		b, err := p.parse(&v.items[i])
		if err != nil {
			return nil, err
		}
		if b.Kind == Union {
			return nil, errors.New("a union must not contain a union directly")
		}
		name := b.Kind.String()
		if b.named() {
			name = b.Name.Full()
		}
		if seen[name] {
			return nil, fmt.Errorf("duplicate in union: %s", name)
		}
		seen[name] = true
		s.Branches = append(s.Branches, b)
	}
	return s, nil
}

func (p *parser) parseObject(v *value) (*Schema, error) {
	typ, ok := v.textOf("type")
	if !ok {
		return nil, fmt.Errorf("no \"type\" in %s", clip(v))
	}
	var s *Schema
	var err error
	switch typ {
	case "record", "error", "enum", "fixed":
		return p.parseNamed(typ, v)
	case "array":
		s, err = p.parseItems(Array, "items", v)
	case "map":
		s, err = p.parseItems(Map, "values", v)
	default:
		if k, ok := primitiveKind(typ); ok {
			s = &Schema{Kind: k}
			break
		}
		if s := p.names[makeName(typ, p.space).Full()]; s != nil {
			return s, nil // {"type": "Known"} means Known; attributes beside it are dropped, as Java drops them
		}
		return nil, fmt.Errorf("type not supported: %q", typ)
	}
	if err != nil {
		return nil, err
	}
	p.collectProps(s, v)
	return s, nil
}

// collectProps keeps the members of a schema that mean nothing to Avro.
func (p *parser) collectProps(s *Schema, v *value) {
	for i, key := range v.keys {
		if !s.reserved(key) {
			s.props = append(s.props, prop{key, v.items[i]})
		}
	}
}

// reserved says which members of a schema are not extra properties.
func (s *Schema) reserved(key string) bool {
	switch key {
	case "doc", "fields", "items", "name", "namespace", "size", "symbols", "values", "type", "aliases":
		return true
	case "default":
		return s.Kind == Enum
	}
	return false
}

func (p *parser) parseItems(k Kind, key string, v *value) (*Schema, error) {
	items := v.get(key)
	if items == nil {
		return nil, fmt.Errorf("no %q in %s", key, clip(v))
	}
	of, err := p.parse(items)
	if err != nil {
		return nil, err
	}
	return &Schema{Kind: k, Items: of}, nil
}

func (p *parser) parseNamed(typ string, v *value) (*Schema, error) {
	base, ok := v.textOf("name")
	if !ok {
		return nil, fmt.Errorf("no name in %s", clip(v))
	}
	space, ok := v.textOf("namespace")
	if !ok {
		space = p.space
	}
	s := &Schema{Name: makeName(base, space), isError: typ == "error"}
	if err := p.checkFullName(s.Name); err != nil {
		return nil, err
	}
	full := s.Name.Full()
	if _, ok := primitiveKind(full); ok {
		return nil, fmt.Errorf("schemas may not be named after primitives: %s", full)
	}
	known := p.names[full]
	if known != nil && known.open {
		return nil, fmt.Errorf("can't redefine: %s", full)
	}
	p.names[full] = s
	s.open = true
	if err := p.parseDefinition(s, typ, v); err != nil {
		return nil, err
	}
	s.open = false
	p.collectProps(s, v)
	if known == nil {
		return s, nil
	}
	// As Java since 1.12: what is defined twice in the same way is defined once.
	p.names[full] = known
	if known.Text() != s.Text() {
		return nil, fmt.Errorf("can't redefine: %s", full)
	}
	return known, nil
}

// parseDefinition reads what makes a named type.
func (p *parser) parseDefinition(s *Schema, typ string, v *value) error {
	if doc, ok := v.textOf("doc"); ok {
		s.doc = &doc
	}
	aliases, err := textList("aliases", v)
	if err != nil {
		return err
	}
	for _, a := range aliases {
		n := makeName(a, s.Name.Space)
		if err := p.checkFullName(n); err != nil {
			return fmt.Errorf("alias of %s: %w", s.Name.Full(), err)
		}
		if !slices.Contains(s.aliases, n) {
			s.aliases = append(s.aliases, n)
		}
	}
	switch typ {
	case "enum":
		s.Kind = Enum
		return p.parseEnum(s, v)
	case "fixed":
		s.Kind = Fixed
		return p.parseFixed(s, v)
	}
	s.Kind = Record
	outer := p.space
	p.space = s.Name.Space
	defer func() { p.space = outer }()
	return p.parseFields(s, v)
}

func (p *parser) parseEnum(s *Schema, v *value) error {
	symbols := v.get("symbols")
	if symbols == nil || symbols.kind != '[' {
		return fmt.Errorf("enum %s has no symbols", s.Name.Full())
	}
	s.Symbols = make([]string, 0, len(symbols.items))
	seen := make(map[string]bool, len(symbols.items))
	for _, sym := range symbols.items {
		if sym.kind != '"' {
			return fmt.Errorf("symbol %s of enum %s is not a string", appendValue(nil, &sym), s.Name.Full())
		}
		if err := p.checkName(sym.text); err != nil {
			return fmt.Errorf("enum %s: %w", s.Name.Full(), err)
		}
		if seen[sym.text] {
			return fmt.Errorf("duplicate enum symbol: %s", sym.text)
		}
		seen[sym.text] = true
		s.Symbols = append(s.Symbols, sym.text)
	}
	if d, ok := v.textOf("default"); ok {
		if !seen[d] {
			return fmt.Errorf("the enum default %s is not in the symbols of %s", d, s.Name.Full())
		}
		s.EnumDefault = d
	}
	return nil
}

func (p *parser) parseFixed(s *Schema, v *value) error {
	size := v.get("size")
	if size == nil || size.kind != '0' {
		return fmt.Errorf("invalid or no size of fixed %s", s.Name.Full())
	}
	n, err := strconv.ParseInt(size.text, 10, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("invalid size of fixed %s: %s", s.Name.Full(), size.text)
	}
	s.Size = int(n)
	return nil
}

func (p *parser) parseFields(s *Schema, v *value) error {
	fields := v.get("fields")
	if fields == nil || fields.kind != '[' {
		return fmt.Errorf("record %s has no fields", s.Name.Full())
	}
	s.Fields = make([]*Field, 0, len(fields.items))
	seen := make(map[string]bool, len(fields.items))
	for i := range fields.items {
		f, err := p.parseField(s, &fields.items[i])
		if err != nil {
			return err
		}
		if seen[f.Name] {
			return fmt.Errorf("duplicate field %s in record %s", f.Name, s.Name.Full())
		}
		seen[f.Name] = true
		s.Fields = append(s.Fields, f)
	}
	if !p.strict {
		return nil
	}
	// Only now: the default of a field may need the fields after it, where the record is recursive.
	for _, f := range s.Fields {
		if f.HasDefault && !validDefault(f.Type, &f.def, 0) {
			return fmt.Errorf("invalid default for field %s: %s not a %s", f.Name, f.DefaultText, f.Type.Text())
		}
	}
	return nil
}

func (p *parser) parseField(rec *Schema, v *value) (*Field, error) {
	name, ok := v.textOf("name")
	if !ok {
		return nil, fmt.Errorf("a field of record %s has no name", rec.Name.Full())
	}
	f := &Field{Name: name}
	if err := p.checkName(name); err != nil {
		return nil, fmt.Errorf("field of record %s: %w", rec.Name.Full(), err)
	}
	typ := v.get("type")
	if typ == nil {
		return nil, fmt.Errorf("field %s of record %s has no type", name, rec.Name.Full())
	}
	var err error
	if f.Type, err = p.parse(typ); err != nil {
		return nil, fmt.Errorf("field %s of record %s: %w", name, rec.Name.Full(), err)
	}
	if doc, ok := v.textOf("doc"); ok {
		f.doc = &doc
	}
	if order, ok := v.textOf("order"); ok {
		switch order = strings.ToLower(order); order {
		case "ascending":
		case "descending", "ignore":
			f.order = order
		default:
			return nil, fmt.Errorf("field %s of record %s: unknown order %q", name, rec.Name.Full(), order)
		}
	}
	aliases, err := textList("aliases", v)
	if err != nil {
		return nil, fmt.Errorf("field %s of record %s: %w", name, rec.Name.Full(), err)
	}
	for _, a := range aliases {
		if !slices.Contains(f.Aliases, a) {
			f.Aliases = append(f.Aliases, a)
		}
	}
	if d := v.get("default"); d != nil {
		if err := f.setDefault(*d); err != nil {
			return nil, fmt.Errorf("field %s of record %s: %w", name, rec.Name.Full(), err)
		}
	}
	for i, key := range v.keys {
		switch key {
		case "default", "doc", "name", "order", "type", "aliases":
		default:
			f.props = append(f.props, prop{key, v.items[i]})
		}
	}
	return f, nil
}

// checkFullName checks the parts of a name.
func (p *parser) checkFullName(n Name) error {
	if n.Space != "" {
		for part := range strings.SplitSeq(n.Space, ".") {
			if err := p.checkName(part); err != nil {
				return fmt.Errorf("namespace %q: %w", n.Space, err)
			}
		}
	}
	return p.checkName(n.Base)
}

func (p *parser) checkName(name string) error {
	if name == "" {
		return errors.New("empty name")
	}
	for i, c := range name {
		letter := c == '_' || unicode.IsLetter(c)
		if p.strict {
			letter = c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		}
		digit := unicode.IsDigit(c)
		if p.strict {
			digit = c >= '0' && c <= '9'
		}
		if i == 0 && !letter {
			return fmt.Errorf("illegal initial character: %s", name)
		}
		if !letter && !digit {
			return fmt.Errorf("illegal character in: %s", name)
		}
	}
	return nil
}

// textList reads a member that is a list of strings, if it is there.
func textList(key string, of *value) ([]string, error) {
	v := of.get(key)
	if v == nil {
		return nil, nil
	}
	if v.kind != '[' {
		return nil, fmt.Errorf("%s not an array: %s", key, clip(v))
	}
	list := make([]string, 0, len(v.items))
	for i := range v.items {
		if v.items[i].kind != '"' {
			return nil, fmt.Errorf("%s has what is not a string: %s", key, clip(&v.items[i]))
		}
		list = append(list, v.items[i].text)
	}
	return list, nil
}

// clip is v for an error message, cut where it gets long.
func clip(v *value) string {
	b := appendValue(nil, v)
	if len(b) > 200 {
		return string(b[:200]) + "…"
	}
	return string(b)
}
