package e2e

import (
	"bytes"
	"net/http"
	"testing"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// What callers send and are slow to take counts in the node's memory for guests, and is refused before there is too much of it.
func TestLargeBodiesCount(t *testing.T) {
	t.Parallel()
	const budget = 64 << 20
	both(t, node.Config{GuestMemory: budget}, func(t *testing.T, n *target) {
		n.pushFixture("echo")
		payload := make([]byte, 15<<20)
		echo := func() (*http.Response, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url("/fn/echo/echo"), bytes.NewReader(payload))
			if err != nil {
				t.Fatal(err)
			}
			return http.DefaultClient.Do(req)
		}
		if out, err := n.Invoke(t.Context(), "echo/echo", payload); err != nil || len(out) != len(payload) {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
		// Answers that nobody reads stay with the node.
		var open []*http.Response
		refused := 0
		for range 12 {
			res, err := echo()
			if err != nil {
				t.Fatal(err)
			}
			switch res.StatusCode {
			case http.StatusOK:
				open = append(open, res)
			case http.StatusTooManyRequests:
				refused++
				if word := res.Header.Get("Wattle-Error"); word != "node_memory" {
					t.Errorf("refused because of %q", word)
				}
				res.Body.Close()
			default:
				t.Errorf("status %d", res.StatusCode)
			}
		}
		if len(open) == 0 || refused == 0 {
			t.Errorf("%d answers, %d refused", len(open), refused)
		}
		if used := n.metric("wattle_guest_memory_bytes"); used > budget || used < float64(len(open)*len(payload)) {
			t.Errorf("%d answers of %d bytes are open, and %.0f bytes charged", len(open), len(payload), used)
		}
		_, err := n.Invoke(t.Context(), "echo/echo", payload)
		if connect.CodeOf(err) != connect.CodeResourceExhausted || client.Reason(err) != "node_memory" {
			t.Errorf("a large call gets %v (%s)", err, client.Reason(err))
		}
		if out, err := n.Invoke(t.Context(), "echo/echo", []byte("small")); err != nil || string(out) != "small" {
			t.Errorf("a small one: %q, %v", out, err)
		}
		for _, res := range open {
			res.Body.Close()
		}
		eventually(t, "the memory comes back", func() bool { return n.metric("wattle_guest_memory_bytes") < 4<<20 })
		for _, size := range []int{16 << 20, 16<<20 + 1} {
			_, err := n.Functions.Invoke(t.Context(), connect.NewRequest(&wattlev1.InvokeRequest{Service: "echo", Function: "echo", Payload: make([]byte, size)}))
			if want := map[int]string{16 << 20: "", 16<<20 + 1: "payload_limit"}[size]; client.Reason(err) != want || want == "" && err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	})
}
