package secret

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

// Slot is where all secrets live.
const Slot machine.Slot = 0

const (
	maxName = 128
	// MaxValue is how many bytes a value may have.
	MaxValue = 64 << 10
	// MaxSecrets bounds how many there are: every node has them all in memory.
	MaxSecrets = 10_000
)

// Changed is the effect of every change.
type Changed struct {
	Name string
	// Record is nil where the secret was deleted.
	Record   *storev1.SecretRecord
	Revision uint64
}

// Machine is the state machine of secrets: machine.ID machine.Secrets, slot Slot, commands of type storev1.SecretCommand, results
// of type wattlev1.Secret. Its effects are of type Changed.
type Machine struct{}

var _ machine.Machine = Machine{}

// The keys: one for the revision and the number of secrets, and one for each secret.
var (
	countsKey  = []byte("c")
	secretsKey = []byte("s/")
	secretsEnd = []byte("s0")
)

func keyOf(name string) []byte { return append(slices.Clone(secretsKey), name...) }

// CheckName refuses what cannot be the name of a secret.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' || c == '/')
	}
	if !ok {
		return fault.New(fault.Invalid, "bad_secret_name", "%.140q is no name for a secret", name).
			Hint("use letters, digits and . _ - /, at most %d of them", maxName)
	}
	return nil
}

// Apply implements machine.Machine. The refusals are Invalid "bad_command" and "bad_secret_name", NotFound "unknown_secret" and
// Exhausted "too_many_secrets".
func (Machine) Apply(tx machine.Tx, cmd machine.Command) (machine.Result, []machine.Effect) {
	refuse := func(f *fault.Error) (machine.Result, []machine.Effect) { return machine.Result{Err: f}, nil }
	c := &storev1.SecretCommand{}
	if err := proto.Unmarshal(cmd.Body, c); err != nil {
		return refuse(badCommand("not a command for secrets"))
	}
	revision, count := counts(tx)
	revision++
	switch x := c.Change.(type) {
	case *storev1.SecretCommand_Set:
		rec := x.Set
		if rec.GetSecret() == nil {
			return refuse(badCommand("no secret to set"))
		}
		name := rec.Secret.Name
		if err := CheckName(name); err != nil {
			return refuse(fault.As(err))
		}
		if _, there := tx.Get(keyOf(name)); !there {
			if count++; count > MaxSecrets {
				return refuse(fault.New(fault.Exhausted, "too_many_secrets", "there are %d secrets, which is the most", MaxSecrets).
					With("limit", "secrets").With("value", MaxSecrets).Hint("delete some that are not needed: wattle secret ls, wattle secret rm NAME"))
			}
		}
		rec.Secret.SetAt, rec.Revision = timestamppb.New(cmd.Time), revision
		value, err := encode(rec)
		if err != nil {
			return refuse(badCommand("the secret cannot be stored"))
		}
		result, err := encode(rec.Secret)
		if err != nil {
			return refuse(badCommand("the result cannot be encoded"))
		}
		tx.Set(keyOf(name), value)
		setCounts(tx, revision, count)
		return machine.Result{Value: result}, []machine.Effect{Changed{Name: name, Record: rec, Revision: revision}}
	case *storev1.SecretCommand_Delete:
		if _, there := tx.Get(keyOf(x.Delete)); !there {
			return refuse(unknown(x.Delete))
		}
		tx.Delete(keyOf(x.Delete))
		setCounts(tx, revision, count-1)
		return machine.Result{}, []machine.Effect{Changed{Name: x.Delete, Revision: revision}}
	}
	return refuse(badCommand("a command for secrets that this release does not know"))
}

// Resume implements machine.Machine: every secret there is. A View that may have missed a deletion loads List instead.
func (Machine) Resume(r machine.Reader) []machine.Effect {
	var effects []machine.Effect
	records, _ := List(r)
	for _, rec := range records {
		effects = append(effects, Changed{Name: rec.Secret.Name, Record: rec, Revision: rec.Revision})
	}
	return effects
}

// Refs implements machine.Machine: there are none.
func (Machine) Refs(machine.Reader, func(digest.Digest, bool)) {}

// List returns every secret by name, and the revision of the newest change.
func List(r machine.Reader) ([]*storev1.SecretRecord, uint64) {
	var list []*storev1.SecretRecord
	for _, value := range r.Scan(secretsKey, secretsEnd) {
		rec := &storev1.SecretRecord{}
		if err := proto.Unmarshal(value, rec); err != nil || rec.Secret == nil {
			panic(&machine.Broken{Err: fault.New(fault.Corrupt, "damaged_record", "the record of a secret cannot be read")})
		}
		list = append(list, rec)
	}
	revision, _ := counts(r)
	return list, revision
}

// RevisionKey is the key whose value is another one after every change.
func RevisionKey() []byte { return slices.Clone(countsKey) }

func counts(r machine.Reader) (revision, count uint64) {
	b, ok := r.Get(countsKey)
	if !ok {
		return 0, 0
	}
	return binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
}

func setCounts(tx machine.Tx, revision, count uint64) {
	tx.Set(countsKey, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, revision), count))
}

// encode gives the same bytes on every replica.
func encode(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

func badCommand(text string) *fault.Error { return fault.New(fault.Invalid, "bad_command", "%s", text) }

func unknown(name string) *fault.Error {
	return fault.New(fault.NotFound, "unknown_secret", "there is no secret %.140q", name).
		With("secret", name).Hint("wattle secret set NAME makes it, wattle secret ls shows which there are")
}

// Describe is what may be told of a record.
func Describe(records []*storev1.SecretRecord) []*wattlev1.Secret {
	var out []*wattlev1.Secret
	for _, r := range records {
		out = append(out, r.Secret)
	}
	return out
}
