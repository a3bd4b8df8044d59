package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// Values are JSON, but for []byte, which stands for itself. The functions here are chosen once for a type, and for
// the types that matter they give the same bytes as encoding/json without it: in a guest, reflection is dear.

type (
	encoder[V any] func(dst []byte, v V) ([]byte, error)
	decoder[V any] func(b []byte) (V, error)
)

func appendSigned[I int | int8 | int16 | int32 | int64](dst []byte, v I) ([]byte, error) {
	if 0 <= v && v < 10 {
		return append(dst, '0'+byte(v)), nil
	}
	return strconv.AppendInt(dst, int64(v), 10), nil
}

func appendUnsigned[I uint | uint8 | uint16 | uint32 | uint64](dst []byte, v I) ([]byte, error) {
	return strconv.AppendUint(dst, uint64(v), 10), nil
}

// encoderOf chooses how to write values of type V.
func encoderOf[V any]() encoder[V] {
	var chosen any
	switch any(*new(V)).(type) {
	case []byte:
		chosen = func(dst []byte, v []byte) ([]byte, error) { return append(dst, v...), nil }
	case int:
		chosen = appendSigned[int]
	case int32:
		chosen = appendSigned[int32]
	case int64:
		chosen = appendSigned[int64]
	case uint:
		chosen = appendUnsigned[uint]
	case uint32:
		chosen = appendUnsigned[uint32]
	case uint64:
		chosen = appendUnsigned[uint64]
	case string:
		chosen = appendString
	}
	if f, ok := chosen.(func([]byte, V) ([]byte, error)); ok {
		return f
	}
	return func(dst []byte, v V) ([]byte, error) {
		b, err := json.Marshal(v)
		return append(dst, b...), err
	}
}

// appendString writes strings that need no escapes as they are.
func appendString(dst []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			b, err := json.Marshal(s)
			return append(dst, b...), err
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"'), nil
}

// decoderOf chooses how to read values of type V.
func decoderOf[V any]() decoder[V] {
	var chosen any
	switch any(*new(V)).(type) {
	case []byte:
		chosen = func(b []byte) ([]byte, error) { return bytes.Clone(b), nil }
	case int:
		chosen = func(b []byte) (int, error) {
			v, err := readInt(b)
			if err == nil && int64(int(v)) != v {
				err = fmt.Errorf("%s does not fit an int", b)
			}
			return int(v), err
		}
	case int64:
		chosen = readInt
	}
	if f, ok := chosen.(func([]byte) (V, error)); ok {
		return f
	}
	return func(b []byte) (V, error) {
		var v V
		err := json.Unmarshal(b, &v)
		return v, err
	}
}

// readInt reads the integers that JSON knows; short ones without allocating.
func readInt(b []byte) (int64, error) {
	digits, negative := b, false
	if len(b) > 0 && b[0] == '-' {
		digits, negative = b[1:], true
	}
	if len(digits) == 0 || len(digits) > 18 || digits[0] == '0' && len(digits) > 1 {
		var v int64
		err := json.Unmarshal(b, &v)
		return v, err
	}
	v := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			err := json.Unmarshal(b, &v)
			return v, err
		}
		v = v*10 + int64(c-'0')
	}
	if negative {
		v = -v
	}
	return v, nil
}
