package instrument_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/metrics"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wattlehq/wattle/host/instrument"
	"github.com/wattlehq/wattle/testdata"
)

var specSeeds = flag.Bool("seeds", false, "fuzz what the standard's suite has, too")

const allFeatures = api.CoreFeaturesV2 | experimental.CoreFeaturesThreads | experimental.CoreFeaturesTailCall |
	experimental.CoreFeaturesExtendedConst | experimental.CoreFeaturesExceptionHandling |
	experimental.CoreFeaturesTypedFunctionReferences

// FuzzRewrite holds the rewriter to its promises for whatever bytes: no panic, memory in proportion, and a module is
// refused, by it or by the engine, where the engine refuses the original.
func FuzzRewrite(f *testing.F) {
	for _, name := range []string{"noop", "growtable", "mapreduce", "startspin"} {
		f.Add(testdata.Wasm(name))
	}
	for seed := range uint64(4) {
		wasm := generate(randomBytes(seed)).wasm
		f.Add(wasm)
	}
	for _, s := range handmade {
		f.Add([]byte(s))
	}
	if *specSeeds {
		files, _ := filepath.Glob(filepath.Join(wazeroDir(f), "internal/integration_test/spectest/*/testdata/*.wasm"))
		for i, file := range files {
			if wasm, err := os.ReadFile(file); err == nil && len(wasm) < 2000 && i%5 == 0 {
				f.Add(wasm)
			}
		}
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(allFeatures))
	f.Cleanup(func() { _ = rt.Close(ctx) })
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if len(wasm) < 1<<16 {
			checkRewrite(t, rt, wasm)
		}
	})
}

// handmade modules have what the fixtures lack.
var handmade = []string{
	"\x00asm\x01\x00\x00\x00",
	// an exception that is caught, a tail call, a typed reference
	"\x00asm\x01\x00\x00\x00\x01\x08\x02`\x00\x00`\x01\x7f\x00\x03\x02\x01\x00\x0d\x03\x01\x00\x01" +
		"\x0a\x14\x01\x12\x00\x02\x7f\x1f\x40\x01\x00\x00\x00A\x01\x08\x00\x0b\x00\x0b\x1a\x0b",
	"\x00asm\x01\x00\x00\x00\x01\x04\x01`\x00\x00\x03\x02\x01\x00\x09\x05\x01\x03\x00\x01\x00\x0a\x0a\x01\x08\x00\xd2\x00\x15\x00\x12\x00\x0b",
	// names and another custom section
	"\x00asm\x01\x00\x00\x00\x01\x04\x01`\x00\x00\x03\x02\x01\x00\x0a\x04\x01\x02\x00\x0b\x00\x0b\x04name\x01\x04\x01\x00\x01f\x00\x03\x01ab",
}

// lenient are the refusals of modules that wazero accepts: bounds, reserved names, what is not switched on, and where
// wazero takes what the standard does not.
var lenient = regexp.MustCompile("the most is|together|cannot be null|longer than")

func checkRewrite(t *testing.T, rt wazero.Runtime, wasm []byte) {
	before := allocated()
	out, err := instrument.Rewrite(wasm, instrument.Options{Features: instrument.Features(allFeatures)})
	if got, most := allocated()-before, uint64(1<<20+400*len(wasm)); got > most {
		t.Fatalf("%d bytes allocated for %d", got, len(wasm))
	}
	if !instrument.CountsAreTrue(wasm) {
		if err == nil {
			t.Fatal("rewritten, though it announces more than there is")
		}
		return
	}
	plain := compile(t, rt, instrument.WithoutCustom(wasm))
	if err == nil {
		_, err = rt.CompileModule(t.Context(), out.Wasm)
		if err != nil && plain == nil {
			t.Fatalf("what was accepted is refused once rewritten: %v", err)
		}
		if err == nil {
			verify(t, wasm, out)
		}
	}
	switch e, _ := err.(*instrument.Error); {
	case plain != nil && err == nil:
		t.Fatalf("what was refused is accepted once rewritten: %v", plain)
	case plain == nil && e != nil && e.Code == "invalid_wasm" && !lenient.MatchString(e.Message):
		t.Fatalf("accepted by the engine alone: %v", e)
	}
}

// compile tells what the engine thinks of a module. It panics for some that are cut off.
func compile(t *testing.T, rt wazero.Runtime, wasm []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	m, err := rt.CompileModule(t.Context(), wasm)
	if err == nil {
		err = m.Close(t.Context())
	}
	return err
}

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
