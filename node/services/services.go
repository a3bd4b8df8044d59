// Package services publishes modules and calls their functions: the node's side of registry and host.
//
// Publishing goes through the registry's shard and is durable. Calling goes by the in-memory view alone: no disk but for a
// module's first load, no consensus. The package keeps nothing of its own.
package services

import (
	"cmp"
	"context"
	"io"
	"strings"
	"time"

	"github.com/samber/lo"
	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/node/grants"
	"github.com/wattlehq/wattle/node/jobs"
	"github.com/wattlehq/wattle/node/rpc"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/shard"
)

// Shards is what publishing needs of the shard engine.
type Shards interface {
	Propose(ctx context.Context, p shard.Proposal) (machine.Result, error)
}

// Blobs is what publishing needs of blobs.
type Blobs interface {
	jobs.Blobs
	StartUpload(d digest.Digest, size int64, chunks []digest.Digest) (missing []int, err error)
	PutChunk(d digest.Digest, index int, data []byte) error
	FinishUpload(ctx context.Context, d digest.Digest) error
}

// Services implements rpc.Services and dag.Resolver. Its fields must be set; it may be used concurrently.
type Services struct {
	Shards Shards
	View   *registry.View
	Host   *host.Host
	Blobs  Blobs
	Grants *grants.Grants
	Calls  *Calls
	Others *Others
	// Observe is told of every call that was begun.
	Observe func(service, function string, took time.Duration, err error)
	// Ready tells whether the node takes calls.
	Ready func() bool
	// MaxModule bounds a module in bytes.
	MaxModule int64

	loadings loadings
}

var (
	_ rpc.Services = (*Services)(nil)
	_ dag.Resolver = (*Services)(nil)
)

// StartUpload announces a module.
func (s *Services) StartUpload(d digest.Digest, size int64, chunks []digest.Digest) ([]int, error) {
	if size > s.MaxModule {
		return nil, fault.New(fault.Invalid, "module_too_large", "the module has %d bytes; the limit is %d", size, s.MaxModule).
			Hint("strip it of debugging information, or split the service")
	}
	missing, err := s.Blobs.StartUpload(d, size, chunks)
	return missing, hint(err, "bad_upload", "announce the digest of the whole, its size, and the SHA-256 of each 1 MiB of it")
}

// hint says what to do about an error that does not say so itself.
func hint(err error, reason, help string) error {
	if e := fault.As(err); e != nil && e.Reason == reason && e.Help == "" {
		return e.Hint("%s", help)
	}
	return err
}

// UploadChunk stores a chunk of an announced module.
func (s *Services) UploadChunk(d digest.Digest, index int, data []byte) error {
	return hint(s.Blobs.PutChunk(d, index, data), "bad_chunk", "send the bytes that were announced, or start the upload again with others")
}

// CreateVersion checks an uploaded module and publishes it.
func (s *Services) CreateVersion(ctx context.Context, req *wattlev1.CreateVersionRequest) (*wattlev1.Version, bool, error) {
	if err := registry.ValidateService(req.Service); err != nil {
		return nil, false, err
	}
	d, err := digest.Parse(req.Digest)
	if err != nil {
		return nil, false, fault.New(fault.Invalid, "bad_digest", "%w", err).Hint("write sha256- and 64 hex digits")
	}
	if err := s.Blobs.FinishUpload(ctx, d); err != nil {
		return nil, false, err
	}
	wasm, err := s.module(ctx, d)
	if err != nil {
		return nil, false, err
	}
	if err := s.Grants.Check(req.Capabilities); err != nil {
		return nil, false, err
	}
	info, err := s.Host.Inspect(ctx, wasm)
	if err != nil {
		return nil, false, err
	}
	fresh := info.Fresh
	if fresh == "" && len(req.Capabilities.GetFiles()) > 0 {
		fresh = "it has a file system"
	}
	for name, l := range lo.Assign(map[string]*wattlev1.Limits{"": req.Limits}, req.FunctionLimits) {
		if l.GetMemoryBytes() > 0 && l.GetMemoryBytes() < info.Memory {
			return nil, false, fault.New(fault.Invalid, "memory_limit", "%s may have %d bytes of memory, but the module starts with %d", cmp.Or(name, "functions"), l.MemoryBytes, info.Memory).
				With("limit", "memory_bytes").With("value", l.MemoryBytes).Hint("allow at least %d (wattle push --memory)", info.Memory)
		}
	}
	functions := lo.Map(info.Functions, func(f host.Function, _ int) *wattlev1.Function {
		return &wattlev1.Function{Name: f.Name, Kind: kinds[f.Kind], Description: f.Description}
	})
	for name := range req.FunctionLimits {
		if !lo.ContainsBy(functions, func(f *wattlev1.Function) bool { return f.Name == name }) {
			return nil, false, fault.New(fault.Invalid, "unknown_function", "limits for function %q, which the module does not have", name).
				Hint("it has %s", strings.Join(lo.Map(functions, func(f *wattlev1.Function, _ int) string { return f.Name }), ", "))
		}
	}
	res, err := s.change(ctx, &storev1.RegistryCommand{Change: &storev1.RegistryCommand_CreateVersion{CreateVersion: &storev1.CreateVersion{
		Version: &wattlev1.Version{
			Service: req.Service, Number: req.Number, Digest: d.String(), Size: uint64(len(wasm)), Abi: info.ABI, Functions: functions,
			Limits: req.Limits, FunctionLimits: req.FunctionLimits, Fresh: req.Fresh, FreshReason: fresh,
			Capabilities: req.Capabilities, LeftOut: info.LeftOut,
		},
		Aliases: req.Aliases,
	}}})
	if err != nil {
		return nil, false, err
	}
	return res.Version, res.Created, nil
}

var kinds = map[host.Kind]wattlev1.FunctionKind{
	host.KindCall:    wattlev1.FunctionKind_FUNCTION_KIND_CALL,
	host.KindMap:     wattlev1.FunctionKind_FUNCTION_KIND_MAP,
	host.KindReduce:  wattlev1.FunctionKind_FUNCTION_KIND_REDUCE,
	host.KindCombine: wattlev1.FunctionKind_FUNCTION_KIND_COMBINE,
}

func (s *Services) module(ctx context.Context, d digest.Digest) ([]byte, error) {
	b, err := s.Blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b.Reader(0, b.Size()))
}

func (s *Services) change(ctx context.Context, c *storev1.RegistryCommand) (*storev1.RegistryResult, error) {
	body, err := proto.Marshal(c)
	if err != nil {
		return nil, err
	}
	res, err := s.Shards.Propose(ctx, shard.Proposal{Slot: registry.Slot, Machine: machine.Registry, Body: body, Admit: true})
	if err != nil {
		return nil, err
	}
	if res.Err != nil {
		return nil, res.Err
	}
	r := &storev1.RegistryResult{}
	if err := proto.Unmarshal(res.Value, r); err != nil {
		return nil, err
	}
	if r.Service != nil {
		// Whoever asked for it may count on it here at once, though the news may still be on their way.
		s.View.Apply(registry.Changed{Service: r.Service, Revision: r.Service.Revision})
	}
	return r, nil
}

// List returns every service.
func (s *Services) List() ([]*wattlev1.Service, uint64) { return s.View.Services(), s.View.Revision() }

// Get returns a service.
func (s *Services) Get(name string) (*wattlev1.Service, error) { return s.View.Service(name) }

// DeleteService removes a service with all its versions.
func (s *Services) DeleteService(ctx context.Context, name string) error {
	_, err := s.change(ctx, &storev1.RegistryCommand{Change: &storev1.RegistryCommand_DeleteService{DeleteService: &storev1.DeleteService{Name: name}}})
	return err
}

// DeleteVersion removes a version that no alias points to.
func (s *Services) DeleteVersion(ctx context.Context, service string, number uint64) error {
	_, err := s.change(ctx, &storev1.RegistryCommand{Change: &storev1.RegistryCommand_DeleteVersion{DeleteVersion: &storev1.DeleteVersion{Service: service, Number: number}}})
	return err
}

// SetAlias points an alias at a version.
func (s *Services) SetAlias(ctx context.Context, service, alias string, number uint64) (*wattlev1.Service, error) {
	res, err := s.change(ctx, &storev1.RegistryCommand{Change: &storev1.RegistryCommand_SetAlias{SetAlias: &storev1.SetAlias{Service: service, Alias: alias, Number: number}}})
	return res.GetService(), err
}

// DeleteAlias removes an alias.
func (s *Services) DeleteAlias(ctx context.Context, service, alias string) error {
	_, err := s.change(ctx, &storev1.RegistryCommand{Change: &storev1.RegistryCommand_DeleteAlias{DeleteAlias: &storev1.DeleteAlias{Service: service, Alias: alias}}})
	return err
}

// SetBalance says which nodes run the calls of a service.
func (s *Services) SetBalance(ctx context.Context, service string, b *wattlev1.Balance) (*wattlev1.Service, error) {
	if err := registry.ValidateBalance(b); err != nil {
		return nil, err
	}
	for node := range b.Weights {
		if !s.Others.Known(shard.NodeID(node)) {
			return nil, fault.New(fault.Invalid, "unknown_node", "%s is no node of the cluster that this one knows", node).Hint("wattle node ls shows the ids")
		}
	}
	res, err := s.change(ctx, &storev1.RegistryCommand{Change: &storev1.RegistryCommand_SetBalance{SetBalance: &storev1.SetBalance{Service: service, Balance: b}}})
	return res.GetService(), err
}

// Watch calls fn with every service, then with every change, until fn fails or ctx ends.
func (s *Services) Watch(ctx context.Context, fn func(*wattlev1.WatchServicesResponse) error) error {
	for c := range s.View.Watch(ctx) {
		if err := fn(c); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// resolve finds a version and one of its functions.
func (s *Services) resolve(ref registry.Ref) (*wattlev1.Version, *wattlev1.Function, error) {
	v, err := s.View.Resolve(ref)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range v.Functions {
		if f.Name == ref.Function {
			return v, f, nil
		}
		if f.Name == host.AnyFunction && ref.Function != "" {
			return v, &wattlev1.Function{Name: ref.Function, Kind: f.Kind}, nil
		}
	}
	return nil, nil, fault.New(fault.Invalid, "no_function", "the request names no function of %s@%d", v.Service, v.Number).
		Hint("wattle service get %s lists them", v.Service)
}

// ResolveFunction implements dag.Resolver.
func (s *Services) ResolveFunction(text string) (*storev1.PlanFunction, error) {
	ref, err := registry.ParseRef(text)
	if err != nil {
		return nil, err
	}
	v, f, err := s.resolve(ref)
	if err != nil {
		return nil, err
	}
	return &storev1.PlanFunction{
		Service: v.Service, Number: v.Number, Function: f.Name, Digest: v.Digest, Kind: f.Kind, Limits: registry.LimitsFor(v, f.Name), Fresh: v.Fresh,
		Capabilities: v.Capabilities,
	}, nil
}
