package main

import (
	"fmt"
	"math/big"
	"strings"
)

// decimal is an exact number: digits / 10^scale. The zero value is 0.
type decimal struct {
	digits big.Int
	scale  int
}

// maxDigits is more than any amount needs, and few enough that sums stay fast.
const maxDigits = 100

func parse(text []byte) (*decimal, error) {
	var d decimal
	plain := make([]byte, 0, maxDigits+1)
	point := -1
	for i, c := range text {
		switch {
		case '0' <= c && c <= '9' && len(plain) <= maxDigits:
			plain = append(plain, c)
		case c == '.' && point < 0 && i < len(text)-1:
			point = len(plain)
		case (c == '-' || c == '+') && i == 0:
		default:
			return nil, fmt.Errorf("%.40q is not a decimal number", text)
		}
	}
	if len(plain) == 0 {
		return nil, fmt.Errorf("%.40q is not a decimal number", text)
	}
	if point >= 0 {
		d.scale = len(plain) - point
	}
	d.digits.SetString(string(plain), 10)
	if text[0] == '-' {
		d.digits.Neg(&d.digits)
	}
	return &d, nil
}

// rescale gives d more digits behind the point.
func (d *decimal) rescale(scale int) {
	if scale > d.scale {
		factor := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale-d.scale)), nil)
		d.digits.Mul(&d.digits, factor)
		d.scale = scale
	}
}

// add adds e to d, which then has the more digits behind the point of both: the order of additions does not matter.
func (d *decimal) add(e *decimal) {
	d.rescale(e.scale)
	e.rescale(d.scale)
	d.digits.Add(&d.digits, &e.digits)
}

func (d *decimal) append(b []byte) []byte {
	text := new(big.Int).Abs(&d.digits).String()
	if missing := d.scale + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	if d.digits.Sign() < 0 {
		b = append(b, '-')
	}
	b = append(b, text[:len(text)-d.scale]...)
	if d.scale > 0 {
		b = append(b, '.')
		b = append(b, text[len(text)-d.scale:]...)
	}
	return b
}
