// Package kafkalab runs real Apache Kafka nodes, for checks and benchmarks beside Leat: its jars come from Maven, a node has its
// files in a folder of the caller's, and serves within seconds. Nothing of Leat is in it.
package kafkalab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Version is the Apache Kafka that the jars are of: the one in interop/kafka/pom.xml.
const Version = "4.3.1"

// ErrMissing is wrapped by the error of Jars where a program that it needs is not installed. The error says how to get it.
var ErrMissing = errors.New("not installed")

// Require returns an error that wraps ErrMissing, and says which Debian package to install, if a program is not there.
func Require(program, debian string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%s is %w: apt-get install %s", program, ErrMissing, debian)
	}
	return nil
}

// Jars has Maven fetch what the pom.xml in the folder depends on into its folder libs, unless jar is there already, and
// returns the absolute path of libs. The first time that takes a network, and a minute. Errors: ErrMissing.
func Jars(ctx context.Context, folder, jar string) (string, error) {
	if err := Require("java", "default-jdk-headless"); err != nil {
		return "", err
	}
	libs, err := filepath.Abs(filepath.Join(folder, "libs"))
	if err != nil {
		return "", err
	}
	if found, _ := filepath.Glob(filepath.Join(libs, jar)); len(found) > 0 {
		return libs, nil
	}
	if err := Require("mvn", "maven"); err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs")
	c.Dir = folder
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mvn dependency:copy-dependencies in %s: %w\n%s", folder, err, out)
	}
	return libs, nil
}

// BrokerJar is the jar by which Jars knows that a folder's libs hold Apache Kafka's broker.
const BrokerJar = "kafka_2.13-" + Version + ".jar"

// FreePorts are n ports of this machine, each another one, that nobody listens on at the moment. They are below those that the
// system gives out by itself, so that no other program is given one before it is used, and none that was left for a restart.
func FreePorts(n int) (ports []int, err error) {
	for tries := 0; len(ports) < n; tries++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000))))
		if err != nil && tries < 100*n {
			continue // in use
		}
		if err != nil {
			return nil, err
		}
		defer l.Close() // when all are found
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
