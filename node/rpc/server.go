package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"

	"connectrpc.com/connect"
	connectcors "connectrpc.com/cors"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/rs/cors"

	"github.com/wattlehq/wattle/gen/wattle/v1/wattlev1connect"
	"github.com/wattlehq/wattle/internal/fault"
)

// MaxRequest is how many bytes of payload a request may have, decompressed.
const MaxRequest = 16 << 20

// maxEnvelope is how much a message may have beside its payload.
const maxEnvelope = 64 << 10

// Config says what the API is made of.
type Config struct {
	Services Services
	Jobs     Jobs
	Secrets  Secrets
	Node     Node
	// Memory bounds what large requests and answers take.
	Memory Memory
	// Metrics serves /metrics.
	Metrics http.Handler
	// Ready tells whether the node should be sent requests. Those that come are answered.
	Ready func() bool
	// Stopping is done when the node stops: then streams end that would go on for ever.
	Stopping context.Context
	// Hosts are further names under which clients may call the node. Addresses and localhost are always right.
	Hosts []string
	// Origins are web pages that may call the node: "https://example.org". None by default.
	Origins []string
}

// compressFrom is how large a message has to be to be worth the time that compressing takes.
const compressFrom = 4 << 10

// names are the services of the API.
var names = []string{
	wattlev1connect.RegistryServiceName, wattlev1connect.InvokeServiceName,
	wattlev1connect.JobServiceName, wattlev1connect.SecretServiceName, wattlev1connect.NodeServiceName,
}

// Handler returns the whole API.
func Handler(c Config) (http.Handler, error) {
	mux := http.NewServeMux()
	opts := []connect.HandlerOption{
		connect.WithInterceptors(translate{}, &gate{c.Stopping}),
		connect.WithReadMaxBytes(MaxRequest + maxEnvelope),
		connect.WithRecover(recovered),
		connect.WithCompressMinBytes(compressFrom),
	}
	mux.Handle(wattlev1connect.NewRegistryServiceHandler(&registryHandler{c.Services}, opts...))
	mux.Handle(wattlev1connect.NewInvokeServiceHandler(&invokeHandler{c.Services, c.Memory}, opts...))
	mux.Handle(wattlev1connect.NewJobServiceHandler(&jobHandler{c.Jobs}, opts...))
	mux.Handle(wattlev1connect.NewSecretServiceHandler(&secretHandler{c.Secrets}, opts...))
	mux.Handle(wattlev1connect.NewNodeServiceHandler(&nodeHandler{c.Node}, opts...))
	reflector := grpcreflect.NewStaticReflector(slices.Concat(names, []string{grpchealth.HealthV1ServiceName})...)
	mux.Handle(grpcreflect.NewHandlerV1(reflector))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector))
	mux.Handle(grpchealth.NewHandler(&health{c.Ready}))
	mux.Handle("GET /metrics", c.Metrics)
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !c.Ready() {
			http.Error(w, "the node is starting or stopping", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	})
	fn := &plainHandler{c.Services, c.Memory}
	mux.Handle("POST /fn/{service}/{function}", fn)
	mux.HandleFunc("/fn/{service}/{function}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "functions are called with POST", http.StatusMethodNotAllowed)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "nothing here: the API is under /wattle.v1.InvokeService/ and its like, functions under /fn/SERVICE/FUNCTION", http.StatusNotFound)
	})
	h, err := crossOrigin(mux, c.Origins)
	if err != nil {
		return nil, err
	}
	return checkHost(weigh(h, c.Memory, opts...), c.Hosts), nil
}

// crossOrigin lets the pages of the origins in, and keeps those of all others from making calls a browser would
// send unasked.
func crossOrigin(next http.Handler, origins []string) (http.Handler, error) {
	guard := http.NewCrossOriginProtection()
	for _, o := range origins {
		if err := guard.AddTrustedOrigin(o); err != nil {
			return nil, fault.New(fault.Invalid, "bad_origin", "--allow-origin %q: %w", o, err).Hint("for example https://example.org")
		}
	}
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "pages of this origin may not call the node; start it with --allow-origin "+r.Header.Get("Origin"), http.StatusForbidden)
	}))
	h := guard.Handler(next)
	if len(origins) == 0 {
		return h, nil
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: connectcors.AllowedMethods(),
		AllowedHeaders: append(connectcors.AllowedHeaders(), "Wattle-Timeout", "Wattle-Balance-Key"),
		ExposedHeaders: append(connectcors.ExposedHeaders(), "Wattle-Error", "Wattle-Version", "Wattle-Node", "Retry-After"),
		MaxAge:         7200,
	}).Handler(h), nil
}

// checkHost refuses requests for names the node was not given: a page that makes its own name point here (DNS rebinding) would
// otherwise count as of the same origin.
func checkHost(next http.Handler, names []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		growStack()
		name := r.Host
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
		_, err := netip.ParseAddr(name)
		if err != nil && name != "localhost" && !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			http.Error(w, "unknown host name "+name+"; start the node with --allow-host to serve it", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func recovered(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
	return &panicked{procedure: spec.Procedure, value: p}
}

var errStopping = fault.New(fault.Unavailable, "not_ready", "the node is stopping").Hint("try again in a moment, or at another node")

// gate ends streams that would go on for ever when the node stops, so that their clients look for another node or wait for this one. Requests are answered to the
// last: who sends one has not heard yet that the node stops.
type gate struct{ stopping context.Context }

func (g *gate) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (res connect.AnyResponse, err error) {
		if r.Spec().Procedure != wattlev1connect.JobServiceAcquireTasksProcedure {
			return next(ctx, r)
		}
		err = g.until(ctx, func(ctx context.Context) error {
			res, err = next(ctx, r)
			return err
		})
		return res, err
	}
}

// until does something that may wait for long, until the node stops.
func (g *gate) until(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.stopping, cancel)()
	err := do(ctx)
	if g.stopping.Err() != nil && errors.Is(err, context.Canceled) {
		return errStopping
	}
	return err
}

func (g *gate) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (g *gate) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if !strings.HasPrefix(path.Base(conn.Spec().Procedure), "Watch") {
			return next(ctx, conn) // ends by itself
		}
		return g.until(ctx, func(ctx context.Context) error { return next(ctx, conn) })
	}
}

// health is the standard gRPC health service.
type health struct{ ready func() bool }

func (h *health) Check(_ context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if r.Service != "" && !slices.Contains(names, r.Service) {
		return nil, connect.NewError(connect.CodeNotFound, fault.New(fault.NotFound, "unknown_service", "unknown service %s", r.Service))
	}
	if !h.ready() {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// growStack makes the goroutine's stack as large as a call of a guest needs it. A request has a goroutine of its own, whose stack
// would grow in the middle of the call otherwise: with dozens of frames to be copied, that took a tenth of the time of short calls.
//
//go:noinline
func growStack() byte {
	var room [10 << 10]byte // with what else is needed just below 16 KiB, the largest that the runtime keeps at hand
	return room[first(&room)]
}

//go:noinline
func first(*[10 << 10]byte) int { return 0 }
