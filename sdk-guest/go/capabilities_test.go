package guest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	guest "github.com/wattlehq/wattle/sdk-guest/go"
	"github.com/wattlehq/wattle/sdk-guest/go/guesttest"
)

func init() {
	guest.Handle("secret", func(c *guest.Context, in []byte) ([]byte, error) {
		value, err := c.Secret(string(in))
		if refused := new(guest.HostError); errors.As(err, &refused) {
			return []byte(refused.Reason), nil
		}
		return value, err
	})
	guest.Handle("capable", func(c *guest.Context, in []byte) ([]byte, error) {
		switch string(in) {
		case "config":
			return []byte(c.Config("colour") + c.Config("none")), nil
		case "http":
			r, err := c.HTTP(guest.Request{Method: "POST", URL: "http://x/y", Header: map[string]string{"a": "b"}, Body: []byte("body")})
			if err != nil {
				return nil, err
			}
			return fmt.Appendf(nil, "%d %s %s", r.Status, r.Header["k"], r.Body), nil
		case "call":
			return c.Call("other", "", "there", []byte("me"))
		}
		_, version, err := c.CacheGet("n")
		if err != nil {
			return nil, err
		}
		next, swapped, err := c.CacheSwap("n", []byte("1"), 0, version)
		if err != nil || !swapped {
			return nil, errors.Join(err, errors.New("not swapped"))
		}
		if _, swapped, _ = c.CacheSwap("n", []byte("2"), 0, version); swapped {
			return nil, errors.New("swapped twice")
		}
		if err := c.CachePut("n", []byte("3"), 0); err != nil {
			return nil, err
		}
		value, last, err := c.CacheGet("n")
		if err == nil {
			err = c.CacheRemove("n")
		}
		_, gone, _ := c.CacheGet("n")
		return fmt.Appendf(nil, "%s %v %d", value, last > next, gone), err
	})
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secrets    map[string]string
		name, want string
	}{
		{map[string]string{"key": "hush", "empty": ""}, "key", "hush"},
		{map[string]string{"key": "hush", "empty": ""}, "empty", ""},
		{map[string]string{}, "key", "unknown_secret"},
		{nil, "key", "capability_denied"},
	} {
		s := guesttest.Setup{Capabilities: guesttest.Capabilities{Secrets: c.secrets}}
		if got, err := s.Call(t, "secret", []byte(c.name)); string(got) != c.want || err != nil {
			t.Errorf("%v: %s, %v", c, got, err)
		}
	}
}

func TestCapabilities(t *testing.T) {
	able := guesttest.Setup{Capabilities: guesttest.Capabilities{
		Config: map[string]string{"colour": "blue"},
		HTTP: func(method, url string, headers map[string]string, body []byte) (int, []byte, map[string]string) {
			return 201, []byte(strings.Join([]string{method, url, headers["a"], string(body)}, " ")), map[string]string{"k": "v"}
		},
		Call: func(service, function string, payload []byte) ([]byte, error) {
			return append([]byte(service+function), payload...), nil
		},
		Cache: &guesttest.Cache{},
	}}
	for in, want := range map[string]string{"config": "blue", "http": "201 v POST http://x/y b body", "call": "otherthereme", "cache": "3 true 0"} {
		if got, err := able.Call(t, "capable", []byte(in)); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", in, got, err)
		}
		_, err := guesttest.Call(t, "capable", []byte(in))
		if in != "config" && (err == nil || !strings.Contains(err.Error(), "grants no")) {
			t.Errorf("%s without a grant: %v", in, err)
		}
	}
}
