package guesttest

import (
	"encoding/binary"
	"encoding/json"

	"github.com/wattlehq/wattle/sdk-guest/go/internal/abi"
)

// Capabilities are what a function may do in a test. What is nil is denied, as by a host.
type Capabilities struct {
	Config map[string]string
	// Secrets are the values of secrets by name.
	Secrets map[string]string
	// HTTP answers requests; headers of the answer may be nil.
	HTTP func(method, url string, headers map[string]string, body []byte) (status int, answer []byte, answerHeaders map[string]string)
	// Call answers calls of other functions.
	Call func(service, function string, payload []byte) ([]byte, error)
	// Cache is the memory shared on a node. Entries do not end by themselves.
	Cache *Cache
}

// Cache is memory that calls share. The zero value is empty.
type Cache struct {
	entries map[string]cached
	last    uint64
}

type cached struct {
	value   []byte
	version uint64
}

func refusal(reason, message string) ([]byte, int64) {
	b, _ := json.Marshal(map[string]string{"reason": reason, "message": message}) // strings are always JSON
	return b, -2 - int64(len(b))
}

func denied(what string) ([]byte, int64) {
	return refusal("capability_denied", "the test grants no "+what)
}

func cut(b []byte, head any) []byte {
	n, used := binary.Uvarint(b)
	if used <= 0 || json.Unmarshal(b[used:used+int(n)], head) != nil {
		panic("guesttest: the SDK wrote a malformed request")
	}
	return b[used+int(n):]
}

func reply(b []byte) ([]byte, int64) { return b, int64(len(b)) }

// Ask implements abi.Host.
func (h *host) Ask(op uint32, b []byte) ([]byte, int64) {
	c := h.setup.Capabilities
	switch op {
	case abi.OpConfig:
		if v, ok := c.Config[string(b)]; ok {
			return reply([]byte(v))
		}
		return refusal("unknown_setting", "there is no setting "+string(b))
	case abi.OpSecret:
		if c.Secrets == nil {
			return denied("secrets")
		}
		if v, ok := c.Secrets[string(b)]; ok {
			return reply([]byte(v))
		}
		return refusal("unknown_secret", "there is no secret "+string(b))
	case abi.OpHTTP:
		if c.HTTP == nil {
			return denied("HTTP")
		}
		var r struct {
			Method, URL string
			Headers     map[string]string
		}
		body := cut(b, &r)
		if r.Method == "" {
			r.Method = "GET"
		}
		status, answer, headers := c.HTTP(r.Method, r.URL, r.Headers, body)
		j, _ := json.Marshal(map[string]any{"status": status, "headers": headers})
		return reply(append(append(binary.AppendUvarint(nil, uint64(len(j))), j...), answer...))
	case abi.OpCall:
		if c.Call == nil {
			return denied("calls")
		}
		var r struct{ Service, Function string }
		out, err := c.Call(r.Service, r.Function, cut(b, &r))
		if err != nil {
			return refusal("function_error", err.Error())
		}
		return reply(out)
	case abi.OpCacheGet, abi.OpCachePut:
		if c.Cache == nil {
			return denied("cache")
		}
		return c.Cache.ask(op, b)
	}
	return nil, -1
}

func (c *Cache) ask(op uint32, b []byte) ([]byte, int64) {
	if op == abi.OpCacheGet {
		e := c.entries[string(b)]
		return reply(append(binary.LittleEndian.AppendUint64(nil, e.version), e.value...))
	}
	var r struct {
		Key    string
		TTL    int64 `json:"ttl_ms"`
		Expect *uint64
	}
	value := cut(b, &r)
	e := c.entries[r.Key]
	if r.Expect != nil && *r.Expect != e.version {
		return reply(append(binary.LittleEndian.AppendUint64(nil, e.version), 0))
	}
	if c.entries == nil {
		c.entries = map[string]cached{}
	}
	if r.TTL < 0 {
		delete(c.entries, r.Key)
		return reply(append(make([]byte, 8), 1))
	}
	c.last++
	c.entries[r.Key] = cached{append([]byte(nil), value...), c.last}
	return reply(append(binary.LittleEndian.AppendUint64(nil, c.last), 1))
}
