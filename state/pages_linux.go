package state

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const largePage = 2 << 20

// onLargePages asks for large pages under the memory of b, where it spans any: random reads over a large cache spend as
// much on address translation as on the data. It is a wish; the kernel may not grant it.
func onLargePages[T any](b []T) {
	size := uintptr(len(b)) * unsafe.Sizeof(*new(T))
	if size < largePage {
		return
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	skip := -start & (largePage - 1)
	if size < skip+largePage {
		return
	}
	whole := (size - skip) &^ (largePage - 1)
	mem := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), skip)), whole)
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
}
