//go:build !linux

package state

// onLargePages does nothing here.
func onLargePages[T any]([]T) {}
