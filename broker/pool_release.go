//go:build !poison

package broker

// poisonBuffers overwrites buffers when they are handed back, so that a use after release shows up as garbage instead of as
// another client's records. Tests turn it on with the build tag poison.
const poisonBuffers = false
