//go:build !linux

package vfs

// SyncData is a full fsync where the system has no fdatasync that Go knows.
func (f osFile) SyncData() error { return f.Sync() }
