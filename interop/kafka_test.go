//go:build interop

package interop

import (
	"testing"

	"github.com/leatstream/leat/internal/kafkalab"
)

// kafkaLibs has Maven fetch Apache Kafka's jars and returns the folder.
func kafkaLibs(t *testing.T) string {
	t.Helper()
	need(t, "java", "default-jdk-headless")
	need(t, "mvn", "maven")
	libs, err := kafkalab.Jars(t.Context(), "kafka", kafkalab.BrokerJar)
	if err != nil {
		t.Fatal(err)
	}
	return libs
}

func freePort(t *testing.T) int {
	t.Helper()
	ports, err := kafkalab.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// apacheKafka starts one Apache Kafka node and returns its address once it serves.
func apacheKafka(t *testing.T) string { return apacheKafkas(t, 1)[0].Addr }

// apacheKafkas starts a cluster of n nodes and returns them once they serve.
func apacheKafkas(t *testing.T, n int) []*kafkalab.Node {
	t.Helper()
	heap := "768m"
	if n > 1 {
		heap = "384m"
	}
	nodes, err := kafkalab.NewNodes(t.Context(), kafkaLibs(t), t.TempDir(), heap, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		startNode(t, node)
		t.Cleanup(node.Kill) // its files go with it; a node of a cluster whose others are gone takes minutes to stop cleanly
	}
	for _, node := range nodes {
		waitNode(t, node)
	}
	return nodes
}

func startNode(t *testing.T, node *kafkalab.Node) {
	t.Helper()
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
}

func waitNode(t *testing.T, node *kafkalab.Node) {
	t.Helper()
	if err := node.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}
