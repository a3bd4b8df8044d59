package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// What a node asks to come back for is asked again, and told of; a node that waits to join may wait for long.
func TestRetries(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]int{"leader_lost": 3, "joining": 1} {
		synctest.Test(t, func(t *testing.T) {
			told, asked := 0, 0
			c := Dial("", WithRetries(func(error) { told++ }))
			err := c.retry(t.Context(), func() error {
				if asked++; asked == 3 {
					return nil
				}
				e := connect.NewError(connect.CodeUnavailable, errors.New("not now"))
				d, err := connect.NewErrorDetail(&wattlev1.ErrorDetail{Reason: reason})
				if err != nil {
					t.Fatal(err)
				}
				e.AddDetail(d)
				return e
			})
			if asked != want || told != want-1 || (err == nil) != (want == 3) {
				t.Errorf("%s: asked %d times, told %d times: %v", reason, asked, told, err)
			}
		})
	}
}

// Records come out the same however the stream is cut.
func FuzzRecordWriter(f *testing.F) {
	f.Add([]byte("\x01a\x02bc\x00\x00"), uint8(1))
	f.Add([]byte("\x80"), uint8(3))
	f.Add(binary.AppendUvarint(nil, 1<<63), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		read := func(size int) (out [][]byte, rest int) {
			d := &recordDecoder{fn: func(k, v []byte) error {
				out = append(out, bytes.Clone(k), bytes.Clone(v))
				return nil
			}}
			for p := b; len(p) > 0; {
				n := min(size, len(p))
				if m, err := d.Write(p[:n]); m != n || err != nil {
					t.Fatal(m, err)
				}
				p = p[n:]
			}
			return out, len(d.rest)
		}
		whole, rest := read(len(b) + 1)
		parts, restOfParts := read(int(cut) + 1)
		if len(whole) != len(parts) || rest != restOfParts {
			t.Fatalf("%d records and %d bytes left, in parts %d and %d", len(whole)/2, rest, len(parts)/2, restOfParts)
		}
		for i := range whole {
			if !bytes.Equal(whole[i], parts[i]) {
				t.Errorf("%d: %q, %q", i, whole[i], parts[i])
			}
		}
	})
}

func TestSplitRef(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string][3]string{
		"a/b": {"a", "", "b"}, "a@1/b": {"a", "1", "b"}, "a@prod/b": {"a", "prod", "b"},
	} {
		s, v, f, err := SplitRef(ref)
		if err != nil || [3]string{s, v, f} != want {
			t.Errorf("%s: %s %s %s %v", ref, s, v, f, err)
		}
	}
	for _, ref := range []string{"", "a", "/b", "a/", "@1/b"} {
		if _, _, _, err := SplitRef(ref); err == nil {
			t.Errorf("%q is taken", ref)
		}
	}
}
