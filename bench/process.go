package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Every side runs in a process of its own: this program started again as `bench child ROLE JSON`. A broker prints its
// address and lives until its standard input closes; any other role prints its sample as one line of JSON and ends.

// job tells a child what to do. Fields that a role does not use are empty.
type job struct {
	Kind    string // which program of the role
	Format  string // of P21's events: compact or json
	Addr    string
	Dir     string
	Topic   string
	Other   string // the second topic of joins
	Out     string
	ID      string // application, group and transactional id
	N       int    // records or commits
	Size    int    // bytes of a value
	Keys    int
	Zipf    bool
	Every   time.Duration
	EOS     bool
	Restart bool
	Static  bool // a static member, which comes back under its name
	PerTxn  int
	RatePer int
	Parts   int           // partitions of the topic; 0: 4
	Event   int           // records per second of event time; 0: the records have the time at which they are sent
	Begin   time.Time     // of event time
	Seed    int64         // makes other random records of it
	Memory  int64         // limit of the process's memory in bytes; 0: none
	Warm    time.Duration // how long before what is sent counts
	Broker  int           // process id whose CPU is charged as the broker's
	Profile string        // file for the CPU profile of the side
}

func child(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench child ROLE JSON")
	}
	roles := map[string]func(context.Context, job) (sample, error){
		"load": loadTopic, "pass": passLoop, "count": countLoop, "topology": runTopology, "produce": produceLoop,
		"consume": consumeLoop, "latency": latencyLoop, "commit": commitLoop, "ingest": ingestLoop, "restart": restart, "feed": feedLoop,
		"app": runApp, "rmw": forwardLoop, "expire": expireWindows, "query": queryTopology, "many-keys": countManyKeys, "rebalance": rebalance,
		"nexmark-load": loadNexmark, "nexmark": runNexmark,
	}
	var j job
	if err := json.Unmarshal([]byte(args[1]), &j); err != nil {
		return err
	}
	if args[0] == "broker" {
		return serveBroker(j)
	}
	role, ok := roles[args[0]]
	if !ok {
		return fmt.Errorf("no role %q", args[0])
	}
	if j.Profile != "" {
		f, err := os.Create(j.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	s, err := role(context.Background(), j)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

func childCommand(ctx context.Context, role string, j job) (*exec.Cmd, error) {
	arg, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self, "child", role, string(arg))
	c.Stderr = os.Stderr
	return c, nil
}

// work runs a child to its end and returns its sample.
func work(ctx context.Context, role string, j job) (sample, error) {
	c, err := childCommand(ctx, role, j)
	if err != nil {
		return sample{}, err
	}
	s, err := output(c)
	if err != nil {
		err = fmt.Errorf("%s: %w", role, err)
	}
	return s, err
}

// output runs a program that prints its sample as one line of JSON.
func output(c *exec.Cmd) (s sample, err error) {
	out, err := c.Output()
	if err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Base(c.Path), err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("%s printed %q: %w", filepath.Base(c.Path), out, err)
	}
	return s, nil
}

// ownCPU is the CPU time that this process has used.
func ownCPU() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// processCPU is the CPU time of another process, in ticks of 10 ms; 0 where /proc does not tell.
func processCPU(pid int) time.Duration {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if pid == 0 || err != nil {
		return 0
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+2:])
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// residentMB is the resident memory of a process in megabytes; 0 where /proc does not tell.
func residentMB(pid int) float64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if pid == 0 || err != nil {
		return 0
	}
	return statusMB(string(b), "VmRSS:")
}

// statusMB is a field of a /proc/PID/status, which counts in kB.
func statusMB(status, field string) float64 {
	_, rest, ok := strings.Cut(status, field)
	f := strings.Fields(rest)
	if !ok || len(f) == 0 {
		return 0
	}
	kb, err := strconv.ParseFloat(f[0], 64)
	if err != nil {
		return 0
	}
	return kb * 1024 / 1e6
}

// meter measures from its making to done.
type meter struct {
	start          time.Time
	client, broker time.Duration
	pid            int
}

func startMeter(brokerPID int) meter {
	return meter{time.Now(), ownCPU(), processCPU(brokerPID), brokerPID}
}

// done returns the sample of n units of work.
func (m meter) done(n int) sample {
	f := float64(n)
	return sample{
		Rate:     f / time.Since(m.start).Seconds(),
		ClientNs: float64(ownCPU()-m.client) / f,
		BrokerNs: float64(processCPU(m.pid)-m.broker) / f,
		Resident: residentMB(os.Getpid()),
	}
}
