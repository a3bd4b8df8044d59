package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/internal/fault"
)

// Capabilities are what the functions of a version may do beyond computing. Each method answers a *fault.Error of kind
// Denied for what was not granted; other errors reach the guest, too, with their reason and message. Methods are called
// from the goroutine of the call, and have to respect ctx.
type Capabilities interface {
	// Config answers a setting; ok is false where there is none of that name.
	Config(key string) (value string, ok bool, err error)
	// Secret answers a secret in the clear.
	Secret(name string) ([]byte, error)
	// HTTP makes one request. What the guest gets are the response's status, headers and whole body.
	HTTP(ctx context.Context, r *HTTPRequest) (*HTTPResponse, error)
	// Invoke calls a function of another service.
	Invoke(ctx context.Context, r *Invocation) ([]byte, error)
	// CacheGet answers an entry of the node's shared memory with its version; version 0 means that there is none.
	CacheGet(key string) (value []byte, version uint64, err error)
	// CachePut sets an entry, and answers its new version. Where expect is not nil, it does so only if the
	// entry's version is *expect (0: there is none), and answers the present version otherwise, with swapped
	// false. An empty value with ttl < 0 removes it; ttl 0 means no end.
	CachePut(key string, value []byte, ttl time.Duration, expect *uint64) (version uint64, swapped bool, err error)
}

// HTTPRequest is a request that a guest makes.
type HTTPRequest struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Timeout int64             `json:"timeout_ms"`
	Body    []byte            `json:"-"`
}

// HTTPResponse is the answer to it. Names of headers are in lower case.
type HTTPResponse struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"-"`
}

// Invocation is a call of another service.
type Invocation struct {
	Service  string `json:"service"`
	Version  string `json:"version"`
	Function string `json:"function"`
	Timeout  int64  `json:"timeout_ms"`
	Payload  []byte `json:"-"`
}

// maxPayload bounds what goes over in one host_call, either way.
const maxPayload = 16 << 20

// maxTTL bounds how long a cache entry stays, in milliseconds: a hundred years.
const maxTTL = 100 * 365 * 24 * 3600 * 1000

const (
	// maxRandom bounds one helping of random bytes.
	maxRandom = 64 << 10
	// randomPrice is what one of them costs.
	randomPrice = 10
)

// The operations of host_call. 16 and more are for kv, topics, files and jobs.
const (
	opReplyRead = 0
	opContext   = 1
	opFunction  = 2
	opClock     = 3
	opRandom    = 4
	opConfig    = 5
	opSecret    = 6
	opHTTP      = 7
	opInvoke    = 8
	opCacheGet  = 9
	opCachePut  = 10
)

// operations are those that answer with a reply or with an error that the guest may handle.
var operations = map[uint32]func(c *running, request []byte) ([]byte, error){
	opContext: func(c *running, _ []byte) (_ []byte, err error) {
		if c.context == nil {
			c.context, err = json.Marshal(c.contextReply())
		}
		return c.context, err
	},
	opClock: func(_ *running, _ []byte) ([]byte, error) {
		return binary.LittleEndian.AppendUint64(nil, uint64(time.Now().UnixNano())), nil
	},
	opRandom: func(c *running, b []byte) ([]byte, error) {
		if len(b) != 4 || binary.LittleEndian.Uint32(b) > maxRandom {
			return nil, badRequest("random", "want a little-endian number of 4 bytes up to %d", maxRandom)
		}
		c.charge(randomPrice * int(binary.LittleEndian.Uint32(b)))
		out := make([]byte, binary.LittleEndian.Uint32(b))
		rand.Read(out) // it never fails
		return out, nil
	},
	opConfig: func(c *running, b []byte) ([]byte, error) {
		v, ok, err := c.may("config").Config(string(b))
		if err == nil && !ok {
			err = fault.New(fault.NotFound, "unknown_setting", "there is no setting %.100q in the version's config", b)
		}
		return []byte(v), err
	},
	opSecret: func(c *running, b []byte) ([]byte, error) {
		return c.may("secrets").Secret(string(b))
	},
	opHTTP: func(c *running, b []byte) ([]byte, error) {
		r := &HTTPRequest{}
		var err error
		if r.Body, err = splitRequest("http", b, r); err != nil {
			return nil, err
		}
		res, err := c.http(r)
		if err != nil {
			return nil, err
		}
		return joinReply(res, res.Body)
	},
	opInvoke: func(c *running, b []byte) ([]byte, error) {
		r := &Invocation{}
		var err error
		if r.Payload, err = splitRequest("call", b, r); err != nil {
			return nil, err
		}
		return c.invoke(r)
	},
	opCacheGet: func(c *running, b []byte) ([]byte, error) {
		v, version, err := c.may("cache").CacheGet(string(b))
		return append(binary.LittleEndian.AppendUint64(nil, version), v...), err
	},
	opCachePut: func(c *running, b []byte) ([]byte, error) {
		var r struct {
			Key    string  `json:"key"`
			TTL    int64   `json:"ttl_ms"`
			Expect *uint64 `json:"expect"`
		}
		value, err := splitRequest("cache_put", b, &r)
		if err != nil {
			return nil, err
		}
		version, swapped, err := c.may("cache").CachePut(r.Key, value, time.Duration(min(max(r.TTL, -1), maxTTL))*time.Millisecond, r.Expect)
		reply := binary.LittleEndian.AppendUint64(nil, version)
		if swapped {
			return append(reply, 1), err
		}
		return append(reply, 0), err
	},
}

// hostCall answers the length of the reply, -1 for an operation it does not know, and -2 less the length of the reply
// for one that failed: the reply is then {"reason":...,"message":...}.
func hostCall(c *running, s []uint64) {
	p := c.view("host_call", s[1], s[2])
	op := api.DecodeU32(s[0])
	if op == opReplyRead {
		s[0] = uint64(copy(p, c.reply))
		c.charge(50 + int(s[0])/8)
		return
	}
	if op == opFunction { // asked for by every call of some guests
		c.charge(50)
		c.name = append(c.name[:0], c.function...)
		c.reply = c.name
		s[0] = uint64(len(c.reply))
		return
	}
	do := operations[op]
	if do == nil {
		c.charge(100)
		s[0] = api.EncodeI64(-1)
		return
	}
	var err error
	if len(p) > maxPayload {
		err = payloadFault()
	} else {
		c.charge(2000 + len(p)/8)
		c.in = "host_call"
		c.reply, err = do(c, p)
		c.in = ""
	}
	if err == nil && len(c.reply) > maxPayload {
		err = payloadFault()
	}
	if err == nil {
		c.charge(len(c.reply) / 8)
		s[0] = uint64(len(c.reply))
		return
	}
	c.refuse(err)
	s[0] = api.EncodeI64(int64(-2 - len(c.reply)))
}

// refuse makes an error the reply. A call that was stopped while it waited ends.
func (c *running) refuse(err error) {
	if c.ctx.Err() != nil || !time.Now().Before(c.deadline) {
		c.checkTime(time.Now())
	}
	f := fault.As(err)
	if f == nil {
		f = fault.New(fault.Internal, "internal", "%v", err)
	}
	c.refused = f
	// A struct of two strings is always JSON.
	c.reply, _ = json.Marshal(struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}{f.Reason, f.Message})
}

// may answers the capabilities of the call.
func (c *running) may(what string) Capabilities {
	if c.call.Capabilities == nil {
		return denied{what}
	}
	return c.call.Capabilities
}

// bounded is a context that ends with the call.
func (c *running) bounded() (context.Context, context.CancelFunc) {
	c.memory.unwatch()
	c.endTurn()
	return context.WithDeadline(c.ctx, c.deadline)
}

func (c *running) http(r *HTTPRequest) (*HTTPResponse, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	return c.may("http").HTTP(ctx, r)
}

func (c *running) invoke(r *Invocation) ([]byte, error) {
	ctx, cancel := c.bounded()
	defer cancel()
	return c.may("calls").Invoke(ctx, r)
}

// splitRequest reads a request of JSON and bytes: the JSON comes after its length as an unsigned varint.
func splitRequest(what string, b []byte, into any) ([]byte, error) {
	n, used := shortUvarint(b)
	if used == 0 || n > uint64(len(b)-used) {
		return nil, badRequest(what, "want JSON after its length as an unsigned varint, then bytes")
	}
	if err := json.Unmarshal(b[used:used+int(n)], into); err != nil {
		return nil, badRequest(what, "%v", err)
	}
	return bytes.Clone(b[used+int(n):]), nil // who gets it may keep it
}

func joinReply(head any, body []byte) ([]byte, error) {
	j, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	return append(append(binary.AppendUvarint(nil, uint64(len(j))), j...), body...), nil
}

func badRequest(what, format string, args ...any) *fault.Error {
	f := fault.New(fault.Invalid, "bad_request", format, args...)
	f.Message = "host_call " + what + ": " + f.Message
	return f
}

func payloadFault() *fault.Error {
	return fault.New(fault.Limit, "payload_limit", "a request or reply of host_call has more than its limit of %d bytes", maxPayload).
		With("limit", "payload_bytes").With("value", maxPayload).
		Hint("hand it over in parts")
}

// Denial is the error for a capability that a version was not granted.
func Denial(what, format string, args ...any) *fault.Error {
	return fault.New(fault.Denied, "capability_denied", format, args...).
		With("capability", what).
		Hint("grant it when the version is published: wattle push --allow ..., see docs/capabilities.md")
}

// denied grants nothing.
type denied struct{ what string }

func (d denied) err() error {
	return Denial(d.what, "the function uses the capability %q, which its version was not granted", d.what)
}

func (d denied) Config(string) (string, bool, error)                       { return "", false, d.err() }
func (d denied) Secret(string) ([]byte, error)                             { return nil, d.err() }
func (d denied) HTTP(context.Context, *HTTPRequest) (*HTTPResponse, error) { return nil, d.err() }
func (d denied) Invoke(context.Context, *Invocation) ([]byte, error)       { return nil, d.err() }
func (d denied) CacheGet(string) ([]byte, uint64, error)                   { return nil, 0, d.err() }

func (d denied) CachePut(string, []byte, time.Duration, *uint64) (uint64, bool, error) {
	return 0, false, d.err()
}
