package jsons

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"regexp"
	"slices"
)

// Difference is a change that Confluent's registry takes for incompatible.
type Difference struct {
	// Type is Confluent's name of the change, Path where it is: "#/properties/total".
	Type, Path string
}

// Message is the text that a registry answers for a difference; the reader is the new schema, or the old one.
func (d Difference) Message(newReads bool) string {
	original, update := "new", "old"
	if newReads {
		original, update = "old", "new"
	}
	return fmt.Sprintf(`{errorType:"%s", description:"The change %s at path '%s' in the %s schema is not compatible with the %s schema"}`,
		d.Type, d.Type, d.Path, update, original)
}

// Fix is what to do about a difference.
func (d Difference) Fix() string {
	switch d.Type {
	case "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL":
		return fmt.Sprintf(`add "additionalProperties": false to the object before properties are added to it: data of the old schema may have anything at %s`, d.Path)
	case "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL":
		return fmt.Sprintf(`keep the property at %s, or drop "additionalProperties": false`, d.Path)
	case "REQUIRED_ATTRIBUTE_ADDED", "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL":
		return fmt.Sprintf(`take %s off "required", or give it a default`, d.Path)
	}
	return fmt.Sprintf("allow at %s what was allowed before", d.Path)
}

const (
	maxComparisons = 1 << 16
	maxDifferences = 1000
)

// Reads says what keeps data that is valid by writer from being valid by reader, by the rules of Confluent's registry. They
// are rules about changes of the text: a change that they do not know is taken for compatible. lenient allows besides that
// an object closes, and that properties come and go whatever else it allows: it trusts that nobody used their names.
func Reads(reader, writer *Schema, lenient bool) []Difference {
	c := checker{lenient: lenient, original: writer, update: reader, open: make(map[string]bool), budget: maxComparisons}
	c.compare("#", writer.doc, reader.doc)
	if c.budget <= 0 {
		c.found = append(c.found, Difference{"UNKNOWN", "#"})
	}
	return c.found
}

type checker struct {
	original, update *Schema
	found            []Difference
	open             map[string]bool // pairs of references that are being compared, or were
	budget           int
	lenient          bool
}

func (c *checker) add(kind, path string) {
	if c.lenient && forgiven(kind) {
		return
	}
	if len(c.found) < maxDifferences {
		c.found = append(c.found, Difference{kind, path})
	}
}

// fits says whether a change would be compatible, without noting what is not.
func (c *checker) fits(original, update any) bool {
	trial := checker{lenient: c.lenient, original: c.original, update: c.update, open: maps.Clone(c.open), budget: c.budget}
	trial.compare("#", original, update)
	c.budget = trial.budget
	return len(trial.found) == 0
}

type object = map[string]any

// schema is a schema's members: true is the empty schema, and false is nil.
func schema(v any) object {
	switch v := v.(type) {
	case object:
		return v
	case bool:
		if !v {
			return nil
		}
	}
	return object{}
}

func reference(v any) string {
	m, _ := v.(object)
	ref, _ := m["$ref"].(string)
	return ref
}

func (c *checker) compare(path string, original, update any) {
	if c.budget--; c.budget <= 0 || reflect.DeepEqual(original, update) && reference(original) == "" {
		return
	}
	if a, b := reference(original), reference(update); a != "" || b != "" {
		pair := a + "\x00" + b + "\x00" + path[:min(len(path), 1)]
		if a != "" && b != "" {
			if c.open[pair] {
				return
			}
			c.open[pair] = true
		} else if len(path) > 16*maxDepth { // one side repeats, the other goes on
			return
		}
		original, update = c.original.deref(original), c.update.deref(update)
	}
	o, u := schema(original), schema(update)
	switch {
	case o == nil: // nothing was valid, so nothing is lost
		return
	case u == nil:
		c.add("TYPE_NARROWED", path)
		return
	}
	if c.combined(path, o, u) {
		return
	}
	if !c.types(path, o, u) {
		return
	}
	c.enums(path, o, u)
	c.bounds(path, o, u)
	c.objects(path, o, u)
	c.arrays(path, o, u)
}

// combinations are the keywords that combine schemas, and whether a value must fit all of them.
var combinations = []struct {
	name string
	all  bool
}{{"oneOf", false}, {"anyOf", false}, {"allOf", true}}

func combination(s object) (name string, of []any, all bool) {
	for _, k := range combinations {
		if list, ok := s[k.name].([]any); ok {
			return k.name, list, k.all
		}
	}
	return "", nil, false
}

// combined compares schemas of which one combines others, and reports whether it has.
func (c *checker) combined(path string, o, u object) bool {
	was, before, allBefore := combination(o)
	is, now, allNow := combination(u)
	switch {
	case was == "" && is == "":
		if !reflect.DeepEqual(o["not"], u["not"]) && u["not"] != nil && (o["not"] == nil || !c.fits(u["not"], o["not"])) {
			c.add("NOT_TYPE_EXTENDED", path+"/not")
		}
		return false
	case was == "" && !allNow:
		if !slices.ContainsFunc(now, func(n any) bool { return c.fits(o, n) }) {
			c.add("COMBINED_TYPE_CHANGED", path)
		}
		return true
	case is == "" && !allBefore:
		if !allOf(before, func(b any) bool { return c.fits(b, u) }) {
			c.add("COMBINED_TYPE_CHANGED", path)
		}
		return true
	case allBefore && allNow:
		switch {
		case allOf(now, func(n any) bool { return slices.ContainsFunc(before, func(b any) bool { return c.fits(b, n) }) }):
			return false // the members beside allOf count too
		case len(now) > len(before):
			c.add("PRODUCT_TYPE_EXTENDED", path+"/allOf")
		default:
			c.add("COMBINED_TYPE_SUBSCHEMAS_CHANGED", path+"/allOf")
		}
		return true
	case was == "" || is == "": // allOf came or went
		if was == "" && !allOf(now, func(n any) bool { return c.fits(o, n) }) || is == "" && !slices.ContainsFunc(before, func(b any) bool { return c.fits(b, u) }) {
			c.add("COMBINED_TYPE_CHANGED", path)
		}
		return true
	case allBefore != allNow || was == "anyOf" && is == "oneOf":
		c.add("COMBINED_TYPE_CHANGED", path)
		return true
	}
	if !allOf(before, func(b any) bool { return slices.ContainsFunc(now, func(n any) bool { return c.fits(b, n) }) }) {
		if len(now) < len(before) {
			c.add("SUM_TYPE_NARROWED", path+"/"+is)
		} else {
			c.add("COMBINED_TYPE_SUBSCHEMAS_CHANGED", path+"/"+is)
		}
	}
	return true
}

func allOf(list []any, ok func(any) bool) bool {
	return !slices.ContainsFunc(list, func(v any) bool { return !ok(v) })
}

// typesOf are the types that a schema allows; nil for all.
func typesOf(s object) []string {
	switch t := s["type"].(type) {
	case string:
		return []string{t}
	case []any:
		var list []string
		for _, v := range t {
			if name, ok := v.(string); ok {
				list = append(list, name)
			}
		}
		return list
	}
	return nil
}

func allows(types []string, t string) bool {
	return types == nil || slices.Contains(types, t) || t == "integer" && slices.Contains(types, "number")
}

// types compares the types, and reports whether the rest is worth comparing.
func (c *checker) types(path string, o, u object) bool {
	was, is := typesOf(o), typesOf(u)
	switch {
	case is == nil:
		return true
	case was == nil:
		if len(o) > 0 && o["properties"] == nil && o["enum"] == nil && o["const"] == nil {
			c.add("TYPE_NARROWED", path)
			return false
		}
		if len(o) == 0 {
			c.add("TYPE_NARROWED", path)
			return false
		}
		return true
	}
	kept := 0
	for _, t := range was {
		if allows(is, t) {
			kept++
		}
	}
	switch kept {
	case len(was):
		return true
	case 0:
		c.add("TYPE_CHANGED", path)
	default:
		c.add("TYPE_NARROWED", path)
	}
	return false
}

// enumOf are the values that a schema allows; nil for all.
func enumOf(s object) []any {
	if v, ok := s["const"]; ok {
		return []any{v}
	}
	list, _ := s["enum"].([]any)
	return list
}

func (c *checker) enums(path string, o, u object) {
	was, is := enumOf(o), enumOf(u)
	has := func(list []any) func(any) bool {
		return func(v any) bool {
			return slices.ContainsFunc(list, func(x any) bool { return reflect.DeepEqual(x, v) })
		}
	}
	switch {
	case is == nil || was != nil && allOf(was, has(is)):
	case was == nil || allOf(is, has(was)):
		c.add("ENUM_ARRAY_NARROWED", path+"/enum")
	default:
		c.add("ENUM_ARRAY_CHANGED", path+"/enum")
	}
}

// limits are the keywords with a number; least says that a larger one allows less.
var limits = []struct {
	name, kind string
	least      bool
}{
	{"maxLength", "MAX_LENGTH", false}, {"minLength", "MIN_LENGTH", true},
	{"maximum", "MAXIMUM", false}, {"minimum", "MINIMUM", true},
	{"exclusiveMaximum", "EXCLUSIVE_MAXIMUM", false}, {"exclusiveMinimum", "EXCLUSIVE_MINIMUM", true},
	{"maxProperties", "MAX_PROPERTIES", false}, {"minProperties", "MIN_PROPERTIES", true},
	{"maxItems", "MAX_ITEMS", false}, {"minItems", "MIN_ITEMS", true},
}

func number(v any) *big.Rat {
	n, ok := v.(json.Number)
	if !ok || len(n) > 64 {
		return nil
	}
	if r, ok := new(big.Rat).SetString(n.String()); ok {
		return r
	}
	return nil
}

func (c *checker) bounds(path string, o, u object) {
	for _, l := range limits {
		was, is := number(o[l.name]), number(u[l.name])
		at := path + "/" + l.name
		switch {
		case is == nil:
		case was == nil:
			c.add(l.kind+"_ADDED", at)
		case l.least && is.Cmp(was) > 0:
			c.add(l.kind+"_INCREASED", at)
		case !l.least && is.Cmp(was) < 0:
			c.add(l.kind+"_DECREASED", at)
		}
	}
	was, is := number(o["multipleOf"]), number(u["multipleOf"])
	switch {
	case is == nil || is.Sign() == 0:
	case was == nil:
		c.add("MULTIPLE_OF_ADDED", path+"/multipleOf")
	case !new(big.Rat).Quo(was, is).IsInt():
		c.add("MULTIPLE_OF_CHANGED", path+"/multipleOf")
	}
	if p := u["pattern"]; p != nil && o["pattern"] == nil {
		c.add("PATTERN_ADDED", path+"/pattern")
	} else if p != nil && !reflect.DeepEqual(p, o["pattern"]) {
		c.add("PATTERN_CHANGED", path+"/pattern")
	}
	if u["uniqueItems"] == true && o["uniqueItems"] != true {
		c.add("UNIQUE_ITEMS_ADDED", path+"/uniqueItems")
	}
}

// content says what an object allows besides its properties: anything, nothing, or what a schema says.
func content(s object) (open, closed bool) {
	patterns, _ := s["patternProperties"].(object)
	if len(patterns) > 0 {
		return false, false
	}
	more, ok := s["additionalProperties"]
	if !ok {
		return true, false
	}
	m := schema(more)
	return m != nil && len(m) == 0, m == nil
}

// covering is the schema that an object has for a property that it does not name.
func covering(s object, name string) any {
	patterns, _ := s["patternProperties"].(object)
	for _, p := range slices.Sorted(maps.Keys(patterns)) {
		if re, err := regexp.Compile(p); err == nil && re.MatchString(name) {
			return patterns[p]
		}
	}
	if more, ok := s["additionalProperties"]; ok {
		return more
	}
	return true
}

func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, x := range list {
		if s, ok := x.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func (c *checker) objects(path string, o, u object) {
	was, _ := o["properties"].(object)
	is, _ := u["properties"].(object)
	required, before := texts(u["required"]), texts(o["required"])
	hasDefault := func(name string) bool {
		p, _ := c.update.deref(is[name]).(object)
		_, ok := p["default"]
		return ok
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		at := path + "/properties/" + name
		if next, ok := is[name]; ok {
			c.compare(at, was[name], next)
			continue
		}
		c.removed(at, u, name, was[name])
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if _, ok := was[name]; !ok {
			c.added(path+"/properties/"+name, o, name, is[name], slices.Contains(required, name) && !hasDefault(name))
		}
	}
	for _, name := range required {
		if _, ok := was[name]; ok && !slices.Contains(before, name) && !hasDefault(name) {
			c.add("REQUIRED_ATTRIBUTE_ADDED", path+"/required/"+name)
		}
	}
	more, ok := u["additionalProperties"]
	if !ok {
		return
	}
	old, ok := o["additionalProperties"]
	if !ok {
		old = true
	}
	switch a, b := schema(old), schema(more); {
	case a == nil || b != nil && len(b) == 0:
	case b == nil:
		c.add("ADDITIONAL_PROPERTIES_REMOVED", path+"/additionalProperties")
	case len(a) == 0:
		c.add("ADDITIONAL_PROPERTIES_NARROWED", path+"/additionalProperties")
	default:
		c.compare(path+"/additionalProperties", old, more)
	}
}

// removed is a property that the update does not name any more.
func (c *checker) removed(path string, u object, name string, was any) {
	open, closed := content(u)
	switch {
	case open:
	case closed:
		if schema(was) != nil {
			c.add("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", path)
		}
	case !c.fits(was, covering(u, name)):
		c.add("PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path)
	}
}

// added is a property that the original did not name.
func (c *checker) added(path string, o object, name string, is any, needed bool) {
	open, closed := content(o)
	m := schema(is)
	switch {
	case open && m != nil && len(m) == 0 && !needed:
	case open:
		c.add("PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", path)
	case needed:
		c.add("REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL", path)
	case closed:
	case !c.fits(covering(o, name), is):
		c.add("PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path)
	}
}

func (c *checker) arrays(path string, o, u object) {
	is, ok := u["items"]
	if !ok {
		return
	}
	was, ok := o["items"]
	if !ok {
		was = true
	}
	a, tuple := was.([]any)
	b, tuple2 := is.([]any)
	if !tuple && !tuple2 {
		c.compare(path+"/items", was, is)
		return
	}
	if tuple != tuple2 {
		c.add("TYPE_CHANGED", path+"/items")
		return
	}
	for i := range min(len(a), len(b)) {
		c.compare(fmt.Sprintf("%s/items/%d", path, i), a[i], b[i])
	}
	closed := func(s object) bool { v, ok := s["additionalItems"]; return ok && schema(v) == nil }
	switch {
	case len(b) < len(a) && closed(u):
		c.add("ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL", path+"/items")
	case len(b) > len(a) && !closed(o):
		c.add("ITEM_ADDED_TO_OPEN_CONTENT_MODEL", path+"/items")
	case closed(u) && !closed(o):
		c.add("ADDITIONAL_ITEMS_REMOVED", path+"/additionalItems")
	}
}
