package grants

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/trace"
)

const (
	maxResponse  = 8 << 20
	maxRedirects = 5
	httpTimeout  = 30 * time.Second
)

// checkHost tells what is wrong with the host of a grant.
func checkHost(h string) error {
	if strings.Contains(h, "://") {
		return errors.New("leave http:// or https:// out")
	}
	name := h
	if n, port, err := net.SplitHostPort(h); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return errors.New("the port is no number")
		}
		name = n
	}
	name = strings.TrimPrefix(name, "*.")
	if name == "" || strings.ContainsAny(name, "/*@ ?#") {
		return errors.New("want a name such as api.example.com, *.example.com or localhost:8080")
	}
	return nil
}

// matches tells whether a grant is for a URL's host and port.
func matches(grant string, u *url.URL) bool {
	name, port := grant, ""
	if n, p, err := net.SplitHostPort(grant); err == nil {
		name, port = n, p
	}
	if port != u.Port() && (port != "" || u.Port() != map[string]string{"http": "80", "https": "443"}[u.Scheme]) {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if below, ok := strings.CutPrefix(strings.ToLower(name), "*."); ok {
		return strings.HasSuffix(host, "."+below)
	}
	return host == strings.ToLower(name)
}

// grantFor answers the grant that lets a request through.
func (g *granted) grantFor(method string, u *url.URL) (*wattlev1.HTTPGrant, error) {
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "bad_request", "%.200q is no http or https address", u.String())
	}
	for _, h := range g.c.GetHttp() {
		allowed := h.Methods
		if len(allowed) == 0 {
			allowed = []string{http.MethodGet, http.MethodHead}
		}
		if matches(h.Host, u) && slices.Contains(allowed, method) {
			return h, nil
		}
	}
	return nil, g.denial("http", "send %s requests to %.200s", method, u.Host)
}

type privateKey struct{}

// public refuses to connect to addresses that are not, whatever a name resolves to.
func public(ctx context.Context, _, address string, _ syscall.RawConn) error {
	if allowed, _ := ctx.Value(privateKey{}).(bool); allowed {
		return nil
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	a := ap.Addr().Unmap()
	for _, p := range notPublic {
		if p.Contains(a) {
			return &privateError{a}
		}
	}
	return nil
}

type privateError struct{ addr netip.Addr }

func (e *privateError) Error() string { return fmt.Sprintf("%s is not a public address", e.addr) }

// notPublic are the networks of RFC 6890 and its like that lead somewhere inside.
var notPublic = func() (out []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
		"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"::/127", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

// transport has no proxy: that would connect in the guest's place.
var transport = &http.Transport{
	DialContext:           (&net.Dialer{Timeout: 10 * time.Second, ControlContext: public}).DialContext,
	ForceAttemptHTTP2:     true,
	MaxIdleConns:          100,
	MaxIdleConnsPerHost:   4,
	IdleConnTimeout:       time.Minute,
	TLSHandshakeTimeout:   10 * time.Second,
	ResponseHeaderTimeout: httpTimeout,
	// Connections are for public and for granted private addresses alike: none is used again for another grant.
	DisableKeepAlives: true,
}

// HTTP implements host.Capabilities. Each address on the way of redirects needs a grant.
func (g *granted) HTTP(ctx context.Context, r *host.HTTPRequest) (*host.HTTPResponse, error) {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, fault.New(fault.Invalid, "bad_request", "%w", err)
	}
	grant, err := g.grantFor(r.Method, u)
	if err != nil {
		return nil, err
	}
	timeout := httpTimeout
	if r.Timeout > 0 {
		timeout = min(timeout, time.Duration(r.Timeout)*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(context.WithValue(ctx, privateKey{}, grant.Private), r.Method, r.URL, strings.NewReader(string(r.Body)))
	if err != nil {
		return nil, fault.New(fault.Invalid, "bad_request", "%w", err)
	}
	for k, v := range r.Headers {
		if !forbiddenHeader(k) {
			req.Header.Set(k, v)
		}
	}
	if t := trace.From(ctx); t != (trace.Context{}) && req.Header.Get(trace.Header) == "" {
		req.Header.Set(trace.Header, t.Child().String())
	}
	client := http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fault.New(fault.Precondition, "http_failed", "%.200s redirects more than %d times", r.URL, maxRedirects)
		}
		to, err := g.grantFor(next.Method, next.URL)
		if err != nil {
			return err
		}
		if to.Private != grant.Private && !to.Private {
			// The context says what may be connected to; it was made for the first address.
			return g.denial("http", "be sent on from a private address to %.200s", next.URL.Host)
		}
		return nil
	}}
	res, err := client.Do(req)
	if err != nil {
		return nil, g.failed(r, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	if err != nil {
		return nil, g.failed(r, err)
	}
	if len(body) > maxResponse {
		return nil, fault.New(fault.Limit, "payload_limit", "the answer of %.200s has more than the limit of %d bytes", r.URL, maxResponse).
			With("limit", "http_response_bytes").With("value", maxResponse).
			Hint("ask for a part of it")
	}
	headers := map[string]string{}
	for k, v := range res.Header {
		headers[strings.ToLower(k)] = strings.Join(v, ", ")
	}
	return &host.HTTPResponse{Status: res.StatusCode, Headers: headers, Body: body}, nil
}

// forbiddenHeader are headers that belong to the connection.
func forbiddenHeader(name string) bool {
	switch strings.ToLower(name) {
	case "host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "keep-alive", "proxy-authorization", "proxy-connection", "expect":
		return true
	}
	return false
}

func (g *granted) failed(r *host.HTTPRequest, err error) error {
	if f := fault.As(err); f != nil {
		return f
	}
	if p := (*privateError)(nil); errors.As(err, &p) {
		return g.denial("http", "reach %.200s: %v", r.URL, p)
	}
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return fault.New(fault.Unavailable, "http_failed", "%s %.200s: %v", r.Method, r.URL, err)
}
