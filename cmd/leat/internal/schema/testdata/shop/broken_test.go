package main

import "testing"

// TestMain must not run, and does not even compile.
func TestMain(m *testing.M) { thisIsNothing() }
