package streams_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childVariable makes the test binary run as an application, to be killed.
const childVariable = "LEAT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}
