// Command echo is the smallest useful guest: a function that answers the bytes it gets.
package main

import guest "github.com/wattlehq/wattle/sdk-guest/go"

func init() {
	guest.Handle("echo", func(_ *guest.Context, in []byte) ([]byte, error) { return in, nil })
	guest.Describe("echo", "answers the bytes it gets")
}

// main never runs: the host calls functions by their names.
func main() {}
