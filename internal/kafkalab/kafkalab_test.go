package kafkalab

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPropertiesOfThreeNodes(t *testing.T) {
	got := properties(1, []int{1, 2, 3, 11, 12, 13}, "data")
	for _, want := range []string{
		"node.id=2\n", "controller.quorum.voters=1@127.0.0.1:11,2@127.0.0.1:12,3@127.0.0.1:13\n",
		"listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:12\n", "log.dirs=data\n",
		"default.replication.factor=3\n", "min.insync.replicas=2\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if one := properties(0, []int{1, 11}, "data"); !strings.Contains(one, "min.insync.replicas=1\n") || !strings.Contains(one, "default.replication.factor=1\n") {
		t.Errorf("one node:\n%s", one)
	}
}

func TestMissingProgramsSayHowToGetThem(t *testing.T) {
	err := Require("no-such-program-anywhere", "some-package")
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "apt-get install some-package") {
		t.Errorf("got %v", err)
	}
}

func TestJarsThatAreThereAreNotFetched(t *testing.T) {
	if err := Require("java", "default-jdk-headless"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "libs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "libs", BrokerJar), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	libs, err := Jars(t.Context(), dir, BrokerJar) // without a pom.xml, Maven would fail
	if err != nil || libs != filepath.Join(dir, "libs") {
		t.Errorf("got %q, %v", libs, err)
	}
}

func TestFreePortsAreDifferentOnes(t *testing.T) {
	ports, err := FreePorts(300)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ports)
	if n := len(slices.Compact(ports)); n != 300 {
		t.Errorf("%d different ports of 300", n)
	}
}
