//go:build !cgo

package main

import (
	"context"
	"errors"
)

func checkConfluent(context.Context, string) error {
	return errors.New("built without cgo, which librdkafka needs: install gcc")
}
