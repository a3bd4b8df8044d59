package registry

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

// Slot is where the whole registry lives: its revision orders all its changes.
const Slot machine.Slot = 0

// Changed is the effect of every change: what a service is now, or that it is gone.
type Changed struct {
	// Service is nil when it was deleted.
	Service *wattlev1.Service
	// Deleted is the name of a service that was.
	Deleted string
	// Revision is that of the change.
	Revision uint64
}

// Machine is the registry's state machine: machine.ID machine.Registry, slot Slot, commands of type
// storev1.RegistryCommand, results of type storev1.RegistryResult. Its effects are of type Changed.
type Machine struct{}

var _ machine.Machine = Machine{}

// The keys: one for the revision, and one for each service, also a deleted one.
var (
	revisionKey = []byte("r")
	servicesKey = []byte("s/")
	servicesEnd = []byte("s0")
)

func serviceKey(name string) []byte { return append(slices.Clone(servicesKey), name...) }

// Apply implements machine.Machine. The refusals are Invalid "bad_command" and those of names, NotFound "unknown_service",
// "unknown_version" and "unknown_alias", Exists "version_exists" and "version_deleted", Precondition "version_in_use".
func (Machine) Apply(tx machine.Tx, cmd machine.Command) (machine.Result, []machine.Effect) {
	c := &storev1.RegistryCommand{}
	if err := proto.Unmarshal(cmd.Body, c); err != nil {
		return machine.Result{Err: invalid("bad_command", "not a command of the registry")}, nil
	}
	ch := &change{tx: tx, cmd: cmd, result: &storev1.RegistryResult{}}
	if err := ch.apply(c); err != nil {
		return machine.Result{Err: err}, nil
	}
	value, err := encode(ch.result)
	if err != nil {
		// Only strings that are not UTF-8 get here, and those were refused.
		return machine.Result{Err: invalid("bad_command", "the result cannot be encoded")}, nil
	}
	return machine.Result{Value: value}, ch.effects
}

// Resume implements machine.Machine: every service again, also those that are gone, since a View may have missed it.
func (Machine) Resume(r machine.Reader) []machine.Effect {
	var effects []machine.Effect
	for rec := range records(r) {
		effects = append(effects, changed(rec))
	}
	return effects
}

// Refs implements machine.Machine: the modules of all versions.
func (Machine) Refs(r machine.Reader, yield func(digest.Digest, bool)) {
	for rec := range records(r) {
		for _, v := range rec.Service.Versions {
			if d, err := digest.Parse(v.Digest); err == nil {
				yield(d, true)
			}
		}
	}
}

// List returns every service by name, and the registry's revision.
func List(r machine.Reader) ([]*wattlev1.Service, uint64) {
	var list []*wattlev1.Service
	for rec := range records(r) {
		if !rec.Deleted {
			list = append(list, rec.Service)
		}
	}
	return list, revision(r)
}

// RevisionKey is the key whose value is another one after every change.
func RevisionKey() []byte { return slices.Clone(revisionKey) }

func revision(r machine.Reader) uint64 {
	b, ok := r.Get(revisionKey)
	if !ok {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func records(r machine.Reader) func(func(*storev1.ServiceRecord) bool) {
	return func(yield func(*storev1.ServiceRecord) bool) {
		for _, value := range r.Scan(servicesKey, servicesEnd) {
			if !yield(decode(value)) {
				return
			}
		}
	}
}

// decode reads a record. What Apply wrote can be read: anything else is a broken store.
func decode(value []byte) *storev1.ServiceRecord {
	rec := &storev1.ServiceRecord{}
	if err := proto.Unmarshal(value, rec); err != nil {
		panic(&machine.Broken{Err: fault.New(fault.Corrupt, "damaged_record", "a service record cannot be read: %w", err)})
	}
	if rec.Service == nil {
		rec.Service = &wattlev1.Service{}
	}
	return rec
}

// encode gives the same bytes on every replica.
func encode(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

func changed(rec *storev1.ServiceRecord) Changed {
	if rec.Deleted {
		return Changed{Deleted: rec.Service.Name, Revision: rec.Service.Revision}
	}
	return Changed{Service: rec.Service, Revision: rec.Service.Revision}
}

// change is one command being applied.
type change struct {
	tx      machine.Tx
	cmd     machine.Command
	result  *storev1.RegistryResult
	effects []machine.Effect
}

func (c *change) apply(cmd *storev1.RegistryCommand) *fault.Error {
	switch x := cmd.Change.(type) {
	case *storev1.RegistryCommand_CreateVersion:
		return c.createVersion(x.CreateVersion)
	case *storev1.RegistryCommand_DeleteService:
		return c.deleteService(x.DeleteService.GetName())
	case *storev1.RegistryCommand_DeleteVersion:
		return c.deleteVersion(x.DeleteVersion.GetService(), x.DeleteVersion.GetNumber())
	case *storev1.RegistryCommand_SetAlias:
		return c.setAlias(x.SetAlias.GetService(), x.SetAlias.GetAlias(), x.SetAlias.GetNumber())
	case *storev1.RegistryCommand_DeleteAlias:
		return c.deleteAlias(x.DeleteAlias.GetService(), x.DeleteAlias.GetAlias())
	case *storev1.RegistryCommand_SetBalance:
		return c.setBalance(x.SetBalance.GetService(), x.SetBalance.GetBalance())
	}
	return invalid("bad_command", "a command of the registry that this release does not know")
}

// load returns the record of a service, or nil when it never was.
func (c *change) load(name string) *storev1.ServiceRecord {
	value, ok := c.tx.Get(serviceKey(name))
	if !ok {
		return nil
	}
	return decode(value)
}

// live returns the record of a service there is.
func (c *change) live(name string) (*storev1.ServiceRecord, *fault.Error) {
	rec := c.load(name)
	if rec == nil || rec.Deleted {
		return nil, unknownService(name, "")
	}
	return rec, nil
}

// save stores a changed record under the next revision.
func (c *change) save(rec *storev1.ServiceRecord) *fault.Error {
	next := revision(c.tx) + 1
	rec.Service.Revision = next
	value, err := encode(rec)
	if err != nil {
		return invalid("bad_command", "the service cannot be stored: %w", err)
	}
	c.tx.Set(serviceKey(rec.Service.Name), value)
	c.tx.Set(revisionKey, binary.BigEndian.AppendUint64(nil, next))
	c.effects = append(c.effects, changed(rec))
	return nil
}

func (c *change) createVersion(req *storev1.CreateVersion) *fault.Error {
	v := req.GetVersion()
	if err := validate(v, req.GetAliases()); err != nil {
		return fault.As(err)
	}
	rec := c.load(v.Service)
	switch {
	case rec == nil:
		rec = &storev1.ServiceRecord{Service: &wattlev1.Service{Name: v.Service}, NextNumber: 1}
	case rec.Deleted:
		rec.Deleted, rec.Service = false, &wattlev1.Service{Name: v.Service}
	}
	s := rec.Service
	at, err := c.find(rec, v)
	if err != nil {
		return err
	}
	c.result.Created = at < 0
	if at < 0 {
		v.Number = cmp.Or(v.Number, rec.NextNumber)
		if v.Number > maxNumber {
			return invalid("bad_version", "%d is too large for the number of a version", v.Number)
		}
		v.CreatedAt = timestamppb.New(c.cmd.Time)
		rec.NextNumber = v.Number + 1
		// Numbers only grow, so the newest is always the last.
		s.Versions = append(s.Versions, v)
	} else {
		v = s.Versions[at]
	}
	dirty := c.result.Created
	for _, alias := range req.Aliases {
		dirty = point(s, alias, v.Number) || dirty
	}
	c.result.Service, c.result.Version = s, v
	if !dirty {
		return nil
	}
	return c.save(rec)
}

// validate checks a version to be made and brings its digest into its usual form.
func validate(v *wattlev1.Version, aliases []string) error {
	if v == nil {
		return invalid("bad_command", "no version to create")
	}
	if err := ValidateService(v.Service); err != nil {
		return err
	}
	d, err := digest.Parse(v.Digest)
	if err != nil {
		return invalid("bad_digest", "%w", err)
	}
	// There are two ways to write one.
	v.Digest = d.String()
	for _, a := range aliases {
		if err := ValidateAlias(a); err != nil {
			return err
		}
	}
	for _, f := range v.Functions {
		if err := ValidateFunction(f.GetName()); err != nil {
			return err
		}
	}
	return nil
}

// find returns the place of the version that v asks for, or -1 when it is to be made.
func (c *change) find(rec *storev1.ServiceRecord, v *wattlev1.Version) (int, *fault.Error) {
	versions := rec.Service.Versions
	if v.Number == 0 {
		for i := len(versions) - 1; i >= 0; i-- {
			if same(versions[i], v) {
				return i, nil
			}
		}
		return -1, nil
	}
	i, ok := byNumber(rec.Service, v.Number)
	switch {
	case ok && same(versions[i], v):
		return i, nil
	case ok:
		what := "other bytes"
		if versions[i].Digest == v.Digest {
			what = "other limits or capabilities"
		}
		return 0, fault.New(fault.Exists, "version_exists", "%s@%d exists with %s", v.Service, v.Number, what).
			Hint("a version never changes: leave the number out to get the next one, %d", rec.NextNumber).
			With("service", v.Service).With("version", v.Number)
	case v.Number < rec.NextNumber:
		return 0, fault.New(fault.Exists, "version_deleted", "the number %d of %s was passed and is not used again", v.Number, v.Service).
			Hint("leave the number out to get the next one, %d", rec.NextNumber).
			With("service", v.Service).With("version", v.Number)
	}
	return -1, nil
}

// same tells whether publishing b would make another a.
func same(a, b *wattlev1.Version) bool {
	limits := func(a, b *wattlev1.Limits) bool {
		return proto.Equal(cmp.Or(a, &wattlev1.Limits{}), cmp.Or(b, &wattlev1.Limits{}))
	}
	if a.Digest != b.Digest || a.Fresh != b.Fresh || !proto.Equal(cmp.Or(a.Capabilities, &wattlev1.Capabilities{}), cmp.Or(b.Capabilities, &wattlev1.Capabilities{})) || !limits(a.Limits, b.Limits) {
		return false
	}
	for _, m := range []map[string]*wattlev1.Limits{a.FunctionLimits, b.FunctionLimits} {
		for f := range m {
			if !limits(a.FunctionLimits[f], b.FunctionLimits[f]) {
				return false
			}
		}
	}
	return true
}

// point sets an alias and tells whether it pointed elsewhere.
func point(s *wattlev1.Service, alias string, number uint64) bool {
	if s.Aliases[alias] == number {
		return false
	}
	if s.Aliases == nil {
		s.Aliases = map[string]uint64{}
	}
	s.Aliases[alias] = number
	return true
}

func (c *change) deleteService(name string) *fault.Error {
	rec, err := c.live(name)
	if err != nil {
		return err
	}
	rec.Deleted, rec.Service = true, &wattlev1.Service{Name: name}
	return c.save(rec)
}

func (c *change) deleteVersion(name string, number uint64) *fault.Error {
	rec, err := c.live(name)
	if err != nil {
		return err
	}
	s := rec.Service
	i, ok := byNumber(s, number)
	if !ok {
		return unknownVersion(s, number)
	}
	var aliases []string
	for _, a := range slices.Sorted(maps.Keys(s.Aliases)) {
		if s.Aliases[a] == number {
			aliases = append(aliases, a)
		}
	}
	if len(aliases) > 0 {
		return fault.New(fault.Precondition, "version_in_use", "%s@%d is in use: %s", name, number, aliasList(aliases)).
			Hint("point the alias at another version, or remove it").
			With("service", name).With("version", number).With("aliases", strings.Join(aliases, " "))
	}
	c.result.Version = s.Versions[i]
	s.Versions = slices.Delete(s.Versions, i, i+1)
	c.result.Service = s
	return c.save(rec)
}

func aliasList(aliases []string) string {
	if len(aliases) == 1 {
		return "the alias " + aliases[0] + " points to it"
	}
	return "the aliases " + strings.Join(aliases, ", ") + " point to it"
}

func (c *change) setAlias(name, alias string, number uint64) *fault.Error {
	rec, err := c.live(name)
	if err != nil {
		return err
	}
	if err := ValidateAlias(alias); err != nil {
		return fault.As(err)
	}
	i, ok := byNumber(rec.Service, number)
	if !ok {
		return unknownVersion(rec.Service, number)
	}
	c.result.Service, c.result.Version = rec.Service, rec.Service.Versions[i]
	if !point(rec.Service, alias, number) {
		return nil
	}
	return c.save(rec)
}

func (c *change) deleteAlias(name, alias string) *fault.Error {
	rec, err := c.live(name)
	if err != nil {
		return err
	}
	if _, ok := rec.Service.Aliases[alias]; !ok {
		return fault.New(fault.NotFound, "unknown_alias", "%s has no alias %.80q", name, alias).
			Hint("its aliases: %s", cmp.Or(listed(slices.Sorted(maps.Keys(rec.Service.Aliases))), "none")).
			With("service", name).With("alias", alias)
	}
	delete(rec.Service.Aliases, alias)
	c.result.Service = rec.Service
	return c.save(rec)
}

// byNumber finds a version.
func byNumber(s *wattlev1.Service, number uint64) (int, bool) {
	return slices.BinarySearchFunc(s.Versions, number, func(v *wattlev1.Version, n uint64) int { return cmp.Compare(v.Number, n) })
}
