package main

import (
	"testing"

	"github.com/wattlehq/wattle/sdk-guest/go/guesttest"
)

func TestEcho(t *testing.T) {
	t.Parallel()
	got, err := guesttest.Call(t, "echo", []byte("hello"))
	if err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}
