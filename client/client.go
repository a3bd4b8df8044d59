// Package client is how Go programs use Wattle: publish modules, call functions, run jobs.
//
// A Client speaks Connect with one node. It retries what is safe to retry: uploads go on where they stopped, and
// submissions carry an idempotency key, so that a job is run once however often it was sent. Errors are Connect's; Reason
// and Hint say what they mean.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/gen/wattle/v1/wattlev1connect"
)

// DefaultAddr is where a node listens that was not told otherwise.
const DefaultAddr = "127.0.0.1:7070"

// Client speaks with one node. It may be used concurrently; it holds no resources but idle connections.
type Client struct {
	// Registry, Functions, Jobs, Secrets and Nodes are the services themselves, for what Client's methods do not offer.
	Registry  wattlev1connect.RegistryServiceClient
	Functions wattlev1connect.InvokeServiceClient
	Jobs      wattlev1connect.JobServiceClient
	Secrets   wattlev1connect.SecretServiceClient
	Nodes     wattlev1connect.NodeServiceClient
	http      *http.Client
	failed    func(error)
}

// Option changes how a Client speaks.
type Option func(*options)

type options struct {
	http    *http.Client
	failed  func(error)
	connect []connect.ClientOption
}

// WithHTTPClient uses another HTTP client.
func WithHTTPClient(c *http.Client) Option { return func(o *options) { o.http = c } }

// WithRetries has fn told why a request failed that is made again: see Client. It must not block.
func WithRetries(fn func(error)) Option { return func(o *options) { o.failed = fn } }

// WithGRPC speaks gRPC instead of Connect's own protocol.
func WithGRPC() Option {
	return func(o *options) { o.connect = append(o.connect, connect.WithGRPC()) }
}

// WithGRPCWeb speaks gRPC-Web.
func WithGRPCWeb() Option {
	return func(o *options) { o.connect = append(o.connect, connect.WithGRPCWeb()) }
}

// Dial returns a client of the node at addr: "host:port", or a URL. It does not connect yet.
func Dial(addr string, opts ...Option) *Client {
	if addr == "" {
		addr = DefaultAddr
	}
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	o := options{failed: func(error) {}}
	for _, opt := range opts {
		opt(&o)
	}
	if o.http == nil {
		// HTTP/2 without TLS, too: that is what gRPC and two-way streams need.
		p := new(http.Protocols)
		p.SetUnencryptedHTTP2(true)
		p.SetHTTP2(true)
		o.http = &http.Client{Transport: &http.Transport{
			Protocols: p, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
			DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, IdleConnTimeout: time.Minute,
			// A node that hangs, or is cut off, takes connections and never answers.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second},
		}}
	}
	return &Client{
		Registry:  wattlev1connect.NewRegistryServiceClient(o.http, addr, o.connect...),
		Functions: wattlev1connect.NewInvokeServiceClient(o.http, addr, o.connect...),
		Jobs:      wattlev1connect.NewJobServiceClient(o.http, addr, o.connect...),
		Secrets:   wattlev1connect.NewSecretServiceClient(o.http, addr, o.connect...),
		Nodes:     wattlev1connect.NewNodeServiceClient(o.http, addr, o.connect...),
		http:      o.http,
		failed:    o.failed,
	}
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Invoke calls a function and returns its answer. ref is SERVICE[@VERSION|@ALIAS]/FUNCTION.
func (c *Client) Invoke(ctx context.Context, ref string, payload []byte) ([]byte, error) {
	service, version, function, err := SplitRef(ref)
	if err != nil {
		return nil, err
	}
	res, err := c.Functions.Invoke(ctx, connect.NewRequest(&wattlev1.InvokeRequest{Service: service, Version: version, Function: function, Payload: payload}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Payload, nil
}

// SplitRef takes SERVICE[@VERSION|@ALIAS]/FUNCTION apart.
func SplitRef(ref string) (service, version, function string, err error) {
	service, function, ok := strings.Cut(ref, "/")
	service, version, _ = strings.Cut(service, "@")
	if !ok || service == "" || function == "" {
		return "", "", "", connect.NewError(connect.CodeInvalidArgument, errors.New("want SERVICE/FUNCTION or SERVICE@VERSION/FUNCTION, not "+ref))
	}
	return service, version, function, nil
}

// Detail returns what an error of the API carries beside its code and text, or nil.
func Detail(err error) *wattlev1.ErrorDetail {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return nil
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if e, ok := v.(*wattlev1.ErrorDetail); ok {
				return e
			}
		}
	}
	return nil
}

// Reason returns the stable word for what went wrong, such as "unknown_service", or "".
func Reason(err error) string { return Detail(err).GetReason() }

// Hint returns what to do next, or "".
func Hint(err error) string { return Detail(err).GetHint() }

// IsNotFound tells whether what was named does not exist.
func IsNotFound(err error) bool { return connect.CodeOf(err) == connect.CodeNotFound }

// retry repeats fn while the node asks to come back, with growing pauses, for up to a minute. fn must be safe to repeat.
func (c *Client) retry(ctx context.Context, fn func() error) error {
	return c.retryWhile(ctx, temporary, fn)
}

func (c *Client) retryWhile(ctx context.Context, temporary func(error) bool, fn func() error) error {
	pause := 100 * time.Millisecond
	deadline := time.Now().Add(time.Minute)
	for {
		err := fn()
		if err == nil || !temporary(err) || time.Now().Add(pause).After(deadline) {
			return err
		}
		c.failed(err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
		pause = min(2*pause, 5*time.Second)
	}
}

func temporary(err error) bool {
	// Nobody listens: most likely a wrong address, which waiting does not mend.
	// A node that waits to join may do so for long.
	return !refused(err) && away(err) && Reason(err) != "joining"
}

func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// away tells that a node which was there does not answer now.
func away(err error) bool {
	// A connection that breaks is to Connect sometimes a request that was canceled.
	var op *net.OpError
	broke := errors.As(err, &op) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF)
	return broke || connect.CodeOf(err) == connect.CodeUnavailable || Reason(err) == "overloaded"
}
