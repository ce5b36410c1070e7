//go:build poison

package broker

const poisonBuffers = true
