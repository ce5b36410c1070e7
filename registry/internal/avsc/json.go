package avsc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// maxDepth bounds how deeply a schema's JSON may nest. Real schemas stay below twenty; every recursion over a schema
// that has no named cycle is bounded by it.
const maxDepth = 256

// value is one JSON value with the order of its members kept: the order of a schema's extra properties is part of its
// canonical text.
type value struct {
	kind  byte   // one of { [ " 0 t f n
	text  string // of a string, or the digits of a number
	keys  []string
	items []value
}

// get returns the member called key of an object, or nil.
func (v *value) get(key string) *value {
	if v.kind != '{' {
		return nil
	}
	for i := range v.keys {
		if v.keys[i] == key {
			return &v.items[i]
		}
	}
	return nil
}

// textOf returns the member called key if it is a string.
func (v *value) textOf(key string) (string, bool) {
	m := v.get(key)
	if m == nil || m.kind != '"' {
		return "", false
	}
	return m.text, true
}

func parseJSON(text string) (value, error) {
	d := json.NewDecoder(strings.NewReader(withoutComments(text)))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return v, errors.New("the JSON ends too early")
		}
		return v, err
	}
	if _, err := d.Token(); err != io.EOF {
		return v, fmt.Errorf("there is more text after the schema, from byte %d", d.InputOffset())
	}
	return v, nil
}

// withoutComments blanks out comments, which Java's parser allows in schemas.
func withoutComments(text string) string {
	if !strings.Contains(text, "//") && !strings.Contains(text, "/*") {
		return text
	}
	b := []byte(text)
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case b[i] != '/' || i+1 == len(b):
		case b[i+1] == '/':
			for ; i < len(b) && b[i] != '\n'; i++ {
				b[i] = ' '
			}
		case b[i+1] == '*':
			end := strings.Index(string(b[i+2:]), "*/")
			if end < 0 {
				return text // the JSON parser says where it fails
			}
			for stop := i + 2 + end + 2; i < stop; i++ {
				b[i] = ' '
			}
			i--
		}
	}
	return string(b)
}

func parseValue(d *json.Decoder, depth int) (value, error) {
	if depth > maxDepth {
		return value{}, fmt.Errorf("it nests more than %d levels deep", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return value{}, err
	}
	switch t := t.(type) {
	case string:
		return value{kind: '"', text: t}, nil
	case json.Number:
		return value{kind: '0', text: t.String()}, nil
	case bool:
		if t {
			return value{kind: 't'}, nil
		}
		return value{kind: 'f'}, nil
	case json.Delim:
		if t == '{' {
			return parseObject(d, depth)
		}
		v := value{kind: '['}
		for d.More() {
			item, err := parseValue(d, depth+1)
			if err != nil {
				return v, err
			}
			v.items = append(v.items, item)
		}
		_, err := d.Token()
		return v, err
	}
	return value{kind: 'n'}, nil
}

func parseObject(d *json.Decoder, depth int) (value, error) {
	v := value{kind: '{'}
	at := make(map[string]int)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return v, err
		}
		key, _ := t.(string)
		item, err := parseValue(d, depth+1)
		if err != nil {
			return v, err
		}
		// As Jackson: the last of several values counts, in the place of the first.
		if i, ok := at[key]; ok {
			v.items[i] = item
			continue
		}
		at[key] = len(v.keys)
		v.keys = append(v.keys, key)
		v.items = append(v.items, item)
	}
	_, err := d.Token()
	return v, err
}

// appendValue writes v as Jackson does: no spaces, non-ASCII as it is, floating-point numbers as Java's
// Double.toString.
func appendValue(b []byte, v *value) []byte {
	switch v.kind {
	case '{':
		b = append(b, '{')
		for i := range v.keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(AppendString(b, v.keys[i]), ':')
			b = appendValue(b, &v.items[i])
		}
		return append(b, '}')
	case '[':
		b = append(b, '[')
		for i := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, &v.items[i])
		}
		return append(b, ']')
	case '"':
		return AppendString(b, v.text)
	case '0':
		return appendNumber(b, v.text)
	case 't':
		return append(b, "true"...)
	case 'f':
		return append(b, "false"...)
	}
	return append(b, "null"...)
}

// AppendString appends s as a JSON string with exactly the escapes that Jackson writes: quotation marks, backslashes and
// control characters, nothing else. Keys of the `_schemas` topic are compared by their bytes, so this matters.
func AppendString(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\b':
			b = append(b, '\\', 'b')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\f':
			b = append(b, '\\', 'f')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func isInteger(number string) bool { return !strings.ContainsAny(number, ".eENI") }

func appendNumber(b []byte, text string) []byte {
	if isInteger(text) {
		if text == "-0" {
			return append(b, '0')
		}
		return append(b, text...)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) { // the JSON parser has passed it
		return append(b, text...)
	}
	return appendDouble(b, f)
}

// appendDouble is Java's Double.toString, in quotation marks where the number is none.
func appendDouble(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(b, `"-Infinity"`...)
	}
	abs := math.Abs(f)
	if abs == 0 || (abs >= 1e-3 && abs < 1e7) {
		n := len(b)
		b = strconv.AppendFloat(b, f, 'f', -1, 64)
		if !strings.Contains(string(b[n:]), ".") {
			b = append(b, '.', '0')
		}
		return b
	}
	mantissa, exp, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") { // Java writes two digits at least, and the nearest two
		mantissa, exp, _ = strings.Cut(strconv.FormatFloat(f, 'e', 1, 64), "e")
	}
	b = append(b, mantissa...)
	n, _ := strconv.Atoi(exp)
	return strconv.AppendInt(append(b, 'E'), int64(n), 10)
}
