package instrument

import "unicode/utf8"

// CountsAreTrue tells whether an engine can be given a module, which would allocate whatever it announces.
func CountsAreTrue(wasm []byte) bool {
	if checkHeader(wasm) != nil {
		return true
	}
	m := &module{options: Options{}.withDefaults(), wasm: wasm}
	return m.split() == nil && m.read() == nil && m.checkLocals() == nil
}

// WithoutCustom answers a module without its custom sections, if they have names. Malformed lists of names are ignored
// here but not by the engine, which takes their counts for true, too; and it fails at an empty section at the end.
func WithoutCustom(wasm []byte) []byte {
	m := &module{wasm: wasm}
	if len(wasm) < 8 || m.split() != nil {
		return wasm
	}
	out := &output{b: append([]byte{}, wasm[:8]...)}
	for _, sec := range m.sections {
		if s := (scanner{b: sec.body}); sec.id != secCustom || !utf8.Valid(s.name()) || s.bad {
			out.section(sec.id, sec.body)
		}
	}
	return out.b
}

// Verify tells where a rewritten module breaks a promise.
func Verify(m Module) error { return verify(m, tuned) }

// VerifyTight rewrites a module with small numbers, which even little code gets beyond, and verifies that.
func VerifyTight(wasm []byte, o Options) error {
	for _, t := range []tuning{
		{arm: 8, entry: 10, stretch: 50, afterCall: 8, wait: 2, leave: 3},
		{arm: 0, entry: 0, stretch: 100, afterCall: 0, wait: 1, leave: 1},
		{arm: 30, entry: 50, stretch: 150, afterCall: 20, wait: 10, leave: 20},
	} {
		m, err := rewrite(wasm, o, t)
		if err != nil {
			return err
		}
		if err := verify(m, t); err != nil {
			return err
		}
	}
	return nil
}

var (
	Stretch   = tuned.stretch
	AfterCall = tuned.afterCall
	ArmCost   = tuned.arm
)

const Chunk = chunk
