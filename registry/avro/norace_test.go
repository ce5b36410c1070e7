//go:build !race

package avro_test

// raceEnabled says that the race detector is on: it makes pools forget values at random.
const raceEnabled = false
