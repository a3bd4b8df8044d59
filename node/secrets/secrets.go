// Package secrets sets, lists and deletes secrets on one node, and hands their values to what may read them. It keeps the file with the
// keys that encrypt them.
//
// It does not decide who may read or set what. Its fields must be set before it is used; it is safe for concurrent use.
package secrets

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/secret"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store"
)

// Shards is where the state machine of secrets runs.
type Shards interface {
	Propose(ctx context.Context, p shard.Proposal) (machine.Result, error)
}

// Secrets are those of the cluster, as one node sees them.
type Secrets struct {
	Shards Shards
	View   *secret.View
	Keys   *Keys
}

// Set encrypts a value and keeps it.
func (s *Secrets) Set(ctx context.Context, name string, value []byte) (*wattlev1.Secret, error) {
	if err := secret.CheckName(name); err != nil {
		return nil, err
	}
	if len(value) > secret.MaxValue {
		return nil, fault.New(fault.Invalid, "secret_too_large", "the value has %d bytes; the most is %d", len(value), secret.MaxValue).
			Hint("keep large data elsewhere, encrypted with a key that is the secret")
	}
	keys, err := s.Keys.ring(true)
	if err != nil {
		return nil, err
	}
	b, err := s.change(ctx, &storev1.SecretCommand{Change: &storev1.SecretCommand_Set{Set: keys.Seal(name, value)}})
	if err != nil {
		return nil, err
	}
	out := &wattlev1.Secret{}
	return out, proto.Unmarshal(b, out)
}

// Delete removes a secret.
func (s *Secrets) Delete(ctx context.Context, name string) error {
	_, err := s.change(ctx, &storev1.SecretCommand{Change: &storev1.SecretCommand_Delete{Delete: name}})
	return err
}

// List answers the secrets by name, without their values.
func (s *Secrets) List() []*wattlev1.Secret { return secret.Describe(s.View.List()) }

// Value answers the value of a secret.
func (s *Secrets) Value(name string) ([]byte, error) {
	r, err := s.View.Get(name)
	if err != nil {
		return nil, err
	}
	keys, err := s.Keys.ring(false)
	if err != nil {
		return nil, err
	}
	return keys.Open(r)
}

func (s *Secrets) change(ctx context.Context, c *storev1.SecretCommand) ([]byte, error) {
	body, err := proto.Marshal(c)
	if err != nil {
		return nil, err
	}
	res, err := s.Shards.Propose(ctx, shard.Proposal{Slot: secret.Slot, Machine: machine.Secrets, Body: body, Admit: true})
	if err != nil {
		return nil, err
	}
	if res.Err != nil {
		return nil, res.Err
	}
	return res.Value, nil
}

// Keys is the file with the keys.
type Keys struct {
	fs   store.FS
	path string
	mu   sync.Mutex
	read *secret.Keyring
}

// OpenKeys reads the file. Where there is none, given tells whether that is an error; otherwise the first secret makes it.
func OpenKeys(fs store.FS, path string, given bool) (*Keys, error) {
	k := &Keys{fs: fs, path: path}
	_, err := k.ring(false)
	if fault.Reason(err) == "no_secret_key" && !given {
		return k, nil
	}
	return k, err
}

func (k *Keys) ring(make bool) (*secret.Keyring, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.read != nil {
		return k.read, nil
	}
	text, err := k.load()
	if errors.Is(err, os.ErrNotExist) {
		if !make {
			return nil, fault.New(fault.Precondition, "no_secret_key", "there is no file %s with the keys of secrets", k.path).
				Hint("bring it back from a copy, or make one: openssl rand -base64 32 > %s", k.path)
		}
		text = secret.NewKey()
		err = store.WritePrivate(k.fs, k.path, text)
	}
	if err != nil {
		return nil, err
	}
	k.read, err = secret.ParseKeyring(text)
	return k.read, err
}

func (k *Keys) load() (string, error) {
	f, err := k.fs.Open(k.path)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return string(b), errors.Join(err, f.Close())
}
