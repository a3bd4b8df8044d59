package instrument_test

import (
	"fmt"
	"strconv"
	"strings"
)

// specValue is an argument or result in a script.
type specValue struct {
	Type string `json:"type"`
	Lane string `json:"lane_type"`
	Bits any    `json:"value"` // text, or a list of texts for vectors
}

func (v specValue) words() int {
	if v.Type == "v128" {
		return 2
	}
	return 1
}

// lanes answers the value's parts as texts, and the width of each.
func (v specValue) lanes() (texts []string, width int) {
	if v.Type != "v128" {
		text, _ := v.Bits.(string)
		width = 64
		if strings.HasSuffix(v.Type, "32") {
			width = 32
		}
		return []string{text}, width
	}
	list, _ := v.Bits.([]any)
	for _, l := range list {
		texts = append(texts, l.(string))
	}
	width, _ = strconv.Atoi(v.Lane[1:])
	return texts, width
}

// bits answers the value as wazero takes it.
func (v specValue) bits() []uint64 {
	texts, width := v.lanes()
	out := make([]uint64, v.words())
	for i, text := range texts {
		out[i*width/64] |= v.number(text, width) << (i * width % 64)
	}
	return out
}

func (v specValue) number(text string, width int) uint64 {
	switch {
	case v.Type == "externref" && text != "null" && text != "":
		n, _ := strconv.ParseUint(text, 10, 64)
		return n + 1 // wazero takes 0 for null
	case strings.HasPrefix(text, "-"):
		n, _ := strconv.ParseInt(text, 10, 64)
		return uint64(n) & (1<<width - 1)
	}
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// compare tells whether got is this value.
func (v specValue) compare(got []uint64) error {
	if v.Bits == nil && strings.HasSuffix(v.Type, "ref") {
		return nil // any
	}
	texts, width := v.lanes()
	for i, text := range texts {
		lane := got[i*width/64] >> (i * width % 64)
		if width < 64 {
			lane &= 1<<width - 1
		}
		if !v.matches(text, lane, width) {
			return fmt.Errorf("%s %#x instead of %s", v.Type, lane, text)
		}
	}
	return nil
}

func (v specValue) matches(text string, got uint64, width int) bool {
	sign, quiet, exponent := uint64(1)<<63, uint64(1)<<51, uint64(0x7ff)<<52
	if width == 32 {
		sign, quiet, exponent = 1<<31, 1<<22, 0xff<<23
	}
	switch text {
	case "nan:canonical":
		return got&^sign == exponent|quiet
	case "nan:arithmetic":
		return got&(exponent|quiet) == exponent|quiet
	}
	return got == v.number(text, width)
}
