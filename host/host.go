// Package host runs WebAssembly guests: it inspects modules, keeps them compiled, and calls their functions, each call
// from the same clean state and within limits of memory, fuel, time, stack, output and log. docs/abi.md is what it
// speaks with guests.
//
// A module is prepared once: instrumented so that it can be stopped and its fuel counted, compiled, started, and its
// state kept as an image. Calls run in slots, instances that are put back to the image after each call by copying the
// pages that the call wrote to.
//
// It does not know services, versions, jobs or storage: it takes bytes and readers, and answers *fault.Error where the
// guest or the caller is to blame. A guest gets no environment, and no files
// and no network but what its Call brings.
//
// The caller must Release every Module it loads, must keep Config.CacheDir to itself (compiled code is read from there
// and run), and must hand in callbacks that answer: a call that waits in one of them is not stopped by its time limit.
// Close waits for the calls that are running.
package host

import (
	"context"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
)

// Config says how a Host works. The zero value is usable.
type Config struct {
	// CacheDir keeps compiled code between starts; "" keeps it in memory only. Whoever can write there can run
	// code as this process.
	CacheDir string
	// Defaults hold where a call sets no limit. Zero fields take the built-in ones: 256 MiB of memory, 30 s,
	// 64 MiB of output, 1 MiB of log.
	Defaults Limits
	// MaxModuleBytes bounds one module; 0 is 64 MiB.
	MaxModuleBytes int64
	// MaxModules bounds how many compiled modules are kept for their next call; 0 is 128. Modules in use are
	// kept beyond it.
	MaxModules int
	// GuestMemory bounds what all guests together may use of memory, in bytes; 0 is 2 GiB.
	GuestMemory uint64
	// Processors is how many guests may compute at a time beyond their first tenth of a millisecond; 0 is the
	// number of processors. Where the process has one more than that (GOMAXPROCS), what else it does never waits
	// for guests.
	Processors int

	portableMemory bool        // for tests: use the fallback for guests' memory
	onRetire       func(error) // for tests: told of slots that could not be put back
}

const (
	defaultMaxModuleBytes = 64 << 20
	defaultMaxModules     = 128
	// maxCachedBytes bounds the modules kept compiled by their size. Machine code takes about four times as much.
	maxCachedBytes     = 256 << 20
	defaultGuestMemory = 2 << 30
)

// Host compiles and runs guests. It is safe for concurrent use.
type Host struct {
	config  Config
	engine  engine
	modules modules
	budget  budget
	turns   turns
	gates   gates
	fuel    atomic.Uint64
	limits  limitCounts
	retired atomic.Uint64

	// compiling holds one token: the compiler takes many times a module's size, so one at a time bounds it.
	compiling chan struct{}

	// inflight counts the work that Close waits for; closing is added to it once.
	inflight atomic.Int64
	idle     chan struct{} // gets one value when the last of it ends after Close began

	sweeping atomic.Bool
	mu       sync.Mutex
	closed   bool
	sweeper  *time.Timer
}

// closing is more than there can be calls.
const closing = 1 << 40

// New starts a Host.
func New(ctx context.Context, c Config) (*Host, error) {
	c.Defaults = c.Defaults.Or(builtinLimits)
	if c.MaxModuleBytes <= 0 {
		c.MaxModuleBytes = defaultMaxModuleBytes
	}
	if c.MaxModules <= 0 {
		c.MaxModules = defaultMaxModules
	}
	if c.GuestMemory == 0 {
		c.GuestMemory = defaultGuestMemory
	}
	if c.Processors <= 0 {
		c.Processors = runtime.NumCPU()
	}
	if c.CacheDir != "" {
		if err := os.MkdirAll(c.CacheDir, 0o700); err != nil {
			return nil, err
		}
	}
	e, err := newWazero(ctx, c.CacheDir, c.Processors)
	if err != nil {
		return nil, err
	}
	h := &Host{config: c, engine: e, compiling: make(chan struct{}, 1), idle: make(chan struct{}, 1)}
	h.budget.limit, h.budget.spare = c.GuestMemory, h.spare
	h.turns.most = c.Processors
	h.modules.init(c.MaxModules, maxCachedBytes, &h.budget)
	return h, nil
}

// Limits answers what holds where a call sets no limit.
func (h *Host) Limits() Limits { return h.config.Defaults }

// Close refuses further calls, waits for the running ones, and frees what was compiled. When ctx ends first it
// answers ctx's error and may be called again.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		if h.sweeper != nil {
			h.sweeper.Stop()
		}
		if h.inflight.Add(closing) == closing {
			h.idle <- struct{}{}
		}
	}
	h.mu.Unlock()
	select {
	case <-h.idle:
		h.idle <- struct{}{} // for another Close
	case <-ctx.Done():
		return ctx.Err()
	}
	h.modules.clear(ctx)
	return h.engine.close(ctx)
}

// begin counts one piece of work that Close has to wait for.
func (h *Host) begin() error {
	if h.inflight.Add(1) > closing {
		h.end()
		return fault.New(fault.Unavailable, "host_closed", "the function host is shutting down").Hint("try another node, or again later")
	}
	return nil
}

func (h *Host) end() {
	if h.inflight.Add(-1) == closing {
		select {
		case h.idle <- struct{}{}:
		default: // told before
		}
	}
}
