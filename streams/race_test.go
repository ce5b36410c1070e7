//go:build race

package streams_test

// raceDetector: under it sync.Pool drops what it is given at random, so allocations cannot be counted.
const raceDetector = true
