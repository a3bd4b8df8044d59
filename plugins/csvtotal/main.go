// Command csvtotal sums one column of CSV files for each value of another. The stage's parameters name the columns:
// "by" is the one to group by, "sum" the one to add up. Files need a header line, and the job has to say that they have.
//
// Amounts are decimal numbers like -12.50 and are added exactly. A field may be quoted, but must not contain line ends.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	guest "github.com/wattlehq/wattle/sdk-guest/go"
)

func init() {
	guest.Map("map", amounts)
	guest.Combine("sum", sum)
	guest.Reduce("reduce", func(_ *guest.Context, group string, values iter.Seq[[]byte], emit guest.Emit[[]byte]) error {
		emit(group, sum(group, values))
		return nil
	})
	guest.Describe("map", `emits the amount of each line; the parameters "by" and "sum" name columns`)
	guest.Describe("sum", "adds up amounts of one group")
	guest.Describe("reduce", "answers the total of each group")
}

// amounts emits, for each line of a part, its amount as it is written. Errors are permanent: the file will not change.
func amounts(ctx *guest.Context, part *guest.Part, emit guest.Emit[[]byte]) error {
	by, err := column(ctx, part, "by")
	if err != nil {
		return guest.Permanent(err)
	}
	amount, err := column(ctx, part, "sum")
	if err != nil {
		return guest.Permanent(err)
	}
	var fields [][]byte
	number := 0
	for line := range part.Lines() {
		number++
		if len(line) == 0 {
			continue
		}
		fields, err = split(fields[:0], line)
		if err == nil && len(fields) <= max(by, amount) {
			err = fmt.Errorf("there are %d fields, but column %d is needed", len(fields), max(by, amount)+1)
		}
		var value []byte
		if err == nil {
			value = bytes.TrimSpace(fields[amount])
			_, err = parse(value)
		}
		if err != nil {
			// A part does not know how many lines come before it, so the line is counted from the part's start.
			return guest.Permanent(fmt.Errorf("%s: line %d after byte %d (%.60q): %w", part.Name, number, part.Offset, line, err))
		}
		emit.Bytes(fields[by], value)
	}
	return nil
}

// column finds the column that a parameter names.
func column(ctx *guest.Context, part *guest.Part, param string) (int, error) {
	name := ctx.Param(param)
	if name == "" {
		return 0, fmt.Errorf("the stage needs a parameter %q that names a column", param)
	}
	if part.Header == "" {
		return 0, fmt.Errorf("%s: there is no header line: say in the job's input that files have one", part.Name)
	}
	header, err := split(nil, []byte(strings.TrimPrefix(part.Header, "\ufeff")))
	if err != nil {
		return 0, fmt.Errorf("%s: header line: %w", part.Name, err)
	}
	i := slices.IndexFunc(header, func(field []byte) bool { return string(bytes.TrimSpace(field)) == name })
	if i < 0 {
		return 0, fmt.Errorf("%s: there is no column %q; there are %q", part.Name, name, header)
	}
	return i, nil
}

// split appends the fields of a line. Fields without quotes are parts of line itself, so most lines cost no allocation.
func split(fields [][]byte, line []byte) ([][]byte, error) {
	for {
		var field []byte
		ended := false // the line ends with this field
		if len(line) > 0 && line[0] == '"' {
			for line = line[1:]; ; line = line[1:] {
				text, rest, closed := bytes.Cut(line, []byte{'"'})
				if !closed {
					return nil, errors.New("a quoted field does not end")
				}
				field, line = append(field, text...), rest
				if len(line) == 0 || line[0] != '"' {
					break
				}
				field = append(field, '"') // two quotes inside of a field stand for one
			}
			if ended = len(line) == 0; !ended && line[0] != ',' {
				return nil, errors.New("there is text after a quoted field")
			}
			line = bytes.TrimPrefix(line, []byte{','})
		} else {
			var more bool
			field, line, more = bytes.Cut(line, []byte{','})
			ended = !more
		}
		fields = append(fields, field)
		if ended {
			return fields, nil
		}
	}
}

func sum(_ string, values iter.Seq[[]byte]) []byte {
	var total decimal
	for v := range values {
		d, err := parse(v)
		if err != nil {
			panic(err) // mappers emit nothing that parse refuses
		}
		total.add(d)
	}
	return total.append(nil)
}

func main() {}
