package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/node"
)

// Every way of calling a function gives the same answer.
func TestCallEveryWay(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.pushPlugin("echo")
		payload := []byte("hello \x00\xff world")
		for name, c := range map[string]*client.Client{
			"connect": n.Client, "grpc": client.Dial(n.addr, client.WithGRPC()), "grpc-web": client.Dial(n.addr, client.WithGRPCWeb()),
		} {
			got, err := c.Invoke(t.Context(), "echo/echo", payload)
			if err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			if _, err := c.Invoke(t.Context(), "nobody/echo", nil); !client.IsNotFound(err) || client.Reason(err) != "unknown_service" || client.Hint(err) == "" {
				t.Errorf("%s: unknown service: %v", name, err)
			}
		}
		res, err := http.Post(n.url("/fn/echo@1/echo"), "application/octet-stream", bytes.NewReader(payload))
		if err != nil {
			t.Fatal(err)
		}
		if got := body(t, res); got != string(payload) || res.Header.Get("Wattle-Version") != "1" {
			t.Errorf("/fn: %q, %v", got, res.Header)
		}
		req := `{"service":"echo","function":"echo","payload":"` + base64.StdEncoding.EncodeToString(payload) + `"}`
		res, err = http.Post(n.url("/wattle.v1.InvokeService/Invoke"), "application/json", strings.NewReader(req))
		if err != nil {
			t.Fatal(err)
		}
		var reply struct{ Payload []byte }
		if err := json.Unmarshal([]byte(body(t, res)), &reply); err != nil || !bytes.Equal(reply.Payload, payload) {
			t.Errorf("JSON: %q, %v", reply.Payload, err)
		}
		out, errOut, status := n.wattle(string(payload), "call", "echo/echo", "-")
		if out != string(payload) || status != 0 {
			t.Errorf("wattle call: %q, %s, status %d", out, errOut, status)
		}
	})
}

func body(t testing.TB, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
