// Package doctor holds leat doctor, which finds out why a client cannot work with a cluster.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// New makes leat doctor.
func New(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the way to the cluster, step by step",
		Long: `Checks, one line each: that the address can be dialled and answers in the Kafka protocol; that the addresses that the brokers advertise
can be dialled, too (they are what clients connect to next); which versions they speak; the clocks; that coordinators answer; and the
schema registry, if one is named. The exit code is 1 if a check fails. Nothing is written.`,
		Example: `  leat doctor
  leat doctor --bootstrap-server kafka:9092 --registry http://kafka:8081`,
		Args: cobra.NoArgs,
		RunE: env.Action(func(cmd *cobra.Command, _ []string) (*cli.Result, error) {
			ctx, cancel := context.WithTimeout(cmd.Context(), env.Timeout())
			defer cancel()
			res := new(cli.Result)
			c := &checkup{env: env, table: res.Table("checks", "CHECK", "STATUS", "DETAIL", "ERROR")}
			c.run(ctx)
			return res, nil
		}),
	}
	return env.RegistryFlags(env.ClusterFlags(cmd))
}

// checkup collects what was found.
type checkup struct {
	env   *cli.Env
	table rower
}

type rower interface{ Row(values ...any) }

func (c *checkup) ok(check, detail string)   { c.table.Row(check, "ok", detail, nil) }
func (c *checkup) warn(check, detail string) { c.table.Row(check, "warn", detail, nil) }
func (c *checkup) fail(check string, err error) {
	c.table.Row(check, "fail", nil, fmt.Errorf("%s: %w", check, err))
}

func (c *checkup) run(ctx context.Context) {
	cl, err := c.env.Connect(ctx)
	if err != nil {
		c.fail("bootstrap", errors.New(c.env.Explain(err)))
	} else {
		defer cl.Close()
		c.ok("bootstrap", "answers in the Kafka protocol")
		c.advertised(ctx, cl)
		c.versions(ctx, cl)
		c.coordinators(ctx, cl)
	}
	if url, given := c.env.RegistryURL(); given {
		c.registry(ctx, url)
	}
}

// advertised dials what clients would.
func (c *checkup) advertised(ctx context.Context, cl *cli.Cluster) {
	meta, err := cl.Admin.BrokerMetadata(ctx)
	if err != nil {
		c.fail("metadata", err)
		return
	}
	for _, b := range meta.Brokers {
		check := fmt.Sprintf("advertised[%d]", b.NodeID)
		addr := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		dialer := net.Dialer{Timeout: 5 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			c.fail(check, fmt.Errorf("%w. Clients are told to connect to %s: set the broker's advertised address (--advertise, advertised.listeners) to one that can be reached from here", err, addr))
			continue
		}
		conn.Close()
		c.ok(check, addr)
	}
}

// versions checks what this program and streams applications need.
func (c *checkup) versions(ctx context.Context, cl *cli.Cluster) {
	all, err := cl.Admin.ApiVersions(ctx)
	if err != nil {
		c.fail("versions", err)
		return
	}
	all.Each(func(v kadm.BrokerApiVersions) {
		check := fmt.Sprintf("versions[%d]", v.NodeID)
		if v.Err != nil {
			c.fail(check, v.Err)
			return
		}
		var missing []string
		for _, need := range []struct{ key, version int16 }{{0, 3}, {1, 4}, {3, 1}, {11, 2}, {22, 0}, {24, 0}, {26, 0}, {28, 0}} {
			if high, ok := v.KeyMaxVersion(need.key); !ok || high < need.version {
				missing = append(missing, fmt.Sprintf("%s v%d", kmsg.NameForKey(need.key), need.version))
			}
		}
		if len(missing) > 0 {
			c.fail(check, fmt.Errorf("does not understand %s: streams applications need a broker of Kafka 2.5 or later", strings.Join(missing, ", ")))
			return
		}
		n := 0
		v.EachKeySorted(func(int16, int16, int16) { n++ })
		c.ok(check, fmt.Sprintf("%d APIs, with all that streams applications need", n))
	})
}

// coordinators asks for those of a group and a transactional id that need not exist.
func (c *checkup) coordinators(ctx context.Context, cl *cli.Cluster) {
	host, _ := os.Hostname()
	name := "leat-doctor-" + host
	for _, r := range cl.Admin.FindGroupCoordinators(ctx, name) {
		if r.Err != nil {
			c.fail("group coordinator", r.Err)
		} else {
			c.ok("group coordinator", fmt.Sprintf("broker %d", r.NodeID))
		}
	}
	for _, r := range cl.Admin.FindTxnCoordinators(ctx, name) {
		if r.Err != nil {
			c.fail("transaction coordinator", r.Err)
		} else {
			c.ok("transaction coordinator", fmt.Sprintf("broker %d", r.NodeID))
		}
	}
}

// maxSkew is how far the registry's clock may be away before that is worth a word: HTTP dates have seconds.
const maxSkew = 5 * time.Second

// registry asks for the subjects, and compares clocks: the Kafka protocol itself carries no time.
func (c *checkup) registry(ctx context.Context, url string) {
	url, _, _ = strings.Cut(url, ",")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/subjects", nil)
	if err != nil {
		c.fail("registry", err)
		return
	}
	transport := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		c.fail("registry", c.env.RegistryError(err))
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		c.fail("registry", fmt.Errorf("%s answers %s", url, resp.Status))
		return
	}
	c.ok("registry", url)
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		if skew := time.Until(date).Round(time.Second); skew > maxSkew || skew < -maxSkew {
			c.warn("clock", fmt.Sprintf("the registry's is %s away from this machine's: records will have odd timestamps", skew))
		} else {
			c.ok("clock", "within 5s of the registry's")
		}
	}
}
