// Package digest names bytes by what they are.
package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Size is the length of a Digest in bytes.
const Size = sha256.Size

const prefix = "sha256-"

// Digest is the SHA-256 of some bytes. It is comparable; the zero value names nothing.
type Digest [Size]byte

// Of returns the digest of b.
func Of(b []byte) Digest { return sha256.Sum256(b) }

// IsZero tells whether d names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns "sha256-" and 64 lower-case hex digits, or "" for the zero value.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return prefix + hex.EncodeToString(d[:])
}

// Hex returns the 64 hex digits alone.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// Parse reads what String prints. "sha256:" is taken for "sha256-", since other tools print that.
func Parse(s string) (Digest, error) {
	var d Digest
	h, ok := strings.CutPrefix(s, prefix)
	if !ok {
		h, ok = strings.CutPrefix(s, "sha256:")
	}
	if !ok || len(h) != 2*Size || strings.ToLower(h) != h {
		return d, fmt.Errorf("%.80q is not a digest: want sha256- and 64 hex digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(h)); err != nil {
		return Digest{}, fmt.Errorf("%.80q is not a digest: %w", s, err)
	}
	return d, nil
}
