package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlehq/wattle/node"
)

func (a *app) up() *cobra.Command {
	cfg := node.Config{Version: buildVersion()}
	var logLevel string
	c := &cobra.Command{
		Use:   "up",
		Short: "Run a node",
		Long:  "Run a node. It prints one line when it is ready and runs until it is interrupted. " + sizesHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var level slog.Level
			if err := level.UnmarshalText([]byte(logLevel)); err != nil {
				return usage("--log-level %s: want debug, info, warn or error", logLevel)
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level})))
			if cmd.Flags().Changed("join") && (len(cfg.Join) == 0 || slices.Contains(cfg.Join, "")) {
				return usage("--join names no address: want those of members, for example --join 10.0.0.1:7070,10.0.0.2:7070")
			}
			cfg.Addr = a.address()
			if cfg.Data == "" {
				dir, err := os.UserHomeDir()
				if err != nil {
					return usage("there is no home directory: say where to keep data with --data")
				}
				cfg.Data = filepath.Join(dir, ".wattle")
			}
			cfg.Processors = spareProcessor()
			n, err := node.New(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if at := n.Exposed(); len(at) > 0 {
				fmt.Fprintf(a.stderr, exposedWarning, strings.Join(at, ", "))
			}
			go func() {
				select {
				case <-n.Ready():
					cluster, how := n.Cluster()
					if a.output == "json" {
						fmt.Fprintf(a.stdout, "{\"ready\":true,\"addr\":%q,\"node\":%q,\"data\":%q,\"cluster\":%q,\"began\":%q}\n", n.Addr(), n.ID(), cfg.Data, cluster, how)
						return
					}
					fmt.Fprintf(a.stdout, "wattle: node %s is ready at http://%s (data in %s; cluster %s: %s)\n", n.ID(), n.Addr(), cfg.Data, cluster, how)
				case <-cmd.Context().Done():
				}
			}()
			return n.Run(cmd.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.Data, "data", "", "data directory (default ~/.wattle)")
	f.StringVar(&cfg.Cache, "cache", "", "directory for compiled modules; nodes of one user may share it (default DATA/cache)")
	f.StringVar(&cfg.SecretKey, "secret-key", "", "file with the keys that encrypt secrets, one on a line, the first for new ones (default DATA/secret.key, made when needed)")
	f.StringSliceVar(&cfg.Join, "join", nil, "API addresses of members: a new data directory joins their cluster instead of founding one")
	f.BoolVar(&cfg.Discover, "discover", false, "look for members on the local network (multicast DNS), as if they were given with --join")
	f.StringVar(&cfg.GossipAddr, "gossip-addr", "", "where the node gossips with others, over TCP and UDP (default the port after the API's)")
	f.StringVar(&cfg.PeerAddr, "peer-addr", "", "where the node answers other nodes (default two ports after the API's)")
	f.StringVar(&cfg.Advertise, "advertise", "", "the IP address by which other nodes reach this one, where that is not one it listens on")
	f.StringVar(&cfg.Zone, "zone", "", "what fails together, such as a rack: replicas are spread over zones")
	f.BoolVar(&cfg.Worker, "worker", false, "only work: keep no replicas. The node needs a cluster to join")
	f.DurationVar(&cfg.Linger, "linger", 0, "how long a node that stops takes new connections after /readyz says no, for load balancers that look there")
	f.DurationVar(&cfg.Grace, "grace", 0, "how long a node may be silent before its replicas are replaced (default 5m)")
	f.BoolVar(&cfg.Insecure, "insecure", false, "listen beyond loopback although nothing is authenticated yet; a warning says what that means")
	f.StringArrayVar(&cfg.AllowDirs, "allow-dir", nil, "a directory whose files jobs may read; may be repeated")
	f.StringArrayVar(&cfg.WriteDirs, "allow-write-dir", nil, "a directory that functions may be allowed to change as well; may be repeated")
	f.StringArrayVar(&cfg.Origins, "allow-origin", nil, "a web page's origin that may call the node; may be repeated")
	f.StringArrayVar(&cfg.Hosts, "allow-host", nil, "a further host name under which clients call the node; may be repeated")
	f.IntVar(&cfg.Slots, "slots", 0, "tasks that run at once on this node: the parallelism of its worker (default the number of CPUs)")
	f.StringArrayVar(&cfg.Pools, "pool", nil, "a worker pool this node belongs to: stages that name it run on its nodes only; may be repeated")
	f.IntVar(&cfg.MaxCalls, "max-calls", 0, "calls that may be under way, those that wait included (default 256 for each CPU)")
	sizeVar(f, &cfg.GuestMemory, "guest-memory", "memory for all guests together (default half of the machine's)")
	f.Uint32Var(&cfg.Shards, "shards", 0, "shards of a new data directory (default 64)")
	sizeVar(f, &cfg.ShuffleBytes, "shuffle-memory", "records a task keeps in memory before it spills (default 64MiB)")
	f.Uint64Var(&cfg.TrimEntries, "trim-entries", 0, "log entries a shard keeps before it drops the beginning (default 10000)")
	f.DurationVar(&cfg.CollectInterval, "collect-interval", 0, "how often unused blobs are removed (default 10m)")
	f.DurationVar(&cfg.PinTTL, "pin-ttl", 0, "how long a new blob is kept although nothing refers to it yet (default 10m)")
	f.DurationVar(&cfg.Retention, "retention", 0, "how long jobs and their results are kept once they are over (default 168h)")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

// exposedWarning goes past any log level: nobody shall be able to say that they did not see it.
const exposedWarning = `
wattle: ************************************************************************
wattle: WARNING: NOTHING PROTECTS THIS NODE. Trust is not configured (--insecure).
wattle:
wattle: It listens at %s.
wattle: Whoever reaches one of these ports can run code in its functions, read and
wattle: change all data, put other nodes into this cluster, and end it.
wattle:
wattle: What to do: let only machines that you trust reach these ports (a firewall,
wattle: a private network, a VPN); or listen on 127.0.0.1, and let clients in
wattle: through a proxy that knows them. wattle node ls says "none" under TRUST.
wattle: ************************************************************************

`

// spareProcessor gives the process one processor more than guests may compute on, and answers how many those are: a guest's
// code is not interrupted, and what else the node does shall not wait for it. The system shares the real ones.
func spareProcessor() int {
	n := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(n + 1)
	return n
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			if a.output == "json" {
				_, err := fmt.Fprintf(a.stdout, "{\"version\":%q}\n", v)
				return err
			}
			_, err := fmt.Fprintln(a.stdout, "wattle", v)
			return err
		},
	}
}

// buildVersion is the release's, or what the Go toolchain knows about the source.
func buildVersion() string {
	if version != "dev" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return version
}

// since prints how long ago a time was.
func since(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}
