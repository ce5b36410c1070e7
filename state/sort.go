package state

import "slices"

// sortItem is a slot of the slab with its sort key: k1, then k2; pos is where it stood.
type sortItem struct {
	k1, k2   uint64
	idx, pos uint32
}

// radixMin is the number of items from which counting by bytes beats comparing.
const radixMin = 128

// sortItems sorts by (k1, k2), equal ones in the order they had, with scratch of the same length. It returns the sorted
// slice, which is one of the two. Bytes in which all items agree cost nothing, and integer keys agree in most.
func sortItems(items, scratch []sortItem) []sortItem {
	if len(items) < radixMin {
		slices.SortStableFunc(items, compareItems)
		return items
	}
	var diff1, diff2 uint64
	for i := range items {
		diff1 |= items[i].k1 ^ items[0].k1
		diff2 |= items[i].k2 ^ items[0].k2
	}
	for shift := 0; shift < 64; shift += 8 {
		if byte(diff2>>shift) != 0 {
			countBy(scratch, items, true, shift)
			items, scratch = scratch, items
		}
	}
	for shift := 0; shift < 64; shift += 8 {
		if byte(diff1>>shift) != 0 {
			countBy(scratch, items, false, shift)
			items, scratch = scratch, items
		}
	}
	return items
}

func compareItems(a, b sortItem) int {
	switch {
	case a.k1 < b.k1:
		return -1
	case a.k1 > b.k1:
		return 1
	case a.k2 < b.k2:
		return -1
	case a.k2 > b.k2:
		return 1
	}
	return 0
}

// countBy moves src to dst, ordered by the byte of k1 (or of k2) at shift.
func countBy(dst, src []sortItem, second bool, shift int) {
	var at [256]uint32
	for i := range src {
		k := src[i].k1
		if second {
			k = src[i].k2
		}
		at[byte(k>>shift)]++
	}
	sum := uint32(0)
	for d, n := range at {
		at[d], sum = sum, sum+n
	}
	for i := range src {
		k := src[i].k1
		if second {
			k = src[i].k2
		}
		d := byte(k >> shift)
		dst[at[d]] = src[i]
		at[d]++
	}
}
