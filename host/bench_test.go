package host

import (
	"io"
	"testing"

	"github.com/wattlehq/wattle/testdata"
)

func BenchmarkCall(b *testing.B) {
	m := load(b, newHost(b, Config{}), testdata.Wasm("echo"))
	in := make([]byte, 1024)
	b.Run("echo", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Call(b.Context(), &Call{Function: "echo", Input: BytesInput(in), Output: io.Discard}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := m.Call(b.Context(), &Call{Function: "echo", Input: BytesInput(in), Output: io.Discard}); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}
