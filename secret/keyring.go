package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// Keyring encrypts secrets with its first key (AES-256 in GCM, with random nonces) and decrypts what any of its keys encrypted. It is safe for concurrent use.
type Keyring struct {
	first string
	keys  map[string]cipher.AEAD // by id
}

const keySize = 32

// NewKey returns the text of a key file with one random key.
func NewKey() string {
	b := make([]byte, keySize)
	rand.Read(b) // it never fails
	return base64.StdEncoding.EncodeToString(b) + "\n"
}

// ParseKeyring reads a key file: one key of 32 bytes in base64 on each line; empty lines and those that begin with # do not count.
// The first key encrypts. It answers Invalid "bad_secret_key".
func ParseKeyring(text string) (*Keyring, error) {
	k := &Keyring{keys: map[string]cipher.AEAD{}}
	line := 0
	for l := range strings.Lines(text) {
		line++
		if l = strings.TrimSpace(l); l == "" || l[0] == '#' {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(l)
		if err != nil || len(b) != keySize {
			return nil, badKey("line %d of the file is no key", line)
		}
		block, err := aes.NewCipher(b)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		id := hex.EncodeToString(sum[:6])
		k.keys[id] = aead
		if k.first == "" {
			k.first = id
		}
	}
	if k.first == "" {
		return nil, badKey("the file has no key")
	}
	return k, nil
}

func badKey(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "bad_secret_key", "the keys for secrets cannot be read: "+format, args...).
		Hint("a key is 32 bytes in base64, one on a line: openssl rand -base64 32; bring the file back from a copy if it was damaged")
}

// bound keeps a value to its name: what is stored for one name does not decrypt as another's.
func bound(name string) []byte { return []byte("wattle secret " + name) }

// Seal encrypts a value.
func (k *Keyring) Seal(name string, value []byte) *storev1.SecretRecord {
	return &storev1.SecretRecord{
		Secret: &wattlev1.Secret{Name: name, KeyId: k.first},
		Sealed: k.keys[k.first].Seal(nil, nil, value, bound(name)),
	}
}

// Open decrypts a value. It answers Precondition "secret_key_missing" where none of the keys is the right one, and Corrupt "damaged_secret".
func (k *Keyring) Open(r *storev1.SecretRecord) ([]byte, error) {
	name := r.GetSecret().GetName()
	aead := k.keys[r.GetSecret().GetKeyId()]
	if aead == nil {
		return nil, fault.New(fault.Precondition, "secret_key_missing", "the secret %s is encrypted with the key %s, which this node does not have", name, r.GetSecret().GetKeyId()).
			With("secret", name).Hint("start the node with the file that has the key (--secret-key), or set the secret anew")
	}
	value, err := aead.Open(nil, nil, r.Sealed, bound(name))
	if err != nil {
		return nil, fault.New(fault.Corrupt, "damaged_secret", "the secret %s cannot be decrypted: what is stored is damaged", name).
			With("secret", name).Hint("set it anew: wattle secret set %s", name)
	}
	return value, nil
}
