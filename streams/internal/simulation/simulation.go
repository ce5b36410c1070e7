// Package simulation is what a simulated cluster (streamstest/cluster) changes about an instance: where its files lie, and
// what happens at the steps of its commits.
package simulation

import (
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/leatstream/leat/streams/internal/failpoint"
)

// Seams are the places at which a test takes hold of an instance. The zero value changes nothing.
type Seams struct {
	FS         vfs.FS         // of the state directory; nil: the machine's
	Failpoints *failpoint.Set // nil: those of the environment
}
