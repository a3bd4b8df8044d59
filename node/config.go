package node

import (
	"cmp"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wattlehq/wattle/dag"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store"
)

// Config says how a node works. Data must be set.
type Config struct {
	// Data is the data directory.
	Data string
	// Cache keeps compiled modules: Data/cache by default. Nodes of one user may share it; whoever can write there can run
	// code in the node.
	Cache string
	// Addr is where the API listens, 127.0.0.1:7070 by default; port 0 takes any.
	Addr string
	// Join are API addresses of members of the cluster that a new data directory is to belong to; without them it founds one.
	Join []string
	// Discover looks for members on the local network, as if they were in Join.
	Discover bool
	// GossipAddr and PeerAddr are where this node gossips (TCP and UDP) and answers other nodes: the ports after the API's by
	// default. Advertise is the host by which others reach it, where that is not where it listens.
	GossipAddr, PeerAddr, Advertise string
	// Worker nodes keep no replicas: they only work.
	Worker bool
	// Linger is how long a node that stops takes new connections after /readyz says no, for who looks there before sending any.
	Linger time.Duration
	// Zone names what fails together.
	Zone string
	// Grace is how long a node may be silent before its replicas are replaced: see controller.Config.
	Grace time.Duration
	// Insecure allows to listen beyond loopback although nothing is authenticated.
	Insecure bool
	// AllowDirs are the directories whose files jobs may read. WriteDirs may be written to as well, by functions that were granted it.
	AllowDirs, WriteDirs []string
	// Origins and Hosts: see rpc.Config.
	Origins, Hosts []string
	// Pools are the worker pools of this node: stages may name one, and run nowhere else.
	Pools []string
	// Slots is how many tasks run at once; the number of CPUs by default.
	Slots int
	// Processors is how many guests compute at once; the number of CPUs by default. A process that has one more
	// (GOMAXPROCS) answers promptly while they do.
	Processors int
	// MaxCalls is how many calls may be under way, those that wait included; 256 for each of Processors by default.
	MaxCalls int
	// GuestMemory bounds the memory of all guests together, in bytes; half of the machine's by default.
	GuestMemory uint64
	// Shards is how many shards a new data directory gets; shard.DefaultShards by default.
	Shards uint32
	// ShuffleBytes is the memory one task's shuffle may take before it spills; 64 MiB by default.
	ShuffleBytes int64
	// TrimEntries: see shard.Config.
	TrimEntries uint64
	// CollectInterval is how often blobs that nothing refers to are removed; 10 min by default. PinTTL is how long a new blob
	// is kept regardless; 10 min by default.
	CollectInterval, PinTTL time.Duration
	// Retention is how long jobs are kept once they are over; 7 days by default.
	Retention time.Duration
	// Version is what the node calls itself.
	Version string
	// FS holds everything durable; the operating system's by default. Tests hand in others.
	FS store.FS
	// Fatal: see store.Options.
	Fatal func(error)
	// SecretKey is the file with the keys that encrypt secrets: see secret.ParseKeyring. Data/secret.key by default, which the first secret makes.
	SecretKey string
}

const defaultAddr = "127.0.0.1:7070"

// callsEach is how many calls a processor is thought to serve before they time out, most of which wait.
const callsEach = 256

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.CollectInterval, 10*time.Minute)
	set(&c.PinTTL, 10*time.Minute)
	set(&c.Retention, 7*24*time.Hour)
	if c.Addr == "" {
		c.Addr = defaultAddr
	}
	if c.Processors == 0 {
		c.Processors = runtime.GOMAXPROCS(0)
	}
	if c.Slots == 0 {
		c.Slots = c.Processors
	}
	if c.MaxCalls == 0 {
		c.MaxCalls = callsEach * c.Processors
	}
	if c.GuestMemory == 0 {
		c.GuestMemory = max(machineMemory()/2, leastGuestMemory)
	}
	if c.Shards == 0 {
		c.Shards = shard.DefaultShards
	}
	if c.ShuffleBytes == 0 {
		c.ShuffleBytes = 64 << 20
	}
	if c.FS == nil {
		c.FS = store.OS
	}
}

// check refuses what no default stands in for.
func (c *Config) check() error {
	if host, _, err := net.SplitHostPort(cmp.Or(c.Addr, defaultAddr)); c.Discover && err == nil && (host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1") {
		return fault.New(fault.Invalid, "bad_config", "--discover finds members that could not reach %s", cmp.Or(c.Addr, defaultAddr)).
			Hint("listen on an address of the network with --addr, and --insecure while there is no trust to configure")
	}
	for name, v := range map[string]int64{
		"--slots": int64(c.Slots), "--max-calls": int64(c.MaxCalls), "--shuffle-memory": c.ShuffleBytes,
		"--collect-interval": int64(c.CollectInterval), "--pin-ttl": int64(c.PinTTL), "--retention": int64(c.Retention), "--grace": int64(c.Grace), "--linger": int64(c.Linger),
	} {
		if v < 0 {
			return fault.New(fault.Invalid, "bad_config", "%s is negative", name).Hint("leave it out for the default")
		}
	}
	if c.Grace > 0 && c.Grace < time.Second {
		return fault.New(fault.Invalid, "bad_config", "--grace %s is too short to tell a node that is gone from one that is slow", c.Grace).Hint("give at least 1s; the default is 5m")
	}
	if strings.ContainsFunc(c.Zone, func(r rune) bool { return !unicode.IsGraphic(r) }) || len(c.Zone) > maxZone || !utf8.ValidString(c.Zone) {
		return fault.New(fault.Invalid, "bad_config", "--zone %.80q cannot be the name of a zone", c.Zone).Hint("use up to %d bytes of text without line ends and control characters", maxZone)
	}
	for i, p := range c.Pools {
		if err := dag.CheckPool(p); err != nil {
			return err.With("flag", "--pool")
		}
		if slices.Contains(c.Pools[:i], p) {
			return fault.New(fault.Invalid, "bad_config", "--pool %s is given twice", p).Hint("give each pool once")
		}
	}
	if n := len(strings.Join(c.Pools, " ")); n > maxPools {
		return fault.New(fault.Invalid, "bad_config", "the names of the pools of this node have %d bytes together", n).Hint("use up to %d: they are part of every message about the node", maxPools)
	}
	for _, j := range c.Join {
		if err := checkMember(j); err != nil {
			return err
		}
	}
	return nil
}

// maxZone is how many bytes a zone's name may have: it is part of every message about a member.
const maxZone = 64

// maxPools is how many bytes the names of a node's pools may have, for the same reason.
const maxPools = 128

// checkMember refuses what cannot be the address of a member's API, now or later.
func checkMember(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || strings.Contains(addr, "/") {
		return fault.New(fault.Invalid, "bad_join", "--join %.200q is not the address of a member", addr).Hint("want HOST:PORT of its API, for example 127.0.0.1:7070")
	}
	return nil
}
