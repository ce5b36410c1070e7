// Package faulttest has tests of applications to which something happens: killed, cut off, out of disk.
package faulttest
