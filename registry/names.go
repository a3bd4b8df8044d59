package registry

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

// The longest names, in bytes.
const (
	MaxName     = 64
	MaxFunction = 128
)

// DefaultAlias is what a call means that names no version, where it is set.
const DefaultAlias = "default"

// maxNumber is the largest version number: every program that reads JSON can hold it.
const maxNumber = 1 << 53

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)
	digitsForm = regexp.MustCompile(`^[0-9]+$`)
	digestForm = regexp.MustCompile(`^sha256[-:]?`)
)

const nameRule = "use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit"

// ValidateService checks the name of a service. The error is Invalid "bad_service".
func ValidateService(name string) error {
	if !nameForm.MatchString(name) {
		return invalid("bad_service", "%.80q cannot be the name of a service", name).Hint(nameRule)
	}
	return nil
}

// ValidateAlias checks an alias: like a service's name, but nothing that could be a version's number or
// digest. The error is Invalid "bad_alias".
func ValidateAlias(alias string) error {
	if !nameForm.MatchString(alias) {
		return invalid("bad_alias", "%.80q cannot be an alias", alias).Hint(nameRule)
	}
	if digitsForm.MatchString(alias) || digestForm.MatchString(alias) {
		return invalid("bad_alias", "%q cannot be an alias: it looks like a version's number or digest", alias).
			Hint("choose a name such as v1 or stable")
	}
	return nil
}

// ValidateFunction checks the name of a function: 1 to 128 bytes of printable text without spaces. The error is
// Invalid "bad_function".
func ValidateFunction(name string) error {
	odd := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }
	if name == "" || len(name) > MaxFunction || !utf8.ValidString(name) || strings.ContainsFunc(name, odd) {
		return invalid("bad_function", "%.150q cannot be the name of a function", name).
			Hint("use 1 to %d bytes of printable text without spaces", MaxFunction)
	}
	return nil
}

// Ref names a function of a service.
type Ref struct {
	Service string
	// Version is a number, an alias, a digest, or "" for what the service serves by default.
	Version  string
	Function string
}

const refForm = "SERVICE/FUNCTION, SERVICE@VERSION/FUNCTION, SERVICE@ALIAS/FUNCTION or SERVICE@sha256-.../FUNCTION"

// ParseRef reads what String prints, and numbers with zeros before them and digests written "sha256:...". The error is Invalid
// "bad_ref", or tells which name is wrong.
func ParseRef(s string) (Ref, error) {
	target, function, ok := strings.Cut(s, "/")
	service, version, versioned := strings.Cut(target, "@")
	if !ok || service == "" || function == "" || versioned && version == "" {
		return Ref{}, invalid("bad_ref", "%.200q does not name a function", s).Hint("write %s", refForm)
	}
	if err := ValidateService(service); err != nil {
		return Ref{}, err
	}
	if err := ValidateFunction(function); err != nil {
		return Ref{}, err
	}
	if versioned {
		var err error
		if version, err = parseVersion(version); err != nil {
			return Ref{}, err
		}
	}
	return Ref{service, version, function}, nil
}

// parseVersion brings a version into the form it is compared in.
func parseVersion(s string) (string, error) {
	if digitsForm.MatchString(s) {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil || n == 0 || n > maxNumber {
			return "", invalid("bad_version", "%.80q is not the number of a version: they count from 1", s).
				Hint("leave it out for what the service serves by default")
		}
		return strconv.FormatUint(n, 10), nil
	}
	if d, err := digest.Parse(s); err == nil {
		return d.String(), nil
	}
	if digestForm.MatchString(s) {
		return "", invalid("bad_version", "%.80q is not a digest", s).Hint("write sha256- and 64 hex digits")
	}
	if !nameForm.MatchString(s) {
		return "", invalid("bad_version", "%.80q is not a version", s).Hint("write a number, an alias, or sha256- and 64 hex digits")
	}
	return s, nil
}

// String returns SERVICE[@VERSION]/FUNCTION.
func (r Ref) String() string {
	s := r.Service
	if r.Version != "" {
		s += "@" + r.Version
	}
	return s + "/" + r.Function
}

func invalid(reason, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, reason, format, args...)
}
