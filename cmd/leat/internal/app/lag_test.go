package app

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a reset deletes is no input to which it could set an offset: Apache Kafka refuses that for topics that are gone.
func TestInternalNames(t *testing.T) {
	for name, want := range map[string]bool{
		"shop-stock-changelog":                    true,
		"shop-stock-repartition":                  true,
		"shop-of-subscription-registration-topic": true,
		"shop-of-subscription-response-topic":     true,
		"shop-orders":                             false,
		"orders-repartition":                      false,
		"shop-manifest":                           false,
	} {
		if got := internalName("shop", name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}
