//go:build wasip1

package main

import (
	"encoding/binary"

	guest "github.com/wattlehq/wattle/sdk-guest/go"
)

// What is called with a clean state: see ../c/functions.c.
func init() {
	guest.Handle("noop", func(*guest.Context, []byte) ([]byte, error) { return nil, nil })
	guest.Handle("echo", func(_ *guest.Context, in []byte) ([]byte, error) { return in, nil })
	guest.Handle("hash", func(_ *guest.Context, in []byte) ([]byte, error) {
		return binary.LittleEndian.AppendUint32(nil, uint32(sha(int32(len(in))))), nil
	})
}
