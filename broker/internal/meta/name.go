package meta

import (
	"fmt"
	"strings"
)

// MaxNameBytes is the longest topic name: with a partition number behind it, it still is a file name.
const MaxNameBytes = 249

// CheckName says what is wrong with a topic name, nil if nothing is. The rules are Kafka's.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("topic name is empty")
	case name == "." || name == "..":
		return fmt.Errorf("topic name %q is not allowed", name)
	case len(name) > MaxNameBytes:
		return fmt.Errorf("topic name of %d characters: at most %d are allowed", len(name), MaxNameBytes)
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("topic name %q holds a character other than letters, digits, '.', '_' and '-'", name)
		}
	}
	return nil
}

// Collides reports whether two different topic names differ only in '.' and '_', which metric names cannot tell apart.
func Collides(a, b string) bool {
	return a != b && len(a) == len(b) && strings.ReplaceAll(a, ".", "_") == strings.ReplaceAll(b, ".", "_")
}
