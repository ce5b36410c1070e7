// Package viewtest holds tests of views of windows and sessions, from an instance and from outside, apart from the tests of
// package streams, so that they compile by themselves.
package viewtest
