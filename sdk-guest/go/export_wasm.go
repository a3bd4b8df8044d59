//go:build wasip1

package guest

import "github.com/wattlehq/wattle/sdk-guest/go/internal/abi"

//go:wasmexport wattle_call
func wattleCall() int32 { return run(abi.Wasm{}) }

//go:wasmexport wattle_describe
func wattleDescribe() int32 { return describe(abi.Wasm{}) }
