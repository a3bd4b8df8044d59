package services

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/node/rpc"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/store"
	"github.com/wattlehq/wattle/store/blob"
	"github.com/wattlehq/wattle/testdata"
)

// local are blobs that are all here.
type local struct{ *blob.Store }

func (l local) Open(_ context.Context, d digest.Digest) (*blob.Blob, error) { return l.Store.Open(d) }

func (l local) OpenAt(_ context.Context, d digest.Digest, _ int64, _ string) (blob.Reader, error) {
	return l.Store.Open(d)
}

func (local) Spread(context.Context, digest.Digest) {}

// A caller shortens a function's time and never lengthens it, also where the function has no limit of its own.
func TestTimeoutOnlyShortens(t *testing.T) {
	t.Parallel()
	h, err := host.New(t.Context(), host.Config{Defaults: host.Limits{Timeout: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(context.Background()) })
	blobs, err := blob.Open(store.OS, filepath.Join(t.TempDir(), "blobs"), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := blobs.Put(t.Context(), bytes.NewReader(testdata.Wasm("sleep")))
	if err != nil {
		t.Fatal(err)
	}
	calls := NewCalls(10)
	s := &Services{
		View: registry.NewView(), Host: h, Blobs: local{blobs}, Observe: func(string, string, time.Duration, error) {},
		Calls: calls, Others: &Others{Self: "n", Slots: 1, Peers: &crowd{}, Calls: calls, Stopping: t.Context()},
	}
	s.View.Load([]*wattlev1.Service{{Name: "sleep", Revision: 1, Versions: []*wattlev1.Version{{
		Service: "sleep", Number: 1, Digest: d.String(), Functions: []*wattlev1.Function{{Name: "sleep", Kind: wattlev1.FunctionKind_FUNCTION_KIND_CALL}},
	}}}}, 1)
	for timeout, want := range map[time.Duration]string{0: "200ms", time.Hour: "200ms", 50 * time.Millisecond: "50ms"} {
		_, err := s.Invoke(t.Context(), rpc.Invocation{Service: "sleep", Function: "sleep", Timeout: timeout})
		if e := fault.As(err); e == nil || e.Reason != "time_limit" || e.Fields["value"] != want {
			t.Errorf("a timeout of %v: %v, want the limit %s", timeout, err, want)
		}
	}
}
