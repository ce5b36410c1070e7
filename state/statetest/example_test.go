package statetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSlab is how an engine of one's own is checked.
func TestSlab(t *testing.T) {
	statetest.Run(t, &state.OwnEngine{Name: "slab", Open: statetest.OpenSlab}, statetest.Options{Volatile: true})
}
