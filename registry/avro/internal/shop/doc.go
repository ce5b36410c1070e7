// Package shop is what GenerateGo writes for order.avsc: compiled, and used by the tests, so that what is generated works.
package shop
