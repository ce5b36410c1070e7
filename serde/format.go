package serde

import (
	"fmt"
	"reflect"
	"time"
)

// Formatted is implemented by a serde that names the format of its bytes: two serdes of one format read what the other has
// written. An application that starts with another format for its state is refused (streams.Plan). A serde that allows its
// type to change, as JSON and Avro do, gives one name to all of them.
type Formatted interface {
	Format() string
}

// FormatOf names the format of a serde's bytes, or returns "" if s does not say.
func FormatOf(s any) string {
	if f, ok := s.(Formatted); ok {
		return f.Format()
	}
	return ""
}

// Format is "string".
func (stringSerde) Format() string { return "string" }

// Format is "bytes".
func (bytesSerde) Format() string { return "bytes" }

// Format is "int64".
func (int64Serde) Format() string { return "int64" }

// Format is the name of the type; an int is written as an int64, and a time as milliseconds in one.
func (s fixed[T]) Format() string {
	switch t := reflect.TypeFor[T](); t {
	case reflect.TypeFor[int]():
		return "int64"
	case reflect.TypeFor[time.Time]():
		return "time"
	default:
		return t.String()
	}
}

// Format is that of the values that are not null.
func (n nullable[T]) Format() string { return FormatOf(n.of) }

// Format is "json", whatever the type.
func (jsonSerde[T]) Format() string { return "json" }

// Format is what it was made with.
func (s ofFuncs[T]) Format() string { return s.format }

// Format is "windowed(key, size)".
func (w windowed[K]) Format() string { return around("windowed", w.key, ", "+w.size.String()) }

// Format is "session(key)".
func (w sessionWindowed[K]) Format() string { return around("session", w.key, "") }

// around is a format made of another; of one that does not say, it does not say either.
func around(name string, key any, more string) string {
	in := FormatOf(key)
	if in == "" {
		return ""
	}
	return fmt.Sprintf("%s(%s%s)", name, in, more)
}
