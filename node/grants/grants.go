// Package grants is what functions may do beyond computing: it carries out what a version was granted when it was
// published, and denies the rest. It implements host.Capabilities.
//
// It does not decide who may grant what. The caller makes one Grants per node, and asks it For each version; what it
// answers may be used concurrently.
package grants

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/secret"
)

// Grants carries out capabilities on one node. Its fields must be set before it is used.
type Grants struct {
	Cache *Cache
	// Secrets answers the value of a secret.
	Secrets func(name string) ([]byte, error)
	// Folder answers where a folder really lies, if it may be read, or written to.
	Folder func(dir string, write bool) (string, error)
	// Invoke calls a function for another one.
	Invoke func(ctx context.Context, r *host.Invocation) ([]byte, error)
}

// For answers the capabilities of a version's function. c may be nil: nothing is granted then.
func (g *Grants) For(service, function string, c *wattlev1.Capabilities) host.Capabilities {
	return &granted{Grants: g, service: service, function: function, c: c}
}

type granted struct {
	*Grants
	service, function string
	c                 *wattlev1.Capabilities
}

func (g *granted) Config(key string) (string, bool, error) {
	v, ok := g.c.GetConfig()[key]
	return v, ok, nil
}

func (g *granted) Secret(name string) ([]byte, error) {
	if !slices.Contains(g.c.GetSecrets(), name) {
		return nil, g.denial("secrets", "read the secret %.140q", name)
	}
	return g.Secrets(name)
}

func (g *granted) CacheGet(key string) ([]byte, uint64, error) {
	if !g.c.GetCache() {
		return nil, 0, g.denial("cache", "use the node's shared memory")
	}
	value, version := g.Cache.Get(g.service, key)
	return value, version, nil
}

func (g *granted) CachePut(key string, value []byte, ttl time.Duration, expect *uint64) (uint64, bool, error) {
	if !g.c.GetCache() {
		return 0, false, g.denial("cache", "use the node's shared memory")
	}
	return g.Cache.Put(g.service, key, value, ttl, expect)
}

func (g *granted) denial(what, format string, args ...any) *fault.Error {
	return host.Denial(what, "%s may not %s: its version was not granted that", g.service, fmt.Sprintf(format, args...)).
		With("service", g.service)
}

// maxDepth bounds how many calls may be nested.
const maxDepth = 8

type chainKey struct{}

// Chain answers which functions wait for a call that one of them makes, the outermost first; nil for other calls.
func Chain(ctx context.Context) []string {
	chain, _ := ctx.Value(chainKey{}).([]string)
	return chain
}

// WithChain is for a call whose chain was begun elsewhere.
func WithChain(ctx context.Context, chain []string) context.Context {
	return context.WithValue(ctx, chainKey{}, chain)
}

func (g *granted) Invoke(ctx context.Context, r *host.Invocation) ([]byte, error) {
	if !slices.ContainsFunc(g.c.GetCalls(), func(allowed string) bool {
		service, function, _ := strings.Cut(allowed, "/")
		return service == r.Service && (function == "*" || function == r.Function)
	}) {
		return nil, g.denial("calls", "call %.80s/%.80s", r.Service, r.Function)
	}
	chain := Chain(ctx)
	if len(chain) == 0 {
		chain = []string{g.service + "/" + g.function}
	}
	next := r.Service + "/" + r.Function
	if slices.Contains(chain, next) {
		return nil, fault.New(fault.Precondition, "call_cycle", "the call of %s would run in a circle: %s", next, strings.Join(append(chain, next), " > ")).
			Hint("functions may not call themselves by way of others")
	}
	if len(chain) > maxDepth {
		return nil, fault.New(fault.Precondition, "call_depth", "%s is called %d calls deep, which is the most: %s", next, maxDepth, strings.Join(chain, " > ")).
			With("limit", "call_depth").With("value", maxDepth).
			Hint("let functions call each other less deeply")
	}
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.Timeout)*time.Millisecond)
		defer cancel()
	}
	return g.Grants.Invoke(WithChain(ctx, append(slices.Clip(chain), next)), r)
}

// Mounts opens the folders that a version was granted, as far as the node still allows them. close has to be called when the call is over.
func (g *Grants) Mounts(c *wattlev1.Capabilities) (mounts []host.Mount, close func(), err error) {
	var roots []*os.Root
	close = func() {
		for _, r := range roots {
			_ = r.Close() // it is a folder
		}
	}
	for _, f := range c.GetFiles() {
		dir, err := g.Folder(f.Dir, f.Write)
		if err != nil {
			close()
			return nil, nil, err
		}
		r, err := os.OpenRoot(dir)
		if err != nil {
			close()
			return nil, nil, fault.New(fault.Precondition, "no_folder", "the folder that the version was granted as %s cannot be opened: %w", f.Path, err).
				Hint("make it on this node, or publish a version without it")
		}
		roots = append(roots, r)
		mounts = append(mounts, host.Mount{Path: f.Path, Root: r, Write: f.Write})
	}
	return mounts, close, nil
}

// Check tells what is wrong with capabilities that somebody asks for.
func (g *Grants) Check(c *wattlev1.Capabilities) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "bad_capabilities", format, args...).Hint("see docs/capabilities.md")
	}
	size := 0
	for k, v := range c.GetConfig() {
		if k == "" {
			return bad("a setting has no name")
		}
		size += len(k) + len(v)
	}
	if size > maxConfig {
		return bad("the settings take %d bytes; the most is %d", size, maxConfig)
	}
	for _, name := range c.GetSecrets() {
		if err := secret.CheckName(name); err != nil {
			return err
		}
	}
	for _, h := range c.GetHttp() {
		if err := checkHost(h.Host); err != nil {
			return bad("http host %q: %w", h.Host, err)
		}
		for _, m := range h.Methods {
			if m == "" || strings.ContainsFunc(m, func(r rune) bool { return r < 'A' || r > 'Z' }) {
				return bad("http method %q: write it in capitals", m)
			}
		}
	}
	for _, r := range c.GetCalls() {
		service, function, ok := strings.Cut(r, "/")
		if !ok || registry.ValidateService(service) != nil || function != "*" && registry.ValidateFunction(function) != nil || strings.Contains(function, "/") {
			return bad("call %q: want SERVICE/FUNCTION or SERVICE/*, without a version", r)
		}
	}
	seen := map[string]bool{}
	for _, f := range c.GetFiles() {
		if !strings.HasPrefix(f.Path, "/") || f.Path == "/" || !fs.ValidPath(f.Path[1:]) {
			return bad("files %q: want an absolute path without . and .., such as /data", f.Path)
		}
		if seen[f.Path] {
			return bad("files: there are two folders for %s", f.Path)
		}
		seen[f.Path] = true
		if _, err := g.Folder(f.Dir, f.Write); err != nil {
			return err
		}
	}
	return nil
}

const maxConfig = 64 << 10
