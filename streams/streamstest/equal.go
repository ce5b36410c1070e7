package streamstest

import (
	"reflect"
	"time"
)

// equal is reflect.DeepEqual, but for times: those that are the same instant are equal, as a window that was written down in
// local time is that which comes back in UTC. Times in fields that are not exported are compared as DeepEqual does.
func equal[T any](a, b T) bool {
	return reflect.DeepEqual(a, b) || equalValues(reflect.ValueOf(&a).Elem(), reflect.ValueOf(&b).Elem(), 0)
}

// maxDepth is where values that contain themselves are given up.
const maxDepth = 100

func equalValues(a, b reflect.Value, depth int) bool {
	if a.IsValid() != b.IsValid() || !a.IsValid() || depth > maxDepth {
		return !a.IsValid() && !b.IsValid()
	}
	if a.Type() != b.Type() {
		return false
	}
	if a.CanInterface() && b.CanInterface() {
		if at, ok := a.Interface().(time.Time); ok {
			return at.Equal(b.Interface().(time.Time))
		}
	}
	depth++
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !equalValues(a.Field(i), b.Field(i), depth) {
				return false
			}
		}
		return true
	case reflect.Pointer, reflect.Interface:
		return a.IsNil() && b.IsNil() || !a.IsNil() && !b.IsNil() && equalValues(a.Elem(), b.Elem(), depth)
	case reflect.Slice:
		return a.IsNil() == b.IsNil() && equalItems(a, b, depth)
	case reflect.Array:
		return equalItems(a, b, depth)
	case reflect.Map:
		if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return false
		}
		for each := a.MapRange(); each.Next(); {
			if !equalValues(each.Value(), b.MapIndex(each.Key()), depth) {
				return false
			}
		}
		return true
	case reflect.Func:
		return a.IsNil() && b.IsNil()
	}
	return a.Equal(b)
}

func equalItems(a, b reflect.Value, depth int) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if !equalValues(a.Index(i), b.Index(i), depth) {
			return false
		}
	}
	return true
}
