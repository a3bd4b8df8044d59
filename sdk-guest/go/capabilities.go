package guest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/wattlehq/wattle/sdk-guest/go/internal/abi"
)

// HostError is why the host did not do what a function asked for. Reason is a stable word, such as "capability_denied"
// where the version was not granted it.
type HostError struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (e *HostError) Error() string { return e.Message }

// ask makes a request of the host.
func (c *Context) ask(op uint32, request []byte) ([]byte, error) {
	reply, code := c.host.Ask(op, request)
	switch {
	case code >= 0:
		return reply, nil
	case code == -1:
		return nil, &HostError{Reason: "unknown_operation", Message: fmt.Sprintf("this host does not know operation %d", op)}
	}
	e := &HostError{}
	if err := json.Unmarshal(reply, e); err != nil {
		return nil, fmt.Errorf("the host's error cannot be read: %w", err)
	}
	return nil, e
}

// headed is a request or reply of JSON and bytes.
func headed(head any, body []byte) ([]byte, error) {
	j, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	return append(append(binary.AppendUvarint(nil, uint64(len(j))), j...), body...), nil
}

func behead(b []byte, head any) ([]byte, error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, fmt.Errorf("the host's reply of %d bytes cannot be read", len(b))
	}
	return b[used+int(n):], json.Unmarshal(b[used:used+int(n)], head)
}

// Config is a setting of the version (wattle push --config), or "".
func (c *Context) Config(name string) string {
	v, err := c.ask(abi.OpConfig, []byte(name))
	if err != nil {
		return ""
	}
	return string(v)
}

// Secret is the value of a secret. The version needs a grant for it: wattle push --allow-secret. The reason of the HostError is "capability_denied" where it
// has none, and "unknown_secret" where there is no such secret.
func (c *Context) Secret(name string) ([]byte, error) {
	return c.ask(abi.OpSecret, []byte(name))
}

// Request is an HTTP request.
type Request struct {
	Method  string // GET where empty
	URL     string
	Header  map[string]string
	Body    []byte
	Timeout time.Duration // the host's own where 0
}

// Response is the answer to a Request, whatever its status. Names of headers are in lower case.
type Response struct {
	Status int
	Header map[string]string
	Body   []byte
}

// HTTP makes a request. The version needs a grant for its host and method: wattle push --allow-http.
func (c *Context) HTTP(r Request) (*Response, error) {
	request, err := headed(struct {
		Method  string            `json:"method"`
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Timeout int64             `json:"timeout_ms"`
	}{r.Method, r.URL, r.Header, r.Timeout.Milliseconds()}, r.Body)
	if err != nil {
		return nil, err
	}
	reply, err := c.ask(abi.OpHTTP, request)
	if err != nil {
		return nil, err
	}
	var head struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
	}
	body, err := behead(reply, &head)
	return &Response{Status: head.Status, Header: head.Headers, Body: body}, err
}

// Call calls a function of a service, by its default version where version is "". The version needs a grant for it:
// wattle push --allow-call.
func (c *Context) Call(service, version, function string, payload []byte) ([]byte, error) {
	request, err := headed(struct {
		Service  string `json:"service"`
		Version  string `json:"version"`
		Function string `json:"function"`
	}{service, version, function}, payload)
	if err != nil {
		return nil, err
	}
	return c.ask(abi.OpCall, request)
}

// CacheGet reads the memory that the functions of the service share on a node: wattle push --allow-cache. An entry that
// is not there has the version 0.
func (c *Context) CacheGet(key string) (value []byte, version uint64, err error) {
	reply, err := c.ask(abi.OpCacheGet, []byte(key))
	if err != nil {
		return nil, 0, err
	}
	if len(reply) < 8 {
		return nil, 0, fmt.Errorf("the host's reply of %d bytes cannot be read", len(reply))
	}
	return reply[8:], binary.LittleEndian.Uint64(reply), nil
}

// CachePut sets an entry, for a time where ttl is not 0.
func (c *Context) CachePut(key string, value []byte, ttl time.Duration) error {
	_, _, err := c.cachePut(key, value, ttl, nil)
	return err
}

// CacheRemove removes an entry.
func (c *Context) CacheRemove(key string) error {
	_, _, err := c.cachePut(key, nil, -time.Millisecond, nil)
	return err
}

// CacheSwap sets an entry if its version is still expect (0: there is none), and answers the version there is then.
func (c *Context) CacheSwap(key string, value []byte, ttl time.Duration, expect uint64) (version uint64, swapped bool, err error) {
	return c.cachePut(key, value, ttl, &expect)
}

func (c *Context) cachePut(key string, value []byte, ttl time.Duration, expect *uint64) (uint64, bool, error) {
	request, err := headed(struct {
		Key    string  `json:"key"`
		TTL    int64   `json:"ttl_ms"`
		Expect *uint64 `json:"expect,omitempty"`
	}{key, ttl.Milliseconds(), expect}, value)
	if err != nil {
		return 0, false, err
	}
	reply, err := c.ask(abi.OpCachePut, request)
	if err != nil {
		return 0, false, err
	}
	if len(reply) < 9 {
		return 0, false, fmt.Errorf("the host's reply of %d bytes cannot be read", len(reply))
	}
	return binary.LittleEndian.Uint64(reply), reply[8] == 1, nil
}
