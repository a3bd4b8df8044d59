package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/trace"
)

// Services publishes and calls functions.
type Services interface {
	StartUpload(d digest.Digest, size int64, chunks []digest.Digest) (missing []int, err error)
	UploadChunk(d digest.Digest, index int, data []byte) error
	CreateVersion(ctx context.Context, req *wattlev1.CreateVersionRequest) (*wattlev1.Version, bool, error)
	List() ([]*wattlev1.Service, uint64)
	Get(name string) (*wattlev1.Service, error)
	DeleteService(ctx context.Context, name string) error
	DeleteVersion(ctx context.Context, service string, number uint64) error
	SetAlias(ctx context.Context, service, alias string, number uint64) (*wattlev1.Service, error)
	DeleteAlias(ctx context.Context, service, alias string) error
	SetBalance(ctx context.Context, service string, b *wattlev1.Balance) (*wattlev1.Service, error)
	Watch(ctx context.Context, fn func(*wattlev1.WatchServicesResponse) error) error
	Invoke(ctx context.Context, in Invocation) (*wattlev1.InvokeResponse, error)
}

// Invocation is one call of a function.
type Invocation struct {
	Service, Version, Function string
	Payload                    []byte
	// Timeout shortens the function's own; zero leaves it.
	Timeout time.Duration
	// Key chooses the node where the service's balance goes by it.
	Key string
}

type registryHandler struct{ s Services }

func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return d, fault.New(fault.Invalid, "bad_digest", "%w", err).Hint("write sha256- and 64 hex digits")
	}
	return d, nil
}

func (h *registryHandler) StartUpload(_ context.Context, r *connect.Request[wattlev1.StartUploadRequest]) (*connect.Response[wattlev1.StartUploadResponse], error) {
	d, err := parseDigest(r.Msg.Digest)
	if err != nil {
		return nil, err
	}
	chunks := make([]digest.Digest, len(r.Msg.Chunks))
	for i, c := range r.Msg.Chunks {
		if len(c) != digest.Size {
			return nil, fault.New(fault.Invalid, "bad_digest", "chunk %d: a digest has %d bytes, not %d", i, digest.Size, len(c)).
				Hint("send the SHA-256 of each 1 MiB of the module, as it is")
		}
		chunks[i] = digest.Digest(c)
	}
	missing, err := h.s.StartUpload(d, int64(r.Msg.Size), chunks)
	if err != nil {
		return nil, err
	}
	res := &wattlev1.StartUploadResponse{ChunkBytes: 1 << 20}
	for _, m := range missing {
		res.Missing = append(res.Missing, uint32(m))
	}
	return connect.NewResponse(res), nil
}

func (h *registryHandler) UploadChunk(_ context.Context, r *connect.Request[wattlev1.UploadChunkRequest]) (*connect.Response[wattlev1.UploadChunkResponse], error) {
	d, err := parseDigest(r.Msg.Digest)
	if err != nil {
		return nil, err
	}
	if err := h.s.UploadChunk(d, int(r.Msg.Index), r.Msg.Data); err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.UploadChunkResponse{}), nil
}

func (h *registryHandler) CreateVersion(ctx context.Context, r *connect.Request[wattlev1.CreateVersionRequest]) (*connect.Response[wattlev1.CreateVersionResponse], error) {
	v, created, err := h.s.CreateVersion(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.CreateVersionResponse{Version: v, Created: created}), nil
}

func (h *registryHandler) ListServices(context.Context, *connect.Request[wattlev1.ListServicesRequest]) (*connect.Response[wattlev1.ListServicesResponse], error) {
	services, revision := h.s.List()
	return connect.NewResponse(&wattlev1.ListServicesResponse{Services: services, Revision: revision}), nil
}

func (h *registryHandler) GetService(_ context.Context, r *connect.Request[wattlev1.GetServiceRequest]) (*connect.Response[wattlev1.GetServiceResponse], error) {
	s, err := h.s.Get(r.Msg.Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.GetServiceResponse{Service: s}), nil
}

func (h *registryHandler) DeleteService(ctx context.Context, r *connect.Request[wattlev1.DeleteServiceRequest]) (*connect.Response[wattlev1.DeleteServiceResponse], error) {
	if err := h.s.DeleteService(ctx, r.Msg.Name); err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.DeleteServiceResponse{}), nil
}

func (h *registryHandler) DeleteVersion(ctx context.Context, r *connect.Request[wattlev1.DeleteVersionRequest]) (*connect.Response[wattlev1.DeleteVersionResponse], error) {
	if err := h.s.DeleteVersion(ctx, r.Msg.Service, r.Msg.Number); err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.DeleteVersionResponse{}), nil
}

func (h *registryHandler) SetAlias(ctx context.Context, r *connect.Request[wattlev1.SetAliasRequest]) (*connect.Response[wattlev1.SetAliasResponse], error) {
	s, err := h.s.SetAlias(ctx, r.Msg.Service, r.Msg.Alias, r.Msg.Number)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.SetAliasResponse{Service: s}), nil
}

func (h *registryHandler) DeleteAlias(ctx context.Context, r *connect.Request[wattlev1.DeleteAliasRequest]) (*connect.Response[wattlev1.DeleteAliasResponse], error) {
	if err := h.s.DeleteAlias(ctx, r.Msg.Service, r.Msg.Alias); err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.DeleteAliasResponse{}), nil
}

func (h *registryHandler) SetBalance(ctx context.Context, r *connect.Request[wattlev1.SetBalanceRequest]) (*connect.Response[wattlev1.SetBalanceResponse], error) {
	s, err := h.s.SetBalance(ctx, r.Msg.Service, r.Msg.Balance)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.SetBalanceResponse{Service: s}), nil
}

func (h *registryHandler) WatchServices(ctx context.Context, _ *connect.Request[wattlev1.WatchServicesRequest], stream *connect.ServerStream[wattlev1.WatchServicesResponse]) error {
	return h.s.Watch(ctx, stream.Send)
}

type invokeHandler struct {
	s      Services
	memory Memory
}

func (h *invokeHandler) Invoke(ctx context.Context, r *connect.Request[wattlev1.InvokeRequest]) (*connect.Response[wattlev1.InvokeResponse], error) {
	if r.Msg.Timeout.AsDuration() < 0 {
		return nil, fault.New(fault.Invalid, "bad_timeout", "the timeout is negative").Hint("leave it out for the function's own")
	}
	if n := len(r.Msg.Payload); n > MaxRequest {
		return nil, fault.New(fault.Limit, "payload_limit", "the payload has %d bytes; the most is %d", n, MaxRequest).
			With("limit", "request_bytes").With("value", MaxRequest).Hint("hand large data over in files, as a job, or in parts")
	}
	res, err := h.s.Invoke(traced(ctx, r.Header()), Invocation{
		Service: r.Msg.Service, Version: r.Msg.Version, Function: r.Msg.Function, Payload: r.Msg.Payload, Timeout: r.Msg.Timeout.AsDuration(), Key: r.Msg.BalanceKey,
	})
	if err == nil {
		err = keep(ctx, h.memory, len(res.Payload))
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// plainHandler calls functions for those who speak nothing but HTTP: body in, body out. The service may carry a version:
// /fn/echo@2/echo. Headers: Wattle-Timeout ("500ms") shortens the function's time,
// Wattle-Balance-Key is the balance key.
type plainHandler struct {
	s      Services
	memory Memory
}

func (h *plainHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The function would get the compressed bytes and take them for its input.
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		w.Header().Set("Accept-Encoding", "identity")
		http.Error(w, "the body has the Content-Encoding "+e+"; send it as it is", http.StatusUnsupportedMediaType)
		return
	}
	in := Invocation{Service: r.PathValue("service"), Function: r.PathValue("function"), Key: r.Header.Get("Wattle-Balance-Key")}
	for i := range in.Service {
		if in.Service[i] == '@' {
			in.Service, in.Version = in.Service[:i], in.Service[i+1:]
			break
		}
	}
	if t := r.Header.Get("Wattle-Timeout"); t != "" {
		d, err := time.ParseDuration(t)
		if err != nil || d <= 0 {
			writeHTTP(w, fault.New(fault.Invalid, "bad_timeout", "Wattle-Timeout %q is no duration", t).Hint("for example 500ms"))
			return
		}
		in.Timeout = d
	}
	var err error
	if in.Payload, err = io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest)); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			http.Error(w, fmt.Sprintf("the body is larger than %d bytes", MaxRequest), http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "the body cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	res, err := h.s.Invoke(traced(r.Context(), r.Header), in)
	if err == nil {
		err = keep(r.Context(), h.memory, len(res.Payload))
	}
	if err != nil {
		writeHTTP(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	setStats(w.Header(), res.Stats)
	w.Header().Set("Wattle-Version", strconv.FormatUint(res.Version, 10))
	w.Header().Set("Wattle-Node", res.Node)
	w.Header().Set("Content-Length", strconv.Itoa(len(res.Payload)))
	w.Write(res.Payload)
}

// traced answers a context that belongs to a call in the trace that the caller's header names, or in a new one.
func traced(ctx context.Context, h http.Header) context.Context {
	if parent, ok := trace.Parse(h.Get(trace.Header)); ok {
		return trace.With(ctx, parent.Child())
	}
	return trace.With(ctx, trace.New())
}

// FailedCall is the error of a call that took something before it failed.
type FailedCall struct {
	Err   error
	Stats *wattlev1.CallStats
}

func (f *FailedCall) Error() string { return f.Err.Error() }
func (f *FailedCall) Unwrap() error { return f.Err }

func statsOf(err error) *wattlev1.CallStats {
	if f := (*FailedCall)(nil); errors.As(err, &f) {
		return f.Stats
	}
	return nil
}

func setStats(h http.Header, s *wattlev1.CallStats) {
	if s != nil {
		h.Set("Wattle-Fuel", strconv.FormatUint(s.Fuel, 10))
		h.Set("Wattle-Peak-Memory", strconv.FormatUint(s.PeakMemoryBytes, 10))
	}
}
