// Package dsltest holds tests of the streams DSL from the outside, apart from its own test packages, so that they compile by
// themselves.
package dsltest
