package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// Scenario is an application and what happens to it. Topology, Topics, Input and Check are required; every other zero value
// is a good default.
type Scenario struct {
	// Topology builds the topology. It is called once for every start of an instance, and must give the same each time.
	Topology func() (*streams.Topology, error)
	// Registered is Topology for one whose serdes need a schema registry, which then runs on the broker: reg is the instance's
	// client of it, over connections that faults strike. Either Topology or Registered is given.
	Registered func(reg *registry.Client) (*streams.Topology, error)
	// Topics are the topics to be made, with their partition counts: every source, and whatever Check reads.
	Topics map[string]int
	// Input sends what the application reads. It is called once per seed, and draws from Feed.Rand alone.
	Input func(f *Feed)
	// Check says what is wrong with what the application has written, nil if nothing is.
	Check Check
	// Config configures the instances. AppID, StateDir, Brokers and Client are the cluster's own (Client's options stay).
	Config streams.Config
	// Instances is how many run at the beginning. 0: 2.
	Instances int
	// Broker configures the broker. Dir, FS and Listen are the cluster's own.
	Broker broker.Config
	// Faults are the kinds that may strike. nil: All. An empty slice: none.
	Faults []Fault
	// Strikes is how many faults strike in a run at most; a seed draws between 1 and that. 0: 6.
	Strikes int
	// During is the virtual time over which the input is sent and faults strike. 0: 30 s. After it everything heals, and what
	// is left of the input is sent: the last fifth.
	During time.Duration
	// Seeds is how many seeds run, unless LEAT_SIM_SEEDS says otherwise; one with go test -short. 0: 3.
	Seeds int
}

// Feed collects a run's input. Records are sent in their order, and spread over the run.
type Feed struct {
	// Rand is the seed's. Input is to draw from it alone.
	Rand *rand.Rand
	// Registry is a client of the schema registry; nil without Scenario.Registered.
	Registry *registry.Client

	records []input
	err     error
}

type input struct {
	topic      string
	key, value []byte
}

// Send sends one record. Its time is when it is sent.
func (f *Feed) Send[K, V any](to streams.Topic[K, V], key K, value V) {
	k, err := encode(to.Key, to.Name, true, key)
	if err == nil {
		var v []byte
		if v, err = encode(to.Value, to.Name, false, value); err == nil {
			f.SendRaw(to.Name, k, v)
		}
	}
	f.err = errors.Join(f.err, err)
}

// SendRaw sends one record as bytes, nil for null.
func (f *Feed) SendRaw(to string, key, value []byte) {
	f.records = append(f.records, input{to, key, value})
}

func encode[T any](s serde.Serde[T], topic string, key bool, v T) ([]byte, error) {
	s, err := orDefault(s)
	if err != nil {
		return nil, err
	}
	return s.Append([]byte{}, serde.Place{Topic: topic, Key: key}, v)
}

func orDefault[T any](s serde.Serde[T]) (serde.Serde[T], error) {
	if s != nil {
		return s, nil
	}
	return serde.For[T]()
}

const (
	seedsVariable = "LEAT_SIM_SEEDS"
	firstVariable = "LEAT_SIM_FIRST"
	seedVariable  = "LEAT_SIM_SEED"
	traceVariable = "LEAT_SIM_TRACE"
	again         = 20              // runs of a seed that failed
	patience      = 3 * time.Minute // of the real clock, until a run that does not end says where it stands
)

// Test runs the scenario with each seed, and reports the failures: what happened in the run, and how often the seed fails.
func Test(t *testing.T, s Scenario) {
	t.Helper()
	s, err := s.withDefaults()
	if err != nil {
		t.Fatalf("cluster.Test: %v", err)
	}
	if testing.Short() {
		s.Seeds = 1
	}
	seeds, err := seedsToRun(s.Seeds)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, seed := range seeds {
		if !one(t, &s, seed) {
			failed++
		}
	}
	t.Logf("%d seeds ran, %d to %d, %d failed", len(seeds), seeds[0], seeds[len(seeds)-1], failed)
}

// one runs a seed and reports whether it passed.
func one(t *testing.T, s *Scenario, seed uint64) bool {
	w := simulate(t, s, seed)
	if w.err == nil {
		if os.Getenv(traceVariable) != "" {
			t.Logf("seed %d:\n%s", seed, w.trace)
		}
		return true
	}
	failures := 0
	for range again {
		if simulate(t, s, seed).err != nil {
			failures++
		}
	}
	t.Errorf("seed %d: %v\nThe seed failed in %d of %d further runs; %s=%d runs it alone. What happened:\n%s", seed, w.err, failures, again, seedVariable, seed, w.trace)
	return false
}

// simulate is one run in a bubble of its own.
func simulate(t *testing.T, s *Scenario, seed uint64) *world {
	w := newWorld(s, seed)
	late := time.AfterFunc(patience, func() { t.Logf("seed %d has run for %v:\n%s", seed, patience, w.trace) })
	defer late.Stop()
	synctest.Test(t, func(t *testing.T) { w.err = w.run(t.Context()) })
	if w.err == nil {
		w.err = w.check(t)
	}
	return w
}

func (s Scenario) withDefaults() (Scenario, error) {
	switch {
	case s.Topology == nil && s.Registered == nil:
		return s, errors.New("Scenario.Topology is nil: give the function that builds the topology")
	case s.Topology != nil && s.Registered != nil:
		return s, errors.New("Scenario.Topology and Registered are both given: leave one of them out")
	case len(s.Topics) == 0:
		return s, errors.New("Scenario.Topics is empty: name the topics to be made, with their partition counts")
	case s.Input == nil:
		return s, errors.New("Scenario.Input is nil: give the function that sends the input")
	case s.Check == nil:
		return s, errors.New("Scenario.Check is nil: say what the output has to be (Rising, Final, Each)")
	case s.Instances < 0 || s.Strikes < 0 || s.During < 0 || s.Seeds < 0:
		return s, errors.New("Scenario.Instances, Strikes, During and Seeds cannot be negative")
	}
	if s.Instances == 0 {
		s.Instances = 2
	}
	if s.Faults == nil {
		s.Faults = All
		if s.Registered != nil {
			s.Faults = append(slices.Clip(All), RegistryCut, RegistryAway, RegistryCut, RegistryAway)
		}
	}
	if s.Strikes == 0 {
		s.Strikes = 6
	}
	if s.During == 0 {
		s.During = 30 * time.Second
	}
	if s.Seeds == 0 {
		s.Seeds = 3
	}
	if s.Config.MemoryBytes == 0 {
		s.Config.MemoryBytes = 16 << 20
	}
	return s, nil
}

// build builds the topology for an instance.
func (s *Scenario) build(reg *registry.Client) (*streams.Topology, error) {
	if s.Registered != nil {
		t, err := s.Registered(reg)
		if err != nil {
			err = fmt.Errorf("Scenario.Registered: %w", err)
		}
		return t, err
	}
	t, err := s.Topology()
	if err != nil {
		err = fmt.Errorf("Scenario.Topology: %w", err)
	}
	return t, err
}

func seedsToRun(n int) ([]uint64, error) {
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s=%s is not a seed: give a number", seedVariable, text)
		}
		return []uint64{seed}, nil
	}
	if text := os.Getenv(seedsVariable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			return nil, fmt.Errorf("%s=%s is not a number of seeds", seedsVariable, text)
		}
	}
	first := uint64(1)
	if text := os.Getenv(firstVariable); text != "" {
		var err error
		if first, err = strconv.ParseUint(text, 10, 63); err != nil {
			return nil, fmt.Errorf("%s=%s is not a seed: give a number", firstVariable, text)
		}
	}
	seeds := make([]uint64, n)
	for i := range seeds {
		seeds[i] = first + uint64(i)
	}
	return seeds, nil
}
