package avsc

import (
	"fmt"
	"strconv"
	"strings"
)

func (f *Field) setDefault(d value) error {
	// Java turns a text default of a floating-point field into its number.
	if (f.Type.Kind == Float || f.Type.Kind == Double) && d.kind == '"' {
		n, err := parseJavaDouble(d.text)
		if err != nil {
			return err
		}
		d = value{kind: '0', text: strconv.FormatFloat(n, 'e', -1, 64)}
	}
	f.HasDefault, f.def = true, d
	f.DefaultText = string(appendValue(nil, &d))
	return nil
}

// parseJavaDouble is Java's Double.valueOf.
func parseJavaDouble(text string) (float64, error) {
	t := strings.TrimSpace(text)
	switch strings.TrimLeft(t, "+-") {
	case "NaN", "Infinity":
	default:
		t = strings.TrimRight(t, "fFdD")
		if len(strings.TrimSpace(text))-len(t) > 1 || strings.ContainsAny(t, "_iInN") {
			return 0, fmt.Errorf("the default %q is not a number", text)
		}
	}
	n, err := strconv.ParseFloat(t, 64)
	if err != nil && n-n == 0 {
		return 0, fmt.Errorf("the default %q is not a number", text)
	}
	return n, nil
}

// validDefault says whether d is a value of s. Like Java since 1.11.1 it accepts a default of any branch of a union;
// an absent field of a record takes that field's own default.
func validDefault(s *Schema, d *value, depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch s.Kind {
	case Null:
		return d.kind == 'n'
	case Boolean:
		return d.kind == 't' || d.kind == 'f'
	case Int:
		_, err := strconv.ParseInt(d.text, 10, 32)
		return d.kind == '0' && err == nil
	case Long:
		_, err := strconv.ParseInt(d.text, 10, 64)
		return d.kind == '0' && err == nil
	case Float, Double:
		return d.kind == '0'
	case Bytes, String, Enum, Fixed:
		return d.kind == '"'
	case Array, Map:
		if s.Kind == Array && d.kind != '[' || s.Kind == Map && d.kind != '{' {
			return false
		}
		for i := range d.items {
			if !validDefault(s.Items, &d.items[i], depth+1) {
				return false
			}
		}
		return true
	case Union:
		for _, b := range s.Branches {
			if validDefault(b, d, depth+1) {
				return true
			}
		}
		return false
	}
	if d.kind != '{' {
		return false
	}
	for _, f := range s.Fields {
		of := d.get(f.Name)
		if of == nil && f.HasDefault {
			of = &f.def
		}
		if of == nil || !validDefault(f.Type, of, depth+1) {
			return false
		}
	}
	return true
}
