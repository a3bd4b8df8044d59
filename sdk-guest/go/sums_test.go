package guest_test

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"testing"

	guest "github.com/wattlehq/wattle/sdk-guest/go"
	"github.com/wattlehq/wattle/sdk-guest/go/guesttest"
)

func init() {
	// Each line is a key and a number.
	guest.Map("add", func(ctx *guest.Context, part *guest.Part, emit guest.Emit[string]) error {
		for line := range part.Lines() {
			key, n, _ := bytes.Cut(line, []byte(" "))
			v, err := strconv.Atoi(string(n))
			if err != nil {
				return err
			}
			ctx.Add(key, v)
		}
		emit("emitted", "too")
		return nil
	})
	guest.Reduce("addAndWrite", func(ctx *guest.Context, key string, _ iter.Seq[int], _ guest.Emit[int]) error {
		ctx.Add([]byte(key), 1)
		_, err := io.WriteString(ctx.Output(), "x")
		return err
	})
}

// No key is lost or taken for another, be it short or long, once or more often than the table holds.
func TestAdd(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	want := map[string]int{}
	for i := range 300_000 {
		key := strconv.Itoa(i % 150_000)
		if i%3 == 0 {
			key = strings.Repeat(key, 1+i%5)
		}
		n := i%7 - 1
		want[key] += n
		fmt.Fprintf(&text, "%s %d\n", key, n)
	}
	for i := range 200 {
		key := strings.Repeat("long", 10_000) + strconv.Itoa(i) // together more than are kept
		want[key] += i
		fmt.Fprintf(&text, "%s %d\n", key, i)
	}
	got := map[string]int{}
	records := guesttest.Map(t, "add", guesttest.Text(text.String()), guesttest.Text("0 -5\n 1"))
	want["0"] -= 5
	want[""]++
	emitted := 0
	for _, r := range records {
		if r.Key == "emitted" {
			emitted++
			continue
		}
		n, err := strconv.Atoi(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		got[r.Key] += n
	}
	if len(got) != len(want) || emitted != 2 {
		t.Errorf("%d keys, want %d; %d", len(got), len(want), emitted)
	}
	for key, n := range want {
		if got[key] != n {
			t.Fatalf("%.20s: %d, want %d", key, got[key], n)
		}
	}
}

func TestAddCountsAsEmitting(t *testing.T) {
	t.Parallel()
	_, _, err := guesttest.Setup{}.Reduce(t, "addAndWrite", guesttest.Pairs("a", "1")...)
	if err == nil || !strings.Contains(err.Error(), "one of them only") {
		t.Errorf("got %v", err)
	}
}
